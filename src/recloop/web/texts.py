"""Which language a person reads."""

from starlette.requests import Request

LANGUAGES = "en", "ko"
LANGUAGE_COOKIE = "recloop_lang"


def language(request: Request) -> str:
    """``?lang``, else as chosen before, else the first of Accept-Language that we speak, else English."""
    chosen = request.query_params.get("lang", ""), request.cookies.get(LANGUAGE_COOKIE, "")
    accepted = [part.strip()[:2].lower() for part in request.headers.get("accept-language", "").split(",")]
    return next((code for code in [*chosen, *accepted] if code in LANGUAGES), "en")
