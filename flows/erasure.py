"""Erasure in files, retention, and the end of every erasure that was begun.

``python -m flows.erasure`` runs it once. Data versions are immutable, so a person's rows cannot be taken out
of them: where they stand in one, DVC's cache and remote lose every data version, and the next retraining
makes the present one anew from the store.
"""

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from dvc.repo import Repo
from prefect import flow, get_run_logger
from prefect.events import emit_event
from ruamel.yaml import YAML
from sqlalchemy import Engine

from flows.alone import by_hand
from flows.graph import patiently
from flows.monitor import RETRAIN
from flows.noting import NOTED
from recloop.delivery import processes
from recloop.schema import now_us
from recloop.settings import Places, load_params, places
from recloop.settings.workspace import workspace
from recloop.store import open_store
from recloop.store.compact import compact
from recloop.store.erasure import IN_HAND, Receipt, find_receipt, finish, pending, purge_backup
from recloop.store.person import tidy
from recloop.store.snapshot import watermark
from recloop.store.traces import Trace, blot, is_text, traces
from recloop.store.vault import Vault, open_vault

MARK = Path("data/watermark.json")
DVC = Path(".dvc/config")  # of a project that has data versions; a lock makes the folder elsewhere too
OF_PEOPLE = {  # stages whose outputs hold rows of people, and these outputs
    "snapshot": ["data/snapshot"],
    "validate": ["data/valid", "data/quarantine", "reports/data_docs"],
    "preprocess": ["data/features"],
}


@flow(name="erasure", **NOTED)
def erasure() -> dict[str, list[Trace]]:
    """End what was begun and delete what is old; by receipt, the traces that need a person's hand."""
    left = end_all(get_run_logger().info)
    if left:
        who = {"prefect.resource.id": "recloop.erasure"}
        emit_event(RETRAIN, resource=who, payload={"causes": ["erasure"]})
    return left


def end_all(say: Callable[[str], None]) -> dict[str, list[Trace]]:
    """As ``erasure``, without Prefect."""
    where = places()
    engine, vault = open_store(where.store), open_vault(where)
    left = {}
    for receipt, who in pending(engine):
        left[receipt] = found = complete(where, engine, vault, receipt, who)[1]
        named = ", ".join(f"{trace.path} ({trace.within})" for trace in found[:5])
        say(f"erasure {receipt}: {f'left in {named}' if found else 'nothing is left'}")
    counts = tidy(engine, load_params().privacy.keep_days, where.home)
    say("deleted as old: " + (", ".join(f"{n:,} {name}" for name, n in counts.items() if n) or "nothing"))
    return left


def complete(
    where: Places, engine: Engine, vault: Vault, receipt: str, user_id: str
) -> tuple[Receipt, list[Trace]]:
    """Take a person out of files, then out of the databases; the receipt, and the traces that are left.

    Traces that are left keep the erasure open: it is tried again with the next run.
    """
    words = [user_id, *vault.accounts([user_id]).values()]
    wait = find_receipt(engine, receipt).begun + IN_HAND - now_us()
    time.sleep(max(0, wait) / 1e6)
    with workspace():
        if traces(words, [Path("data"), Path("reports"), Path(".dvc/cache"), *_remotes(where)]):
            drop_data_versions()
    for file in _texts(where):
        for word in words:
            blot(file, word)
    for file in (where.home / "backups").glob("*.db"):
        purge_backup(file, receipt, user_id, words[1:])
    found = search(where, words)
    if left := [trace for trace in found if not _is_ours(trace.path, where)]:
        return find_receipt(engine, receipt), left
    done = finish(engine, vault, receipt, user_id)
    if left := search(where, words):  # in free places, from before this program
        for each in (engine, vault.engine):
            compact(each, wholly=True)
        left = search(where, words)
    with workspace():
        if MARK.exists():
            watermark(engine).save(MARK)
    return done, left


def _is_ours(file: Path, where: Places) -> bool:
    """Whether it is a database that ``finish`` deletes from."""
    return file.parent == where.home and file.name.startswith(("store.db", "vault.db"))


def search(where: Places, words: list[str]) -> list[Trace]:
    """Where one of the words stands: databases, data versions here and remote, MLflow, logs, backups."""
    folders = [Path("data"), Path("models"), Path("reports"), Path(".dvc/cache"), *_remotes(where)]
    return traces(words, [where.home, *(one for one in folders if not _is_below(one, where.home))])


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


def _remotes(where: Places) -> list[Path]:
    """Remotes that are folders; what lies elsewhere is collected by DVC and cannot be searched from here."""
    if not DVC.exists():
        return []
    with Repo(".") as repo:
        urls = [remote.get("url", "") for remote in repo.config.get("remote", {}).values()]
    return [Path(url) for url in urls if "://" not in url and Path(url).is_dir()]


def _texts(where: Places) -> list[Path]:
    """Logs, and what was imported, as it came."""
    folders = [where.home / name for name in ("logs", "inbox-done", "inbox-refused")]
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    return [file for file in files if is_text(file)]


def _is_below(one: Path, folder: Path) -> bool:
    return one.resolve().is_relative_to(folder.resolve())


if __name__ == "__main__":
    if processes.find(places().home, "prefect"):
        with by_hand():
            found = erasure()
    else:
        found = end_all(print)
    sys.exit(any(found.values()))
