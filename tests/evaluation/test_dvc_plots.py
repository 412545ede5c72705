"""What `dvc metrics show` and `dvc plots show` tell is what the report's files hold."""

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recloop.evaluation import write_report
from tests.evaluation.test_page import figures

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's graph and templates, with the reports of one evaluation."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / ".dvc" / "plots", folder / ".dvc" / "plots")
    (folder / ".dvc" / "config").write_text("[core]\nno_scm = True\nanalytics = false\n")
    shutil.copy(ROOT / "dvc.yaml", folder)
    (folder / "reports").mkdir()
    curve = folder / "reports" / "learning_curve.csv"
    curve.write_text("env_steps,mean_return\n0,1.0\n100,2.5\n")
    value = figures()["user_model"]
    write_report(figures() | {"truth": value}, folder / "reports", curve)
    return folder


def dvc(project: Path, *words: str) -> str:
    command = [sys.executable, "-m", "dvc", *words]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=True).stdout


def test_every_plot_draws_the_rows_of_its_file(project: Path) -> None:
    dvc(project, "plots", "show", "-o", "page")
    drawn = re.findall(r"var spec = (\{.*?\});\n", (project / "page" / "index.html").read_text(), re.DOTALL)
    specs = {spec["title"]["text"]: spec for spec in map(json.loads, drawn)}
    for title, file in (
        ("Learning curve", "learning_curve.csv"),
        ("Policy minus best baseline by slice", "slices.csv"),
        ("Value by policy", "value.csv"),
    ):
        rows = specs[title]["data"]["values"]
        with (project / "reports" / file).open(newline="", encoding="utf-8") as opened:
            expected = list(csv.DictReader(opened))
        assert [{name: row[name] for name in expected[0]} for row in rows] == expected
        measured = set(fields(specs[title], "quantitative"))
        assert measured
        for name in measured:  # nothing but numbers, or none where a slice has one person
            assert any(np.isfinite([float(row[name] or "nan") for row in rows]))
        named = set(fields(specs[title], "nominal")) - {"rev"}
        for name in named:  # a bar or point of its own for each row
            assert len({row[name] for row in rows}) == len(rows), (title, name)


def fields(tree: object, kind: str) -> list[str]:
    """Names of the columns that a Vega-Lite specification takes as of a kind."""
    if isinstance(tree, list):
        return [name for part in tree for name in fields(part, kind)]
    if not isinstance(tree, dict):
        return []
    own = [tree["field"]] if tree.get("type") == kind and isinstance(tree.get("field"), str) else []
    return own + [name for part in tree.values() for name in fields(part, kind)]


def test_every_number_of_the_evaluation_is_a_metric(project: Path) -> None:
    told = json.loads(dvc(project, "metrics", "show", "--json", "reports/evaluation.json"))
    shown = told[""]["data"]["reports/evaluation.json"]["data"]
    kept = json.loads((project / "reports" / "evaluation.json").read_text())
    kept["ranking"]["policy"].pop("coverage")  # there is none, and DVC leaves out what is null
    assert shown == {name: value for name, value in kept.items() if not isinstance(value, list)}
