"""Every benchmark that compares us with a peer, one after another, each in a process of its own.

    python -m benchmarks.all [--quick] [--only market,ranking] [--again] OUT

writes ``OUT/NAME.json``, and ``OUT/NAME.log`` with what it printed. What is finished is kept, unless it was
quick and is now asked in full, or ``--again`` says to measure anew. ``python -m benchmarks.report OUT`` makes
a document of them.
"""

import argparse
import ast
import shutil
import subprocess
import sys
from pathlib import Path

from tqdm import tqdm

from benchmarks.machine import note, read_record

HERE = Path(__file__).parent


def discover() -> list[str]:
    """Names of the modules that take ``main`` from ``benchmarks.race``, in order."""
    return sorted(path.stem for path in HERE.glob("*.py") if _races(ast.parse(path.read_text())))


def _races(tree: ast.Module) -> bool:
    return any(
        isinstance(node, ast.ImportFrom)
        and node.module == "benchmarks.race"
        and any(alias.name == "main" for alias in node.names)
        for node in ast.walk(tree)
    )


def run(name: str, out: Path, quick: bool) -> str | None:
    """Measure one; None, or why it failed."""
    part, log = out / f"{name}.json.part", out / f"{name}.log"
    command = [sys.executable, "-u", "-m", f"benchmarks.{name}", "--json", str(part)] + ["--quick"] * quick
    with log.open("w") as file:
        status = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT).returncode
    if status == 0 and part.exists():
        part.replace(out / f"{name}.json")
        note(out, name, quick)
        return None
    part.unlink(missing_ok=True)
    said = [line for line in log.read_text().splitlines() if line.strip()] or ["it said nothing"]
    return f"{name}: exit status {status}, {said[-1].strip()} (all of it in {log})"


def finished(name: str, out: Path, quick: bool) -> bool:
    """Whether there are rows that are as good as those that are asked."""
    was_quick = read_record(out)["runs"].get(name, {}).get("quick", False)
    return (out / f"{name}.json").exists() and (quick or not was_quick)


def main() -> None:
    """Run, keep what is finished, and name at the end what failed."""
    names = discover()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the rows")
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    parser.add_argument("--again", action="store_true", help="also what is finished")
    here = [name for name in names if name != "gpu" or shutil.which("nvidia-smi")]
    parser.add_argument("--only", default=",".join(here), help="names, with commas between")
    asked = parser.parse_args()
    chosen = asked.only.split(",")
    if unknown := sorted(set(chosen) - set(names)):
        parser.error(f"no benchmark is called {', '.join(unknown)}: choose among {', '.join(names)}")
    asked.out.mkdir(parents=True, exist_ok=True)
    failures, bar = [], tqdm(chosen, unit="benchmark", mininterval=0)
    for name in bar:
        bar.set_description(name)
        if asked.again or not finished(name, asked.out, asked.quick):
            failures.append(run(name, asked.out, asked.quick))
    if failed := [why for why in failures if why]:
        raise SystemExit("\n".join([f"{len(failed)} of {len(chosen)} benchmarks failed:", *failed]))


if __name__ == "__main__":
    main()
