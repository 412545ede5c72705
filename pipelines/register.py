"""Stage register: log the run and the policy, and make it the challenger."""

import json
from dataclasses import asdict
from pathlib import Path

from recloop.registry import Evidence, register
from recloop.settings import load_params, places


def main() -> None:
    """Write ``reports/registered.json``."""
    evidence = Evidence(load_params(), Path("reports"), Path("data/watermark.json"), Path("dvc.lock"))
    found = register(places(), Path("models/policy"), evidence)
    Path("reports/registered.json").write_text(json.dumps(asdict(found), indent=1) + "\n")
    print(f"{found.name} version {found.version}, run {found.run_id}")


if __name__ == "__main__":
    main()
