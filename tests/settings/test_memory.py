"""The peak of a process is its own: not that of the one that started it, and no less than what it held."""

import subprocess
import sys

from recloop.settings.memory import STATUS, peak_memory

MB = 2**20
CHILD = """
import sys
from recloop.settings.memory import peak_memory
before = peak_memory()
held = b"x" * int(sys.argv[1])
del held
print(before, peak_memory())
"""


def test_a_process_inherits_no_peak_and_keeps_its_own():
    held = b"x" * (600 * MB)
    del held
    assert peak_memory() > 600 * MB
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(200 * MB)], capture_output=True, text=True, check=True
    )
    before, after = map(int, done.stdout.split())
    assert 5 * MB < before < 400 * MB, "what pytest held is not this process's"
    assert after - before > 190 * MB, "what was given back counts"


def test_where_there_is_no_proc_the_system_is_asked(monkeypatch, tmp_path):
    monkeypatch.setattr("recloop.settings.memory.STATUS", tmp_path / "none")
    assert peak_memory() > 0
    assert STATUS.exists()
