"""All three stores in this process's memory: what the tests hold the others against.

Each is as plain as can be, one lock around each step, so that it is right at sight.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from threading import Lock
from typing import Any, NamedTuple

import msgspec

from modelhub.backends.checks import check_query, check_row, check_weight_path
from modelhub.backends.cursors import Key, cursor, ended
from modelhub.backends.highlights import highlight
from modelhub.backends.matching import Held, holds, score
from modelhub.backends.spelling import nearest
from modelhub.backends.words import spellings
from modelhub.errors import AlreadyExists, NotFound
from modelhub.query.fields import SCORE, Sort
from modelhub.stores import FACET_VALUES, Count, Document, FileInfo, Hit, Hits, Query, Row


class MemoryRows:
    """A row store in memory."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[bytes, bytes]] = {}
        self._lock = Lock()

    def create_tables(self, tables: Sequence[str]) -> None:
        """Make the tables that are missing."""
        with self._lock:
            for table in tables:
                self._tables.setdefault(table, {})

    def get(self, table: str, key: bytes) -> bytes | None:
        """The value, or None where there is no such row."""
        with self._lock:
            return self._table(table).get(key)

    def get_many(self, table: str, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The rows that exist among ``keys``."""
        with self._lock:
            rows = self._table(table)
            return {key: rows[key] for key in keys if key in rows}

    def scan(
        self, table: str, start: bytes, stop: bytes, *, limit: int | None = None
    ) -> Iterator[Row]:
        """Rows in key order; values as of when each is reached."""
        with self._lock:
            keys = sorted(key for key in self._table(table) if start <= key < stop)
        for key in keys:
            if limit is not None:
                if limit <= 0:
                    return
                limit -= 1
            value = self.get(table, key)
            if value is not None:
                yield key, value

    def put(self, table: str, key: bytes, value: bytes) -> None:
        """Write one row, whatever it held."""
        self.put_many(table, {key: value})

    def put_many(self, table: str, rows: Mapping[bytes, bytes]) -> None:
        """Write rows."""
        for key, value in rows.items():
            check_row(key, value)
        with self._lock:
            self._table(table).update(rows)

    def check_and_put(self, table: str, key: bytes, expected: bytes | None, value: bytes) -> bool:
        """Write the row if it holds ``expected`` now; whether it did."""
        check_row(key, value)
        check_row(key, expected)
        with self._lock:
            rows = self._table(table)
            if rows.get(key) != expected:
                return False
            rows[key] = value
            return True

    def delete_many(self, table: str, keys: Iterable[bytes]) -> None:
        """Remove rows."""
        doomed = list(keys)
        with self._lock:
            rows = self._table(table)
            for key in doomed:
                rows.pop(key, None)

    def now(self) -> datetime:
        """This machine's clock, in UTC."""
        return datetime.now(UTC)

    def describe(self) -> dict[str, Any]:
        """Kind, address, Python's version, bytes held."""
        with self._lock:
            tables = list(self._tables.values())
            held = sum(len(key) + len(value) for rows in tables for key, value in rows.items())
        return _description(held)

    def close(self) -> None:
        """Nothing is held that could be let go of."""

    def _table(self, table: str) -> dict[bytes, bytes]:
        if table not in self._tables:
            raise NotFound(f"there is no table {table}", remedy="Create it first.")
        return self._tables[table]


class _File:
    def __init__(self) -> None:
        self.data = bytearray()
        self.modified = datetime.now(UTC)


class MemoryWeights:
    """A weight store in memory. As the contract allows, a file that was given up remains."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}
        self._lock = Lock()

    def create(self, path: str) -> MemoryWriter:
        """Begin a new file."""
        check_weight_path(path)
        with self._lock:
            self._refuse_taken(path)
            file = self._files[path] = _File()
        return MemoryWriter(file)

    def read(self, path: str, offset: int, length: int) -> bytes:
        """A range of a file, cut off where the file ends."""
        check_weight_path(path)
        with self._lock:
            return bytes(self._file(path).data[offset : offset + length])

    def size(self, path: str) -> int | None:
        """Length in bytes, or None where there is no such file."""
        check_weight_path(path)
        with self._lock:
            file = self._files.get(path)
            return None if file is None else len(file.data)

    def list(self, prefix: str) -> Iterator[FileInfo]:
        """Every file below a folder."""
        if prefix:
            check_weight_path(prefix)
        folder = f"{prefix}/" if prefix else ""
        with self._lock:
            found = [item for item in self._files.items() if item[0].startswith(folder)]
        return (FileInfo(path, len(file.data), file.modified) for path, file in found)

    def move(self, source: str, target: str) -> None:
        """Rename a file."""
        check_weight_path(source)
        check_weight_path(target)
        with self._lock:
            file = self._file(source)
            self._refuse_taken(target)
            self._files[target] = file
            del self._files[source]

    def remove(self, path: str) -> None:
        """Remove a file for good."""
        check_weight_path(path)
        with self._lock:
            self._files.pop(path, None)

    def describe(self) -> dict[str, Any]:
        """Kind, address, Python's version, bytes held."""
        return _description(sum(info.size_bytes for info in self.list("")))

    def close(self) -> None:
        """Nothing is held that could be let go of."""

    def _file(self, path: str) -> _File:
        if path not in self._files:
            raise NotFound(f"there is no file {path}", remedy="Run `modelhub admin fsck`.")
        return self._files[path]

    def _refuse_taken(self, path: str) -> None:
        if path in self._files:
            raise AlreadyExists(f"{path} is taken", remedy="Use a name that was never used before.")


class MemoryWriter:
    """A file being written."""

    def __init__(self, file: _File) -> None:
        self._file = file

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append a copy."""
        self._file.data += bytes(data)

    def commit(self) -> int:
        """The length in bytes."""
        return len(self._file.data)

    def abort(self) -> None:
        """Leave what was written."""


class MemorySearch:
    """A search index in memory."""

    def __init__(self) -> None:
        self._targets: dict[str, dict[str, tuple[int, bytes]]] = {}
        self._lock = Lock()

    def create_target(self, target: str) -> None:
        """Make an empty target."""
        with self._lock:
            self._targets.setdefault(target, {})

    def drop_target(self, target: str) -> None:
        """Remove a target and its documents."""
        with self._lock:
            self._targets.pop(target, None)

    def targets(self) -> list[str]:
        """The targets that exist, sorted."""
        with self._lock:
            return sorted(self._targets)

    def write(
        self,
        target: str,
        documents: Sequence[Document],
        *,
        timeout_s: float | None = None,  # noqa: ARG002 - nothing to wait for
    ) -> None:
        """Store each document that is newer than what is held of it."""
        with self._lock:
            held = self._target(target)
            for document in documents:
                if document.id not in held or held[document.id][0] < document.version:
                    held[document.id] = (document.version, msgspec.json.encode(document.body))

    def refresh(self, target: str) -> None:
        """Nothing to wait for."""
        with self._lock:
            self._target(target)

    def get(self, target: str, ids: Sequence[str]) -> dict[str, Document]:
        """The documents that are there among ``ids``."""
        wanted = set(ids)
        return {document.id: document for document in self.scan(target) if document.id in wanted}

    def scan(self, target: str) -> Iterator[Document]:
        """Every document, ordered by id."""
        with self._lock:
            held = sorted(self._target(target).items())
        for document_id, (version, body) in held:
            yield Document(document_id, version, msgspec.json.decode(body))

    def search(self, target: str, query: Query) -> Hits:
        """Every document is looked at, and all that match are sorted."""
        check_query(query)
        begin = ended(query)
        found = [one for one in self._live(target, query) if holds(query.where, one.held)]
        found.sort(key=lambda one: _order(one.key, one.id, query.sort))
        left = found
        if begin is not None:
            left = [
                one
                for one in found
                if _order(one.key, one.id, query.sort) > _order(*begin, query.sort)
            ]
        page = left[: query.limit]
        hits = [
            Hit(
                one.id,
                one.score,
                one.body,
                highlight(one.body, query.where) if query.highlight else None,
            )
            for one in page
        ]
        more = len(left) > len(page)
        facets = {field: _counts(field, found) for field in query.facets}
        return Hits(
            len(found), hits, cursor(query, [page[-1].key, page[-1].id]) if more else None, facets
        )

    def near(self, target: str, words: Sequence[str]) -> dict[str, list[str]]:
        """Every word of every document is looked at."""
        spelt = Counter(
            word
            for document in self.scan(target)
            if document.body is not None
            for word in spellings(document.body)
        )
        found = {word: nearest(word, spelt) for word in words}
        return {word: others for word, others in found.items() if others}

    def _live(self, target: str, query: Query) -> Iterator[_Candidate]:
        for document in self.scan(target):
            body = document.body
            if body is not None and (body.get("current") or not query.current_only):
                held = Held.of(body)
                points = score(query.where, held)
                yield _Candidate(document.id, points, body, held, _key(query.sort, points, held))

    def describe(self) -> dict[str, Any]:
        """Kind, address, Python's version, documents held in each target."""
        with self._lock:
            held = {target: len(documents) for target, documents in self._targets.items()}
        return {**_description(0), "documents": held}

    def close(self) -> None:
        """Nothing is held that could be let go of."""

    def _target(self, target: str) -> dict[str, tuple[int, bytes]]:
        if target not in self._targets:
            raise NotFound(f"there is no search target {target}", remedy="Create it first.")
        return self._targets[target]


class _Candidate(NamedTuple):
    id: str
    score: float
    body: dict[str, Any]
    held: Held
    key: Key


def _key(sort: Sort, points: float, held: Held) -> Key:
    if sort.field == SCORE:
        return points
    if sort.field == "name":
        return min(held.keywords.get("name", ()), default=None)
    return held.numbers.get(sort.field)


def _order(key: Key, document_id: str, sort: Sort) -> tuple[Any, ...]:
    """What sorts as ``sort`` says: no key last, equal ones by id."""
    if isinstance(key, str):
        value: Any = [(-1 if sort.descending else 1) * ord(char) for char in key] + [0]
    else:
        value = 0 if key is None else -key if sort.descending else key
    return key is None, value, document_id


def _counts(field: str, found: Sequence[_Candidate]) -> list[Count]:
    counter = Counter(value for one in found for value in one.held.keywords.get(field, ()))
    ordered = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
    return [Count(value, count) for value, count in ordered[:FACET_VALUES]]


def _description(held: int) -> dict[str, Any]:
    version = f"Python {platform.python_version()}"
    return {"kind": "memory", "address": "this process", "version": version, "bytes": held}
