"""Make the deployments of prefect.yaml and run a worker for them: ``python -m flows.worker``."""

import os
import subprocess
import sys
from pathlib import Path

POOL = "recloop"
PREFECT = (sys.executable, "-m", "prefect", "--no-prompt")


def register() -> dict[str, str]:
    """Make the work pool, the deployments and their automations; returns the worker's environment."""
    environment = dict(os.environ) | {
        "RECLOOP_PROJECT": str(Path.cwd()),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH", "")])),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    subprocess.run(
        [*PREFECT, "work-pool", "create", POOL, "--type", "process", "--overwrite"],
        env=environment,
        check=True,
    )
    subprocess.run([*PREFECT, "deploy", "--all"], env=environment, check=True)
    return environment


def main() -> None:
    """Register all, then become the worker."""
    environment = register()
    os.execve(sys.executable, [*PREFECT, "worker", "start", "--pool", POOL], environment)


if __name__ == "__main__":
    main()
