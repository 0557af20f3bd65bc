"""How this process's allocator treats the buffers that pushes and pulls go through."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 256 << 20
_LARGEST_BYTES = 32 << 20
"""The most that glibc takes for it."""


def keep_buffers() -> None:
    """Let glibc keep freed buffers for those that come next; another C library is left as it is.

    By default a buffer of some MiB goes back to the system as soon as it is free, and the next one
    is faulted in again page by page: 124,000 faults for 1 GiB, and a tenth to a fifth of a push's
    time. For a process of our own only: what a library may keep is its user's to say.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
