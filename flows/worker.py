"""Make the deployments of prefect.yaml and run a worker for them: ``python -m flows.worker``."""

import os
import subprocess
import sys
from pathlib import Path

POOL = "recloop"


def main() -> None:
    """Register the work pool and the deployments, then become the worker."""
    environment = os.environ | {
        "RECLOOP_PROJECT": str(Path.cwd()),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH", "")])),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    prefect = [sys.executable, "-m", "prefect", "--no-prompt"]
    subprocess.run(
        [*prefect, "work-pool", "create", POOL, "--type", "process", "--overwrite"],
        env=environment,
        check=True,
    )
    subprocess.run([*prefect, "deploy", "--all"], env=environment, check=True)
    os.execve(sys.executable, [*prefect, "worker", "start", "--pool", POOL], environment)


if __name__ == "__main__":
    main()
