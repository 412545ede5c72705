"""Stage snapshot: the store up to the watermark, as Parquet, of people who may be learnt from."""

from pathlib import Path

from recloop.settings import load_params, places
from recloop.store import open_store
from recloop.store.data_versions import note_version
from recloop.store.parts import tree_hash
from recloop.store.snapshot import Watermark, watermark, write_snapshot


def main() -> None:
    """Write ``data/snapshot``.

    Raises:
        SystemExit: there is no watermark, or the store is not the one that it was taken from.
    """
    file = Path("data/watermark.json")
    if not file.exists():
        raise SystemExit(f"{file} is missing: run `dvc repro collect`, which makes it")
    mark = Watermark.load(file)
    here = places()
    engine = open_store(here.store)
    now = watermark(engine)
    if now.source != mark.source or now.impressions < mark.impressions or now.events < mark.events:
        raise SystemExit(
            f"{file} speaks of {mark.impressions:,} impressions and {mark.events:,} events of the source"
            f" {mark.source!r}, but the store under {here.home} holds {now.impressions:,} and"
            f" {now.events:,} of {now.source!r}: set RECLOOP_HOME to the home that the watermark was taken"
            f" from, or delete {file} to begin a new version"
        )
    folder, terms = Path("data/snapshot"), load_params().privacy.terms.model_dump()
    made = write_snapshot(engine, mark, folder, terms)
    note_version(here.home, tree_hash(folder), mark.source, made.rows, made.written, made.parts)
    print(
        ", ".join(f"{count:,} {table}" for table, count in made.rows.items())
        + f"; {made.written} of {made.parts} files of logs are new"
    )
    if not made.rows["impressions"] + made.rows["events"] and now.impressions + now.events:
        raise SystemExit(
            "nobody in the store has agreed to training: docs/privacy.md says how consents come in, and"
            " RECLOOP_CONSENT=assumed is for a store without real people"
        )


if __name__ == "__main__":
    main()
