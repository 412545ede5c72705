"""The experiments of a store: started, looked at, stopped; who is in which arm, and since when."""

import json
from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator
from sqlalchemy import ColumnElement, Connection, Engine, func, select, true
from sqlalchemy.exc import IntegrityError

from recloop.experiments.assignment import BUCKETS, arm, bucket
from recloop.experiments.metrics import metric_named
from recloop.schema import now_us
from recloop.schema.records import Identifier, Record
from recloop.store.engine import insert_or_ignore
from recloop.store.tables import claims, experiments, exposures

Outcome = Literal["win", "lose", "no_difference", "keep_going", "harmed", "blocked"]
Share = Annotated[float, Field(gt=0, lt=1)]
Treatment = Annotated[
    str, StringConstraints(pattern=r"^(slate:([1-9]\d?|100)|(policy|slot):[A-Za-z0-9._:-]{1,64})$")
]


class Conflict(RuntimeError):
    """The buckets are taken, the name is taken, or the experiment is not in the state that this needs."""


class Look(Record):
    """A test of the primary metric: what it said of each arm cannot be unsaid."""

    people: int
    fraction: float
    outcomes: dict[str, Outcome]


class Experiment(Record):
    """An experiment as it was planned.

    Attributes:
        name: also its salt's; a name is never used twice.
        layer: experiments of one layer share nobody.
        first: first bucket of the layer that it takes, of ``BUCKETS``.
        last: the bucket after its last.
        arms: share of each arm; the first is the control.
        primary: the metric that decides.
        guardrails: metrics that must not get worse.
        others: metrics to learn from, which decide nothing.
        people: planned, over all arms.
        looks: at the primary metric, at equal distances.
        alpha: two-sided, over all looks and arms.
        power: of a win if the effect is as planned.
        effect: the smallest difference worth having, in the primary metric's unit.
        gives: per arm, what the gateway does differently for its people: ``slate:8`` (so many items),
            ``policy:NAME`` or ``slot:green`` (who serves); an arm that is not named is as usual. Empty:
            the gateway does nothing, the caller exposes people.
    """

    name: Identifier
    layer: Identifier = "main"
    first: Annotated[int, Field(ge=0, lt=BUCKETS)] = 0
    last: Annotated[int, Field(gt=0, le=BUCKETS)] = BUCKETS
    arms: dict[Identifier, Share]
    primary: str
    guardrails: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    people: Annotated[int, Field(ge=2)]
    looks: Annotated[int, Field(ge=1, le=50)] = 5
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    power: Annotated[float, Field(gt=0.5, lt=1)] = 0.8
    effect: float
    gives: dict[Identifier, Treatment] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.first >= self.last:
            raise ValueError(f"buckets {self.first} to {self.last} hold nobody")
        if len(self.arms) < 2 or abs(sum(self.arms.values()) - 1) > 1e-9:
            raise ValueError(f"two arms or more are needed, and shares that add up to 1, not {self.arms}")
        for name in self.metrics:
            metric_named(name)
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError("a metric can have one role only")
        if unknown := sorted(set(self.gives) - set(self.arms)):
            raise ValueError(f"{', '.join(unknown)} is no arm: there are {', '.join(self.arms)}")
        if len({what.startswith("slate:") for what in self.gives.values()}) > 1:
            raise ValueError("one experiment changes the slate's size or who serves, not both")
        return self

    @property
    def changes(self) -> Literal["", "slate", "slot"]:
        """What the gateway does differently: nothing, the slate's size, or who serves."""
        first = next(iter(self.gives.values()), "")
        return "" if not first else "slate" if first.startswith("slate:") else "slot"

    @property
    def metrics(self) -> tuple[str, ...]:
        return (self.primary, *self.guardrails, *self.others)

    @property
    def control(self) -> str:
        return next(iter(self.arms))


class Standing(Record):
    """An experiment and how it stands."""

    experiment: Experiment
    salt: str
    state: Literal["running", "stopped"]
    looks: tuple[Look, ...]
    who: str
    why: str
    ts: int
    ended: int | None

    def arm_of(self, user_id: str) -> str | None:
        """The person's arm; None outside the experiment's buckets and once it is stopped."""
        here = self.experiment
        if self.state != "running" or not here.first <= bucket(user_id, here.layer) < here.last:
            return None
        return arm(user_id, self.salt, here.arms)


def start(engine: Engine, experiment: Experiment, who: str, why: str) -> Standing:
    """Claim the buckets and begin.

    Raises:
        Conflict: the name was used before, a running experiment has some of the buckets, or one of another
            layer has the gateway change the same.
    """
    row = {
        **experiment.model_dump(include={"name", "layer", "first", "last"}),
        "salt": f"experiment/{experiment.name}",
        "arms": json.dumps(experiment.arms),
        "metrics": experiment.model_dump_json(include={"primary", "guardrails", "others"}),
        "design": experiment.model_dump_json(
            include={"people", "looks", "alpha", "power", "effect", "gives"}
        ),
        "looks": "[]",
        "state": "running",
        "who": who,
        "why": why,
        "ts": now_us(),
    }
    try:
        with engine.begin() as connection:
            connection.execute(experiments.insert(), row)
            _claim(connection, experiment.name, experiment.layer, experiment.first, experiment.last)
            for other in _read(connection, experiments.c.state == "running"):
                there = other.experiment
                if there.layer != experiment.layer and there.changes == experiment.changes != "":
                    raise Conflict(
                        f"{there.name} of layer {there.layer!r} has the gateway change the same:"
                        " use its layer, so that nobody is in both"
                    )
    except IntegrityError as error:
        raise Conflict(f"there was an experiment {experiment.name!r} already: choose another name") from error
    return find(engine, experiment.name)


def widen(engine: Engine, name: str, last: int) -> Standing:
    """Take more buckets; everybody who is in stays in their arm.

    Raises:
        Conflict: the buckets are another's, or the experiment does not run, or would shrink.
    """
    runs = experiments.update().where(experiments.c.name == name, experiments.c.state == "running")
    with engine.begin() as connection:
        # The update comes first: it takes the write lock, so that what is read after it still holds.
        grown = connection.execute(runs.where(experiments.c.last < last).values(last=last)).rowcount
        mine = select(claims.c.layer, func.max(claims.c.bucket)).where(claims.c.experiment == name)
        layer, old = connection.execute(mine.group_by(claims.c.layer)).one_or_none() or ("", -1)
        if grown != 1 or last > BUCKETS:
            raise Conflict(
                f"{name} cannot grow to bucket {last}: it holds buckets up to {old + 1} of {BUCKETS}"
                if old >= 0
                else f"no experiment {name!r} runs: see `recloop experiment list`"
            )
        _claim(connection, name, layer, old + 1, last)
    return find(engine, name)


def stop(engine: Engine, name: str, who: str, why: str) -> Standing:
    """End it: nobody is in an arm any more, and its buckets are free.

    Raises:
        Conflict: it does not run.
    """
    running = experiments.update().where(experiments.c.name == name, experiments.c.state == "running")
    with engine.begin() as connection:
        ended = connection.execute(running.values(state="stopped", who=who, why=why, ended=now_us()))
        if ended.rowcount != 1:
            raise Conflict(f"no experiment {name!r} runs: see `recloop experiment list`")
        connection.execute(claims.delete().where(claims.c.experiment == name))
    return find(engine, name)


def note_look(engine: Engine, standing: Standing, look: Look) -> None:
    """Add a look to those that the caller has read.

    Raises:
        Conflict: somebody else has looked meanwhile.
    """
    name, before = standing.experiment.name, standing.looks
    mine = experiments.c.looks == _as_text(before)
    with engine.begin() as connection:
        added = experiments.update().where(experiments.c.name == name, mine)
        if connection.execute(added.values(looks=_as_text((*before, look)))).rowcount != 1:
            raise Conflict(f"somebody else has looked at {name} just now: ask for the report again")


def find(engine: Engine, name: str) -> Standing:
    """The experiment of that name.

    Raises:
        Conflict: there is none.
    """
    found = listed(engine, name)
    if not found:
        raise Conflict(f"there is no experiment {name!r}: see `recloop experiment list`")
    return found[0]


def listed(engine: Engine, name: str | None = None) -> list[Standing]:
    """All experiments, newest first, or the one of that name."""
    with engine.connect() as connection:
        return _read(connection, true() if name is None else experiments.c.name == name)


def running(engine: Engine) -> list[Standing]:
    """Those that run, newest first."""
    with engine.connect() as connection:
        return _read(connection, experiments.c.state == "running")


def expose(
    engine: Engine, standing: Standing, user_ids: Iterable[str], ts: int | None = None
) -> dict[str, str]:
    """Log that people meet the experiment now; the first time counts, later ones change nothing.

    Returns:
        The arm of each who is in it.
    """
    arms = {user_id: found for user_id in user_ids if (found := standing.arm_of(user_id)) is not None}
    shared = {"experiment": standing.experiment.name, "ts": now_us() if ts is None else ts}
    rows = [shared | {"user_id": user_id, "arm": found} for user_id, found in arms.items()]
    with engine.begin() as connection:
        insert_or_ignore(connection, exposures, rows)
    return arms


def _read(connection: Connection, which: ColumnElement[bool]) -> list[Standing]:
    query = select(experiments).where(which).order_by(experiments.c.ts.desc(), experiments.c.name)
    return [_standing(dict(row)) for row in connection.execute(query).mappings()]


def _claim(connection: Connection, name: str, layer: str, first: int, last: int) -> None:
    rows = [{"layer": layer, "bucket": number, "experiment": name} for number in range(first, last)]
    if insert_or_ignore(connection, claims, rows) == len(rows):
        return
    taken = select(claims.c.experiment).where(
        claims.c.layer == layer, claims.c.bucket.between(first, last - 1), claims.c.experiment != name
    )
    others = ", ".join(sorted(set(connection.execute(taken).scalars())))
    raise Conflict(
        f"buckets {first} to {last - 1} of layer {layer!r} overlap with {others}:"
        " choose a range beside it, or another layer"
    )


def _standing(row: dict) -> Standing:
    plan = {key: json.loads(row[key]) for key in ("arms", "metrics", "design", "looks")}
    fields = {key: row[key] for key in ("name", "layer", "first", "last")}
    experiment = Experiment(**fields, arms=plan["arms"], **plan["metrics"], **plan["design"])
    others = {key: row[key] for key in ("salt", "state", "who", "why", "ts", "ended")}
    return Standing(experiment=experiment, looks=tuple(Look(**look) for look in plan["looks"]), **others)


def _as_text(looks: Iterable[Look]) -> str:
    return json.dumps([look.model_dump() for look in looks])
