"""Receipts of things that are gone are forgotten; those of things that are there are kept."""

import json
from pathlib import Path

import pytest

from flows.mending import MARK, forget_what_is_gone
from pipelines import snapshot, train, user_model
from recloop.schema import Event, Item
from recloop.settings import places
from recloop.store import add_items, append, consent, open_store, set_consents
from recloop.store.erasure import begin, finish
from recloop.store.snapshot import Watermark, watermark
from recloop.store.vault import open_vault

ROOT = Path(__file__).parents[2]


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


def test_a_withdrawal_or_an_erasure_begins_a_new_data_version(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    engine = open_store(places().store)
    for user in ("u", "v"):
        set_consents(engine, user, {"training": True})
    watermark(engine).save(MARK)
    forget_what_is_gone()
    assert Watermark.load(MARK) == watermark(engine)
    for act in (lambda: set_consents(engine, "u", {"training": False}), lambda: erase(engine, "v")):
        before = Watermark.load(MARK)
        act()
        forget_what_is_gone()
        assert before != Watermark.load(MARK) == watermark(engine)


def erase(engine, user):
    vault = open_vault(places())
    finish(engine, vault, begin(engine, vault, user).receipt, user)


def test_nothing_is_learnt_from_who_withdrew(tmp_path, monkeypatch):
    learnt = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "train", lambda *_, **__: learnt.append(1))
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    engine = open_store(places().store)
    set_consents(engine, "u", {"training": True})
    watermark(engine).save(MARK)
    train.main()
    assert len(learnt) == 1
    set_consents(engine, "u", {"training": False})
    train.main()
    assert len(learnt) == 2, "a run that is under way may end"
    monkeypatch.setattr(consent, "MINUTE", 0)
    for stage in (user_model, train):
        with pytest.raises(SystemExit, match=r"1 people have withdrawn.*recloop data mark"):
            stage.main()
    forget_what_is_gone()
    train.main()
    assert len(learnt) == 3


def test_a_store_in_which_nobody_agreed_makes_no_snapshot(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECLOOP_CONSENT", "required")
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    engine = open_store(places().store)
    append(engine, acts=[Event(event_id="e", user_id="u", item_id="a", kind="click", ts=1)])
    watermark(engine).save(MARK)
    with pytest.raises(SystemExit, match="nobody in the store has agreed to training"):
        snapshot.main()
    set_consents(engine, "u", {"training": True})
    snapshot.main()
