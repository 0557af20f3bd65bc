"""The three protocols that a backend implements, and the contract of each method.

Backends match these by shape and do not inherit them. The contract classes in
``modelhub.testing.contracts`` hold every backend to what is written here.

Errors, for all three: a driver's exceptions never get out. ``Unavailable`` is raised only when the
call certainly was not applied and never will be. Anything less certain about a write (a timeout, a
lost reply, a connection cut in mid-call) is ``OutcomeUnknown``: the write may have been applied,
may not have been, or may still be applied *after* the caller was told. Reads raise ``Unavailable``
for both. No method retries, logs or waits beyond its own timeout.

All three are safe to call from several threads, and several processes may open the same store.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import msgspec

from modelhub.errors import Unavailable
from modelhub.query.clauses import Clause
from modelhub.query.fields import Sort

Row = tuple[bytes, bytes]
"""A row's key and value. Neither is ever empty: an empty one is ``InvalidInput`` everywhere."""


class RowStore(Protocol):
    """Tables of rows in key order; a row is one opaque value.

    Fits what HBase's Thrift gateway gives: single-row atomicity, one conditional put, no
    transactions over rows. A write is visible to every reader once it was acknowledged.
    """

    def create_tables(self, tables: Sequence[str]) -> None:
        """Make the tables that are missing. Idempotent."""

    def get(self, table: str, key: bytes) -> bytes | None:
        """The value, or None where there is no such row.

        Raises:
            NotFound: the table does not exist (the same for every method below).
        """

    def get_many(self, table: str, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The rows that exist among ``keys``, any number of them.

        Not a snapshot: each row is read by itself.
        """

    def scan(
        self, table: str, start: bytes, stop: bytes, *, limit: int | None = None
    ) -> Iterator[Row]:
        """Rows with ``start <= key < stop`` in key order, at most ``limit`` of them.

        Not a snapshot, but every row that was there before the scan began and is not deleted
        meanwhile is seen, with some value it had since. Memory is bounded whatever the range. A
        scan that cannot be finished raises ``Unavailable`` from the iterator: a scan that ends
        without an error was complete.
        """

    def put(self, table: str, key: bytes, value: bytes) -> None:
        """Write one row, whatever it held."""

    def put_many(self, table: str, rows: Mapping[bytes, bytes]) -> None:
        """Write rows in any order.

        Each row is atomic, the whole is not: after an error any subset may be there.
        """

    def check_and_put(self, table: str, key: bytes, expected: bytes | None, value: bytes) -> bool:
        """Write the row if and only if it holds ``expected`` now (None: if it is absent). Atomic.

        Returns whether *this call* wrote. False may also follow from an earlier try of the same
        call whose reply was lost, so whoever gets False reads the row.
        """

    def delete_many(self, table: str, keys: Iterable[bytes]) -> None:
        """Remove rows; those that are absent count as removed. Not atomic over rows."""

    def now(self) -> datetime:
        """The store's own clock, in UTC, by which writers' clocks are judged."""

    def describe(self) -> dict[str, Any]:
        """What an operator wants to see: address, kind, version, bytes held; keys as they fit."""

    def close(self) -> None:
        """Let go of connections and files. Idempotent."""


class NoSpace(Unavailable):
    """A weight store has no room, or its quota is used up: another try would end alike."""


class Writer(Protocol):
    """A file being written, of unknown length so far."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append. ``data`` may be reused by the caller as soon as this returns.

        Raises:
            NoSpace: the store is full, or over its quota; the remedy says which.
            Unavailable: the store is away.
        """

    def commit(self) -> int:
        """Make the file durable and complete, and return its length in bytes. Called once, last."""

    def abort(self) -> None:
        """Give up; what was written may remain as a file that nothing refers to. Never raises."""


class FileInfo(msgspec.Struct, frozen=True):
    """One file of a weight store."""

    path: str
    size_bytes: int
    modified: datetime


class WeightStore(Protocol):
    """Large immutable files under relative paths such as ``packs/ab/cd/NAME``.

    Parts of a path match ``[A-Za-z0-9._-]+`` and are neither ``.`` nor ``..``; parent folders come
    into being as needed.
    """

    def create(self, path: str) -> Writer:
        """Begin a new file. A name is used once: never overwrite.

        The file may be visible, incomplete, before ``commit``; nothing may refer to it until then.

        Raises:
            AlreadyExists: the path is taken, by this or an earlier try.
        """

    def read(self, path: str, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``offset``, or fewer where the file ends earlier.

        Past its end there are none.

        Raises:
            NotFound: there is no such file.
        """

    def size(self, path: str) -> int | None:
        """Length in bytes, or None where there is no such file."""

    def list(self, prefix: str) -> Iterator[FileInfo]:
        """Every file below the folder ``prefix`` (``""`` for all).

        In no promised order; none where the folder is absent.
        """

    def move(self, source: str, target: str) -> None:
        """Rename a file. Never overwrites.

        Raises:
            NotFound: ``source`` is not there.
            AlreadyExists: ``target`` is.
        """

    def remove(self, path: str) -> None:
        """Remove a file for good; an absent one counts as removed."""

    def describe(self) -> dict[str, Any]:
        """What an operator wants to see: address, kind, version, bytes held and free."""

    def close(self) -> None:
        """Let go of connections and files. Idempotent."""


class Stat(NamedTuple):
    """What a path names; a folder's size says nothing."""

    size_bytes: int
    is_folder: bool


class Folder(Protocol):
    """Plain files below one URL, for programs that know nothing of a hub.

    Paths are relative; their parts, joined by ``/``, are any text that the file system allows.
    """

    @property
    def address(self) -> str:
        """The URL, without what is secret."""

    @property
    def renames_folders(self) -> bool:
        """Whether ``rename`` takes a folder in one step, which nobody sees half done."""

    def put(self, path: str, *, overwrite: bool) -> Writer:
        """Begin a file that appears under its name only by ``commit``.

        That takes the place of a file there with ``overwrite``; without it, it raises
        ``AlreadyExists`` where something has the name by then. An object store cannot ask both in
        one step: there, of two that take one name in the same moment, the later one stays.
        """

    def read(self, path: str, offset: int, length: int) -> bytes:
        """A range of a file, as ``WeightStore.read``."""

    def stat(self, path: str) -> Stat | None:
        """What is there, or None."""

    def list(self, folder: str) -> Iterator[FileInfo]:
        """Every file below ``folder`` (``""`` for all); none where there is no such folder."""

    def folders(self, folder: str) -> Mapping[str, datetime]:
        """The names of the folders right in ``folder``, none where there is no such folder.

        With each, by the file system's own clock, when something was last put right into it or
        taken out.
        """

    def rename(self, source: str, target: str) -> None:
        """Rename a file or a folder, never over or into another; the target's folders are made.

        Raises:
            NotFound: ``source`` is not there.
            AlreadyExists: ``target`` is.
        """

    def remove_folder(self, path: str) -> None:
        """Remove a folder and all that is in it; an absent one counts as removed."""

    def close(self) -> None:
        """Let go of connections. Idempotent."""


class Document(msgspec.Struct, frozen=True):
    """A search document with its external version.

    ``body`` is None for a tombstone: it answers no search, but its version is remembered for ever.
    """

    id: str
    version: int
    body: dict[str, Any] | None


TEXT_FIELDS: Mapping[str, float] = {
    "name": 5.0,
    "title": 4.0,
    "labels": 3.0,
    "description": 2.0,
    "facts": 1.5,
    "card": 1.0,
}
"""The body's texts in which a word is looked for, and their weights.

Each is a string, or a list of strings; an absent one is empty. Beside them a body carries
``current`` (bool, for ``Query.current_only``), what ``modelhub.query.fields`` names, and whatever
else an answer should show. A value of another type than its field's is not found.
"""

EXACT_NAME = 1000.0
"""What a document's score is raised by where its name is exactly what is sought."""

NAMED_FIELDS = ("message",)
"""The body's texts in which a word is looked for where a query names the field."""


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """What to look for, and which part of it to hand back.

    ``where`` None matches every document. ``sort`` names ``score``, ``name`` or a field of numbers.
    ``after`` is the ``next`` of a page before this one, of the same query; ``limit`` is 1 to 1,000.
    ``facets`` are at most 10 keyword fields whose values are to be counted. ``highlight`` asks to
    show where the words were found.
    """

    where: Clause | None = None
    current_only: bool = True
    limit: int = 20
    after: str | None = None
    sort: Sort = Sort()
    facets: tuple[str, ...] = ()
    highlight: bool = False


class Highlight(msgspec.Struct, frozen=True):
    """Where a hit holds what was sought: a piece of a field's text.

    ``marks`` are the words in it that were sought: the offsets where each begins and ends.
    """

    field: str
    text: str
    marks: tuple[tuple[int, int], ...]


class Hit(msgspec.Struct, frozen=True):
    """One answer to a query. ``score`` is the engine's own; only its order means something."""

    id: str
    score: float
    body: dict[str, Any]
    highlight: Highlight | None = None


FACET_VALUES = 10
"""How many keywords of a field are counted, at most."""


class Count(msgspec.Struct, frozen=True):
    """A keyword, and how many documents have it."""

    value: str
    count: int


class Hits(msgspec.Struct, frozen=True):
    """A page of answers and how many there are in all.

    ``next`` asks for the page behind it, None where there is none. ``facets`` hold the ten keywords
    of each field that the most answers have, on whatever page, the most frequent first.
    """

    total: int
    hits: list[Hit]
    next: str | None = None
    facets: dict[str, list[Count]] = {}


class SearchIndex(Protocol):
    """Named targets (indices) of versioned documents.

    Never the authority: everything here can be rendered again.
    """

    def create_target(self, target: str) -> None:
        """Make an empty target. Idempotent."""

    def drop_target(self, target: str) -> None:
        """Remove a target and its documents; an absent one counts as removed."""

    def targets(self) -> list[str]:
        """The targets that exist, sorted."""

    def write(
        self, target: str, documents: Sequence[Document], *, timeout_s: float | None = None
    ) -> None:
        """Store each document unless the target holds the same or a higher version of it already.

        A stale write is no error: a newer document is there, which is what was wanted. Tombstones
        keep their version. A failing write may have stored any subset. Never brings a target into
        being.

        Takes about ``timeout_s`` at most, where the backend waits at all; its own default without.

        Raises:
            NotFound: there is no such target.
        """

    def refresh(self, target: str) -> None:
        """Return when everything written before is found by ``search``."""

    def get(self, target: str, ids: Sequence[str]) -> dict[str, Document]:
        """The documents that are there among ``ids``, tombstones included.

        As of now: no refresh is needed.
        """

    def scan(self, target: str) -> Iterator[Document]:
        """Every document, tombstones included, ordered by id, in bounded memory.

        Complete unless it raises.
        """

    def search(self, target: str, query: Query) -> Hits:
        """The documents for which ``query.where`` holds, the best first. Tombstones never answer.

        Words are those of ``backends.words``, alike in every index; keywords are compared without
        case, accents, width and surplus space. A score is the weighted BM25F of the words sought,
        0 where none are; a model that is called exactly what was sought comes first. What has no
        value to sort by comes last, and equals are in the order of ids.

        Pages that follow each other by ``after`` hold each document once that nobody changes
        meanwhile.

        Raises:
            NotFound: there is no such target.
            InvalidInput: the query is not one, or ``after`` belongs to another query.
            CorruptData: the target, or what it holds, is not as this release makes it.
        """

    def near(self, target: str, words: Sequence[str]) -> dict[str, list[str]]:
        """For each word that no document spells so, at most five that are spelt nearly so.

        Nearest first, then those that more documents have. Looked at are the words of names,
        titles, labels, descriptions and facts that begin with the same letter.

        Raises:
            NotFound: there is no such target.
        """

    def describe(self) -> dict[str, Any]:
        """What an operator wants to see: address, kind, version, documents held."""

    def close(self) -> None:
        """Let go of connections and files. Idempotent."""
