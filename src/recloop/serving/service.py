"""The BentoML service. It is imported inside a Bento, with nothing heavier than ONNX Runtime."""

import gc
import logging
import os
from pathlib import Path

import bentoml
from bentoml.exceptions import BentoMLException
from starlette.applications import Starlette

from recloop.policy import ArtefactError
from recloop.serving.app import app_from_environment
from recloop.serving.direct import BUCKETS, DirectService
from recloop.serving.journal import log_as_json
from recloop.settings import Places, TokenError

HOT_PATH = "recommend,feedback"


def _app() -> Starlette:
    log_as_json("recloop", Places().log_level)  # type: ignore[call-arg]
    logging.getLogger("uvicorn.access").propagate = False  # it puts a line together that nobody writes
    try:
        return app_from_environment(Path(os.environ["RECLOOP_POLICY"]))
    except TokenError as error:
        raise BentoMLException(f"the slot does not start: {error}") from error
    except ArtefactError as error:  # a ValueError, for which BentoML would say that there is no such Bento
        raise BentoMLException(f"this policy must not be served: {error}") from error


app = _app()


@bentoml.service(
    name="recloop_slot",
    workers=1,
    traffic={"timeout": 10},
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": HOT_PATH},
    metrics={"enabled": True, "namespace": "recloop_slot", "duration": {"buckets": BUCKETS}},
    service_class=DirectService,
)
@bentoml.asgi_app(app, path="/")
class Slot:
    """One policy behind ``POST /recommend`` and ``POST /feedback``."""

    direct = ("/recommend",) if app.state.quick else ()  # a slow one may need BentoML's time limit

    def __init__(self) -> None:
        gc.collect()
        gc.freeze()  # the loaded policy never becomes garbage: collections stay short
        gc.set_threshold(50_000, 50, 100)
