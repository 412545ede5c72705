"""A PostgreSQL of the tests' own, in a temporary folder, where its programs are installed."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from sqlalchemy import create_engine, text

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: float(p.parent.name))
QUICK = "-c fsync=off -c full_page_writes=off -c max_connections=300 -c listen_addresses="


class Absent(RuntimeError):
    """It cannot be started here; the message says why."""


class Cluster:
    """A server with a socket in ``folder``; it sorts text by a language, as installed ones do."""

    def __init__(self, options: str = QUICK) -> None:
        found = shutil.which("initdb")
        if not found and not PROGRAMS:
            raise Absent("PostgreSQL is not installed: apt-get install postgresql")
        self._bin = Path(found).resolve().parent if found else PROGRAMS[-1]
        self.folder, self._number = Path(tempfile.mkdtemp(prefix="recloop-pg-")), 0
        self._as = []
        if os.getuid() == 0:  # it refuses to run as root
            self._as = ["runuser", "-u", "postgres", "--"]
            shutil.chown(self.folder, "postgres")
        self._options = f"-k {self.folder} {options}"
        made = ["-D", self.folder / "data", "-U", "recloop", "-A", "trust", "-E", "UTF8", "--no-sync"]
        self._run("initdb", *made, "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US")
        self.start()

    def start(self) -> None:
        self._control("-l", self.folder / "log", "-o", self._options, "start")

    def url(self, name: str) -> str:
        return f"postgresql://recloop@/{name}?host={self.folder}"

    def new(self) -> str:
        """The URL of an empty database."""
        self._number += 1
        admin = create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE s{self._number}"))
        admin.dispose()
        return self.url(f"s{self._number}")

    def stop(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def kill(self) -> None:
        """End it without writing what it has in memory; the next start recovers from its log."""
        self._control("-m", "immediate", "stop")

    def _control(self, *words: object) -> None:
        self._run("pg_ctl", "-D", self.folder / "data", "-w", *words)

    def _run(self, program: str, *words: object) -> None:
        command = [*self._as, str(self._bin / program), *map(str, words)]
        with (self.folder / "said").open("ab") as said:  # a pipe would be kept open by the server
            done = subprocess.run(command, stdout=said, stderr=said, cwd="/", check=False)
        if done.returncode:
            raise Absent(f"{program} failed: {(self.folder / 'said').read_text()[-500:]}")
