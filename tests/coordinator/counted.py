"""Weights that say how much of them was read."""

from __future__ import annotations

import threading

from modelhub.backends.memory import MemoryWeights


class CountedWeights(MemoryWeights):
    """Counts the bytes that are read."""

    def __init__(self) -> None:
        super().__init__()
        self.read_bytes = 0
        self._counting = threading.Lock()

    def read(self, path: str, offset: int, length: int) -> bytes:
        data = super().read(path, offset, length)
        with self._counting:
            self.read_bytes += len(data)
        return data
