"""Conditions that Prometheus and this program read alike.

An expression gives numbers by labels. ``promql()`` is how Prometheus is asked for them, ``value(seen)`` what
they are by the store's figures. Both look at the same names of metrics.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

Labels = tuple[tuple[str, str], ...]  # sorted by name
Values = dict[Labels, float]
Match = Mapping[str, str]  # label: value; one that begins with ! or ~ is unequal, or starts with the rest


class Seen(Protocol):
    """What there is to look at, at one moment."""

    def increases(self, name: str, seconds: float) -> Values:
        """How much each series of a counter has grown in the last ``seconds``."""

    def gauges(self, name: str) -> Values:
        """What each series of a gauge is now."""


class Expression(Protocol):
    """Numbers by labels."""

    def promql(self) -> str:
        """The same in PromQL."""

    def value(self, seen: Seen) -> Values:
        """By what was seen; nothing where nothing was."""


@dataclass(frozen=True)
class Gauge:
    """The largest of a gauge's series, by the labels to keep, where several processes say the same."""

    name: str
    by: tuple[str, ...] = ()
    match: Match = field(default_factory=dict)

    def promql(self) -> str:
        """``max by (…) (name{…})``."""
        series = self.name + _selector(self.match)
        return f"max by ({', '.join(self.by)}) ({series})" if self.by else f"max({series})"

    def value(self, seen: Seen) -> Values:
        """By the labels that are kept."""
        found = seen.gauges(self.name)
        fits = {labels: x for labels, x in found.items() if _fits(dict(labels), self.match)}
        return _grouped(fits, self.by, max)


@dataclass(frozen=True)
class Increase:
    """How much counters have grown within a window, added up; without labels to keep, 0 where none is.

    Attributes:
        name: of the counter, with ``_total``, ``_bucket`` or ``_count``.
        window: seconds.
        match: which series count.
        by: labels to keep.
    """

    name: str
    window: float
    match: Match = field(default_factory=dict)
    by: tuple[str, ...] = ()

    def promql(self) -> str:
        """``sum by (…) (increase(name{…}[window]))``."""
        series = f"increase({self.name}{_selector(self.match)}[{duration(self.window)}])"
        return f"sum by ({', '.join(self.by)}) ({series})" if self.by else f"(sum({series}) or vector(0))"

    def value(self, seen: Seen) -> Values:
        """Summed; over another window only by how the store keeps time."""
        found = {
            labels: grown
            for labels, grown in seen.increases(self.name, self.window).items()
            if _fits(dict(labels), self.match)
        }
        return _grouped(found, self.by, sum) if found or self.by else {(): 0.0}


@dataclass(frozen=True)
class Both:
    """``left op right`` where both have the labels; ``op`` is +, - or /. A ratio to nothing is left out."""

    left: Expression
    op: str
    right: Expression

    def promql(self) -> str:
        """In brackets."""
        return f"({self.left.promql()} {self.op} {self.right.promql()})"

    def value(self, seen: Seen) -> Values:
        """By labels that both have."""
        one, two = self.left.value(seen), self.right.value(seen)
        acts: dict[str, Callable[[float, float], float]] = {
            "+": lambda a, b: a + b,
            "-": lambda a, b: a - b,
            "/": lambda a, b: a / b if b else float("nan"),
        }
        return {labels: acts[self.op](one[labels], two[labels]) for labels in one if labels in two}


@dataclass(frozen=True)
class Compare:
    """What of ``left`` is above, or below, a number or another expression with the same labels."""

    left: Expression
    op: str
    right: Expression | float

    def promql(self) -> str:
        """``left > right``."""
        bound = self.right if isinstance(self.right, int | float) else None
        right = f"{bound:.10g}" if bound is not None else self.right.promql()  # type: ignore[union-attr]
        return f"{self.left.promql()} {self.op} {right}"

    def value(self, seen: Seen) -> Values:
        """``left``'s numbers, where it holds; NaN never does."""
        found = self.left.value(seen)
        if isinstance(self.right, int | float):
            bounds = dict.fromkeys(found, float(self.right))
        else:
            bounds = self.right.value(seen)
        holds: dict[str, Callable[[float, float], bool]] = {
            ">": lambda a, b: a > b,
            ">=": lambda a, b: a >= b,
            "<": lambda a, b: a < b,
            "==": lambda a, b: a == b,
        }
        return {
            labels: x for labels, x in found.items() if labels in bounds and holds[self.op](x, bounds[labels])
        }


@dataclass(frozen=True)
class All:
    """The first one's numbers, where every one holds for the same labels."""

    parts: tuple[Expression, ...]

    def promql(self) -> str:
        """``(a) and (b) …``."""
        return " and ".join(f"({part.promql()})" for part in self.parts)

    def value(self, seen: Seen) -> Values:
        """Where all hold."""
        first, *others = (part.value(seen) for part in self.parts)
        return {labels: x for labels, x in first.items() if all(labels in other for other in others)}


@dataclass(frozen=True)
class Either:
    """The numbers of the first one that holds."""

    parts: tuple[Expression, ...]

    def promql(self) -> str:
        """``(a) or (b) …``."""
        return " or ".join(f"({part.promql()})" for part in self.parts)

    def value(self, seen: Seen) -> Values:
        """Where any holds."""
        return {labels: x for part in reversed(self.parts) for labels, x in part.value(seen).items()}


def duration(seconds: float) -> str:
    """As Prometheus writes it: 300 is ``5m``."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{1000 * seconds:.0f}ms"


def _selector(match: Match) -> str:
    signs = {"!": "!=", "~": "=~"}
    parts = [
        f'{name}{signs[value[0]]}"{value[1:]}{".*" if value[0] == "~" else ""}"'
        if value[:1] in signs
        else f'{name}="{value}"'
        for name, value in match.items()
    ]
    return "{" + ",".join(parts) + "}" if parts else ""


def _fits(labels: Mapping[str, str], match: Match) -> bool:
    for name, wanted in match.items():
        found = labels.get(name, "")
        if wanted.startswith("!"):
            fits = found != wanted[1:]
        elif wanted.startswith("~"):
            fits = found.startswith(wanted[1:])
        else:
            fits = found == wanted
        if not fits:
            return False
    return True


def _grouped(found: Values, by: tuple[str, ...], how: Callable[[list[float]], float]) -> Values:
    groups: dict[Labels, list[float]] = {}
    for labels, x in found.items():
        kept = tuple((name, value) for name, value in labels if name in by)
        groups.setdefault(kept, []).append(x)
    return {labels: how(numbers) for labels, numbers in groups.items()}
