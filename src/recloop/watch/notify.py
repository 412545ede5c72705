"""Sending alerts through Apprise, each at most once in a while."""

import json
from collections.abc import Sequence

import apprise
from sqlalchemy import Engine, select

from recloop.schema import now_us
from recloop.store.tables import alerts as table
from recloop.watch.rules import Alert

HOUR_US = 3_600_000_000
TYPES = {"warning": apprise.NotifyType.WARNING, "critical": apprise.NotifyType.FAILURE}


class NotifyError(RuntimeError):
    """An address is not understood, or somebody could not be told. Addresses hold secrets: none is named."""


def notify(
    engine: Engine, alerts: Sequence[Alert], urls: Sequence[str], quiet_hours: float = 6.0
) -> list[Alert]:
    """Send what was not sent within ``quiet_hours``, as one message, and note it; returns what was new.

    Without addresses alerts are noted only: the dashboard shows them. What could not be sent is not
    noted, so that the next check sends it.

    Args:
        engine: the store.
        alerts: what the rules found.
        urls: Apprise addresses, such as ``mailtos://…``, ``slack://…`` or ``json://host/path``.
        quiet_hours: time in which the same alert is not sent again.

    Raises:
        NotifyError: an address is not understood, or nobody or not everybody could be told.
    """
    recent = select(table.c.name).where(table.c.ts > now_us() - int(quiet_hours * HOUR_US))
    with engine.connect() as connection:
        told = set(connection.execute(recent).scalars())
    fresh = [alert for alert in alerts if alert.name not in told]
    if not fresh:
        return []
    if urls:
        _send(fresh, urls)
    rows = [
        {
            "name": alert.name,
            "severity": alert.severity,
            "summary": alert.summary,
            "figures": json.dumps(dict(alert.figures)),
            "ts": now_us(),
        }
        for alert in fresh
    ]
    with engine.begin() as connection:
        connection.execute(table.insert(), rows)
    return fresh


def raised(engine: Engine, limit: int = 20) -> list[tuple[int, Alert]]:
    """Alerts that were noted, newest first, each with its time (µs since 1970)."""
    query = select(table).order_by(table.c.id.desc()).limit(limit)
    with engine.connect() as connection:
        rows = connection.execute(query).mappings().all()
    return [
        (row["ts"], Alert(row["name"], row["severity"], row["summary"], json.loads(row["figures"])))
        for row in rows
    ]


def _send(alerts: Sequence[Alert], urls: Sequence[str]) -> None:
    sender = apprise.Apprise()
    for number, url in enumerate(urls, 1):
        if not sender.add(url):
            raise NotifyError(
                f"alert address number {number} is not understood: see Apprise's list of services"
            )
    worst = "critical" if any(alert.severity == "critical" for alert in alerts) else "warning"
    body = "\n".join(f"{alert.severity}: {alert.summary}" for alert in alerts)
    title = f"recloop: {', '.join(alert.name for alert in alerts)}"
    if not sender.notify(body, title, TYPES[worst]):
        raise NotifyError("the alert could not be delivered to every address: check them and the network")
