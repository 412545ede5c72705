"""Stage collect: an empty store is filled by the market; the watermark says how far the log has come."""

import hashlib
import json
import sqlite3
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from sqlalchemy import Engine
from tqdm import tqdm

from recloop.market import GroundTruth, Nature
from recloop.market.log import SESSIONS, generate_log
from recloop.market.threads import single_thread
from recloop.settings import Params, load_params, places
from recloop.store import add_items, add_users, find_items, open_store, recall, remember, write
from recloop.store.snapshot import Watermark, watermark

MARK = Path("data/watermark.json")


def main() -> None:
    """Write ``data/watermark.json``, unless it names a state that this store has been in."""
    params, where = load_params(), places()
    fingerprint = json.dumps([params.seed, params.market.model_dump(), asdict(Nature())])
    engine = open_store(where.store)
    if recall(engine, "market") not in (None, fingerprint):
        engine = _set_aside(engine)
    if _is_empty(engine, fingerprint):
        _generate(engine, params, fingerprint)
    now = watermark(engine)
    engine.dispose()
    mark = _named(now)
    if mark is None:
        mark = now
        mark.save(MARK)
    print(f"source {mark.source}: {mark.impressions:,} impressions, {mark.events:,} events")
    if not mark.impressions:
        raise SystemExit(
            "nobody was shown anything yet, and a policy learns from what came of what was shown. Import that"
            " (`recloop import impressions FILE`) or, where nothing was noted of it, acts into an empty"
            " store by `recloop import organic FILE`; then `recloop data mark`"
        )


def _is_empty(engine: Engine, fingerprint: str) -> bool:
    """Nothing was put in, or only what a killed run of ours left."""
    now = watermark(engine)
    if recall(engine, "source") is not None or now.impressions or now.events:
        return False
    return recall(engine, "market") == fingerprint or not find_items(engine)


def _named(now: Watermark) -> Watermark | None:
    """The mark on disk, if the store has been in the state that it names."""
    try:
        mark = Watermark.load(MARK)
    except FileNotFoundError:
        return None
    except (TypeError, ValueError) as error:
        print(f"{MARK} cannot be read ({error}) and is written anew")
        return None
    past = mark.source == now.source and mark.impressions <= now.impressions and mark.events <= now.events
    return mark if past else None


def _set_aside(engine: Engine) -> Engine:
    """Keep the log of another market under another name, and begin an empty one."""
    file = engine.url.database
    if engine.dialect.name != "sqlite" or not file:
        raise SystemExit(
            "the store holds a market of other parameters: point RECLOOP_STORE_URL to an empty database"
        )
    suffix = hashlib.sha256((recall(engine, "market") or "").encode()).hexdigest()[:8]
    engine.dispose()
    _own_alone(file)
    aside, number = Path(f"{file}.{suffix}"), 1
    while aside.exists():
        number += 1
        aside = Path(f"{file}.{suffix}.{number}")
    Path(file).rename(aside)
    MARK.unlink(missing_ok=True)
    print(f"the store holds a market of other parameters; it is kept as {aside}")
    return open_store(str(engine.url))


def _own_alone(file: str) -> None:
    """Write all of the file's log into it; SQLite does that only for the last one who has it open."""
    with closing(sqlite3.connect(file, timeout=2)) as connection:
        try:
            connection.execute("PRAGMA journal_mode=DELETE")
        except sqlite3.OperationalError as error:
            raise SystemExit(
                f"the store {file} holds a market of other parameters and is in use ({error}): stop what uses"
                " it (recloop down) and run again, or point RECLOOP_HOME to another folder"
            ) from error


def _generate(engine: Engine, params: Params, fingerprint: str) -> None:
    MARK.unlink(missing_ok=True)
    with engine.begin() as connection:
        remember(connection, "market", fingerprint)
    market = GroundTruth(params.market, params.reward, params.seed)
    add_users(engine, market.users)
    add_items(engine, market.items)
    rounds, requests = SESSIONS * params.market.horizon, 0
    with (
        single_thread(),
        engine.begin() as connection,  # all or nothing: a killed run leaves no half log
        tqdm(desc="market: people browse", total=rounds, unit="round", mininterval=1) as bar,
    ):
        for shown, acts in generate_log(market, params.seed):
            write(connection, shown, acts)
            requests += len(shown) // params.market.slate
            bar.set_postfix(requests=requests, refresh=False)
            bar.update()
        remember(connection, "source", "market")


if __name__ == "__main__":
    main()
