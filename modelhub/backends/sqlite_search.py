"""A search index in one SQLite file: each target a table of documents and an FTS5 table."""

# ruff: noqa: S608 (tables are named after numbers of our own, and every value is bound)

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from modelhub.backends.checks import check_query
from modelhub.backends.sqlite import Database, batches, page
from modelhub.backends.words import phrases, words
from modelhub.errors import NotFound
from modelhub.names import shown
from modelhub.records import decode
from modelhub.stores import TEXT_FIELDS, Document, Hit, Hits, Query

_TARGETS = (
    "CREATE TABLE IF NOT EXISTS targets"
    " (number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE)"
)
_DOCUMENTS = (
    "CREATE TABLE documents_{} (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,"
    " version INTEGER NOT NULL, current INTEGER NOT NULL, body TEXT)"
)
# Words come folded and parted by spaces, so FTS5 need only split there, and stem English.
_TEXTS = "CREATE VIRTUAL TABLE texts_{} USING fts5({}, tokenize = 'porter ascii')"
_WEIGHTS = ", ".join(map(str, TEXT_FIELDS.values()))


class SqliteSearch:
    """A search index in the file ``path``, which ``create_target`` makes and nothing else does.

    English words are found by their stem, names by their parts, Chinese, Japanese and Korean by any
    run of characters. Any number of threads and processes may use it at once.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path)

    def create_target(self, target: str) -> None:
        """Make the file, its folder and an empty target where they are missing.

        Raises:
            InvalidInput: the file would lie on a network file system.
        """
        self._database.create()
        with self._database.writing() as connection:
            connection.execute(_TARGETS)
            added = connection.execute(
                "INSERT INTO targets (name) VALUES (?) ON CONFLICT DO NOTHING", (target,)
            )
            if added.rowcount:
                connection.execute(_DOCUMENTS.format(added.lastrowid))
                connection.execute(_TEXTS.format(added.lastrowid, ", ".join(TEXT_FIELDS)))

    def drop_target(self, target: str) -> None:
        """Remove a target and its documents."""
        with suppress(NotFound), self._database.writing() as connection:
            number = _number(connection, target)
            connection.execute(f"DROP TABLE texts_{number}")
            connection.execute(f"DROP TABLE documents_{number}")
            connection.execute("DELETE FROM targets WHERE number = ?", (number,))

    def targets(self) -> list[str]:
        """The targets that exist, sorted; none where there is no file yet."""
        with suppress(NotFound), self._database.reading() as connection:
            return [name for (name,) in connection.execute("SELECT name FROM targets ORDER BY 1")]
        return []

    def write(
        self, target: str, documents: Sequence[Document], *, timeout_s: float | None = None
    ) -> None:
        """Store each document that is newer than what is held of it, all or none of them."""
        with self._database.writing(timeout_s) as connection:
            number = _number(connection, target)
            for document in documents:
                _store(connection, number, document)

    def refresh(self, target: str) -> None:
        """Nothing to wait for: a write is found at once."""
        with self._database.reading() as connection:
            _number(connection, target)

    def get(self, target: str, ids: Sequence[str]) -> dict[str, Document]:
        """The documents that are there among ``ids``, as of one moment."""
        found = {}
        with self._database.reading() as connection:
            table = f"documents_{_number(connection, target)}"
            for marks, batch in batches(ids):
                select = f"SELECT id, version, body FROM {table} WHERE id IN ({marks})"
                found.update({row[0]: _document(row) for row in connection.execute(select, batch)})
        return found

    def scan(self, target: str) -> Iterator[Document]:
        """Every document, read page by page: nothing is held open between pages."""
        after, more = "", True
        while more:
            with self._database.reading() as connection:
                table = f"documents_{_number(connection, target)}"
                select = f"SELECT id, version, body FROM {table} WHERE id > ? ORDER BY id"
                rows, more = page(connection.execute(select, (after,)))
            yield from map(_document, rows)
            if rows:
                after = rows[-1][0]

    def search(self, target: str, query: Query) -> Hits:
        """Documents that hold every word, ranked by BM25 over the weighted fields."""
        check_query(query)
        wanted = phrases(query.text)
        match = " AND ".join('"' + " ".join(phrase) + '"' for phrase in wanted)
        with self._database.reading() as connection:
            number = _number(connection, target)
            if wanted:
                return _ranked(connection, number, match, query)
            return _listed(connection, number, query) if not query.text.strip() else Hits(0, [])

    def describe(self) -> dict[str, Any]:
        """Kind, address, SQLite's version, bytes on disk, documents held in each target."""
        held = {}
        with suppress(NotFound), self._database.reading() as connection:
            for number, name in connection.execute("SELECT number, name FROM targets").fetchall():
                count = connection.execute(f"SELECT count(*) FROM documents_{number}")
                held[name] = count.fetchone()[0]
        return {
            "kind": "sqlite",
            "address": str(self._database.path),
            "version": sqlite3.sqlite_version,
            "bytes": self._database.size_bytes(),
            "documents": held,
        }

    def close(self) -> None:
        """Close every connection of this process."""
        self._database.close()


def _number(connection: sqlite3.Connection, target: str) -> int:
    found = connection.execute("SELECT number FROM targets WHERE name = ?", (target,)).fetchone()
    if found is None:
        raise NotFound(
            f"there is no search target {shown(target)}", remedy="Run `modelhub admin reindex`."
        )
    number: int = found[0]
    return number


def _store(connection: sqlite3.Connection, target: int, document: Document) -> None:
    table, body = f"documents_{target}", document.body
    text = None if body is None else msgspec.json.encode(body).decode()
    current = body is not None and bool(body.get("current"))
    stored = connection.execute(
        f"INSERT INTO {table} (id, version, current, body) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET version = excluded.version, current = excluded.current,"
        f" body = excluded.body WHERE excluded.version > {table}.version",
        (document.id, document.version, current, text),
    )
    if not stored.rowcount:
        return
    select = connection.execute(f"SELECT number FROM {table} WHERE id = ?", (document.id,))
    number = select.fetchone()[0]
    connection.execute(f"DELETE FROM texts_{target} WHERE rowid = ?", (number,))
    if body is not None:
        fields = [" ".join(found) for found in words(body).values()]
        marks = ", ".join("?" * len(fields))
        columns = ", ".join(TEXT_FIELDS)
        connection.execute(
            f"INSERT INTO texts_{target} (rowid, {columns}) VALUES (?, {marks})", (number, *fields)
        )


def _ranked(connection: sqlite3.Connection, target: int, match: str, query: Query) -> Hits:
    found = (
        f"FROM texts_{target} JOIN documents_{target} ON number = texts_{target}.rowid"
        f" WHERE texts_{target} MATCH ? AND (current OR NOT ?)"
    )
    total = connection.execute(f"SELECT count(*) {found}", (match, query.current_only))
    # Bodies are fetched for the page alone: they would make the sorting heavy.
    best = connection.execute(
        f"SELECT id, score, (SELECT body FROM documents_{target} WHERE number = best.number) FROM"
        f" (SELECT number, id, -bm25(texts_{target}, {_WEIGHTS}) AS score {found}"
        "   ORDER BY score DESC, id LIMIT ? OFFSET ?) AS best",
        (match, query.current_only, query.limit, query.offset),
    )
    return _hits(total, best)


def _listed(connection: sqlite3.Connection, target: int, query: Query) -> Hits:
    found = f"FROM documents_{target} WHERE body IS NOT NULL AND (current OR NOT ?)"
    total = connection.execute(f"SELECT count(*) {found}", (query.current_only,))
    first = connection.execute(
        f"SELECT id, 0.0, body {found} ORDER BY id LIMIT ? OFFSET ?",
        (query.current_only, query.limit, query.offset),
    )
    return _hits(total, first)


def _hits(total: sqlite3.Cursor, best: sqlite3.Cursor) -> Hits:
    hits = [Hit(row[0], row[1], _body(row[0], row[2])) for row in best]
    return Hits(total.fetchone()[0], hits)


def _document(row: tuple[str, int, str | None]) -> Document:
    document_id, version, text = row
    return Document(document_id, version, None if text is None else _body(document_id, text))


def _body(document_id: str, text: str) -> dict[str, Any]:
    return decode(text.encode(), dict[str, Any], f"the search document {shown(document_id)}")
