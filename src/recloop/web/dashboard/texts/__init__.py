"""What the dashboard says. Gates are worded by ``delivery.wording``, alerts by ``watch.summaries``."""

from recloop.web.dashboard.texts.english import EN
from recloop.web.dashboard.texts.korean import KO

__all__ = ["TEXTS"]
TEXTS = {"en": EN, "ko": KO}
