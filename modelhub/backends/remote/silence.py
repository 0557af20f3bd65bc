"""Waiting for a server that may keep silent."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_SHARE = 8


class Silence:
    """How long the calls to one server wait.

    Each waits ``timeout_s``. After one that met nothing but silence, those that follow within the
    same time wait an eighth of it, until one is answered: so a command that tries several times, or
    asks for several things, does not wait as many times.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._until_s = 0.0

    def waiting(self, call: Callable[[float], T], *silent: type[Exception]) -> T:
        """What ``call`` returns or raises; it is told how many seconds to wait.

        Args:
            call: what is sent to the server.
            silent: the errors that mean that no answer came in this time.
        """
        hushed = time.monotonic() < self._until_s
        try:
            result = call(self._timeout_s / _SHARE if hushed else self._timeout_s)
        except silent:
            if not hushed:
                self._until_s = time.monotonic() + self._timeout_s
            raise
        except Exception:
            self._until_s = 0.0  # an error is an answer too
            raise
        self._until_s = 0.0
        return result
