"""The gateway with its pages, as one ASGI app."""

import os
from functools import cache

from starlette.applications import Starlette

from recloop.delivery import persons
from recloop.delivery.door import Door
from recloop.delivery.gateway import Gateway
from recloop.delivery.persons import Persons
from recloop.serving.guard import OPEN, free_scopes
from recloop.serving.journal import log_as_json
from recloop.settings import Params, Places, load_params, places, require_tokens
from recloop.settings.tokens import FEEDBACK, READ
from recloop.store import open_store
from recloop.store.vault import open_vault
from recloop.web import dashboard, shop
from recloop.web.dashboard import Dashboard
from recloop.web.pages import STATIC
from recloop.web.snippet import SNIPPET

SCOPES = (
    shop.SCOPES
    | {
        "/static/*": OPEN,
        "/recloop.js": OPEN,
    }
    | dashboard.SCOPES
)


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
    engine = open_store(where.store)
    vault = cache(lambda: open_vault(where))  # most gateways never need it
    assumed = where.consent == "assumed"
    door = Door(engine, params.privacy.terms.model_dump(), assumed, vault() if where.accounts else None)
    gateway = Gateway(engine, params, tokens, free, rate, slot_token, where.internal, door)
    shown = Dashboard(gateway, where.home)
    pages = [*shop.routes(gateway, vault), *shown.routes, STATIC, SNIPPET]
    own = [*Persons(engine, door, vault).routes, *pages]
    return gateway.app(own, persons.SCOPES | SCOPES, shop.MOST, shown.board.running)


def from_environment() -> Starlette:
    """The app of one worker: what ``python -m recloop.web`` was told stands in the environment."""
    here = places()
    log_as_json("", here.log_level)
    return create(here, load_params(os.environ.get(PARAMS, "params.yaml")))
