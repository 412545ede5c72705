"""What a graph cannot see: state outside it (store, registry, Bentos) that was lost, or withdrawn."""

import json
from pathlib import Path

from recloop.registry import connect, versions
from recloop.schema import now_us
from recloop.serving.build import bento_home
from recloop.settings import places
from recloop.store import open_store
from recloop.store.consent import withdrawn_since
from recloop.store.snapshot import Watermark, watermark

MARK = Path("data/watermark.json")
REGISTERED = Path("reports/registered.json")
BENTO = Path("reports/bento.json")


def forget_what_is_gone() -> None:
    """Remove each receipt whose thing is no longer there, so that DVC makes the thing anew."""
    where = places()
    if MARK.exists():
        mark, now = Watermark.load(MARK), watermark(open_store(where.store))
        if mark.source != now.source or mark.impressions > now.impressions or mark.events > now.events:
            MARK.unlink()
        elif withdrawn_since(open_store(where.store), mark.consents, now_us()):
            now.save(MARK)  # a new data version, without who withdrew
    if REGISTERED.exists():
        run_id = json.loads(REGISTERED.read_text())["run_id"]
        if run_id not in {version.run_id for version in versions(connect(where))}:
            REGISTERED.unlink()
    if BENTO.exists():
        name, version = json.loads(BENTO.read_text())["tag"].split(":")
        if not (bento_home(where.home) / "bentos" / name / version / "bento.yaml").exists():
            BENTO.unlink()
