"""A SQLite file as both embedded stores use it: connections, transactions, and what errors mean.

The file is in WAL mode with ``synchronous=FULL``: readers never wait, writers wait for each other,
and what was acknowledged survives a power cut.

SQLite keeps the locks of a process in memory, which a fork copies: a child that opens a file that
its parent has open believes itself to hold the parent's locks, and may go on writing to a log that
others have deleted. So a fork first waits for the calls under way and closes every connection; both
sides open new ones when they need them.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote
from weakref import WeakSet

from modelhub.backends.filesystem import (
    forbidden,
    full,
    make_folder,
    refuse_network_file_system,
    sync_error,
    sync_folder,
)
from modelhub.errors import CorruptData, ModelhubError, NotFound, OutcomeUnknown, Unavailable

BUSY_TIMEOUT_S = 60.0
_TURN_MS = 10
LOG_BYTES = 64 * 1024 * 1024
"""What the log may keep of the disk once a large write is over."""

PAGE_ROWS = 256
PAGE_BYTES = 1024 * 1024
BATCH = 500
"""Values bound in one statement; every SQLite takes 999."""

T = TypeVar("T")

_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_UNUSABLE = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM})


class Database:
    """One SQLite file, opened when first used, with a connection for each call under way."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._idle: list[sqlite3.Connection] = []
        self._running = 0
        self._closing = 0
        self._turn = threading.Condition(threading.Lock())
        with _registry:
            _databases.add(self)

    def create(self) -> None:
        """Make the file and its folder where they are missing; nothing else brings them into being.

        Raises:
            InvalidInput: it would lie on a network file system.
        """
        refuse_network_file_system(self.path)
        make_folder(self.path.parent)
        with self._connection("rwc") as connection:
            _when_free(connection, "PRAGMA journal_mode = WAL")
        try:
            sync_folder(self.path.parent)
        except OSError as exc:
            raise sync_error(exc, self.path) from exc

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees one snapshot until the block ends."""
        with self._connection("rw") as connection:
            connection.execute("BEGIN")
            yield connection
            connection.execute("COMMIT")

    @contextmanager
    def writing(self, timeout_s: float | None = None) -> Iterator[sqlite3.Connection]:
        """A connection that writes alone: the block commits where it ends, or leaves no trace.

        Raises:
            Unavailable: nothing was written; others may have been writing for ``timeout_s``.
            OutcomeUnknown: the commit itself failed.
        """
        with self._connection("rw") as connection:
            _when_free(connection, "BEGIN IMMEDIATE", timeout_s)
            yield connection
            try:
                connection.execute("COMMIT")
            except sqlite3.Error as exc:
                raise self._commit_error(exc) from exc

    def size_bytes(self) -> int:
        """What the file and its log take on disk."""
        total = 0
        for suffix in ("", "-wal"):
            with suppress(FileNotFoundError):
                total += Path(f"{self.path}{suffix}").stat().st_size
        return total

    def close(self) -> None:
        """Wait for the calls under way and close all connections; a later call opens a new one."""
        self.rest()
        self.resume()

    def rest(self) -> None:
        """As ``close``, and let no call begin until this thread calls ``resume``."""
        self._turn.acquire()
        self._closing += 1
        while self._running:
            self._turn.wait()
        self._closing -= 1
        while self._idle:
            self._idle.pop().close()

    def resume(self) -> None:
        """Let calls begin again."""
        self._turn.notify_all()
        self._turn.release()

    def resume_in_child(self) -> None:
        """Let calls begin again in a child, which has none of its parent's other threads."""
        self._closing = 0
        self.resume()

    @contextmanager
    def _connection(self, mode: str) -> Iterator[sqlite3.Connection]:
        """A connection for one call, kept for the next unless the block raises."""
        with self._turn:
            while self._closing:
                self._turn.wait()
            self._running += 1
            connection = self._idle.pop() if self._idle else None
        try:
            if connection is None:
                connection = self._open(mode)
            yield connection
        except BaseException as exc:
            if connection is not None:
                connection.close()  # rolls back
                connection = None
            if isinstance(exc, sqlite3.Error):
                raise self._error(exc) from exc
            raise
        finally:
            with self._turn:
                self._running -= 1
                if connection is not None:
                    self._idle.append(connection)
                self._turn.notify_all()

    def _open(self, mode: str) -> sqlite3.Connection:
        refuse_network_file_system(self.path)
        connection = sqlite3.connect(
            # With an empty authority: a path that begins with two slashes would be taken for one.
            f"file://{quote(os.fsencode(self.path.absolute()))}?mode={mode}",
            uri=True,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,  # one call at a time has it, in whatever thread
        )
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _commit_error(self, exc: sqlite3.Error) -> ModelhubError:
        # A commit that waited in vain or found no room ends before the frame that would have made
        # it count; after any other failure that frame may be on disk, and a recovery may find it.
        if _code(exc) in _BUSY or _code(exc) == sqlite3.SQLITE_FULL:
            return self._error(exc)
        return OutcomeUnknown(
            f"{self.path}: the commit failed: {exc}",
            remedy="Check the disk and its free space, then read back what is there.",
        )

    def _error(self, exc: sqlite3.Error) -> ModelhubError:
        code = _code(exc)
        if code in _BUSY:
            return Unavailable(
                f"{self.path} was locked by others all the time",
                remedy="Try again when fewer processes write to this hub.",
            )
        if code == sqlite3.SQLITE_FULL:
            return full(self.path)
        if code in _CORRUPT:
            return CorruptData(
                f"{self.path} is damaged: {exc}",
                remedy="Restore this file from a backup; keep the damaged one.",
            )
        if code in _UNUSABLE:
            return self._unusable(exc)
        if str(exc).startswith("no such table"):
            return NotFound(f"{self.path} is no store yet: {exc}", remedy=_INIT)
        return Unavailable(
            f"{self.path}: {exc}", remedy="Check the disk and its free space, then try again."
        )

    def _unusable(self, exc: sqlite3.Error) -> ModelhubError:
        try:
            self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return NotFound(f"there is no {self.path}", remedy=_INIT)
        except PermissionError:
            return forbidden(self.path, str(exc))
        if not all(os.access(path, os.R_OK | os.W_OK) for path in (self.path, self.path.parent)):
            return forbidden(self.path, str(exc))
        return Unavailable(f"{self.path}: {exc}", remedy="Look at this file, then try again.")


def page(cursor: sqlite3.Cursor, limit: int | None = None) -> tuple[list[tuple[Any, ...]], bool]:
    """Records from ``cursor`` until they are ``limit`` or fill a page, and whether there are more.

    The last column counts as a record's size. The cursor is closed, so that no snapshot outlives
    the page.
    """
    rows = PAGE_ROWS if limit is None else min(limit, PAGE_ROWS)
    records: list[tuple[Any, ...]] = []
    size_bytes = 0
    with closing(cursor):
        for record in cursor:
            records.append(record)
            size_bytes += len(record[-1] or b"")
            if len(records) == rows or size_bytes >= PAGE_BYTES:
                return records, True
    return records, False


def batches(values: Sequence[T]) -> Iterator[tuple[str, Sequence[T]]]:
    """``values`` in runs that one statement can bind, each with its question marks."""
    for start in range(0, len(values), BATCH):
        batch = values[start : start + BATCH]
        yield ",".join("?" * len(batch)), batch


_INIT = "Run `modelhub admin init`, or name another hub."


def _code(exc: sqlite3.Error) -> int:
    extended: int = getattr(exc, "sqlite_errorcode", 0)
    return extended & 0xFF


def _when_free(
    connection: sqlite3.Connection, statement: str, timeout_s: float | None = None
) -> None:
    """Run a statement that needs the file for itself, asking every few milliseconds.

    SQLite's own waiting grows to a tenth of a second between two tries, in which a crowd of writers
    leaves the slowest waiting for seconds; for some statements it does not wait at all.
    """
    deadline = time.monotonic() + (BUSY_TIMEOUT_S if timeout_s is None else timeout_s)
    connection.execute(f"PRAGMA busy_timeout = {_TURN_MS}")
    while True:
        try:
            connection.execute(statement)
            break
        except sqlite3.OperationalError as exc:
            if _code(exc) not in _BUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.001)
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000:.0f}")


_registry = threading.Lock()
_databases: WeakSet[Database] = WeakSet()
_resting: list[Database] = []


def _before_fork() -> None:
    _registry.acquire()
    _resting.extend(_databases)
    for database in _resting:
        database.rest()


def _after_fork_in_parent() -> None:
    while _resting:
        _resting.pop().resume()
    _registry.release()


def _after_fork_in_child() -> None:
    while _resting:
        _resting.pop().resume_in_child()
    _registry.release()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
