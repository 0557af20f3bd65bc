"""Going about work no faster than is good for those who share the stores."""

from __future__ import annotations

import time
from collections.abc import Callable

_SHORTEST_S = 0.05
"""Shorter waits are saved up."""


def paced(rate: float | None, pause: Callable[[float], None]) -> Callable[[int], None]:
    """Called with how much was done, waits until no more than ``rate`` a second was."""
    began_s, done = time.monotonic(), 0

    def spend(count: int) -> None:
        nonlocal done
        if rate is None:
            return
        done += count
        ahead_s = began_s + done / rate - time.monotonic()
        if ahead_s > _SHORTEST_S:
            pause(ahead_s)

    return spend
