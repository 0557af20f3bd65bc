"""Writing a file with pyarrow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Steps(Protocol):
    """Who opens a stream, runs its steps within a deadline, and translates their errors."""

    def open_stream(self, path: str) -> Any:
        """A stream in place of an empty file."""

    def run(self, path: str, call: Callable[[], object]) -> object:
        """Run a step that changes something."""

    def remove(self, path: str) -> None:
        """Remove a file."""


class ArrowSink:
    """A file being written; an object store shows it when it is closed."""

    def __init__(self, files: Steps, path: str) -> None:
        self._files = files
        self._path = path
        self._stream: Any = None

    def write(self, data: bytes) -> None:
        """Hand bytes to Arrow, which may keep some megabytes of them."""
        if self._stream is None:
            self._stream = self._files.open_stream(self._path)
        self._files.run(self._path, lambda: self._stream.write(data))

    def close(self) -> None:
        """Send what is left."""
        if self._stream is not None:
            self._files.run(self._path, self._stream.close)

    def discard(self) -> None:
        """Remove the file."""
        # pyarrow cannot give an upload up: it completes, and the file is of no use to anybody.
        self.close()
        self._files.remove(self._path)
