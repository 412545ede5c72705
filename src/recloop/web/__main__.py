"""``python -m recloop.web``: the gateway with its pages, as a process."""

import argparse
import sys

import uvicorn

from recloop.serving.journal import log_as_json
from recloop.settings import TokenError, load_params, places
from recloop.store import StoreError
from recloop.web.app import create


def main() -> None:
    """Serve until SIGTERM or SIGINT; requests in flight are finished."""
    here = places()
    parser = argparse.ArgumentParser(prog="python -m recloop.web", description=__doc__)
    parser.add_argument("--host", default=here.host)
    parser.add_argument("--port", type=int, default=here.gateway_port)
    parser.add_argument("--params", default="params.yaml")
    given = parser.parse_args()
    log_as_json("", here.log_level)
    try:
        app = create(here.model_copy(update={"host": given.host}), load_params(given.params))
    except (TokenError, StoreError) as error:
        sys.exit(f"the gateway does not start: {error}")
    uvicorn.run(
        app,
        host=given.host,
        port=given.port,
        access_log=False,
        log_config=None,
        loop="uvloop",
        http="httptools",
        timeout_graceful_shutdown=5,
        server_header=False,
    )


if __name__ == "__main__":
    main()
