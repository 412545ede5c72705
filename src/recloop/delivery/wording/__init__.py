"""What gates and controllers say: a code with figures, which stands in the store, and its sentences.

``words("failures", failed=3, asked=90, allowed=0.01)`` is the English one, and knows what it was made of. A
figure may be another such sentence. Another one is a line in ``english`` and in ``korean``.
"""

from collections.abc import Mapping
from typing import Any

from recloop.delivery.wording.english import EN
from recloop.delivery.wording.korean import KO
from recloop.delivery.wording.programs import said_in

__all__ = ["NOTHING", "SENTENCES", "Said", "Words", "program_said", "said_of", "sentence", "words"]
SENTENCES = {"en": EN, "ko": KO}
VERBATIM = "verbatim"  # a person's words: the same in every language
PROGRAM = "program"  # words of a library or of a room above, which are known in English and read
Said = Mapping[str, Any]  # ``code`` and figures, ready for JSON


class Words(str):
    """The English sentence; ``said`` is its code and figures."""

    said: Said

    def __new__(cls, text: str, said: Said | None = None) -> "Words":
        made = super().__new__(cls, text)
        made.said = said or {"code": VERBATIM, "text": text}
        return made


NOTHING = Words("")


def words(code: str, **figures: Any) -> Words:
    """The sentence of a code; text among the figures stays what it is, words keep theirs.

    Raises:
        KeyError: the code is not known, or a figure is missing.
    """
    said = {"code": code} | {n: x.said if isinstance(x, Words) else x for n, x in figures.items()}
    return Words(_filled(said, "en"), said)


def program_said(text: str) -> Words:
    """What a library or a room that knows no codes says."""
    return Words(text, {"code": PROGRAM, "text": text})


def said_of(text: str) -> Said:
    """Code and figures of a sentence; of any other text, that it stands as it is."""
    return text.said if isinstance(text, Words) else {"code": VERBATIM, "text": text}


def sentence(said: Said | None, language: str, written: str) -> str:
    """What was said, in the language; ``written`` where this version knows no sentence for it."""
    try:
        return _filled(said, language) if said else written
    except (KeyError, ValueError, TypeError):
        return written


def _filled(said: Said, language: str) -> str:
    if said["code"] == PROGRAM:
        return said_in(language, said["text"])
    figures = {
        name: _filled(x, language) if isinstance(x, Mapping) else x
        for name, x in said.items()
        if name != "code"
    }
    return SENTENCES[language][said["code"]].format(**figures)
