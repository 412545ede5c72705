"""params.yaml and the environment, each as one typed object."""

from recloop.settings.params import Params, ParamsError, load_params, proposed
from recloop.settings.places import Places, places
from recloop.settings.tokens import TokenError, Tokens, require_tokens

__all__ = [
    "Params",
    "ParamsError",
    "Places",
    "TokenError",
    "Tokens",
    "load_params",
    "places",
    "proposed",
    "require_tokens",
]
