"""Words, for the search: the same for SQLite and PostgreSQL, and for what is stored and what is asked.

Text is NFKC and casefolded. A word is a run of letters and digits; Hangul is parted from other scripts, so
that ``UI디자인`` has two. Korean particles follow their noun, so that a word is found by its beginning:
디자인 in 디자인을. A noun within a compound is not (디자인 in 로고디자인): that would take a dictionary.
"""

import re
from unicodedata import normalize

LONGEST = 64  # characters; of a longer word these are kept
_HANGUL = "\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3"
_WORD = re.compile(rf"[{_HANGUL}]+|[^\W_{_HANGUL}]+")


def words_in(text: str) -> set[str]:
    """The different words of a text."""
    folded = text.lower() if text.isascii() else normalize("NFKC", normalize("NFKC", text).casefold())
    return {word[:LONGEST] for word in _WORD.findall(folded)}


def after_all(word: str) -> str:
    """What sorts, by bytes, after all that begins with the word."""
    return word + "\U0010ffff"
