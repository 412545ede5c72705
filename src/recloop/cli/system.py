"""The running system: up, down, status."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from recloop.cli.show import AsJson, as_json, as_table, console, stop
from recloop.delivery import processes, slots
from recloop.delivery.retirement import tidy
from recloop.delivery.rollout import abort, current, install
from recloop.delivery.routing import read_routing
from recloop.policy import ArtefactError, load
from recloop.registry import Registered, RegistryError, connect, fetch, note_bento, resolve
from recloop.serving.build import BuildError, bento_folder, build_bento, is_sound
from recloop.settings import ParamsError, Places, TokenError, load_params, places, require_tokens
from recloop.settings.tokens import LOOPBACK
from recloop.store import StoreError, open_store

WHO = "recloop up"
RETRY_SECONDS = 15.0
LOCAL = LOOPBACK[0]  # for all that has no tokens of its own: only the gateway may be elsewhere
Trouble = (processes.ProcessError, StoreError, RegistryError, BuildError, ArtefactError)


def up(
    workers: Annotated[
        int | None, typer.Option(min=1, max=64, help="Processes of the gateway, on one port.")
    ] = None,
) -> None:
    """Start gateway, champion's slot, Prefect (server, UI, worker) and MLflow; Ctrl-C stops them all."""
    where = places() if workers is None else places(gateway_workers=workers)
    if processes.find(where.home, "up"):
        stop("recloop is up already: `recloop status` shows it, `recloop down` stops it")
    if processes.find(where.home, "demo"):
        stop("`make demo` runs here: wait until it is done, or set RECLOOP_HOME to another folder")
    if not Path("prefect.yaml").exists():
        stop(f"there is no prefect.yaml in {Path.cwd()}: run `recloop up` in the project's folder")
    try:
        require_tokens(where.host, where.tokens)
    except TokenError as error:
        stop(f"recloop does not start: {error}")
    keep = _keep_warm()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    own = processes.note_own(where.home, "up")
    try:
        for name, begin in _parts(where).items():
            if ended.is_set():
                break
            with console.status(f"starting {name}"):
                begin()
            console.print(f"  {name:<10} {_address(where, name)}", highlight=False)
        if not ended.is_set():
            console.print("recloop is up. Ctrl-C stops it; `recloop status` shows it.")
        begun: dict[str, float] = {}
        while not ended.wait(1):
            _look_after(where, begun)
            _retire(where, keep)
    except Trouble as error:
        stop(str(error))
    finally:
        console.print("stopping")
        _stop_all(where)
        processes.forget(where.home, own)


def _parts(where: Places) -> dict[str, Callable[[], object]]:
    return {
        "prefect": lambda: _prefect(where),
        "mlflow": lambda: _mlflow(where),
        "slot": lambda: _champion(where),
        "gateway": lambda: gateway(where),
        "worker": lambda: _worker(where),
    }


def _address(where: Places, name: str) -> str:
    found = processes.find(where.home, name)
    if name == "slot":
        return (
            ", ".join(c for c in slots.COLOURS if slots.alive(where, c)) or "none yet: no policy was released"
        )
    host = where.host if name == "gateway" else LOCAL
    return f"http://{host}:{found.port}" if found and found.port else "runs"


def prefect_environment(where: Places) -> dict[str, str]:
    """What Prefect's processes and its clients need to find each other."""
    return dict(os.environ) | {
        "PREFECT_HOME": str(where.home / "prefect"),
        "PREFECT_API_URL": f"http://{LOCAL}:{where.prefect_port}/api",
        "PREFECT_UI_API_URL": f"http://{LOCAL}:{where.prefect_port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "RECLOOP_HOME": str(where.home),
    }


def _prefect(where: Places) -> None:
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", LOCAL]
    command += ["--port", str(where.prefect_port)]
    process = processes.start(
        where.home, "prefect", command, prefect_environment(where), LOCAL, where.prefect_port
    )
    processes.wait_ready(process, f"http://{LOCAL}:{where.prefect_port}/api/health", 120)


def _mlflow(where: Places) -> None:
    connect(where)
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        LOCAL,
        "--port",
        str(where.mlflow_port),
    ]
    command += ["--backend-store-uri", where.mlflow, "--workers", "1"]
    command += ["--default-artifact-root", (where.home / "mlartifacts").as_uri()]
    environment = dict(os.environ) | {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    process = processes.start(where.home, "mlflow", command, environment, LOCAL, where.mlflow_port)
    processes.wait_ready(process, f"http://{LOCAL}:{where.mlflow_port}/health", 90)


def gateway(where: Places) -> processes.Process:
    """Start the gateway and wait until it answers."""
    command = [sys.executable, "-m", "recloop.web", "--workers", str(where.gateway_workers)]
    environment = dict(os.environ) | {"RECLOOP_HOME": str(where.home)}
    process = processes.start(where.home, "gateway", command, environment, where.host, where.gateway_port)
    processes.wait_ready(process, f"http://{where.host}:{where.gateway_port}/healthz", 60)
    return process


def _worker(where: Places) -> None:
    command = [sys.executable, "-m", "flows.worker"]
    processes.start(where.home, "worker", command, prefect_environment(where))


def _champion(where: Places) -> None:
    champion = resolve(connect(where), "champion")
    if champion is not None:
        serve_champion(where, champion)


def serve_champion(where: Places, champion: Registered) -> None:
    """Start the champion's slot and route everybody to it, unless a rollout is open."""
    engine = open_store(where.store)
    found = read_routing(engine)
    colour = found[1].champion if found else slots.COLOURS[0]
    tag = champion.bento
    if not tag or not is_sound(bento_folder(tag, where.home), champion.policy_sha256):
        tag = _build_again(where, champion)
    policy = load(bento_folder(tag, where.home) / "src/models/policy").manifest.name
    target = slots.start(where, colour, tag, policy)
    if found and found[1].slots[colour] == target:
        return
    if opened := current(engine):
        abort(engine, opened.id, WHO, "the champion's slot came up at another address")
    install(engine, colour, target, WHO, f"champion is version {champion.version}")


def _build_again(where: Places, champion: Registered) -> str:
    """A Bento for a champion whose own was deleted, or holds another policy."""
    client = connect(where)
    policy = fetch(client, champion.version, where.home / "judged" / str(champion.version))
    labels = {"mlflow_version": champion.version, "mlflow_run": champion.run_id}
    built = build_bento(Path.cwd(), policy, where.home, labels)
    note_bento(client, champion.version, built.tag)
    return built.tag


def _look_after(where: Places, begun: dict[str, float]) -> None:
    """Start again what died; ``begun`` holds when each part was, so that it is not tried all the time."""
    for name, begin in _parts(where).items():
        if _lives(where, name) or time.monotonic() - begun.get(name, -RETRY_SECONDS) < RETRY_SECONDS:
            continue
        console.print(f"{name} has ended and is started again: see {where.home / 'logs'}")
        try:
            processes.stop(where.home, name)  # what it started may have outlived it
            begin()
        except Trouble as error:
            console.print(str(error), style="red", markup=False, highlight=False)
        begun[name] = time.monotonic()


def _keep_warm() -> float:
    try:
        return load_params().delivery.keep_warm_seconds
    except ParamsError as error:
        stop(f"recloop does not start: {error}")


def _retire(where: Places, keep: float) -> None:
    for colour in tidy(where, open_store(where.store), WHO, keep):
        console.print(f"slot {colour} is retired: nobody was sent there any more")


def _lives(where: Places, name: str) -> bool:
    if name != "slot":
        return processes.find(where.home, name) is not None
    found = read_routing(open_store(where.store))
    return found is None or slots.alive(where, found[1].champion)


def _stop_all(where: Places) -> None:
    for name in ("worker", "gateway", *slots.COLOURS, "mlflow", "prefect"):
        processes.stop(where.home, name)


def down() -> None:
    """Stop what `recloop up` started, wherever it runs."""
    where = places()
    own = processes.find(where.home, "up")
    if own is None:
        left = [p.name for p in processes.running(where.home)]
        _stop_all(where)
        console.print(f"recloop was not up{'; stopped what was left: ' + ', '.join(left) if left else ''}")
        return
    os.kill(own.pid, signal.SIGTERM)
    for _ in range(600):
        if not own.alive:
            console.print("recloop is down")
            return
        time.sleep(0.1)
    stop(f"recloop (pid {own.pid}) does not stop: see {where.home / 'logs'}")


def status(json_: AsJson = False) -> None:
    """What runs, which policy serves, and the rollout."""
    where = places()
    engine = open_store(where.store)
    found, rollout = read_routing(engine), current(engine)
    parts = [asdict(process) for process in processes.running(where.home)]
    champion = found[1].slots[found[1].champion].policy if found else None
    content = {
        "processes": parts,
        "champion": champion,
        "slot": found[1].champion if found else None,
        "canary_share": found[1].canary_share if found else 0.0,
        "rollout": asdict(rollout) if rollout else None,
    }
    if json_:
        as_json(content)
        return
    rows = [p | {"address": _address(where, p["name"]) if p["port"] else ""} for p in parts]
    if rows:
        as_table(rows, ["name", "pid", "address", "log"])
    else:
        console.print("nothing runs: `recloop up` starts it")
    console.print(f"champion: {champion or 'none yet'}" + (f" in slot {found[1].champion}" if found else ""))
    if rollout:
        console.print(f"rollout {rollout.id}: {rollout.challenger} is {rollout.state}")
