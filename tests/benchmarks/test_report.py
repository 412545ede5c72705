"""The document of the benchmarks, and the command that runs them all."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import all as every
from benchmarks import report
from benchmarks.machine import RECORD, note, read_record
from benchmarks.report import BadRowsError

GOOD = {
    "case": "100 people", "unit": "people/s", "ours": 48_210.4, "peer": "scikit-learn 1.7", "theirs": 12.345,
    "ratio": 3905.3, "low": 3800.0, "high": 4000.0, "better": "higher", "limit": 96_420.8,
}  # fmt: skip
SLOWER = GOOD | {
    "case": "a|b", "unit": "ms", "ours": 2.0, "theirs": 1.0, "ratio": 0.5, "low": 0.4, "high": 0.6,
    "better": "lower", "limit": 0.1,
}  # fmt: skip
ALONE = GOOD | dict.fromkeys(("peer", "theirs", "ratio", "low", "high", "limit"))
RECORDED = {
    "machine": {
        "processor": "A chip", "cores": 2, "memory_gb": 23.4, "system": "Linux x86_64", "python": "3.11.7",
        "packages": {"numpy": "2.4.0", "torch": "2.13.0"},
    },
    "runs": {"ranking": {"commit": "0123456789", "date": "2026-11-25", "quick": True, "load": 1.2}},
}  # fmt: skip
GOLDEN = f"""
## ranking

{report.about("ranking")}

`python -m benchmarks.ranking --quick`, at commit 0123456789, 2026-11-25, load 1.2

| case | unit | ours | theirs | ratio (95 %) | of the limit | peer |
|---|---|--:|--:|--:|--:|---|
| 100 people | people/s | 48,210 | 12.3 | 3,905 (3,800 to 4,000) | 50 % | scikit-learn 1.7 |
| a\\|b | ms | 2 | 1 | 0.50 (0.40 to 0.60) | 5 % | scikit-learn 1.7 |

![ratios of ranking](benchmarks/ranking.svg)

## The machine

2 cores (A chip), 23.4 GB of memory, Linux x86_64, Python 3.11.7.

numpy 2.4.0, torch 2.13.0.
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "rows"
    found.mkdir()
    (found / "ranking.json").write_text(json.dumps([GOOD, SLOWER]))
    (found / RECORD).write_text(json.dumps(RECORDED))
    return found


def test_the_document_has_every_row_what_is_measured_and_where(folder, tmp_path):
    report.write(folder, tmp_path / "benchmarks.md")
    written = (tmp_path / "benchmarks.md").read_text()
    assert written == report.INTRODUCTION + GOLDEN
    svg = (tmp_path / "benchmarks" / "ranking.svg").read_text()
    assert report.short(GOOD["ours"]) not in svg
    assert "100 people" in svg
    assert len(svg) < 40_000


def test_the_same_rows_give_the_same_bytes(folder, tmp_path):
    for name in ("one", "two"):
        report.write(folder, tmp_path / name / "benchmarks.md")
    files = [p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*") if p.is_file()]
    assert len(files) == 2
    for path in files:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()


def test_a_benchmark_without_peers_has_a_table_and_no_plot(folder, tmp_path):
    stale = tmp_path / "benchmarks" / "ranking.svg"
    stale.parent.mkdir()
    stale.write_text("of an older run")
    (folder / "ranking.json").write_text(json.dumps([ALONE]))
    report.write(folder, tmp_path / "benchmarks.md")
    written = (tmp_path / "benchmarks.md").read_text()
    assert "| 100 people | people/s | 48,210 |  |  |  |  |" in written
    assert "![" not in written
    assert not stale.exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ours": "fast"}, "row 2: ours"),
        ({"ours": None}, "row 2: ours"),
        ({"better": "bigger"}, "row 2: better"),
        ({"ratio": None}, "row 2: peer, theirs, ratio, low, high must all be given"),
        ({"ratio": float("nan")}, "row 2: ratio is nan"),
        ({"limit": float("inf")}, "row 2: limit is inf"),
        ({"low": 5.0, "high": 4.0}, "row 2: low 5.0 and high 4.0"),
        ({"low": -1.0}, "row 2: low -1.0"),
        ({"ratio": 0.0}, "row 2: ratio is 0.0"),
    ],
)
def test_a_bad_row_is_named_with_its_file_and_nothing_is_written(folder, tmp_path, change, said):
    (folder / "ranking.json").write_text(json.dumps([GOOD, GOOD | change]))
    with pytest.raises(BadRowsError, match=r"ranking\.json") as caught:
        report.write(folder, tmp_path / "benchmarks.md")
    assert said in str(caught.value)
    assert not (tmp_path / "benchmarks.md").exists()


def test_a_row_that_lacks_a_field_is_named(folder):
    lacking = {name: x for name, x in GOOD.items() if name != "unit"}
    (folder / "ranking.json").write_text(json.dumps([lacking]))
    with pytest.raises(BadRowsError, match="row 1: unit"):
        report.read_rows(folder / "ranking.json")


@pytest.mark.parametrize(("text", "said"), [("[", "no JSON"), ("[]", "at least one"), ("{}", "a list")])
def test_a_file_that_holds_no_rows_is_named(folder, text, said):
    (folder / "ranking.json").write_text(text)
    with pytest.raises(BadRowsError, match=said):
        report.read_rows(folder / "ranking.json")


def test_rows_of_no_benchmark_and_an_empty_folder_are_refused(folder, tmp_path):
    (folder / "ranking.json").rename(folder / "rankings.json")
    with pytest.raises(BadRowsError, match=r"rankings\.json: no benchmark of this name"):
        report.write(folder, tmp_path / "benchmarks.md")
    (folder / "rankings.json").unlink()
    with pytest.raises(BadRowsError, match="no rows here"):
        report.write(folder, tmp_path / "benchmarks.md")


@pytest.fixture
def two(tmp_path: Path, monkeypatch) -> Path:
    """A package of two benchmarks, one of which fails, and of a module that is none; returns its parent."""
    package = tmp_path / "work" / "benchmarks"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "race.py").write_text("def main(): ...")
    (package / "worlds.py").write_text("from benchmarks.race import Row")
    rows = json.dumps([GOOD])
    good = f"import sys\nopen(sys.argv[sys.argv.index('--json') + 1], 'w').write({rows!r})"
    head = "def never():\n    from benchmarks.race import main\n"
    (package / "sound.py").write_text(f"{head}\nopen('runs', 'a').write('x')\n{good}")
    (package / "broken.py").write_text(f"{head}\nprint('begun')\nraise ValueError('out of luck')")
    monkeypatch.chdir(package.parent)
    monkeypatch.setattr(every, "HERE", package)
    return package.parent


def started(two: Path, monkeypatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["all", str(two / "out"), *words])
    every.main()


def runs(two: Path) -> int:
    return len((two / "runs").read_text())


def test_all_names_what_failed_and_goes_on_to_the_next(two, monkeypatch):
    with pytest.raises(SystemExit, match=r"1 of 2 benchmarks failed:\nbroken: .*out of luck") as caught:
        started(two, monkeypatch)
    assert caught.value.code not in (0, None)
    assert json.loads((two / "out" / "sound.json").read_text()) == [GOOD]
    assert not (two / "out" / "broken.json").exists()
    assert "begun" in (two / "out" / "broken.log").read_text()
    assert read_record(two / "out")["runs"]["sound"]["quick"] is False


def test_what_is_finished_is_kept_unless_it_was_quick_or_is_asked_again(two, monkeypatch):
    for words, wanted in ((["--quick"], 1), (["--quick"], 1), ([], 2), ([], 2), (["--again"], 3)):
        started(two, monkeypatch, "--only", "sound", *words)
        assert runs(two) == wanted, words


def test_an_unknown_name_is_refused_with_the_choice(two, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        started(two, monkeypatch, "--only", "sounds")
    assert "no benchmark is called sounds: choose among broken, sound" in capsys.readouterr().err


def test_the_benchmarks_of_this_project_are_found():
    found = every.discover()
    assert {"market", "off_policy", "ranking", "training"} <= set(found)
    assert not {"race", "report", "all", "machine", "worlds"} & set(found)


def test_the_record_holds_every_run(tmp_path):
    note(tmp_path, "market", quick=True)
    note(tmp_path, "ranking", quick=False)
    found = read_record(tmp_path)
    assert {name: run["quick"] for name, run in found["runs"].items()} == {"market": True, "ranking": False}
    assert found["machine"]["cores"] >= 1
    assert found["machine"]["packages"]["numpy"]
