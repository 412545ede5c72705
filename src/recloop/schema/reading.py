"""Sentences that are kept in English, read in another language: which one it is, and its figures, are found.

A template is a sentence with figures, ``{days} days old, {most} at most``; ``(s)`` stands for an s or none.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

LONGEST = 2000  # characters of what is read: a longer one is mostly what somebody sent
_PART = re.compile(r"(\{\w+\}|\(s\))")


class Pair(NamedTuple):
    """A sentence in English, and in the other language with the same figures."""

    english: str
    other: str


class Reader:
    """Sentences of two languages.

    Args:
        pairs: the first whose English fits is taken; a figure named ``why`` is read in its turn, ``words``
            loses the "or" between its words.
    """

    def __init__(self, pairs: Iterable[Pair]) -> None:
        self._pairs = [(_pattern(pair.english), pair.other) for pair in pairs]

    def read(self, text: str) -> str | None:
        """The text in the other language, with the name of a field before it, or several of them; else None.

        What is not known of several stays in English.
        """
        if len(text) > LONGEST:
            return None
        parts = text.split("; ")
        read = [self._named(part) for part in parts]
        if not all(read) and (whole := self._named(text)) is not None:
            return whole
        return "; ".join(one or part for one, part in zip(read, parts, strict=True)) if any(read) else None

    def _named(self, text: str) -> str | None:
        if (found := self._filled(text)) is not None:
            return found
        field, colon, rest = text.partition(": ")
        read = self._filled(rest) if colon else None
        names = re.sub(" and | or ", ", ", field)
        return read and (f"{names}: {read}" if field else read)

    def _filled(self, text: str) -> str | None:
        for pattern, other in self._pairs:
            if found := pattern.fullmatch(text):
                figures = found.groupdict()
                if why := figures.get("why"):
                    figures["why"] = self.read(why) or why
                if words := figures.get("words"):
                    figures["words"] = words.replace(" or ", ", ")
                return other.format(**figures)
        return None


def _pattern(english: str) -> re.Pattern[str]:
    parts = [
        f"(?P<{part[1:-1]}>.+?)" if part.startswith("{") else "s?" if part == "(s)" else re.escape(part)
        for part in _PART.split(english)
    ]
    return re.compile("".join(parts), re.DOTALL)
