"""``make audit``: known vulnerabilities of what is locked, and a CycloneDX bill of it (``make sbom``).

Exit status 1 only where a vulnerability was found. Where the service that knows them cannot be asked, the
last line says that nothing, or not all, was audited, and the status is 0.
"""

import json
import subprocess
import sys
from pathlib import Path

LOCK, BILL = Path("requirements.lock"), Path("reports/sbom.json")
RUN = [str(Path(sys.executable).with_name("uv")), "tool", "run", "--quiet"]
BILL_TOOL, AUDIT_TOOL = "cyclonedx-bom==7.5.0", "pip-audit==2.10.1"


def main() -> int:
    """Write the bill, audit the lock, say what came of it; returns the exit status."""
    trouble = write_bill(BILL)
    print(f"bill of materials: {BILL if not trouble else 'not written: ' + trouble}")
    if "--bill" in sys.argv[1:]:
        return 1 if trouble else 0
    options = ["--requirement", str(LOCK), "--no-deps", "--disable-pip", "--format", "json"]
    done = _run("--from", AUDIT_TOOL, "pip-audit", *options, "--progress-spinner", "off", "--timeout", "10")
    status, lines = verdict(done.stdout, _last(done.stderr))
    print("\n".join(lines))
    return status


def write_bill(path: Path) -> str:
    """Write the bill of the lock, the same bytes for the same lock; empty, or why it was not written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    wanted = ["--output-reproducible", "-o", str(path), str(LOCK)]
    made = _run("--from", BILL_TOOL, "cyclonedx-py", "requirements", *wanted)
    return "" if made.returncode == 0 else _last(made.stderr)


def verdict(report: str, trouble: str) -> tuple[int, list[str]]:
    """Exit status and what to print for pip-audit's JSON; ``trouble``: what it said where that is none."""
    try:
        found = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return 0, [f"nothing was audited: the service that knows vulnerabilities cannot be asked ({trouble})"]
    lines = [
        f"{row['name']} {row['version']}: {hole['id']}, fixed in {', '.join(hole['fix_versions']) or 'none'}"
        for row in found
        for hole in row.get("vulns", [])
    ]
    skipped = [row for row in found if "skip_reason" in row]
    audited = len(found) - len(skipped)
    status = 1 if lines else 0
    if not audited:
        why = skipped[0]["skip_reason"] if skipped else "the lock is empty"
        lines.append(f"nothing was audited: the service knows none of {len(found)} packages ({why})")
    elif skipped:
        names = ", ".join(row["name"] for row in skipped[:5])
        lines.append(f"{audited} of {len(found)} packages audited; not known there: {names}")
    else:
        lines.append(f"{audited} packages audited, {len(lines)} known vulnerabilities")
    return status, lines


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*RUN, *words], capture_output=True, text=True, check=False)


def _last(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1][:200]


if __name__ == "__main__":
    sys.exit(main())
