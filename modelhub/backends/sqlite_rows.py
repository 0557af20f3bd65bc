"""Rows in one SQLite file, a SQL table for each table."""

# ruff: noqa: S608 (table names are quoted identifiers, and every value is bound)

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from modelhub.backends.checks import check_row
from modelhub.backends.sqlite import Database, batches, page
from modelhub.stores import Row


class SqliteRows:
    """A row store in the file ``path``, which ``create_tables`` makes and nothing else does.

    Any number of threads and processes may use it at once, forked ones included.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path)

    def create_tables(self, tables: Sequence[str]) -> None:
        """Make the file, its folder and the tables where they are missing.

        Raises:
            InvalidInput: the file would lie on a network file system.
        """
        self._database.create()
        with self._database.writing() as connection:
            for table in tables:
                connection.execute(
                    f"CREATE TABLE IF NOT EXISTS {_quoted(table)}"
                    " (key BLOB NOT NULL PRIMARY KEY, value BLOB NOT NULL)"
                )

    def get(self, table: str, key: bytes) -> bytes | None:
        """The value, or None where there is no such row."""
        return self.get_many(table, [key]).get(key)

    def get_many(self, table: str, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The rows that exist among ``keys``, as of one moment."""
        select = f"SELECT key, value FROM {_quoted(table)} WHERE key IN "
        found: dict[bytes, bytes] = {}
        with self._database.reading() as connection:
            for marks, batch in batches(keys):
                found.update(connection.execute(f"{select}({marks})", batch))
        return found

    def scan(
        self, table: str, start: bytes, stop: bytes, *, limit: int | None = None
    ) -> Iterator[Row]:
        """Rows in key order, read page by page: nothing is held open between pages."""
        select = f"SELECT key, value FROM {_quoted(table)} WHERE key >= ? AND key < ? ORDER BY key"
        more = limit is None or limit > 0
        while more:
            with self._database.reading() as connection:
                rows, more = page(connection.execute(select, (start, stop)), limit)
            yield from rows
            if limit is not None:
                limit -= len(rows)
                more = more and limit > 0
            if rows:
                start = rows[-1][0] + b"\0"

    def put(self, table: str, key: bytes, value: bytes) -> None:
        """Write one row, whatever it held."""
        self.put_many(table, {key: value})

    def put_many(self, table: str, rows: Mapping[bytes, bytes]) -> None:
        """Write rows, all of them or none."""
        checked = list(rows.items())
        for key, value in checked:
            check_row(key, value)
        with self._database.writing() as connection:
            connection.executemany(
                f"INSERT INTO {_quoted(table)} VALUES (?, ?)"
                " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                checked,
            )

    def check_and_put(self, table: str, key: bytes, expected: bytes | None, value: bytes) -> bool:
        """Write the row if it holds ``expected`` now; whether it did."""
        check_row(key, value)
        check_row(key, expected)
        with self._database.writing() as connection:
            cursor = _swap(connection, _quoted(table), key, expected, value)
            return cursor.rowcount == 1

    def delete_many(self, table: str, keys: Iterable[bytes]) -> None:
        """Remove rows, all of them or none."""
        doomed = [(key,) for key in keys]
        with self._database.writing() as connection:
            connection.executemany(f"DELETE FROM {_quoted(table)} WHERE key = ?", doomed)

    def now(self) -> datetime:
        """This machine's clock, in UTC."""
        return datetime.now(UTC)

    def describe(self) -> dict[str, Any]:
        """Kind, address, SQLite's version, and the bytes of the file and its log."""
        return {
            "kind": "sqlite",
            "address": str(self._database.path),
            "version": sqlite3.sqlite_version,
            "bytes": self._database.size_bytes(),
        }

    def close(self) -> None:
        """Close every connection of this process."""
        self._database.close()


def _swap(
    connection: sqlite3.Connection, table: str, key: bytes, expected: bytes | None, value: bytes
) -> sqlite3.Cursor:
    if expected is None:
        return connection.execute(
            f"INSERT INTO {table} VALUES (?, ?) ON CONFLICT DO NOTHING", (key, value)
        )
    return connection.execute(
        f"UPDATE {table} SET value = ? WHERE key = ? AND value = ?", (value, key, expected)
    )


def _quoted(table: str) -> str:
    return '"' + table.replace('"', '""') + '"'
