"""How templates write numbers, shares and moments."""

import math
from datetime import UTC, datetime

from recloop.delivery.wording import Said, sentence
from recloop.experiments.metrics import METRICS
from recloop.intake.wording import reason_in


def moment(ts: int) -> str:
    """µs since 1970 as a person reads it, UTC."""
    return datetime.fromtimestamp(ts / 1e6, UTC).strftime("%m-%d %H:%M:%S")


def moment_iso(ts: int) -> str:
    """µs since 1970 as a machine reads it."""
    return datetime.fromtimestamp(ts / 1e6, UTC).isoformat(timespec="seconds")


def short(number: float) -> str:
    """Three digits; whole numbers from 100 on."""
    if not math.isfinite(number):
        return "–" if math.isnan(number) else "∞" if number > 0 else "-∞"
    if abs(number) >= 100 or float(number).is_integer():
        return f"{number:,.0f}"
    text = f"{number:.3g}"
    return f"{number:.1e}" if "e" in text else text


def percent(share: float) -> str:
    """A share in percent, with as many digits as it needs."""
    return f"{100 * share:.3g}\N{NO-BREAK SPACE}%"


def metric(name: str, code: str) -> str:
    """A metric as people call it."""
    return METRICS[name].titles[code]


def said(told: Said | None, code: str) -> str:
    """A gate's or a controller's sentence; empty where there is none in that language."""
    return sentence(told, code, "")


def reason(kept: str, code: str) -> str:
    """Why a row was refused."""
    return reason_in(code, kept)


FILTERS = {
    "moment": moment, "moment_iso": moment_iso, "short": short, "percent": percent, "metric": metric,
    "said": said, "reason": reason,
}  # fmt: skip
