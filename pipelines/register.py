"""Stage register: log the run and the policy, and make it the challenger."""

import json
from dataclasses import asdict
from pathlib import Path

from recloop.registry import Evidence, connect, lineage, register
from recloop.settings import load_params, places
from recloop.store import open_store
from recloop.store.lineage import note_lineage


def main() -> None:
    """Write ``reports/registered.json``, and to the store where the policy comes from."""
    evidence = Evidence(load_params(), Path("reports"), Path("data/watermark.json"), Path("dvc.lock"))
    where = places()
    found = register(where, Path("models/policy"), evidence)
    note_lineage(open_store(where.store), lineage(connect(where), found))
    Path("reports/registered.json").write_text(json.dumps(asdict(found), indent=1) + "\n")
    print(f"{found.name} version {found.version}, run {found.run_id}")


if __name__ == "__main__":
    main()
