"""What a person asks for, from the command line."""

import base64
import json
import os
import sqlite3

import pytest
from typer.testing import CliRunner

from recloop.cli import app
from recloop.schema import Event, Impression, Item, User, now_us
from recloop.settings import load_params, places
from recloop.store import add_items, add_users, append, open_store, set_consents
from recloop.store.person import DAY, note_access, tidy
from recloop.store.personal import seal_personal
from recloop.store.tables import accesses, events, impressions
from recloop.store.vault import open_vault

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
runner = CliRunner()


def run(*words):
    return runner.invoke(app, list(words))


@pytest.fixture
def engine(monkeypatch):
    monkeypatch.chdir(ROOT)
    engine = open_store(places().store)
    add_items(engine, [Item(item_id="a", title="Vase", category="art")])
    add_users(engine, [User(user_id="u", age=30)])
    return engine


def seen(engine, number, user="u", ts=None):
    ts = ts or now_us()
    shown = Impression(
        request_id=f"r{number}", position=0, user_id=user, item_id="a", propensity=0.5, policy="p", ts=ts
    )
    append(engine, [shown], [Event(event_id=f"e{number}", user_id=user, item_id="a", kind="click", ts=ts)])


def test_consents_are_recorded_and_shown(engine):
    assert run("person", "consents", "u", "--grant", "training", "--withdraw", "marketing").exit_code == 0
    found = json.loads(run("person", "consents", "u", "--json").stdout)
    assert {row["purpose"]: row["word"] for row in found} == {"training": "yes", "marketing": "no"}
    assert run("person", "consents", "u", "--grant", "everything").exit_code == 1


def test_consents_of_many_come_from_a_file(engine, tmp_path):
    file = tmp_path / "c.csv"
    file.write_text("user_id,purpose,granted\nu,training,yes\nv,service,no\nw,all,yes\n")
    found = json.loads(run("person", "import-consents", str(file), "--json").stdout)
    assert (found["read"], found["new"], list(found["refused"].values())) == (3, 2, [1])
    assert "2 known or said already" in run("person", "import-consents", str(file)).stdout
    assert json.loads(run("person", "consents", "u", "--json").stdout)[0]["word"] == "yes"
    assert run("person", "import-consents", "nowhere.csv").exit_code == 1


def test_an_export_goes_to_a_file_of_its_owner_s_and_is_noted(engine, tmp_path):
    seen(engine, 1)
    seal_personal(engine, open_vault(places()), "u", {"email": "u@example.com"})
    file = tmp_path / "u.json"
    assert run("person", "export", "u", "--to", str(file)).exit_code == 0
    assert file.stat().st_mode & 0o777 == 0o600
    found = json.loads(file.read_text())
    assert found["personal"] == {"email": "u@example.com"}
    assert found["users"][0]["age"] == 30
    assert [row["what"] for row in found["accesses"]] == ["export"]
    assert run("person", "export", "u", "--to", str(file)).exit_code == 1, "nothing is overwritten"


def test_why_is_told_in_words(engine):
    seen(engine, 1)
    assert "policy p chose it among 1 items" in run("person", "why", "u", "r1", "a").stdout
    assert "정책 p" in run("person", "why", "u", "r1", "a", "--language", "ko").stdout


def test_erasure_needs_the_project_whose_versions_it_ends(engine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run("person", "erase", "u")
    assert done.exit_code == 1
    assert "there is no dvc.yaml" in done.stderr


def test_keys_are_shown_rotated_and_retired(engine):
    vault = open_vault(places())
    vault.make_key("u")
    assert json.loads(run("key", "status", "--json").stdout) == [
        {"version": "v1", "persons": 1, "current": True}
    ]
    assert run("key", "retire", "v1").exit_code == 1
    assert run("key", "rotate").exit_code == 0
    assert vault.held() == {"v2": 1}
    assert run("key", "retire", "v1").exit_code == 0
    assert vault.key("u")


def test_keys_of_the_environment_are_rotated_to_the_last_and_retired_elsewhere(engine, monkeypatch):
    one, two = (f"{n}:{base64.b64encode(os.urandom(32)).decode()}" for n in "ab")
    monkeypatch.setenv("RECLOOP_MASTER_KEYS", one)
    open_vault(places()).make_key("u")
    monkeypatch.setenv("RECLOOP_MASTER_KEYS", f"{one} {two}")
    assert run("key", "rotate").exit_code == 0
    assert open_vault(places()).held() == {"b": 1}
    assert run("key", "retire", "a").exit_code == 1


def test_a_backup_is_a_store_that_only_its_owner_reads(engine):
    seen(engine, 1)
    done = run("store", "backup")
    assert done.exit_code == 0, done.stderr
    (file,) = (places().home / "backups").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert sqlite3.connect(file).execute("SELECT count(*) FROM events").fetchone() == (1,)


def left(engine, table):
    with engine.connect() as connection:
        return [row._mapping for row in connection.execute(table.select())]


def test_what_was_kept_long_enough_goes_and_the_last_number_stays(engine):
    keep, now = load_params().privacy.keep_days, now_us()
    long_ago = now - (keep.log + 1) * DAY
    for number, user, ts in ((1, "u", long_ago), (2, "gone", now), (3, "back", now), (4, "u", long_ago)):
        seen(engine, number, user, ts)
    for user, words in (("gone", [False]), ("back", [False, True])):
        for word in words:
            set_consents(engine, user, {"service": word})
    note_access(engine, "me", "export", "u")
    later = now + (keep.withdrawn + 1) * DAY
    counts = tidy(engine, keep, places().home, later)
    assert (counts["impressions"], counts["events"], counts["accesses"]) == (2, 2, 0)
    assert [row["request_id"] for row in left(engine, impressions)] == ["r3", "r4"], "the last stays"
    assert [row["event_id"] for row in left(engine, events)] == ["e3", "e4"]
    assert tidy(engine, keep, places().home, now + (keep.accesses + 1) * DAY)["accesses"] == 1
    assert left(engine, accesses) == []


def test_a_published_log_is_kept_however_old(engine):
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO facts VALUES ('source', 'movielens')")
    seen(engine, 1, ts=1)
    seen(engine, 2, ts=2)
    assert "events" not in tidy(engine, load_params().privacy.keep_days, places().home)
    assert len(left(engine, events)) == 2


def test_old_backups_go(engine):
    for name in ("old", "new"):
        assert run("store", "backup").exit_code == 0, name
    old, new = sorted((places().home / "backups").iterdir())
    os.utime(old, (1, 1))
    assert run("person", "tidy").exit_code == 0
    assert list((places().home / "backups").iterdir()) == [new]
