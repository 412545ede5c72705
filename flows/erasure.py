"""Erasure in files, retention, and the end of every erasure that was begun.

``python -m flows.erasure`` runs it once. Data versions are immutable, so a person's rows cannot be taken out
of them: where they stand in one, DVC's cache and remote lose every data version, and the next retraining
makes the present one anew from the store.
"""

import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from dvc.repo import Repo
from prefect import flow, get_run_logger
from prefect.events import emit_event
from ruamel.yaml import YAML
from sqlalchemy import Engine
from sqlalchemy.exc import DatabaseError

from flows.alone import by_hand
from flows.graph import patiently
from flows.monitor import RETRAIN
from flows.noting import NOTED
from recloop.delivery import processes
from recloop.schema import now_us
from recloop.settings import Places, load_params, places
from recloop.settings.workspace import workspace
from recloop.store import open_store
from recloop.store.blots import blot, rename_named
from recloop.store.compact import compact
from recloop.store.erasure import (
    IN_HAND,
    Receipt,
    find_receipt,
    finish,
    note,
    pending,
    purge,
    purge_backup,
    reopen,
)
from recloop.store.names import blotted, telling
from recloop.store.others import PEOPLE, SPOKEN, forget_mentions, mentioned
from recloop.store.person import tidy
from recloop.store.snapshot import watermark
from recloop.store.traces import Trace, traces
from recloop.store.vault import Vault, open_vault

MARK = Path("data/watermark.json")
DVC = Path(".dvc/config")  # of a project that has data versions; a lock makes the folder elsewhere too
MOST_TOLD = 20  # places
OURS = {f"{name}.db{part}" for name in ("store", "vault") for part in ("", "-wal", "-shm")}
OF_PEOPLE = {  # stages whose outputs hold rows of people, and these outputs
    "snapshot": ["data/snapshot"],
    "validate": ["data/valid", "data/quarantine", "reports/data_docs"],
    "preprocess": ["data/features"],
}


@flow(name="erasure", **NOTED)
def erasure() -> dict[str, list[Trace]]:
    """End what was begun and delete what is old; by receipt, the traces that need a person's hand."""
    left = end_all(get_run_logger().info, openly=False)
    if left:
        who = {"prefect.resource.id": "recloop.erasure"}
        emit_event(RETRAIN, resource=who, payload={"causes": ["erasure"]})
    return left


def end_all(say: Callable[[str], None], openly: bool = True) -> dict[str, list[Trace]]:
    """As ``erasure``, without Prefect; what is said names the person only ``openly``."""
    where = places()
    engine, vault = open_store(where.store), open_vault(where)
    left = {}
    for receipt, who in pending(engine):
        names = [who, *vault.accounts([who]).values()]
        left[receipt] = found = complete(where, engine, vault, receipt, who)[1]
        for line in told(found, where) or ["nothing is left"]:
            say(f"erasure {receipt}: {line if openly else blotted(line, names)}")
    counts = tidy(engine, load_params().privacy.keep_days, where.home)
    say("deleted as old: " + (", ".join(f"{n:,} {name}" for name, n in counts.items() if n) or "nothing"))
    return left


def complete(
    where: Places, engine: Engine, vault: Vault, receipt: str, user_id: str
) -> tuple[Receipt, list[Trace]]:
    """Take a person out of files and others' rows, then out of the databases; the receipt, and what is left.

    Traces that are left keep the erasure open: it is tried again with the next run.
    """
    names = [user_id, *vault.accounts([user_id]).values()]
    wait = find_receipt(engine, receipt).begun + IN_HAND - now_us()
    time.sleep(max(0, wait) / 1e6)
    with workspace():
        if _in_data(where, names):
            drop_data_versions()
    counts = {"files": _blot_copies(where, names)}
    for file in (where.home / "backups").glob("*.db"):
        with suppress(DatabaseError, OSError):  # what cannot be read is found by the search
            purge_backup(file, receipt, user_id, names[1:])
    counts |= purge(engine, user_id, {"consents"}, names[1:])
    counts["mentions"] = forget_mentions(engine, names)
    note(engine, receipt, counts)
    files = [trace for trace in search(where, names) if not _is_ours(trace.path, where)]
    if left := [*_in_rows(engine, names, own=False), *files]:
        return find_receipt(engine, receipt), left
    done = finish(engine, vault, receipt, user_id)
    if left := search(where, names):  # in free places, from before this program
        for each in (engine, vault.engine):
            compact(each, wholly=True)
        left = search(where, names)
    if left := [*left, *_in_rows(engine, names), *_in_rows(vault.engine, names)]:
        done = reopen(engine, receipt, user_id)
    with workspace():
        if MARK.exists():
            watermark(engine).save(MARK)
    return done, left


def told(left: list[Trace], where: Places) -> list[str]:
    """Where something is left, and what to do about it."""
    lines = [f"left in {trace.path} ({trace.within}): {_remedy(trace, where)}" for trace in left[:MOST_TOLD]]
    return lines + ([f"and in {len(left) - MOST_TOLD:,} more places"] if len(left) > MOST_TOLD else [])


def search(where: Places, names: list[str]) -> list[Trace]:
    """Where one of the names stands: databases, data versions here and remote, MLflow, logs, backups.

    A name that is an everyday word is looked for where people are named: in columns of people, free text,
    logs and imported files.
    """
    rest = [Path("models"), Path("reports"), *_data(where)]
    roots = [where.home, *(one for one in rest if not _is_below(one, where.home))]
    plain = [name for name in names if telling(name)]
    words = [name for name in names if not telling(name)]
    databases = [*where.home.glob("store.db"), *where.home.glob("vault.db"), where.home / "backups"]
    return [
        *traces(plain, roots),
        *traces(words, _copies(where)),
        *traces(words, databases, SPOKEN),
        *traces(words, _data(where), PEOPLE),
    ]


def _in_data(where: Places, names: list[str]) -> bool:
    plain = [name for name in names if telling(name)]
    words = [name for name in names if not telling(name)]
    return bool(traces(plain, [Path("reports"), *_data(where)]) or traces(words, _data(where), PEOPLE))


def _in_rows(engine: Engine, names: list[str], own: bool = True) -> list[Trace]:
    """The same in the database that is in use, on a server too."""
    found = mentioned(engine, names, own)
    return [Trace(Path("database"), f"{table}.{column}") for table, column in found]


def _is_ours(file: Path, where: Places) -> bool:
    """Whether it is a database that ``finish`` deletes from."""
    return file.parent == where.home and file.name in OURS


def _remedy(trace: Trace, where: Places) -> str:
    if trace.within.startswith("cannot be read"):
        return "repair it or delete it"
    if trace.within.startswith("nobody can look"):
        return "put what is in it there without the person, and delete it"
    if not trace.path.exists():
        return "change that value by hand"
    if trace.path.is_relative_to(Path("models")):
        return "train anew"
    if trace.path.is_relative_to(where.home / "inbox"):
        return "it goes when it is imported"
    return "take the name out or delete the file"


def _blot_copies(where: Places, names: list[str]) -> int:
    """Take the names out of logs and imported files; out of how many."""
    folders = _copies(where)
    renamed = sum(rename_named(folder, names) for folder in folders)
    return renamed + sum(blot(trace.path, names) for trace in traces(names, folders))


def drop_data_versions() -> None:
    """Delete all data versions that hold rows of people, here, in the cache and on the default remote."""
    for folder in (one for outs in OF_PEOPLE.values() for one in outs):
        shutil.rmtree(folder, ignore_errors=True)
    yaml, lock = YAML(), Path("dvc.lock")
    if lock.exists():
        content = yaml.load(lock)
        for stage in OF_PEOPLE:
            content.get("stages", {}).pop(stage, None)
        yaml.dump(content, lock)

    def collect() -> None:
        with Repo(".") as repo:
            repo.gc(workspace=True, cloud=bool(repo.config["core"].get("remote")), force=True)

    if DVC.exists():
        patiently(collect)


def _data(where: Places) -> list[Path]:
    """Where data versions lie: here, in DVC's cache, and on remotes that are folders.

    What lies elsewhere is collected by DVC and cannot be searched from here.
    """
    here = [Path("data"), Path(".dvc/cache")]
    if not DVC.exists():
        return here
    with Repo(".") as repo:
        urls = [remote.get("url", "") for remote in repo.config.get("remote", {}).values()]
    return [*here, *(Path(url) for url in urls if "://" not in url and Path(url).is_dir())]


def _copies(where: Places) -> list[Path]:
    """Logs, and what was or will be imported, as it came."""
    return [where.home / name for name in ("logs", "inbox", "inbox-done", "inbox-refused")]


def _is_below(one: Path, folder: Path) -> bool:
    return one.resolve().is_relative_to(folder.resolve())


if __name__ == "__main__":
    if processes.find(places().home, "prefect"):
        with by_hand():
            found = erasure()
    else:
        found = end_all(print)
    sys.exit(any(found.values()))
