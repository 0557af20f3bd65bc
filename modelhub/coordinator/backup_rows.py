"""The rows of a backup, looked at by key."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import cast

from modelhub.content.pack import TrailerRecord, read_trailer
from modelhub.coordinator import backup_format
from modelhub.coordinator.backup_format import Point
from modelhub.coordinator.context import Progress
from modelhub.stores import Folder, WeightStore

_ROWS = 500


class Source:
    """The rows of a backup, in a private file, so that memory stays small."""

    def __init__(self, folder: Folder, points: Sequence[Point], progress: Progress) -> None:
        self.folder = folder
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.executescript(
            "PRAGMA journal_mode = OFF;"
            "CREATE TABLE held (tab TEXT, key BLOB, value BLOB, PRIMARY KEY (tab, key))"
            " WITHOUT ROWID;"
        )
        for done, point in enumerate(points, 1):
            rows = backup_format.rows(folder, point)
            self._db.executemany("INSERT OR REPLACE INTO held VALUES (?, ?, ?)", rows)
            progress("restore reads", done, len(points))

    def close(self) -> None:
        """The file goes."""
        self._db.close()

    def get(self, table: str, key: bytes) -> bytes | None:
        """One row."""
        query = "SELECT value FROM held WHERE tab = ? AND key = ?"
        found = self._db.execute(query, (table, key)).fetchone()
        return None if found is None else bytes(found[0])

    def scan(self, table: str, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Rows in the order of their keys."""
        after, sign = start, ">="
        while True:
            found = self._db.execute(
                f"SELECT key, value FROM held WHERE tab = ? AND key {sign} ? AND key < ?"  # noqa: S608
                " ORDER BY key LIMIT ?",
                (table, after, stop, _ROWS),
            ).fetchall()
            yield from ((bytes(key), bytes(value)) for key, value in found)
            if len(found) < _ROWS:
                return
            after, sign = found[-1][0], ">"

    def trailer(self, pack: str) -> list[TrailerRecord]:
        """What a pack's copy says that it holds."""
        return read_trailer(cast(WeightStore, _Copies(self.folder)), pack)


class _Copies:
    """The packs of a backup, as far as reading a trailer needs a weight store."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def size(self, path: str) -> int | None:
        stat = self._folder.stat(path)
        return None if stat is None else stat.size_bytes

    def read(self, path: str, offset: int, length: int) -> bytes:
        return self._folder.read(path, offset, length)
