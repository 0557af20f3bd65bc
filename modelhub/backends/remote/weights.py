"""A weight store on remote files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from modelhub.backends.checks import check_weight_path, is_weight_path
from modelhub.backends.remote.files import Files, FileWriter, absent
from modelhub.backends.remote.wording import place
from modelhub.stores import FileInfo


class RemoteWeights:
    """A weight store in the root of ``files``, which the first file brings into being."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def create(self, path: str) -> FileWriter:
        """Begin a new file under its final name."""
        check_weight_path(path)
        return self._files.create(path)

    def read(self, path: str, offset: int, length: int) -> bytes:
        """A range of a file, cut off where the file ends."""
        check_weight_path(path)
        return self._files.read(path, offset, length)

    def size(self, path: str) -> int | None:
        """Length in bytes, or None where there is no such file."""
        check_weight_path(path)
        found = self._files.stat(path)
        return None if found is None or found.is_folder else found.size_bytes

    def list(self, prefix: str) -> Iterator[FileInfo]:
        """Every file below a folder whose name is one that a path can have."""
        if prefix:
            check_weight_path(prefix)
        return (info for info in self._files.list(prefix) if is_weight_path(info.path))

    def move(self, source: str, target: str) -> None:
        """Rename a file. Of one whose reply was lost, a second try says ``NotFound``."""
        check_weight_path(source)
        check_weight_path(target)
        if self.size(source) is None:
            raise absent(place(self._files.address, source))
        self._files.rename(source, target)

    def remove(self, path: str) -> None:
        """Remove a file for good; an absent one counts as removed."""
        check_weight_path(path)
        self._files.remove(path)

    def describe(self) -> dict[str, Any]:
        """What the file system says of itself and of what is below the root."""
        return self._files.describe()

    def close(self) -> None:
        """Let go of connections."""
        self._files.close()
