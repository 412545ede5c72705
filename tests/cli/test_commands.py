"""The commands, as a person or a program calls them."""

import json
import socket
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from typer.testing import CliRunner

from recloop.cli import app
from recloop.delivery.processes import free_port
from recloop.schema import Impression, Item
from recloop.settings import places
from recloop.store import Refused, add_items, append, open_store, versions

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(monkeypatch):
    monkeypatch.chdir(ROOT)
    for name in ("GATEWAY", "BLUE", "GREEN", "MLFLOW", "PREFECT"):
        monkeypatch.setenv(f"RECLOOP_{name}_PORT", str(free_port()))
    runner = CliRunner()
    return lambda *words: runner.invoke(app, words)


def test_doctor_finds_this_machine_well_and_says_so_in_json(run):
    found = {finding["what"]: finding for finding in json.loads(run("doctor", "--json").stdout)}
    assert found["python"]["well"]
    assert found["versions"]["well"], found["versions"]["found"]
    assert found["params.yaml"]["well"]
    assert found["store"]["found"] == "sqlite opens"


def test_doctor_names_a_port_that_is_taken_and_what_to_do(run, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("RECLOOP_BLUE_PORT", str(taken.getsockname()[1]))
        answer = run("doctor", "--json")
    wrong = [finding for finding in json.loads(answer.stdout) if not finding["well"]]
    assert [finding["what"] for finding in wrong] == [f"port {taken_port(monkeypatch)} (blue)"]
    assert "RECLOOP_BLUE_PORT" in wrong[0]["do"]
    assert answer.exit_code == 1


def test_doctor_names_master_keys_that_others_can_read(run, monkeypatch, tmp_path):
    file = tmp_path / "keys"
    monkeypatch.setenv("RECLOOP_KEY_FILE", str(file))
    for mode, well in ((0o600, True), (0o640, False)):
        file.touch()
        file.chmod(mode)
        found = {one["what"]: one for one in json.loads(run("doctor", "--json").stdout)}["master keys"]
        assert found["well"] is well
    assert f"chmod 600 {file}" in found["do"]


def taken_port(_: object) -> int:
    return places().blue_port


def test_an_older_store_is_upgraded_by_one_command_that_every_other_names(run):
    versions.upgrade(create_engine(places().store), "0001")
    refused = run("status")
    assert refused.exit_code == 1
    assert "recloop store upgrade" in " ".join(refused.stderr.split())
    assert json.loads(run("store", "upgrade", "--json").stdout) == {"before": "0001", "after": versions.HEAD}
    assert run("status").exit_code == 0


def test_status_of_an_empty_home(run):
    answer = json.loads(run("status", "--json").stdout)
    assert answer["processes"] == []
    assert answer["champion"] is None
    assert "recloop up" in run("status").stdout


def test_mark_and_log_tell_how_far_the_log_has_come(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    add_items(open_store(places().store), [Item(item_id="a", title="a")])
    assert json.loads(run("data", "mark", "--json").stdout)["watermark"]["source"] == "own"
    assert json.loads(run("data", "log", "--json").stdout)["source"] == "own"
    assert Path("data/watermark.json").exists()


def test_quarantine_shows_the_reason(run):
    append(open_store(places().store), refused=[Refused("http", "event", "ts: too old", {"user_id": "u"})])
    (row,) = json.loads(run("quarantine", "list", "--json").stdout)
    assert row["reason"] == "ts: too old"
    assert row["body"] == {"user_id": "u"}
    assert "ts: too old" in run("quarantine", "show", "1").stdout
    assert json.loads(run("quarantine", "show", "1", "--json").stdout)["failure"] == "schema"
    missing = run("quarantine", "show", "7")
    assert missing.exit_code == 1
    assert "no row 7" in missing.stderr


def test_quarantined_rows_are_repaired_and_replayed_once(run, tmp_path):
    act = {"user_id": "u", "item_id": "a", "kind": "click"}
    bad = [
        Refused("http", "event", "kind", act | {"kind": "stare"}),
        Refused("http", "event", "item_id", act),
    ]
    append(open_store(places().store), refused=bad)
    refused = run("quarantine", "replay", "1", "2", "--json")
    assert refused.exit_code == 1
    assert json.loads(refused.stdout)["added"] == 1
    assert "row 1 is still unfit: kind" in refused.stderr
    (tmp_path / "body.json").write_text(json.dumps(act))
    for added in (1, 0):
        answer = run("quarantine", "replay", "1", "--body", str(tmp_path / "body.json"), "--json")
        assert json.loads(answer.stdout) == {"rows": 1, "added": added, "left": {}}
    assert json.loads(run("quarantine", "list", "--waiting", "--json").stdout) == []
    assert "0 acts were new" in run("quarantine", "replay", "--source", "http").stdout
    for words in ((), ("1", "--failure", "schema"), ("1", "2", "--body", "-"), ("--failure", "odd")):
        assert run("quarantine", "replay", *words).exit_code in (1, 2)


def test_a_sender_s_schema_is_held_against_ours(run, tmp_path):
    ours = json.loads(run("data", "schema").stdout)
    assert ours["version"] == "1.0"
    theirs = tmp_path / "theirs.json"
    more = ours["properties"] | {"mood": {"type": "string"}}
    theirs.write_text(json.dumps(ours | {"properties": more}))
    assert "kept as extra: mood" in run("data", "schema", "--against", str(theirs)).stdout
    theirs.write_text(json.dumps(ours | {"properties": more | {"value": {"type": "string"}}}))
    refused = run("data", "schema", "--against", str(theirs), "--json")
    assert refused.exit_code == 1
    said = {"breaks": ["value: was string, which is taken no more"], "kept as extra": ["mood"]}
    assert json.loads(refused.stdout) == said
    theirs.write_text("[]")
    assert "no JSON Schema" in " ".join(run("data", "schema", "--against", str(theirs)).stderr.split())


def test_an_unknown_dataset_or_a_missing_folder_is_a_clear_error(run, tmp_path):
    answer = run("import", "nonsense", str(tmp_path))
    assert answer.exit_code == 1
    assert "movielens" in answer.stderr
    answer = run("import", "movielens", str(tmp_path / "nowhere"))
    assert answer.exit_code == 1
    assert "nowhere" in answer.stderr.replace("\n", "")


def test_a_rollout_that_is_not_open_cannot_be_promoted(run):
    for word in ("promote", "abort"):
        answer = run("rollout", word)
        assert answer.exit_code == 1
        assert "no rollout is open" in answer.stderr
    assert json.loads(run("rollout", "history", "--json").stdout) == []


def test_down_without_up_says_so(run):
    assert "was not up" in run("down").stdout


def test_benchmark_says_what_is_missing(run, tmp_path):
    for name in ("movielens", "open-bandit"):
        answer = run("benchmark", name, "--data", str(tmp_path))
        assert answer.exit_code == 1
        assert "looked for" in " ".join(answer.stderr.split())


def test_benchmark_writes_figures_and_says_its_protocol(run, tmp_path, monkeypatch):
    from recloop.agents.sequence import Sizes
    from recloop.evaluation.next_item import bench

    tiny = Sizes(dim=8, blocks=1, length=8, epochs=2)
    monkeypatch.setattr(bench, "QUICK", {"bce": tiny, "softmax": tiny})
    ratings = [
        f"{u},{(u + s * (1 + u % 2)) % 12},{3 + (u + s) % 3},{100 + s}" for u in range(30) for s in range(8)
    ]
    (tmp_path / "ratings.csv").write_text("\n".join(["userId,movieId,rating,timestamp", *ratings, ""]))
    movies = [f"{i},Film {i} (1999),Drama" for i in range(12)]
    (tmp_path / "movies.csv").write_text("\n".join(["movieId,title,genres", *movies, ""]))
    answer = run(
        "benchmark", "movielens", "--data", str(tmp_path), "--quick", "--json", str(tmp_path / "out.json")
    )
    assert answer.exit_code == 0, answer.output
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["log"]["people"] == 30
    assert [row["model"] for row in figures["models"]] == list(bench.TITLES)
    assert figures["models"][0]["seeds"] == 2
    said = " ".join(answer.stdout.split())
    assert "All items are ranked, without sampling" in said
    assert "the aim of 1.3 is" in said
    taken = figures["models"][-1]["chosen"]["beta"] > 0
    assert ("The reinforced head times" in said) == taken
    assert ("ours stays as it is" in said) == (not taken)
    assert "smaller than 1M" in said


def test_a_token_is_made_listed_and_taken_away(run):
    token = run("token", "add", "shop", "--scope", "read", "--scope", "feedback").stdout.strip()
    assert places().tokens.grant_of(token).scopes == ("read", "feedback")
    assert json.loads(run("token", "list", "--json").stdout) == [{"name": "shop", "scopes": "read, feedback"}]
    assert token not in run("token", "list").stdout
    refused = run("token", "add", "other", "--scope", "root")
    assert refused.exit_code == 1
    assert "read, feedback, operate" in refused.stderr
    assert run("token", "remove", "shop").exit_code == 0
    assert places().tokens.grant_of(token) is None


def test_up_refuses_to_listen_for_everybody_without_tokens(run, monkeypatch):
    monkeypatch.setenv("RECLOOP_HOST", "0.0.0.0")
    refused = run("up")
    assert refused.exit_code == 1
    assert "there are no tokens" in " ".join(refused.stderr.split())


def test_a_rule_of_a_column_that_no_record_has_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[2] / "params.yaml").read_text()
    assert "people: [[external_id], [email]" in text
    (tmp_path / "params.yaml").write_text(text.replace("[[external_id], [email]", "[[emial]"))
    (tmp_path / "shop.csv").write_text("user_id,email,phone\n1,a@example.com,010-1\n")
    said = " ".join(CliRunner().invoke(app, ["data", "match", "people", "shop.csv"]).output.split())
    assert "no record has emial, which integration.people in params.yaml names" in said
    assert "no record has phone" not in said


def test_the_log_is_counted_in_rows_whatever_numbers_repeats_used_up(store_url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECLOOP_STORE_URL", store_url)
    common = {"position": 0, "user_id": "u", "item_id": "a", "propensity": 0.5, "policy": "p"}
    shown = [Impression(request_id=f"r{n}", ts=n, **common) for n in range(5)]

    def told(*words):
        return json.loads(CliRunner().invoke(app, ["data", *words, "--json"]).stdout)

    engine = open_store(store_url)
    append(engine, shown[:2])
    append(engine, shown[:4])
    assert told("log")["tables"][0] == {"table": "impressions", "in the store": 4, "in the data version": 0}
    assert told("mark")["new_impressions"] == 4
    append(engine, shown)
    assert told("log")["tables"][0] == {"table": "impressions", "in the store": 5, "in the data version": 4}
    assert told("mark")["new_impressions"] == 1
