"""Web server logs as a source: combined log lines of nginx and Apache, and JSON lines.

A request for ``/items/<id>?uid=<person>`` is a view; with ``&act=click`` (or another kind of event)
it is that act. ``&rid=<request>`` names the slate that it answers. An act without one is organic: a
person met the item by themselves, so an impression without a propensity is written along with it.
"""

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import ValidationError

from recloop.intake.feedback import identity, judge
from recloop.intake.reasons import Unfit, unfit
from recloop.intake.source import ROWS_AT_ONCE, Batch, DatasetError, Made, TableReport
from recloop.intake.traffic import Rules
from recloop.schema import Arrival, Event, EventKind, Impression, now_us
from recloop.settings import places
from recloop.store import Refused
from recloop.store.quarantine import line_under

COMBINED = re.compile(
    r'^(?P<address>\S+) \S+ .*?\[(?P<time>[^\]]+)\] "(?P<request>(?:[^"\\]|\\.)*)" (?P<status>\d{3}) '
    r'(?:\S+ "(?:[^"\\]|\\.)*" "(?P<agent>(?:[^"\\]|\\.)*)")?'
)
COMBINED_TIME = "%d/%b/%Y:%H:%M:%S %z"
NOBODY = Rules()
ITEM = re.compile(r"^/items/([^/]+)/?$")


class ServerLog:
    """One log file. Lines about other pages, and requests that failed, are read and left out.

    A JSON line that has a ``kind`` is an act as ``/events`` takes it, with its ``ts``. Another one holds
    ``time`` (ISO 8601 with its offset), ``request`` (``GET /items/7?uid=u1 HTTP/1.1``) and ``status``, as an
    nginx ``log_format`` with ``escape=json`` writes them.

    Raises:
        DatasetError: the file is missing or cannot be opened.
    """

    name = "own"

    def __init__(self, path: Path, rules: Rules | None = None) -> None:
        self.path, self._rules = path, rules or Rules(places().internal)
        self._report = TableReport(0, 0, 0)
        try:
            with opened(path) as handle:
                self.size = sum(1 for _ in handle)
        except (OSError, EOFError, zlib.error) as error:
            raise DatasetError(f"cannot read the log {path}: {error}") from error

    def tables(self) -> Mapping[str, TableReport]:
        """Lines read, kept as acts, and quarantined."""
        return {"lines": self._report}

    def batches(self) -> Iterator[Batch]:
        """The acts in the order of the file."""
        self._report = TableReport(0, 0, 0)
        shown: list[Impression] = []
        acts: list[Event] = []
        refused: list[Refused] = []
        made: dict[str, Made] = {}
        with opened(self.path) as handle:
            for number, raw in enumerate(handle, 1):
                self._report.read += 1
                line = raw.decode("utf-8", "replace")
                try:
                    found = parse_line(line, self._rules)
                except ValueError as error:
                    body = {"file": self.path.name, "line": number, "text": line.rstrip("\r\n")}
                    wrong = unfit(error)
                    refused.append(Refused(self.name, "log", str(wrong), body, wrong.failure))
                    continue
                if found:
                    impression, act = found
                    shown += [impression] if impression else []
                    acts.append(act)
                    made[act.event_id] = partial(id_of, line)
                if len(acts) + len(refused) >= ROWS_AT_ONCE:
                    yield self._batch(shown, acts, refused, made)
                    shown, acts, refused, made = [], [], [], {}
        yield self._batch(shown, acts, refused, made)

    def _batch(
        self, shown: list[Impression], acts: list[Event], refused: list[Refused], made: dict[str, Made]
    ) -> Batch:
        self._report.kept += len(acts)
        self._report.quarantined += len(refused)
        for row in refused:
            self._report.reasons[row.reason] = self._report.reasons.get(row.reason, 0) + 1
        return Batch(impressions=shown, events=acts, refused=refused, made=made)


def opened(path: Path) -> BinaryIO:
    """A log, also one that was compressed when it was rotated."""
    return cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def parse_line(line: str, rules: Rules = NOBODY) -> tuple[Impression | None, Arrival] | None:
    """The act of one line with its organic impression, or None where the line is about no item.

    What a bot did, and what ``rules`` call internal, is flagged.

    Raises:
        ValueError: the line is no log line, or the act that it names is none.
    """
    if line.startswith("{"):
        body = _json_body(line)
        if "kind" in body:
            return None, _act(body, rules)
        said = _json_line(body)
    else:
        said = _combined_line(line)
    method, target, *_ = [*said.request.split(" "), ""]
    if method not in ("GET", "POST") or not 200 <= said.status < 400:
        return None
    address = urlsplit(target)
    item = ITEM.match(address.path)
    if item is None:
        return None
    query = {name: values[-1] for name, values in parse_qs(address.query).items()}
    if "uid" not in query:
        return None
    name = _key(line)
    request = query.get("rid")
    common: dict[str, Any] = {
        "user_id": query["uid"],
        "item_id": unquote(item[1]),
        "request_id": request or name,
        "ts": round(said.time.timestamp() * 1e6),
        "traffic": rules.of_sender(said.agent, said.address, direct=said.agent != "")
        or rules.of_person(query["uid"]),
    }
    act = query.get("act", "view")
    if act not in set(EventKind):
        raise ValueError(f"act: none of {', '.join(EventKind)}")
    try:
        event = Arrival(event_id=name, kind=EventKind(act), received=now_us(), **common)
        shown = None if request else Impression(position=0, propensity=None, policy="organic", **common)
    except ValidationError as error:
        raise unfit(error) from None
    return shown, event


def id_of(line: str, user_id: str) -> str:
    """The id of a line's act where its person has this name; one that was given stays."""
    body = _json_body(line) if line.startswith("{") else {}
    if "kind" in body:
        return body.get("event_id") or identity(body, user_id)
    return _key(line_under(line, user_id))


def _key(line: str) -> str:
    content = line.rstrip("\r\n").encode()
    return f"l{hashlib.sha256(content).hexdigest()[:24]}"


@dataclass(frozen=True)
class _Said:
    """What a line says of one request; ``agent`` and ``address`` are empty where it does not."""

    time: datetime
    request: str
    status: int
    agent: str
    address: str


def _combined_line(line: str) -> _Said:
    match = COMBINED.match(line)
    if match is None:
        raise ValueError("neither a combined log line nor a JSON line")
    try:
        time = datetime.strptime(match["time"], COMBINED_TIME)
    except ValueError:
        raise ValueError("time: not as in 10/Oct/2025:13:55:36 +0000") from None
    return _Said(time, match["request"], int(match["status"]), match["agent"] or "", match["address"])


def _json_body(line: str) -> dict:
    try:
        return json.loads(line)
    except (json.JSONDecodeError, RecursionError):
        raise ValueError("a JSON line that does not end or is not JSON") from None


def _act(body: dict, rules: Rules) -> Arrival:
    """The act that an application logged, as ``/events`` takes it; its time is the line's, however old."""
    if body.get("ts") is None:
        raise Unfit("ts: missing")
    now = now_us()
    (found,) = judge([body], now, oldest=now)
    if isinstance(found, Refused):
        raise Unfit(found.reason, found.failure)
    return found.model_copy(update={"traffic": rules.of_person(found.user_id)})


def _json_line(body: dict) -> _Said:
    try:
        time = datetime.fromisoformat(body["time"])
        request_line = str(body["request"])
        status = int(body["status"])
    except KeyError as error:
        raise ValueError(f"{error.args[0]}: missing") from None
    except (TypeError, ValueError):
        raise ValueError("time, request or status: not in the form that nginx writes") from None
    if time.tzinfo is None:
        raise ValueError("time: without an offset from UTC")
    agent, address = (str(body.get(name, "")) for name in ("http_user_agent", "remote_addr"))
    return _Said(time, request_line, status, agent, address)
