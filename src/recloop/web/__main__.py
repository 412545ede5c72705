"""``python -m recloop.web``: the gateway with its pages, as a process."""

import argparse

import uvicorn

from recloop.settings import load_params, places
from recloop.web.app import create


def main() -> None:
    """Serve until SIGTERM or SIGINT; requests in flight are finished."""
    here = places()
    parser = argparse.ArgumentParser(prog="python -m recloop.web", description=__doc__)
    parser.add_argument("--host", default=here.host)
    parser.add_argument("--port", type=int, default=here.gateway_port)
    parser.add_argument("--params", default="params.yaml")
    given = parser.parse_args()
    uvicorn.run(
        create(here, load_params(given.params)),
        host=given.host,
        port=given.port,
        access_log=False,
        log_level="warning",
        loop="uvloop",
        http="httptools",
        timeout_graceful_shutdown=5,
        server_header=False,
    )


if __name__ == "__main__":
    main()
