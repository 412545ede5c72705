"""The gateway with its pages, as one ASGI app."""

import os

from starlette.applications import Starlette

from recloop.delivery.gateway import Gateway
from recloop.serving.guard import OPEN, free_scopes
from recloop.serving.journal import log_as_json
from recloop.settings import Params, Places, load_params, places, require_tokens
from recloop.settings.tokens import FEEDBACK, READ
from recloop.store import open_store
from recloop.web.dashboard import Dashboard
from recloop.web.pages import STATIC
from recloop.web.snippet import SNIPPET
from recloop.web.storefront import Storefront

SCOPES = {
    "/": READ,
    "/consent": FEEDBACK,
    "/dashboard": READ,
    "/dashboard/live": READ,
    "/static/*": OPEN,
    "/recloop.js": OPEN,
}


PARAMS = "RECLOOP_PARAMS"  # how a worker learns which file of parameters holds


def create(where: Places, params: Params) -> Starlette:
    """The gateway over the store at ``where``, with storefront and dashboard.

    Raises:
        StoreError: the store cannot be opened.
        TokenError: ``where.host`` is not loopback, and there are no tokens.
    """
    tokens = where.tokens
    require_tokens(where.host, tokens)
    free = free_scopes(where.host, frozenset() if where.ask_always else frozenset({READ, FEEDBACK}))
    rate, slot_token = where.rate_at(where.host), where.slot_token.get_secret_value()
    gateway = Gateway(open_store(where.store), params, tokens, free, rate, slot_token, where.internal)
    return gateway.app([*Storefront(gateway).routes, *Dashboard(gateway).routes, STATIC, SNIPPET], SCOPES)


def from_environment() -> Starlette:
    """The app of one worker: what ``python -m recloop.web`` was told stands in the environment."""
    here = places()
    log_as_json("", here.log_level)
    return create(here, load_params(os.environ.get(PARAMS, "params.yaml")))
