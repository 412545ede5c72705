"""Events that another service keeps, asked for page by page over HTTP, from a saved cursor on.

Each page is written together with the cursor that follows it. A request that fails, or is told to come again
later, is made again with growing pauses; what comes twice all the same is a repeat.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import urlencode

import urllib3
from urllib3.util import Retry, Timeout

from recloop.intake.feedback import identity, judge
from recloop.intake.source import Batch, DatasetError, Made, TableReport
from recloop.intake.times import micros
from recloop.schema import Arrival, now_us
from recloop.store import Refused

DAY, SECONDS = len("2026-01-31"), "%Y-%m-%dT%H:%M:%S"
LATER = (429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Api:
    """How a service is asked.

    Attributes:
        name: what the cursor and the quarantine call it.
        url: of the first page, with its fixed parameters.
        records: where a page holds its list, as ``data.events``; empty: the page is the list.
        following: where a page holds the cursor of the next; empty: the last record's ``newest``.
        newest: a record's field that grows, such as its time; the cursor where pages have none.
        param: the query parameter that takes the cursor.
        fields: their name to ours; fields that it does not name are left out. Empty: they are called as ours.
        token: sent as ``Authorization: Bearer``.
    """

    name: str
    url: str
    records: str = "events"
    following: str = "next"
    newest: str = ""
    param: str = "cursor"
    fields: Mapping[str, str] = field(default_factory=dict)
    token: str = ""


class Pulled:
    """The pages from a saved cursor on; a ``Source``. ``pause``: seconds before a repeat, then twice that."""

    name, size = "own", None

    def __init__(self, api: Api, place: Any = None, attempts: int = 6, pause: float = 0.5) -> None:
        self.api, self.cursor, self._place = api, cursor_of(api.name), place
        retries = Retry(total=attempts, backoff_factor=pause, status_forcelist=LATER, raise_on_status=False)
        self._pool = urllib3.PoolManager(retries=retries, timeout=Timeout(connect=5, read=30))
        self._report = TableReport(0, 0, 0)

    def tables(self) -> Mapping[str, TableReport]:
        """Records read, kept as acts, and quarantined."""
        return {"records": self._report}

    def batches(self) -> Iterator[Batch]:
        """A batch for each page, until one is empty or names no further one.

        Raises:
            DatasetError: the service does not answer, not with such a page, goes round in a circle, or has
                more than a page of one ``newest``.
        """
        been, stuck = [self._place], False
        while True:
            records, following = self._page(self._place)
            if records:
                yield self._batch(records, self._place if following is None else following)
            if not records or following is None:
                return
            if following == self._place:
                if not self._goes_on(following):
                    return
                if stuck:  # what came while we asked would be there by now
                    raise DatasetError(
                        f"{self.api.url} has later records, but a page from {self.api.newest} {following!r}"
                        f" on ends with it: more records have it than a page holds ({len(records)}). Ask"
                        " for larger pages, by a parameter of the URL, or name with --newest a field in"
                        " which records differ. What came is kept"
                    )
                stuck = True
                continue
            stuck = False
            if following in been:
                raise DatasetError(
                    f"{self.api.url} goes round in a circle: after the cursor {self._place!r} comes"
                    f" {following!r}, which came before. What came is kept; tell who runs the service"
                )
            been.append(following)
            self._place = following

    def _page(self, place: Any) -> tuple[list, Any]:
        """The records of a page, and the cursor of what follows; None where there is none."""
        page = self._ask(place)
        records = _found(page, self.api.records)
        if not isinstance(records, list):
            raise DatasetError(f"{self.api.url}: a page has no list at {self.api.records!r}")
        if self.api.following:
            return records, _found(page, self.api.following)
        values = [record.get(self.api.newest) for record in records if isinstance(record, dict)]
        known = [value for value in values if isinstance(value, int | str)]
        if records and not known:
            raise DatasetError(
                f"{self.api.url}: no record of a page has a number or a text at {self.api.newest!r}: name"
                " with --newest a field that each has"
            )
        return records, max(known, default=None, key=_rank)

    def _goes_on(self, newest: int | str) -> bool:
        """Whether there are records after this value, as far as one can ask for them."""
        beyond = None if self.api.following else _after(newest)
        if beyond is None:
            return False
        found = self._page(beyond)[1]
        return found is not None and _rank(found) > _rank(newest)

    def _ask(self, place: Any) -> Any:
        url = self.api.url
        if place is not None:
            url += f"{'&' if '?' in url else '?'}{urlencode({self.api.param: place})}"
        headers = {"accept": "application/json"}
        headers |= {"authorization": f"Bearer {self.api.token}"} if self.api.token else {}
        try:
            answer = self._pool.request("GET", url, headers=headers)  # with its body, which may break off too
        except urllib3.exceptions.HTTPError as error:
            raise DatasetError(
                f"{self.api.url} cannot be asked: {error}. What came before is kept"
            ) from error
        if answer.status != 200:
            raise DatasetError(f"{self.api.url} answered {answer.status}: {answer.data[:200]!r}")
        try:
            return json.loads(answer.data)
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"{self.api.url} gave no JSON: {error}") from error

    def _batch(self, records: list, place: Any) -> Batch:
        now = now_us()
        made: dict[str, Made] = {}
        rows = judge([self._ours(record, made) for record in records], now, self.api.name, oldest=now)
        acts = [row for row in rows if isinstance(row, Arrival)]
        refused = [row for row in rows if isinstance(row, Refused)]
        self._report.read += len(rows)
        self._report.kept += len(acts)
        self._report.quarantined += len(refused)
        for row in refused:
            self._report.reasons[row.reason] = self._report.reasons.get(row.reason, 0) + 1
        return Batch(events=acts, refused=refused, place=place, made=made)

    def _ours(self, record: object, made: dict[str, Made]) -> object:
        """A record as ``judge`` takes it; its id is that of its content where it has none."""
        if not isinstance(record, dict):
            return record
        if self.api.fields:
            record = {ours: record[theirs] for theirs, ours in self.api.fields.items() if theirs in record}
        named = {k: v for k, v in record.items() if v is not None}
        if "event_id" not in named:
            named = {"event_id": identity(record)} | named
            made[named["event_id"]] = partial(identity, record)
        return named | {"ts": micros(named["ts"])} if "ts" in named else named


def cursor_of(name: str) -> str:
    """The name under which a service's cursor is saved."""
    return f"pull:{name}"


def _found(page: Any, path: str) -> Any:
    for name in filter(None, path.split(".")):
        page = page.get(name) if isinstance(page, dict) else None
    return page


def _rank(value: int | str) -> tuple[bool, int | str]:
    return isinstance(value, str), value


def _after(value: int | str) -> int | str | None:
    """A number's next; the next second or day of a time in ISO 8601, as it is written; None: who knows."""
    if isinstance(value, int):
        return value + 1
    if value.isdecimal():
        return str(int(value) + 1)
    try:
        moment = datetime.strptime(value[:19].replace(" ", "T"), SECONDS if len(value) > DAY else "%Y-%m-%d")
    except ValueError:
        return None
    if len(value) == DAY:
        return (moment + timedelta(days=1)).date().isoformat()
    return (moment + timedelta(seconds=1)).isoformat(value[10], "seconds") + value[19:]
