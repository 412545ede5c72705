"""The gateway with its pages, as one ASGI app."""

from starlette.applications import Starlette

from recloop.delivery.gateway import Gateway
from recloop.delivery.operator import operator_token
from recloop.settings import Params, Places
from recloop.store import open_store
from recloop.web.dashboard import Dashboard
from recloop.web.pages import STATIC
from recloop.web.storefront import Storefront


def create(places: Places, params: Params) -> Starlette:
    """The gateway over the store at ``places``, with storefront and dashboard.

    Raises:
        StoreError: the store cannot be opened.
    """
    gateway = Gateway(open_store(places.store), params, operator_token(places))
    return gateway.app([*Storefront(gateway).routes, *Dashboard(gateway).routes, STATIC])
