"""The gateway with its pages, as one ASGI app."""

from starlette.applications import Starlette

from recloop.delivery.gateway import Gateway
from recloop.serving.guard import OPEN, free_scopes
from recloop.settings import Params, Places, require_tokens
from recloop.settings.tokens import FEEDBACK, READ
from recloop.store import open_store
from recloop.web.dashboard import Dashboard
from recloop.web.pages import STATIC
from recloop.web.storefront import Storefront

SCOPES = {
    "/": READ,
    "/consent": FEEDBACK,
    "/dashboard": READ,
    "/dashboard/live": READ,
    "/static/*": OPEN,
}


def create(places: Places, params: Params) -> Starlette:
    """The gateway over the store at ``places``, with storefront and dashboard.

    Raises:
        StoreError: the store cannot be opened.
        TokenError: ``places.host`` is not loopback, and there are no tokens.
    """
    tokens = places.tokens
    require_tokens(places.host, tokens)
    free = free_scopes(places.host, frozenset() if places.ask_always else frozenset({READ, FEEDBACK}))
    rate, slot_token = places.rate_at(places.host), places.slot_token.get_secret_value()
    gateway = Gateway(open_store(places.store), params, tokens, free, rate, slot_token)
    return gateway.app([*Storefront(gateway).routes, *Dashboard(gateway).routes, STATIC], SCOPES)
