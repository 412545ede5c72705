"""The BentoML service. It is imported inside a Bento, with nothing heavier than ONNX Runtime."""

import gc
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import bentoml
from bentoml.exceptions import BentoMLException
from starlette.applications import Starlette

from recloop.policy import ArtefactError, verify
from recloop.serving.app import app_from_environment
from recloop.serving.direct import BUCKETS, DirectService
from recloop.serving.journal import log_as_json
from recloop.settings import Places, TokenError, require_tokens

HOT_PATH = "recommend,feedback"


def _folder() -> Path:
    return Path(os.environ["RECLOOP_POLICY"])


class Deferred:
    """The slot's app, which is made where it serves. BentoML's supervisor imports this module too, and only
    looks whether the policy is unaltered and whether there are tokens where they must be."""

    def __init__(self) -> None:
        here = Places()  # type: ignore[call-arg]
        log_as_json("recloop", here.log_level)
        logging.getLogger("uvicorn.access").propagate = False  # it puts a line together that nobody writes
        with _explained():
            require_tokens(os.environ.get("RECLOOP_SLOT_HOST", ""), here.tokens)
            verify(_folder())

    @cached_property
    def app(self) -> Starlette:
        """The policy is loaded on the first look."""
        with _explained():
            return app_from_environment(_folder())

    @property
    def direct(self) -> tuple[str, ...]:
        """Paths that go past BentoML's layers; a slow one may need its time limit."""
        return ("/recommend",) if self.app.state.quick else ()


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except TokenError as error:
        raise BentoMLException(f"the slot does not start: {error}") from error
    except ArtefactError as error:  # a ValueError, for which BentoML would say that there is no such Bento
        raise BentoMLException(f"this policy must not be served: {error}") from error


deferred = Deferred()


@bentoml.service(
    name="recloop_slot",
    workers=1,
    traffic={"timeout": 10},
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": HOT_PATH},
    metrics={"enabled": True, "namespace": "recloop_slot", "duration": {"buckets": BUCKETS}},
    service_class=DirectService,
)
@bentoml.asgi_app(deferred, path="/")
class Slot:
    """One policy behind ``POST /recommend`` and ``POST /feedback``."""

    def __init__(self) -> None:
        gc.collect()
        gc.freeze()  # the loaded policy never becomes garbage: collections stay short
        gc.set_threshold(50_000, 50, 100)
