"""How pages are rendered and which headers they carry."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self';"
    " img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
}
TEMPLATES = Environment(
    loader=PackageLoader("recloop.web"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
STATIC = Mount("/static", StaticFiles(directory=Path(__file__).parent / "static"))


def page(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A rendered template; every value is escaped."""
    return HTMLResponse(TEMPLATES.get_template(template).render(**values), status, HEADERS)
