"""Stage collect: an empty store is filled by the market; the watermark says how far the log has come."""

import json
from pathlib import Path

from sqlalchemy import Engine
from tqdm import tqdm

from recloop.market.ground_truth import GroundTruth
from recloop.market.log import generate_log
from recloop.settings import Params, load_params, places
from recloop.store import Watermark, add_items, add_users, open_store, recall, remember, watermark, write

MARK = Path("data/watermark.json")


def main() -> None:
    """Write ``data/watermark.json``, unless it names a state that this store has been in."""
    params, where = load_params(), places()
    fingerprint = json.dumps([params.seed, params.market.model_dump(), params.reward.model_dump()])
    engine = open_store(where.store)
    if recall(engine, "source") == "market" and recall(engine, "market") != fingerprint:
        engine = _set_aside(engine)
    if recall(engine, "source") is None and watermark(engine).impressions == 0:
        _generate(engine, params, fingerprint)
    now = watermark(engine)
    if not (MARK.exists() and _is_past(Watermark.load(MARK), now)):
        now.save(MARK)
    print(f"source {now.source}: {Watermark.load(MARK)}")


def _is_past(mark: Watermark, now: Watermark) -> bool:
    return mark.source == now.source and mark.impressions <= now.impressions and mark.events <= now.events


def _set_aside(engine: Engine) -> Engine:
    """Keep the log of another market under another name, and begin an empty one."""
    file = engine.url.database
    if engine.dialect.name != "sqlite" or not file:
        raise SystemExit(
            "the store holds a market of other parameters: point RECLOOP_STORE_URL to an empty database"
        )
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    engine.dispose()
    number = 1
    while Path(f"{file}.{number}").exists():
        number += 1
    Path(file).rename(f"{file}.{number}")
    MARK.unlink(missing_ok=True)
    print(f"the store held a market of other parameters: kept as {file}.{number}")
    return open_store(str(engine.url))


def _generate(engine: Engine, params: Params, fingerprint: str) -> None:
    market = GroundTruth(params.market, params.reward, params.seed)
    add_users(engine, market.people.records)
    add_items(engine, market.offers.records)
    bar = tqdm(desc="market: sessions of people", unit=" requests", mininterval=1)
    with engine.begin() as connection:  # all or nothing: a killed run leaves no half log
        for shown, acts in generate_log(market, params.seed):
            write(connection, shown, acts)
            bar.update(len(shown) // params.market.slate)
        remember(connection, "source", "market")
        remember(connection, "market", fingerprint)
    bar.close()


if __name__ == "__main__":
    main()
