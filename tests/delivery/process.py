"""``python -m recloop.web`` as tests start it: with a clock of its own, and the patience of their conftest.

Workers of several on one port load this file again, and so have both too.
"""

import os
import runpy
import time
from pathlib import Path

from recloop.delivery import gateway

gateway.SLOT_SECONDS = float(os.environ["SLOT_SECONDS"])
gateway.COMMIT_SECONDS = float(os.environ["COMMIT_SECONDS"])
real = time.time_ns
if clock := os.environ.get("CLOCK"):  # a file that says how many ns the time is off
    time.time_ns = lambda: real() + int(Path(clock).read_text() or 0)

if __name__ == "__main__":
    runpy.run_module("recloop.web", run_name="__main__")
