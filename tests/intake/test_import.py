"""Importing writes once, goes on after an interruption, and never mixes sources."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import func, select

from recloop.intake import Batch, DatasetError, SourceConflict, TableReport, import_into
from recloop.intake.movielens import read_movielens
from recloop.intake.open_bandit import read_open_bandit
from recloop.intake.readers import read_dataset
from recloop.intake.replay import replay
from recloop.schema import Event, Impression, Item, User
from recloop.store import Refused, add_items, find_items, find_user, open_store, recall, set_consents
from recloop.store.quarantine import held
from recloop.store.tables import events, impressions, quarantine

ROOT = Path(__file__).parents[2]
DATASETS = Path(os.environ.get("RECLOOP_DATASETS", ROOT.parent / "shared" / "datasets"))


@pytest.fixture
def engine(store_url):
    return open_store(store_url)


@dataclass
class Made:
    """Five people who each meet one item in a batch of its own; may break before batch ``breaks``."""

    name: str = "made"
    breaks: int = 99
    size: int = 16
    refused: list[Refused] = field(default_factory=lambda: [Refused("made", "rows", "bad", {"line": 9})])

    def tables(self) -> dict[str, TableReport]:
        return {"rows": TableReport.of(6, self.refused)}

    def batches(self) -> Iterator[Batch]:
        people = [User(user_id=f"u{n}") for n in range(5)]
        yield Batch(users=people, items=[Item(item_id="i", title="I")], refused=self.refused)
        for n in range(5):
            if n == self.breaks:
                raise KeyboardInterrupt
            common = {"user_id": f"u{n}", "item_id": "i", "request_id": f"r{n}", "ts": n}
            yield Batch(
                impressions=[Impression(position=0, propensity=None, policy="organic", **common)],
                events=[Event(event_id=f"e{n}", kind="click", **common)],
            )


def count(engine, table) -> int:
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def test_an_import_reports_what_was_read_and_what_is_new(engine):
    report = import_into(engine, Made(), progress=False)
    assert report.to_dict() == {
        "source": "made",
        "tables": {"rows": {"read": 6, "kept": 5, "quarantined": 1, "reasons": {"bad": 1}}},
        "added": {"users": 5, "items": 1, "impressions": 5, "events": 5},
        "unconsented": 0,
    }
    assert "6 rows read, 5 kept, 1 quarantined\n  1 × bad\nadded: 5 users, 1 items" in str(report)
    assert recall(engine, "source") == "made"


def test_a_second_import_adds_nothing_and_says_so(engine):
    import_into(engine, Made(), progress=False)
    again = import_into(engine, Made(), progress=False)
    assert set(again.added.values()) == {0}
    assert "nothing was new" in str(again)
    assert count(engine, quarantine) == 1


def test_an_interrupted_import_goes_on(engine):
    with pytest.raises(KeyboardInterrupt):
        import_into(engine, Made(breaks=3), progress=False)
    assert count(engine, impressions) == 3
    assert import_into(engine, Made(), progress=False).added["impressions"] == 2
    assert (count(engine, events), count(engine, quarantine)) == (5, 1)


def test_another_source_is_refused_before_anything_is_written(engine):
    import_into(engine, Made(), progress=False)
    with pytest.raises(SourceConflict, match=r"'made'.*'other'.*RECLOOP_HOME"):
        import_into(engine, Made(name="other"), progress=False)
    assert recall(engine, "source") == "made"


def test_data_of_ones_own_is_a_source_too(engine):
    add_items(engine, [Item(item_id="mine", title="Mine")])
    with pytest.raises(SourceConflict, match="'own'"):
        import_into(engine, Made(), progress=False)
    assert [item.item_id for item in find_items(engine)] == ["mine"]


def dataset(name: str) -> Path:
    folder = DATASETS / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: put the dataset there or set RECLOOP_DATASETS")
    return folder


def test_a_folder_is_recognised_by_what_it_holds(tmp_path):
    assert read_dataset(dataset("open-bandit-small")).name == "open-bandit"
    assert read_dataset(dataset("ml-100k")).name == "movielens"


def test_a_file_is_a_log_and_an_unknown_folder_says_what_was_looked_for(tmp_path):
    (tmp_path / "access.log").write_text("")
    assert read_dataset(tmp_path / "access.log").name == "own"
    with pytest.raises(DatasetError, match=r"looked for u\.data.*looked for <policy>.*found access\.log"):
        read_dataset(tmp_path)
    with pytest.raises(DatasetError, match="no folder"):
        read_dataset(tmp_path / "absent")


def test_the_real_movielens_100k(engine):
    report = import_into(engine, read_movielens(dataset("ml-100k")), progress=False)
    assert report.added == {"users": 943, "items": 1682, "impressions": 100_000, "events": 100_000}
    assert {name: table.quarantined for name, table in report.tables.items()} == {
        "users": 0,
        "items": 0,
        "ratings": 0,
    }
    (film,) = find_items(engine, ["i1"])
    assert film.title == "Toy Story (1995)"
    assert film.attributes == {"genres": "Animation|Children's|Comedy", "year": 1995.0}
    person = find_user(engine, "u1")
    assert person is not None
    assert (person.age, person.sex, person.region) == (24, "M", "8")
    with engine.connect() as connection:
        total = connection.execute(select(func.sum(events.c.value))).scalar_one()
    assert total == 352_986  # the published mean of 3.52986 stars


def test_the_real_open_bandit_logs(engine):
    folder = dataset("open-bandit-small")
    report = import_into(engine, read_open_bandit(folder), progress=False)
    assert report.added == {"users": 265, "items": 34, "impressions": 20_000, "events": 46 + 69}
    query = (
        select(impressions.c.policy, func.count(), func.count(events.c.event_id))
        .outerjoin(events, events.c.request_id == impressions.c.request_id)
        .group_by(impressions.c.policy)
    )
    with engine.connect() as connection:
        assert sorted(map(tuple, connection.execute(query))) == [("bts", 10_000, 69), ("random", 10_000, 46)]
        uniform = select(func.min(impressions.c.propensity), func.max(impressions.c.propensity))
        assert connection.execute(uniform.where(impressions.c.policy == "random")).one() == (1 / 34, 1 / 34)
    assert set(import_into(engine, read_open_bandit(folder / "bts"), progress=False).added.values()) == {0}


def test_of_one_s_own_people_only_those_come_in_who_agree(engine, monkeypatch):
    monkeypatch.setenv("RECLOOP_CONSENT", "required")
    set_consents(engine, "p1", {"service": True})
    set_consents(engine, "u2", {"service": True})
    set_consents(engine, "u2", {"service": False})
    names = {"u0": None, "u1": "p1"}
    report = import_into(engine, Made(name="own"), False, {"service": 1}, lambda one: names.get(one, one))
    assert report.added == {"users": 1, "items": 1, "impressions": 1, "events": 1}
    assert report.unconsented == 12
    assert "12 rows are of people who do not agree" in str(report)
    with engine.connect() as connection:
        assert connection.execute(select(events.c.user_id)).scalars().all() == ["p1"]
    assert import_into(engine, Made(name="own"), False, {"service": 2}).added["events"] == 0, "newer terms"


def test_in_a_published_dataset_nobody_is_there_to_be_asked(engine, monkeypatch):
    monkeypatch.setenv("RECLOOP_CONSENT", "required")
    assert import_into(engine, Made(), progress=False).added["events"] == 5


def line(who, act, time="10/Oct/2025:13:55:36 +0000"):
    return f'203.0.113.9 - - [{time}] "GET /items/i?uid={who}&act={act} HTTP/1.1" 200 5 "-" "-"\n'


def test_of_who_does_not_agree_not_even_what_is_refused_is_kept(engine, tmp_path, monkeypatch):
    monkeypatch.setenv("RECLOOP_CONSENT", "required")
    set_consents(engine, "yes", {"service": True})
    log, table = tmp_path / "access.log", tmp_path / "acts.csv"
    acts = [{"user_id": who, "item_id": "i", "kind": "stare", "ts": 5} for who in ("yes", "no")]
    log.write_text(
        "".join(line(who, "stare") for who in ("yes", "no"))
        + "".join(json.dumps(act) + "\n" for act in acts)
        + "whose is this?\n"
    )
    table.write_text("user_id,item_id,kind,ts\nyes,i,stare,5\nno,i,stare,5\n")
    found = [import_into(engine, read_dataset(path), progress=False) for path in (log, table)]
    assert [report.unconsented for report in found] == [2, 1]
    bodies = [row.body for row in held(engine, 9)]
    assert len(bodies) == 4
    assert not any('"no' in body or "=no" in body for body in bodies)


def test_what_is_refused_of_an_account_is_kept_under_its_pseudonym(engine, tmp_path, monkeypatch):
    monkeypatch.setenv("RECLOOP_CONSENT", "required")
    set_consents(engine, "p-1:7", {"service": True})
    name = {"kim:lee": "p-1:7"}.get
    log = tmp_path / "access.log"
    act = {"user_id": "kim:lee", "item_id": "i", "kind": "stare", "ts": 5}
    log.write_text(line("kim%3Alee", "stare") + json.dumps(act) + "\n")
    import_into(engine, read_dataset(log), progress=False, name=name)
    rows = held(engine, 9)
    assert not any("kim" in row.body for row in rows)
    repaired = [json.loads(row.body)["text"].replace("stare", "click") for row in rows]
    assert [replay(engine, *pair, name=str) for pair in zip(rows, repaired, strict=True)] == [1, 1]
    with engine.connect() as connection:
        assert set(connection.execute(select(events.c.user_id)).scalars()) == {"p-1:7"}
