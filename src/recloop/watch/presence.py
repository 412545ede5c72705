"""Which gateways and exporters answer, as Prometheus's ``up`` would say it, by their signs in the store."""

from sqlalchemy import Engine

from recloop.delivery.presence import heard
from recloop.watch.expressions import Labels, Values
from recloop.watch.notes import exporters

MISSED = 3  # looks of an exporter, after which it is down
STALE = "recloop_routing_stale_seconds"


def presence(engine: Engine, now: int) -> dict[str, Values]:
    """``up`` of those that are alive, and of gateways that fell silent and were not replaced; of exporters,
    which all say the same, of the last one where none is alive. And since when gateways could not read."""
    gateways = heard(engine)
    up = {_key("recloop-gateway", name): 1.0 for name in gateways.alive}
    up |= {_key("recloop-gateway", name): 0.0 for name in gateways.lost}
    looks = exporters(engine)
    alive = [name for name, (ts, every) in looks.items() if now - ts <= MISSED * every * 1e6]
    lost = [] if alive or not looks else [max(looks, key=lambda name: looks[name])]
    up |= {_key("recloop-watch", name): 1.0 for name in alive}
    up |= {_key("recloop-watch", name): 0.0 for name in lost}
    return {"up": up, STALE: {(("instance", name),): unread for name, unread in gateways.alive.items()}}


def _key(job: str, instance: str) -> Labels:
    return ("instance", instance), ("job", job)
