"""Receipts of things that are gone are forgotten; those of things that are there are kept."""

import json
from pathlib import Path

from flows.mending import forget_what_is_gone
from recloop.schema import Item
from recloop.settings import places
from recloop.store import add_items, open_store
from recloop.store.snapshot import watermark


def test_a_watermark_of_another_store_is_forgotten(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    engine = open_store(places().store)
    add_items(engine, [Item(item_id="a", title="a")])
    watermark(engine).save(Path("data/watermark.json"))
    forget_what_is_gone()
    assert Path("data/watermark.json").exists()
    mark = json.loads(Path("data/watermark.json").read_text())
    Path("data/watermark.json").write_text(json.dumps(mark | {"impressions": 10}))
    forget_what_is_gone()
    assert not Path("data/watermark.json").exists()


def test_receipts_of_lost_versions_and_bentos_are_forgotten(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("reports").mkdir()
    Path("reports/registered.json").write_text(json.dumps({"run_id": "lost"}))
    Path("reports/bento.json").write_text(json.dumps({"tag": "recloop_slot:lost"}))
    forget_what_is_gone()
    assert list(Path("reports").iterdir()) == []
