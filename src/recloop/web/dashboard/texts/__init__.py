"""What the dashboard says. Reasons and figures stand as they were written down, whatever the language."""

from recloop.web.dashboard.texts.english import EN
from recloop.web.dashboard.texts.korean import KO

__all__ = ["TEXTS"]
TEXTS = {"en": EN, "ko": KO}
