"""Texts in two languages: ``English · 한국어`` of a title, two paragraphs of a description."""

import re

TITLE, PROSE = " · ", "\n\n"  # what parts the two
_HANGUL = re.compile("[가-힣]")


def half(text: str, mark: str, language: str) -> str:
    """The half in English (``en``) or Korean (``ko``); a text that is not of two such halves as a whole."""
    english, found, korean = text.rpartition(mark)
    if not found or _HANGUL.search(english) or not _HANGUL.search(korean):
        return text
    return korean if language == "ko" else english
