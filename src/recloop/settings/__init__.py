"""params.yaml and the environment, each as one typed object."""

from recloop.settings.params import Params, ParamsError, load_params, proposed
from recloop.settings.places import Places, places

__all__ = ["Params", "ParamsError", "Places", "load_params", "places", "proposed"]
