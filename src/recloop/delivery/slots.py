"""Slots: a Bento that serves one policy, as a process, blue or green."""

import json

from recloop.delivery import processes
from recloop.delivery.routing import Target
from recloop.serving.build import serve_command
from recloop.settings import Places, load_params
from recloop.settings.tokens import LOOPBACK

COLOURS = ("blue", "green")
START_SECONDS = 60


def other(colour: str) -> str:
    """The other colour."""
    return COLOURS[1 - COLOURS.index(colour)]


def start(where: Places, colour: str, tag: str, policy: str) -> Target:
    """Start a slot and wait until it is ready; a slot of that colour that runs is replaced.

    Raises:
        ProcessError: the port is taken, or the slot does not start; its log says why.
    """
    stop(where, colour)
    port = getattr(where, f"{colour}_port")
    command, environment = serve_command(tag, where.home, where.home / "slots" / colour, LOOPBACK[0], port)
    environment["RECLOOP_STORE_URL"] = where.store
    environment["RECLOOP_TOKENS_FILE"] = str(where.token_list)
    environment["RECLOOP_TERMS"] = json.dumps(load_params().privacy.terms.model_dump())
    process = processes.start(where.home, colour, command, environment, LOOPBACK[0], port)
    url = f"http://{LOOPBACK[0]}:{port}"
    processes.wait_ready(process, f"{url}/readyz", START_SECONDS)
    return Target(url, policy)


def stop(where: Places, colour: str) -> bool:
    """Stop the slot; requests in flight are finished. False where it did not run."""
    return processes.stop(where.home, colour)


def alive(where: Places, colour: str) -> bool:
    """Whether the slot's process runs."""
    return processes.find(where.home, colour) is not None
