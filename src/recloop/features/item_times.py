"""Items as they were when people first met them, so that no feature tells of what came after an act.

A policy has one vector of features for each item and data version (``features.items``), which stands for the
item in all its acts, the first included. What came before the first act came before all of them: so the
features are those of the version that held then. Title, picture and whether the item can be had are for those
who are served now: they stay as they are at the watermark, and no features are made of them.
"""

from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from recloop.schema.arrow import TABLES

DESCRIBING = ("category", "price", "attributes", "text")  # what features are made of


def date_items(snapshot: Path, valid: Path) -> int:
    """Describe the items of ``valid`` as they were at their first impression or event there; how many differ.

    An item that nobody met is as it is at the watermark. One that was met before its first version, since it
    was put in later than its log, is as in its first version.

    Args:
        snapshot: has ``item_versions.parquet``.
        valid: clean rows; its ``items.parquet`` is replaced.
    """
    file = valid / "items.parquet"
    items = pl.read_parquet(file)
    logs = [pl.scan_parquet(valid / f"{log}.parquet") for log in ("impressions", "events")]
    met = pl.concat([log.select("item_id", "ts") for log in logs]).group_by("item_id").agg(met=pl.min("ts"))
    versions = pl.scan_parquet(snapshot / "item_versions.parquet" / "*").select("item_id", "ts", *DESCRIBING)
    away = pl.col("ts").dt.epoch("us") - pl.col("met").dt.epoch("us")
    then = (
        versions.join(met, on="item_id")
        .with_columns(late=away > 0, away=away.abs())
        .sort("late", "away")
        .group_by("item_id", maintain_order=True)
        .first()
        .collect()
    )
    both = items.join(then, on="item_id", how="left", suffix="_then", maintain_order="left")
    dated = both.select(
        *[
            pl.when(pl.col("met").is_null()).then(name).otherwise(f"{name}_then").alias(name)
            if name in DESCRIBING
            else name
            for name in items.columns
        ]
    )
    differ = pl.any_horizontal(items[name].ne_missing(dated[name]) for name in DESCRIBING)
    fresh = file.with_name(f"{file.name}.part")
    pq.write_table(dated.to_arrow().cast(TABLES["items"]), fresh, compression="zstd")
    fresh.replace(file)
    return int(pl.select(differ.sum()).item())
