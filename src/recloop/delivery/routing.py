"""Routing: which slot serves whom. The newest row of the store's table holds for every gateway."""

import msgspec
from sqlalchemy import Connection, Engine, select

from recloop.experiments import in_challenger
from recloop.schema import now_us
from recloop.store.tables import routing


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A slot as the gateway sees it: its base URL and the policy that it must answer with."""

    url: str
    policy: str


class Routing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who serves. A slot that is neither champion, challenger nor shadow stands by for when they fail.

    The shadow gets copies of ``shadow_share`` of the requests; its answers never reach people.
    """

    slots: dict[str, Target]
    champion: str
    challenger: str | None = None
    canary_share: float = 0.0
    salt: str = ""
    shadow: str | None = None
    shadow_share: float = 0.0

    def __post_init__(self) -> None:
        for colour in filter(None, (self.champion, self.challenger, self.shadow)):
            if colour not in self.slots:
                raise ValueError(f"routing names slot {colour!r}, but has only {sorted(self.slots)}")
        if self.champion == self.challenger:
            raise ValueError(f"slot {self.champion!r} cannot be champion and challenger at once")
        if self.shadow in (self.champion, self.challenger) and self.shadow:
            raise ValueError(f"slot {self.shadow!r} cannot serve people and be a shadow at once")
        for name in ("canary_share", "shadow_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], not {getattr(self, name)}")

    def order(self, user_id: str) -> list[str]:
        """The slot that the person is assigned to, then the one to turn to when it fails."""
        first = self.champion
        if self.challenger and in_challenger(user_id, self.salt, self.canary_share):
            first = self.challenger
        others = (self.champion, self.challenger, *sorted(self.slots))
        return [first, *(colour for colour in others if colour and colour not in (first, self.shadow))][:2]


def read_routing(engine: Engine) -> tuple[int, Routing] | None:
    """The newest version and its routing; None before the first slot was installed."""
    with engine.connect() as connection:
        return newest(connection)


def newest(connection: Connection) -> tuple[int, Routing] | None:
    """``read_routing`` inside the caller's transaction."""
    query = select(routing.c.version, routing.c.snapshot).order_by(routing.c.version.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else (row.version, msgspec.json.decode(row.snapshot, type=Routing))


def write_routing(connection: Connection, after: int, wanted: Routing, who: str, why: str) -> None:
    """Append the version that follows ``after`` (0: the first), inside the caller's transaction.

    Raises:
        IntegrityError: somebody else has written that version meanwhile.
    """
    connection.execute(
        routing.insert(),
        {
            "version": after + 1,
            "snapshot": msgspec.json.encode(wanted).decode(),
            "who": who,
            "why": why,
            "ts": now_us(),
        },
    )
