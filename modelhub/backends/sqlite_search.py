"""A search index in one SQLite file: each target a table of documents and an FTS5 table."""

# ruff: noqa: S608 (tables are named after numbers of our own, and every value is bound)

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from modelhub.backends.checks import check_query
from modelhub.backends.cursors import Key, cursor
from modelhub.backends.highlights import highlight
from modelhub.backends.spelling import nearest
from modelhub.backends.sqlite import Database, batches, page
from modelhub.backends.sqlite_query import AFTER_ALL, COLUMNS, best, count, facet
from modelhub.backends.values import keywords, numbers
from modelhub.backends.words import folded, spellings, stored_words
from modelhub.errors import CorruptData, NotFound
from modelhub.names import shown
from modelhub.records import decode
from modelhub.stores import Count, Document, Hit, Hits, Query

_TARGETS = (
    "CREATE TABLE IF NOT EXISTS targets"
    " (number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE)"
)
_DOCUMENTS = (
    "CREATE TABLE documents_{} (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,"
    " version INTEGER NOT NULL, current INTEGER NOT NULL, body TEXT)"
)
# Words come folded, stemmed and parted by spaces, so FTS5 need only split there.
_TEXTS = "CREATE VIRTUAL TABLE texts_{} USING fts5({}, tokenize = 'ascii')"
_KEYWORDS = (
    "CREATE TABLE keywords_{} (field TEXT NOT NULL, value TEXT NOT NULL, document INTEGER NOT NULL,"
    " PRIMARY KEY (field, value, document)) WITHOUT ROWID"
)
_NUMBERS = (
    "CREATE TABLE numbers_{} (document INTEGER NOT NULL, field TEXT NOT NULL, value NOT NULL,"
    " PRIMARY KEY (document, field)) WITHOUT ROWID"
)
_INDICES = (
    "CREATE INDEX keywords_of_{0} ON keywords_{0} (document, field)",
    "CREATE INDEX numbers_by_{0} ON numbers_{0} (field, value)",
)
_TABLES = ("texts", "keywords", "numbers", "documents")
_SPELLING = "word"
"""What stands for a field in ``keywords_N`` where a word is kept as it is spelt."""
_SPELLINGS = 100_000


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
                connection.execute(_TEXTS.format(added.lastrowid, COLUMNS))
                for table in (_DOCUMENTS, _KEYWORDS, _NUMBERS, *_INDICES):
                    connection.execute(table.format(added.lastrowid))

    def drop_target(self, target: str) -> None:
        """Remove a target and its documents."""
        with suppress(NotFound), self._database.writing() as connection:
            number = _number(connection, target)
            for table in _TABLES:
                connection.execute(f"DROP TABLE IF EXISTS {table}_{number}")
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
            number = _number(connection, target, searchable=True)
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
        """Documents by SQL alone, ranked by FTS5's BM25 over the weighted fields."""
        check_query(query)
        with self._database.reading() as connection:
            number = _number(connection, target, searchable=True)
            ((total,),) = connection.execute(*count(number, query))
            rows = connection.execute(*best(number, query)).fetchall()
            facets = {
                field: [Count(*row) for row in connection.execute(*facet(number, query, field))]
                for field in query.facets
            }
        hits = [_hit(row, query) for row in rows[: query.limit]]
        more = None
        if len(rows) > query.limit:
            last_id, _, last_key, _ = rows[query.limit - 1]
            more = cursor(query, [last_key, last_id])
        return Hits(total, hits, more, facets)

    def near(self, target: str, words: Sequence[str]) -> dict[str, list[str]]:
        """Looked at are at most 100,000 words with the same first letter."""
        found = {}
        with self._database.reading() as connection:
            table = f"keywords_{_number(connection, target, searchable=True)}"
            for word in words:
                first = folded(word)[:1]
                spelt = connection.execute(
                    f"SELECT value, count(*) FROM {table} WHERE field = ?"
                    " AND value BETWEEN ? AND ? GROUP BY value LIMIT ?",
                    (_SPELLING, first, first + AFTER_ALL, _SPELLINGS),
                )
                if others := nearest(word, dict(spelt)):
                    found[word] = others
        return found

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


def _number(connection: sqlite3.Connection, target: str, *, searchable: bool = False) -> int:
    """The number of a target's tables.

    Raises:
        NotFound: there is no such target.
        CorruptData: it is to be ``searchable`` but an earlier release made it, without its tables.
    """
    found = connection.execute("SELECT number FROM targets WHERE name = ?", (target,)).fetchone()
    if found is None:
        raise NotFound(
            f"there is no search target {shown(target)}", remedy="Run `modelhub admin reindex`."
        )
    number: int = found[0]
    made = connection.execute(
        "SELECT 1 FROM sqlite_master WHERE name = ?", (f"numbers_{number}",)
    ).fetchone()
    if searchable and made is None:
        raise CorruptData(
            f"the search target {shown(target)} is not as this release makes it",
            remedy="Run `modelhub admin reindex`, which makes a new one.",
        )
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
    connection.execute(f"DELETE FROM keywords_{target} WHERE document = ?", (number,))
    connection.execute(f"DELETE FROM numbers_{target} WHERE document = ?", (number,))
    if body is not None:
        _store_fields(connection, target, number, body)


def _store_fields(
    connection: sqlite3.Connection, target: int, number: int, body: Mapping[str, Any]
) -> None:
    """Store what a document is found by."""
    fields = [" ".join(found) for found in stored_words(body).values()]
    connection.execute(
        f"INSERT INTO texts_{target} (rowid, {COLUMNS}) VALUES (?{', ?' * len(fields)})",
        (number, *fields),
    )
    held = {**keywords(body), _SPELLING: spellings(body)}
    connection.executemany(
        f"INSERT INTO keywords_{target} (field, value, document) VALUES (?, ?, ?)",
        [(field, value, number) for field, values in held.items() for value in values],
    )
    connection.executemany(
        f"INSERT INTO numbers_{target} (document, field, value) VALUES (?, ?, ?)",
        [(number, field, value) for field, value in numbers(body).items()],
    )


def _hit(row: tuple[str, float, Key, str], query: Query) -> Hit:
    document_id, score, _, text = row
    body = _body(document_id, text)
    return Hit(document_id, score, body, highlight(body, query.where) if query.highlight else None)


def _document(row: tuple[str, int, str | None]) -> Document:
    document_id, version, text = row
    return Document(document_id, version, None if text is None else _body(document_id, text))


def _body(document_id: str, text: str) -> dict[str, Any]:
    return decode(text.encode(), dict[str, Any], f"the search document {shown(document_id)}")
