"""One look: the figures of the store against the rules."""

from sqlalchemy import Engine

from recloop.schema import now_us
from recloop.settings.params import Params
from recloop.watch.figures import gauges
from recloop.watch.memory import Memory
from recloop.watch.rules import Alert, evaluate, rules
from recloop.watch.seen import FromStore, fold


def check(
    engine: Engine, params: Params, now: int | None = None, memory: Memory | None = None
) -> list[Alert]:
    """What holds now, by the rules that Prometheus has too, with the limits of params.yaml.

    Who looks more than once gives each look the same ``memory``: it reads only what is new then.

    Must be called in the project's folder, else nothing is known of training.
    """
    now = now_us() if now is None else now
    fold(engine, now)
    return evaluate(rules(params), FromStore(engine, gauges(engine, params, now, memory), now))
