"""Messages that an address did not take, while another one did: kept until it does.

Nobody is told twice because somebody else could not be told. What no address took is not kept here: it counts
as not told, and the next look words it anew.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256

from sqlalchemy import Engine, delete, select

from recloop.store.engine import upsert
from recloop.store.tables import notes
from recloop.watch.rules import Alert
from recloop.watch.sending import Message, NotifyError, post, worded

UNDELIVERED = "undelivered "  # and a hash of the address, which holds secrets
MOST = 20  # messages that are kept for an address, the newest


def deliver(
    engine: Engine, alerts: Sequence[Alert], urls: Sequence[str], now: int, over: bool = False
) -> None:
    """Send it to every address; some of them may be told later, by ``catch_up``.

    Raises:
        NotifyError: an address is not understood, or nobody could be told.
    """
    message = worded(alerts, over)
    for place in post(message, urls) if urls else ():
        _keep(engine, urls[place], [*_kept(engine, urls[place]), message], now)


def catch_up(engine: Engine, urls: Sequence[str], now: int) -> list[int]:
    """Send what was kept, in order; returns which addresses still do not take it, counted from 1."""
    behind = []
    for number, url in enumerate(urls, 1):
        kept = left = _kept(engine, url)
        with suppress(NotifyError):
            while left:
                post(left[0], [url])
                left = left[1:]
        if left != kept:
            _keep(engine, url, left, now)
        if left:
            behind.append(number)
    return behind


def _name(url: str) -> str:
    return UNDELIVERED + sha256(url.encode()).hexdigest()[:32]


def _kept(engine: Engine, url: str) -> list[Message]:
    with engine.connect() as connection:
        body = connection.execute(select(notes.c.body).where(notes.c.name == _name(url))).scalar()
    return [Message(*one) for one in json.loads(body)["messages"]] if body else []


def _keep(engine: Engine, url: str, messages: list[Message], now: int) -> None:
    row = {"name": _name(url), "body": json.dumps({"messages": messages[-MOST:]}), "ts": now}
    with engine.begin() as connection:
        if messages:
            upsert(connection, notes, [row])
        else:
            connection.execute(delete(notes).where(notes.c.name == row["name"]))
