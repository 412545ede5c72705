"""Stage package: a Bento of the policy that was registered."""

import json
from dataclasses import asdict
from pathlib import Path

from recloop.registry import connect, note_bento
from recloop.serving.build import build_bento
from recloop.settings import places


def main() -> None:
    """Write ``reports/bento.json``."""
    registered = json.loads(Path("reports/registered.json").read_text())
    where = places()
    labels = {"mlflow_version": registered["version"], "mlflow_run": registered["run_id"]}
    built = build_bento(Path.cwd(), Path("models/policy"), where.home, labels)
    if built.policy_sha256 != registered["policy_sha256"]:
        raise SystemExit("models/policy is not the policy that was registered: run `dvc repro register`")
    note_bento(connect(where), registered["version"], built.tag)
    report = asdict(built) | {"version": registered["version"]}
    Path("reports/bento.json").write_text(json.dumps(report, indent=1) + "\n")
    print(f"{built.tag} holds {built.policy}")


if __name__ == "__main__":
    main()
