"""Which gateways answer, as Prometheus's ``up`` would say it, by their beats in the store."""

from sqlalchemy import Engine

from recloop.delivery.presence import heard
from recloop.watch.expressions import Values


def presence(engine: Engine) -> dict[str, Values]:
    """``up`` of those that are alive; where none is, of the one that fell silent last."""
    alive, lost = heard(engine)
    said = dict.fromkeys(alive, 1.0) or ({lost: 0.0} if lost else {})
    return {"up": {(("instance", name), ("job", "recloop-gateway")): x for name, x in said.items()}}
