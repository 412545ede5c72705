"""What the C library does with memory that is freed."""

import ctypes
import sys

TRIM, MMAP = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
KEPT, LARGEST = 256 * 1024**2, 32 * 1024**2  # bytes


def keep_freed_memory() -> None:
    """Let this process keep up to 256 MB of freed memory for its next tensors, where glibc is the C library.

    Else each gradient step hands its largest tensors back to the system and fetches them anew, page by
    page, which takes a seventh of its time.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "gnu_get_libc_version"):
        libc.mallopt(TRIM, KEPT)
        libc.mallopt(MMAP, LARGEST)
