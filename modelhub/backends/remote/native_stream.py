"""Writing a file with hdfs-native."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from hdfs_native import FileWriter as Stream


def _nothing() -> None:
    """Stands for what is not to be done."""


class Steps(Protocol):
    """Who runs a writer's steps within a deadline, and translates their errors."""

    def append(self, path: str, call: Callable[[], object]) -> None:
        """Run a step that sends bytes."""

    def complete(self, path: str, call: Callable[[], object]) -> None:
        """Run the step that makes the file complete."""


class NativeSink:
    """A file being written: packets go to a pipeline of DataNodes."""

    def __init__(self, steps: Steps, path: str, stream: Stream) -> None:
        self._steps = steps
        self._path = path
        self._stream: Stream | None = stream

    def write(self, data: bytes) -> None:
        """Hand bytes to the driver, which sends them in packets."""
        stream = self._opened()
        self._steps.append(self._path, lambda: stream.write(data))

    def close(self) -> None:
        """Wait until every DataNode of the pipeline has all of it."""
        # Complete on every DataNode of the pipeline. Whether that means "on disk" is for HDFS to
        # say (dfs.datanode.synconclose), as it is for the log of the rows that come after.
        stream = self._opened()
        self._steps.complete(self._path, stream.close)
        self._stream = None

    def discard(self) -> None:
        """Forget it: the file stays incomplete, and its lease ends by itself."""
        stream, self._stream = self._stream, None
        if stream is not None:
            # Its finaliser closes it: that would wait without a deadline, and complete the file.
            stream.close = _nothing  # type: ignore[method-assign]

    def _opened(self) -> Stream:
        assert self._stream is not None
        return self._stream
