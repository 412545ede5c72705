"""The script with which a storefront tells what people do on its pages, as it stands in ``static``."""

import hashlib
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_BODY = (Path(__file__).parent / "static" / "recloop.js").read_bytes()
_HEADERS = {
    "etag": f'"{hashlib.sha256(_BODY).hexdigest()[:16]}"',
    "cache-control": "public, max-age=3600, stale-while-revalidate=86400",
    "cross-origin-resource-policy": "cross-origin",  # a page of another origin may load it
    "x-content-type-options": "nosniff",
}


async def _script(request: Request) -> Response:
    if request.headers.get("if-none-match") == _HEADERS["etag"]:
        return Response(status_code=304, headers=_HEADERS)
    return Response(_BODY, headers=_HEADERS, media_type="text/javascript")


SNIPPET = Route("/recloop.js", _script)
