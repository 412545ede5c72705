"""What memory a process took."""

import re
import resource
from pathlib import Path

STATUS = Path("/proc/self/status")


def peak_memory() -> int:
    """Most bytes that this process held at once.

    On Linux ``ru_maxrss`` would begin with what the parent held when it started this one; elsewhere it is
    all that there is (macOS, in bytes).
    """
    if not STATUS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", STATUS.read_text())
    return 1024 * int(kilobytes)
