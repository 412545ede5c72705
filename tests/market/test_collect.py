"""The stage collect: idempotent, and it never loses a log."""

import json
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select

from pipelines import collect
from recloop.schema import Event, Item, User
from recloop.store import add_items, add_users, append, open_store, recall, remember
from recloop.store.tables import events, impressions

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    text = (ROOT / "params.yaml").read_text()
    assert "users: 1200" in text
    (tmp_path / "params.yaml").write_text(text.replace("users: 1200", "users: 30"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECLOOP_HOME", str(tmp_path / "var"))
    monkeypatch.delenv("RECLOOP_STORE_URL", raising=False)
    return tmp_path


@contextmanager
def opened(file: Path) -> Iterator[Engine]:
    engine = open_store(f"sqlite:///{file}")
    yield engine
    engine.dispose()


def store(folder: Path) -> AbstractContextManager[Engine]:
    return opened(folder / "var" / "store.db")


def rows(folder: Path, name: str = "store.db") -> tuple[int, int]:
    with opened(folder / "var" / name) as engine, engine.connect() as connection:
        first, second = (
            connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (impressions, events)
        )
    return first, second


def replant(folder: Path, seed: int) -> None:
    file = folder / "params.yaml"
    file.write_text(re.sub(r"(?m)^seed: \d+$", f"seed: {seed}", file.read_text()))


def buy_more(folder: Path) -> None:
    act = Event(event_id="later", user_id="p000001", item_id="t00001", kind="click", ts=1_800_000_000_000_000)
    with store(folder) as engine:
        append(engine, acts=[act])


def test_an_empty_store_is_filled_once(folder: Path) -> None:
    collect.main()
    mark, filled = collect.MARK.read_bytes(), rows(folder)
    assert json.loads(mark)["source"] == "market"
    assert (json.loads(mark)["impressions"], json.loads(mark)["events"]) == filled
    assert min(filled) > 0
    collect.main()
    assert (collect.MARK.read_bytes(), rows(folder)) == (mark, filled)


def test_the_watermark_is_the_ingest_flows_to_advance(folder: Path) -> None:
    collect.main()
    mark = collect.MARK.read_bytes()
    buy_more(folder)
    with store(folder) as engine:
        add_users(engine, [User(user_id="stranger")])
    collect.main()
    assert collect.MARK.read_bytes() == mark
    collect.MARK.unlink()
    collect.main()
    assert json.loads(collect.MARK.read_bytes())["events"] == json.loads(mark)["events"] + 1


@pytest.mark.parametrize("text", ["", "{", '{"source": "market"}', "[]"])
def test_a_mark_that_cannot_be_read_is_written_anew(folder: Path, text: str) -> None:
    collect.main()
    mark = collect.MARK.read_bytes()
    collect.MARK.write_text(text)
    collect.main()
    assert collect.MARK.read_bytes() == mark


def test_a_mark_of_another_store_is_written_anew(folder: Path) -> None:
    collect.main()
    mark = json.loads(collect.MARK.read_bytes())
    for other in ({"source": "movielens"}, {"impressions": 10**9}):
        collect.MARK.write_text(json.dumps(mark | other))
        collect.main()
        assert json.loads(collect.MARK.read_bytes()) == mark


def test_another_market_sets_the_old_log_aside(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs, names = [], set()
    for seed in (7, 8, 7, 8):
        replant(folder, seed)
        collect.main()
        logs.append(rows(folder))
        assert json.loads(collect.MARK.read_bytes())["impressions"] == logs[-1][0]
        aside = {file.name for file in (folder / "var").glob("store.db.*")}
        assert len(aside) == len(logs) - 1
        for name in aside - names:
            assert f"kept as {folder / 'var' / name}" in capsys.readouterr().out
            assert rows(folder, name) == logs[-2]
        names = aside
    assert logs[0] == logs[2] != logs[1] == logs[3]


def test_a_store_that_is_in_use_is_not_taken_away(folder: Path) -> None:
    collect.main()
    filled, mark = rows(folder), collect.MARK.read_bytes()
    replant(folder, 8)
    with store(folder) as engine, engine.connect() as connection:
        connection.execute(select(events.c.seq).limit(1)).all()
        with pytest.raises(SystemExit, match="in use"):
            collect.main()
    assert (rows(folder), collect.MARK.read_bytes()) == (filled, mark)
    collect.main()
    assert collect.MARK.read_bytes() != mark


def test_what_a_reward_is_worth_changes_no_log(folder: Path) -> None:
    collect.main()
    mark = collect.MARK.read_bytes()
    file = folder / "params.yaml"
    file.write_text(file.read_text().replace("purchase: 4.0", "purchase: 3.0"))
    collect.main()
    assert collect.MARK.read_bytes() == mark
    assert not list((folder / "var").glob("store.db.*"))


def test_a_log_of_another_source_is_left_as_it_is(folder: Path) -> None:
    with store(folder) as engine, engine.begin() as connection:
        remember(connection, "source", "movielens")
    with pytest.raises(SystemExit, match="nobody was shown anything yet"):
        collect.main()
    assert rows(folder) == (0, 0)
    assert json.loads(collect.MARK.read_bytes())["source"] == "movielens"


def test_a_shop_that_has_sold_nothing_yet_is_not_filled_with_strangers(folder: Path) -> None:
    with store(folder) as engine:
        add_items(engine, [Item(item_id="mine", title="My first offer")])
    with pytest.raises(SystemExit, match="nobody was shown anything yet"):
        collect.main()
    assert rows(folder) == (0, 0)
    assert json.loads(collect.MARK.read_bytes())["source"] == "own"


def test_a_killed_run_leaves_nothing_half_done(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collect.main()
    mark = collect.MARK.read_bytes()
    for file in (folder / "var").iterdir():
        file.unlink()
    whole = collect.generate_log

    def killed(*arguments):  # type: ignore[no-untyped-def]
        for number, batch in enumerate(whole(*arguments)):
            if number == 3:
                raise KeyboardInterrupt
            yield batch

    monkeypatch.setattr(collect, "generate_log", killed)
    with pytest.raises(KeyboardInterrupt):
        collect.main()
    assert rows(folder) == (0, 0)
    with store(folder) as engine:
        assert recall(engine, "source") is None
    assert not collect.MARK.exists(), "a mark must not name rows that are gone"
    monkeypatch.setattr(collect, "generate_log", whole)
    collect.main()
    assert collect.MARK.read_bytes() == mark
