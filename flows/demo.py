"""The whole loop in one go: what ``make demo`` runs.

    python -m flows.demo [--data FOLDER] [--requests N]

Round 1 learns from the log that there is and goes live in slot blue. Simulated people browse over
HTTP; their feedback lands in the store. Round 2 learns from the grown log; its policy challenges the
champion in slot green while people browse, and the gates decide. Nothing is left running.
"""

import argparse
import atexit
import hashlib
import os
import signal
import sys
from pathlib import Path

from rich.console import Console

from flows.demo_record import Record
from flows.graph import StageError
from recloop.cli.system import Trouble, gateway, prefect_environment
from recloop.delivery import processes, slots
from recloop.intake import DatasetError, SourceConflict, import_into
from recloop.intake.readers import read_dataset
from recloop.settings import Places, places
from recloop.store import open_store

console = Console(width=max(130, Console().width))
REQUESTS = 2000
CANARY_REQUESTS = 14_400  # of all people while some get the challenger: enough for its gate to decide
CANARY_SECONDS = 90.0
CANARY = {
    "shadow_share": 1.0,
    "shadow_requests": 50,
    "canary_steps": [0.1],
    "canary_share": 0.5,
    "step_requests": 20,
    "bake_seconds": 2.0,
}
INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    """Run the demo; returns the exit status."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--data", type=Path, help="a public dataset instead of the generated market")
    parser.add_argument("--requests", type=int, default=REQUESTS, help="slates asked for in round 1")
    wanted = parser.parse_args()
    where = _places(wanted.data)
    record = Record.open(where.home, _fingerprint(wanted))
    if record.complete:
        record.show(console, "nothing has changed since the last run: these are its figures")
        return 0
    for name, what in (("up", "recloop is up"), ("demo", "another demo runs")):
        if processes.find(where.home, name):
            console.print(f"{what} under {where.home}: stop it first, or set RECLOOP_HOME to another folder")
            return 1
    for number in INTERRUPTIONS:
        signal.signal(number, _interrupted)
    atexit.register(_stop_all, where)
    _stop_all(where)  # a run that was killed may have left something
    own = processes.note_own(where.home, "demo")
    try:
        _import(where, wanted.data, record)
        _run(where, wanted, record)
    except (*Trouble, DatasetError, SourceConflict, StageError) as error:
        console.print(str(error), style="red", markup=False, highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("interrupted; `make demo` goes on from here")
        return 130
    finally:
        _stop_all(where)
        processes.forget(where.home, own)
    record.close()
    record.show(console, "")
    return 0


def _interrupted(*_: object) -> None:
    for number in INTERRUPTIONS:  # what follows has to come to its end
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _places(data: Path | None) -> Places:
    """Places of the demo's own: ports that are free, another home for another dataset."""
    if data is not None:
        os.environ["RECLOOP_HOME"] = str(Path("var") / data.resolve().name)
    for name in ("gateway", "blue", "green", "mlflow", "prefect"):
        os.environ[f"RECLOOP_{name.upper()}_PORT"] = str(processes.free_port())
    os.environ |= {"RECLOOP_HOST": "127.0.0.1", "RECLOOP_ASK_ALWAYS": "false"}
    os.environ["RECLOOP_CONSENT"] = "assumed"  # those who browse are simulated
    where = places()
    os.environ["RECLOOP_HOME"] = str(where.home)
    environment = prefect_environment(where)
    os.environ.update({name: environment[name] for name in environment if name.startswith("PREFECT")})
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
    return where


def _import(where: Places, data: Path | None, record: Record) -> None:
    if data is None:
        return
    with record.stage("import", str(where.home / "store.db")) as note:
        report = import_into(open_store(where.store), read_dataset(data), progress=True)
        note(str(report).splitlines()[0])


def _run(where: Places, wanted: argparse.Namespace, record: Record) -> None:
    with record.stage("prefect server", f"http://{where.host}:{where.prefect_port}") as note:
        server = _start_prefect(where)
        _collect_meanwhile()
        took = processes.wait_ready(server, f"{os.environ['PREFECT_API_URL']}/health", 180)
        note(f"its UI shows every run while the demo lasts ({took:.0f} s of waiting)")
    from flows.rounds import (
        browse,
        challenge,
        first_round,
        learn,
        measure,
        slots_now,
    )  # Prefect reads its address once

    learn(record, 1)
    champion, idle = slots_now(where)
    name = f"champion in {champion}" if champion else f"release to {idle}"
    with record.stage(name, str(where.home / "logs" / f"{champion or idle}.log")) as note:
        note(first_round(where))
    with record.stage("gateway", str(where.home / "logs" / "gateway.log")) as note:
        gateway(where)
        note(f"http://{where.host}:{where.gateway_port}")
    with record.stage("people browse", "store: impressions, events") as note:
        note(browse(where, wanted.requests, 1, record))
    learn(record, 2)
    with record.stage(f"canary in {slots_now(where)[1]}", "reports/comparison.json") as note:
        note(challenge(where, CANARY_REQUESTS, CANARY_SECONDS, record, CANARY))
    with record.stage("measure", "reports/demo.png") as note:
        note(measure(where, record))


def _start_prefect(where: Places) -> processes.Process:
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", where.host]
    command += ["--port", str(where.prefect_port), "--no-services"]
    return processes.start(
        where.home, "prefect", command, prefect_environment(where), where.host, where.prefect_port
    )


def _collect_meanwhile() -> None:
    """Fill the store while the server starts: the stage finds it filled."""
    from flows.graph import run_stage
    from flows.mending import forget_what_is_gone

    forget_what_is_gone()
    run_stage("collect", lambda _: None)


def _stop_all(where: Places) -> None:
    for name in ("gateway", *slots.COLOURS, "prefect"):
        processes.stop(where.home, name)


def _fingerprint(wanted: argparse.Namespace) -> str:
    """Of all that the demo's outcome depends on: code, parameters, data."""
    digest = hashlib.sha256(str(wanted.requests).encode())
    data = [wanted.data, *sorted(wanted.data.rglob("*"))] if wanted.data else []
    for file in filter(Path.is_file, data):
        digest.update(f"{file.resolve()} {file.stat().st_size} {file.stat().st_mtime_ns}\n".encode())
    files = [Path("params.yaml"), Path("dvc.yaml"), Path("bentofile.yaml"), Path("requirements.lock")]
    for folder in ("src", "flows", "pipelines"):
        files += sorted(Path(folder).rglob("*.py"))
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
