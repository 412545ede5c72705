"""Nothing that is loaded runs code: the source does not unpickle, evaluate or unpack, whatever is sent."""

import ast
import json
import re
from pathlib import Path

import numpy as np
import pytest

from infra.audit import LOCK, verdict, write_bill
from recloop.policy.retrieval import Lists
from recloop.serving.build import BuildError, bento_folder, serve_command

ROOT = Path(__file__).parents[1]
ROOMS = ("src", "flows", "pipelines", "infra", "benchmarks")
FILES = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "tarfile"}
CALLS = {"eval", "exec", "unpack_archive", "extractall", "read_pickle", "to_pickle", "unsafe_load"}


def faults(source: str) -> list[str]:
    """What of it could run code that came as data, or write where a stranger says."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            found.append(node.module or "")
        elif isinstance(node, ast.Call):
            given = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
            whole = ast.unparse(node.func)
            name = whole.rpartition(".")[2]
            bare = isinstance(node.func, ast.Name)
            if name in CALLS and (bare or name not in ("eval", "exec")):
                found.append(whole)
            if given.get("allow_pickle") or (whole == "np.load" and given.get("allow_pickle") is not False):
                found.append(f"{whole} that may unpickle")
            if whole == "torch.load" and given.get("weights_only") is not True:
                found.append(f"{whole} that may unpickle")
            if given.get("shell") or whole == "os.system":
                found.append(f"{whole} by a shell")
            if whole == "YAML" and given.get("typ") == "unsafe":
                found.append(whole)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_source_loads_no_code(path):
    assert faults(path.read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from cloudpickle import loads",
        "import tarfile",
        "np.load(file)",
        "np.load(file, allow_pickle=True)",
        "np.save(file, a, allow_pickle=True)",
        "torch.load(file)",
        "pd.read_pickle(file)",
        "shutil.unpack_archive(file)",
        "zipfile.ZipFile(file).extractall(folder)",
        "eval(text)",
        "subprocess.run(text, shell=True)",
        "YAML(typ='unsafe')",
    ],
)
def test_what_would_is_seen(line):
    assert faults(line)


@pytest.mark.parametrize(
    "tag",
    [
        "",
        "recloop_slot",
        "recloop_slot:",
        "recloop_slot:abc\n",
        "recloop_slot:abc\nrecloop_slot:abc",
        "recloop_slot:../../elsewhere",
        "recloop_slot:/etc",
        "../elsewhere:abc",
        "other:abc",
        "recloop_slot:latest/..",
        "--help",
        "recloop_slot:abc --reload",
        "s3://bucket/bento.tar",
        "recloop_slot:ABC\u0430",
    ],
)
def test_a_tag_that_was_not_given_here_is_refused(tmp_path, tag):
    with pytest.raises(BuildError, match="no tag of a Bento"):
        bento_folder(tag, tmp_path)
    with pytest.raises(BuildError, match="no tag of a Bento"):
        serve_command(tag, tmp_path, tmp_path / "slot", "127.0.0.1", 1)
    assert not (tmp_path / "slot").exists()


def test_an_array_file_with_objects_is_not_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    np.savez(tmp_path / "lists.npz", items=np.array([Trap()], object))
    content = (tmp_path / "lists.npz").read_bytes()
    with pytest.raises(ValueError, match="allow_pickle"):
        Lists.from_bytes(content, 2, np.zeros(1, bool))
    assert not (tmp_path / "sprung").exists()
    with np.load(tmp_path / "lists.npz", allow_pickle=True) as file:  # the trap works
        file["items"]
    assert (tmp_path / "sprung").exists()


ROW = {"name": "a", "version": "1", "vulns": []}
HOLE = ROW | {"name": "b", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]}
SKIPPED = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("rows", "status", "says"),
    [
        ([ROW], 0, "1 packages audited, 0 known"),
        ([ROW, HOLE], 1, "2 packages audited, 1 known"),
        ([ROW, SKIPPED], 0, "1 of 2 packages audited; not known there: c"),
        ([HOLE, SKIPPED], 1, "1 of 2 packages audited"),
        ([SKIPPED], 0, "nothing was audited"),
        ([], 0, "nothing was audited"),
    ],
)
def test_an_audit_fails_for_a_vulnerability_and_says_what_was_not_audited(rows, status, says):
    found, lines = verdict(json.dumps({"dependencies": rows}), "")
    assert found == status
    assert says in lines[-1]
    assert (status == 1) == any("PYSEC-1, fixed in 2" in line for line in lines)


@pytest.mark.slow
def test_the_bill_names_exactly_what_is_locked(tmp_path):
    if trouble := write_bill(tmp_path / "sbom.json"):
        pytest.skip(f"cyclonedx-bom cannot be had: {trouble}")
    bill = json.loads((tmp_path / "sbom.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    locked = re.findall(r"^([a-z0-9._-]+)(?:\[.*\])?==([^ ;+\n]+)", (ROOT / LOCK).read_text(), re.MULTILINE)
    found = {(one["name"], one["version"].partition("+")[0]): one for one in bill["components"]}
    assert set(found) == set(locked)
    assert len(locked) > 300
    for (name, _), one in found.items():
        assert one["purl"].startswith(f"pkg:pypi/{name}@")


@pytest.mark.parametrize("report", ["", "{", "[]", "null"])
def test_an_audit_without_an_answer_is_no_clean_bill(report):
    assert verdict(report, "no route") == (
        0,
        ["nothing was audited: the service that knows vulnerabilities cannot be asked (no route)"],
    )
