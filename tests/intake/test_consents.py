"""Consents of many people: what is good holds, what is not is quarantined, and no withdrawal is undone."""

import json
from dataclasses import replace

import polars as pl
import pytest
from sqlalchemy import func, select

from recloop.intake import DatasetError
from recloop.intake.consents import FILE, import_consents
from recloop.schema import now_us
from recloop.settings import places
from recloop.store import open_store, set_consents
from recloop.store.consent import words_of
from recloop.store.quarantine import held
from recloop.store.tables import consents
from recloop.store.vault import open_vault

TERMS = {"service": 2, "personalisation": 1, "training": 1, "marketing": 1}
LONG_AGO = 1_500_000_000_000_000


@pytest.fixture
def engine(store_url):
    return open_store(store_url)


def take_in(engine, tmp_path, rows, name=None):
    file = tmp_path / "consents.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return import_consents(engine, file, TERMS, "test", name, progress=False)


def said(engine, who, purpose):
    word = words_of(engine, [who]).get(who, {}).get(purpose)
    return word and (word.granted, word.version)


def word(who="kim", purpose="training", granted=True, **more):
    return {"user_id": who, "purpose": purpose, "granted": granted, **more}


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_file_of_words_is_recorded_once(engine, tmp_path, kind):
    rows = pl.DataFrame(
        {
            "user_id": ["kim", "kim", "lee", "choi"],
            "purpose": ["service", "training", "service", "marketing"],
            "granted": [True, True, True, False],
            "version": [1, None, None, None],
            "ts": [LONG_AGO, None, None, None],
        }
    )
    file = tmp_path / f"c.{kind}"
    {"csv": rows.write_csv, "jsonl": rows.write_ndjson, "parquet": rows.write_parquet}[kind](file)
    first, again = (import_consents(engine, file, TERMS, "test", progress=False) for _ in range(2))
    assert (first.read, first.new, first.same) == (4, 4, 0)
    assert (again.new, again.same, again.reasons.total()) == (0, 4, 0)
    assert said(engine, "kim", "service") == (True, 1)
    assert words_of(engine, ["kim"])["kim"]["service"].ts == LONG_AGO
    assert said(engine, "lee", "service") == (True, 2), "the present terms"
    assert said(engine, "choi", "marketing") == (False, 1)


@pytest.mark.parametrize(
    ("row", "failure", "says"),
    [
        (word(purpose="everything"), "schema", "purpose"),
        (word(granted="perhaps"), "schema", "granted"),
        ({"user_id": "kim", "purpose": "training"}, "schema", "granted"),
        (word(who="k i m"), "schema", "user_id"),
        (word(version=2), "range", "version: 2, but the terms' is 1"),
        (word(version=0), "range", "version"),
        (word(ts=9 * LONG_AGO), "range", "ts: in the future"),
        (word(mood="good"), "schema", "mood"),
        ("no JSON of a word", "schema", ""),
    ],
)
def test_what_is_no_word_is_quarantined_and_the_rest_is_recorded(engine, tmp_path, row, failure, says):
    report = take_in(engine, tmp_path, [word("lee"), row, word("choi")])
    assert (report.read, report.new, report.reasons.total()) == (3, 2, 1)
    (kept,) = held(engine, 5)
    assert take_in(engine, tmp_path, [word("lee"), row, word("choi")]).reasons.total() == 1
    assert held(engine, 5) == [replace(kept, seen=2)], "again adds nothing but that it came again"
    assert (kept.source, kept.kind, kept.failure) == (FILE, "consent", failure)
    assert says in kept.reason
    assert json.loads(kept.body) == {"file": "consents.jsonl", "row": 2, "consent": row}
    assert said(engine, "kim", "training") is None


def test_no_withdrawal_is_undone_by_an_older_yes(engine, tmp_path):
    set_consents(engine, "kim", {"training": False})
    report = take_in(engine, tmp_path, [word(ts=LONG_AGO)])
    assert (report.new, list(report.reasons)) == (0, ["ts: older than what the person said of it since"])
    assert held(engine, 1)[0].failure == "too-old"
    assert said(engine, "kim", "training") == (False, 1)
    assert take_in(engine, tmp_path, [word(ts=now_us())]).new == 1, "a later yes is one"
    assert said(engine, "kim", "training") == (True, 1)


def test_the_words_of_one_file_hold_in_the_order_of_their_time(engine, tmp_path):
    rows = [word(granted=False, ts=LONG_AGO + 9), word(granted=True, ts=LONG_AGO)]
    assert take_in(engine, tmp_path, rows).new == 2
    assert said(engine, "kim", "training") == (False, 1)
    assert take_in(engine, tmp_path, rows).same == 2, "again adds nothing, the older one neither"


def test_accounts_stand_nowhere_behind_the_door(engine, tmp_path):
    vault = open_vault(places(vault_url=f"sqlite:///{tmp_path}/v.db"))
    rows = [word(), word("lee", granted=False), word("kim", "everything"), word("choi", "everything")]
    report = take_in(engine, tmp_path, rows, vault.pseudonym)
    assert (report.new, report.same, report.reasons.total()) == (1, 1, 2)
    name = vault.pseudonym("kim")
    assert said(engine, name, "training") == (True, 1)
    assert vault.pseudonym("lee") is None, "a no makes no pseudonym"
    bodies = " ".join(row.body for row in held(engine, 5))
    assert name in bodies
    assert not any(account in bodies for account in ("kim", "choi"))


def test_a_file_with_another_column_is_refused_before_anything_is_written(engine, tmp_path):
    file = tmp_path / "c.csv"
    file.write_text("user_id,purpose,granted,agreed\nkim,training,yes,1\n")
    with pytest.raises(DatasetError, match="has a column 'agreed'"):
        import_consents(engine, file, TERMS, "test", progress=False)
    with engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(consents)).scalar_one() == 0
