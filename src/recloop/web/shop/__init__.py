"""The shop: what a marketplace's own shop would do with the API, as pages. docs/storefront.md tells how."""

from collections.abc import Callable

from starlette.routing import Route

from recloop.delivery.gateway import Gateway
from recloop.settings.tokens import FEEDBACK, READ
from recloop.store.vault import Vault
from recloop.web.shop.acts import Acts
from recloop.web.shop.browse import Browse
from recloop.web.shop.cart import Cart
from recloop.web.shop.consent import Consent
from recloop.web.shop.frame import Frame
from recloop.web.shop.home import Home

SCOPES = {
    "/": READ,
    "/why": READ,
    "/category/*": READ,
    "/search": READ,
    "/talent/*": READ,
    "/dismiss": FEEDBACK,
    "/rating": FEEDBACK,
    "GET /cart": READ,
    "/cart": FEEDBACK,
    "/order": FEEDBACK,
    "/ordered": READ,
    "/privacy": READ,
    "/privacy/export": FEEDBACK,
    "/privacy/erase": FEEDBACK,
    "/consent": FEEDBACK,
}
MOST = {path: 64 for path in SCOPES if " " not in path}  # at once


def routes(gateway: Gateway, vault: Callable[[], Vault]) -> list[Route]:
    """All pages and forms of the shop."""
    frame = Frame(gateway)
    rooms = Home(frame), Browse(frame), Acts(frame), Cart(frame), Consent(frame, vault)
    return [route for room in rooms for route in room.routes]
