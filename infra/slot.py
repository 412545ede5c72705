"""Entry point of a Bento: finds the library that was packed beside it."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))
os.environ["RECLOOP_POLICY"] = str(ROOT / "models" / "policy")

from recloop.serving.service import Slot  # noqa: E402

__all__ = ["Slot"]
