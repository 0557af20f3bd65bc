"""What rows in SQLite promise beyond the contract: processes, forks, damage, and no traces."""

from __future__ import annotations

import multiprocessing
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from modelhub.backends import sqlite
from modelhub.backends.sqlite_rows import SqliteRows
from modelhub.errors import (
    CorruptData,
    Forbidden,
    ModelhubError,
    NotFound,
    OutcomeUnknown,
    Unavailable,
)
from modelhub.testing.contracts.rows import CALLS

PROCESSES = 8
FORK = multiprocessing.get_context("fork")

COUNT_UP = """
import sys
from pathlib import Path
from modelhub.backends.sqlite_rows import SqliteRows

store, done = SqliteRows(Path(sys.argv[1])), 0
while done < 200:
    held = store.get("t", b"counter")
    done += store.check_and_put("t", b"counter", held, b"%d" % (int(held) + 1))
"""
PUT_FOR_EVER = """
import itertools, sys
from pathlib import Path
from modelhub.backends.sqlite_rows import SqliteRows

store = SqliteRows(Path(sys.argv[1]))
for number in itertools.count():
    store.put("t", f"{sys.argv[2]}-{number}".encode(), b"v")
    print(f"{sys.argv[2]}-{number}", flush=True)
"""
MAKE_TABLES = """
import sys
from pathlib import Path
from modelhub.backends.sqlite_rows import SqliteRows

sys.stdin.read()
store = SqliteRows(Path(sys.argv[1]))
store.create_tables(["t", "u"])
store.put("t", sys.argv[2].encode(), b"v")
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "hub ?#%" / "rows.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteRows]:
    with closing(SqliteRows(path)) as store:
        store.create_tables(["t"])
        yield store


def raw(path: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement).fetchall()


def start(program: str, path: Path, name: str = "") -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", program, str(path), name]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def finish(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    for process in processes:
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    assert [process.returncode for process in processes] == [0] * len(processes)


def open_files(path: Path) -> list[str]:
    """The files of this process that belong to the database."""
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            links.append(str(descriptor.readlink()))
        except FileNotFoundError:  # the listing's own
            continue
    return sorted(link for link in links if link.startswith(str(path)))


def test_increments_of_racing_processes_all_count(store: SqliteRows, path: Path) -> None:
    store.put("t", b"counter", b"0")
    finish([start(COUNT_UP, path) for _ in range(PROCESSES)])
    assert store.get("t", b"counter") == b"%d" % (PROCESSES * 200)


def test_racing_processes_make_the_tables(path: Path) -> None:
    processes = [start(MAKE_TABLES, path, f"row{number}") for number in range(PROCESSES)]
    finish(processes)
    assert raw(path, "SELECT count(*) FROM t") == [(PROCESSES,)]


def test_what_a_killed_process_was_told_is_there(store: SqliteRows, path: Path) -> None:
    for name in ("first", "second", "third"):
        with start(PUT_FOR_EVER, path, name) as process:
            assert process.stdout is not None
            told = [process.stdout.readline() for _ in range(50)]
            process.kill()
            told.extend(process.stdout)
        keys = [line.strip() for line in told if line.endswith(b"\n")]
        assert len(keys) >= 50
        assert store.get_many("t", keys).keys() == set(keys)
    assert raw(path, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_fork_amid_the_calls_of_other_threads_harms_nothing(
    store: SqliteRows, path: Path
) -> None:
    def count_up(times: int) -> None:
        done = 0
        while done < times:
            held = store.get("t", b"counter")
            assert held is not None
            done += store.check_and_put("t", b"counter", held, b"%d" % (int(held) + 1))

    store.put("t", b"counter", b"0")
    threads = [Thread(target=count_up, args=(100,)) for _ in range(4)]
    children = [FORK.Process(target=count_up, args=(50,)) for _ in range(PROCESSES)]
    for thread in threads:
        thread.start()
    for child in children:
        child.start()
    for thread in threads:
        thread.join()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * PROCESSES
    assert store.get("t", b"counter") == b"%d" % (4 * 100 + PROCESSES * 50)
    assert raw(path, "PRAGMA integrity_check") == [("ok",)]


def test_a_forked_child_keeps_its_writes_when_its_parent_closes(
    store: SqliteRows, path: Path
) -> None:
    """A child that took over its parent's locks would write to a log that the parent removes."""
    keys = [b"%05d" % number for number in range(100)]
    began, closed = FORK.Event(), FORK.Event()

    def put() -> None:
        store.put("t", keys[0], b"v")
        began.set()
        closed.wait()
        for key in keys[1:]:
            store.put("t", key, b"v")

    store.put("t", b"parent", b"v")
    child = FORK.Process(target=put)
    child.start()
    began.wait()
    store.close()
    raw(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    closed.set()
    child.join()
    assert child.exitcode == 0
    assert store.get_many("t", keys).keys() == set(keys)


def test_connections_are_shared_by_threads_in_turn_and_closed_in_the_end(
    store: SqliteRows, path: Path
) -> None:
    for number in range(20):
        thread = Thread(target=store.put, args=("t", b"%d" % number, b"v"))
        thread.start()
        thread.join()
    assert open_files(path).count(str(path)) == 1
    store.close()
    assert open_files(path) == []
    assert store.get("t", b"7") == b"v"


def test_closing_waits_for_the_calls_of_other_threads(store: SqliteRows, path: Path) -> None:
    under_way, finished = Event(), Event()

    def write() -> None:
        with store._database.writing() as connection:
            under_way.set()
            finished.wait()
            connection.execute("INSERT INTO t VALUES (x'01', x'02')")

    writer, closer = Thread(target=write), Thread(target=store.close)
    writer.start()
    under_way.wait()
    closer.start()
    finished.set()
    closer.join()
    assert open_files(path) == []
    writer.join()
    assert raw(path, "SELECT * FROM t") == [(b"\x01", b"\x02")]


def test_a_scan_holds_nothing_while_its_reader_works(store: SqliteRows, path: Path) -> None:
    store.put_many("t", {b"%05d" % number: b"v" for number in range(2000)})
    scan = store.scan("t", b"0", b"1")
    next(scan)
    store.put("t", b"00001", b"w")
    ((busy, _, _),) = raw(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    assert busy == 0
    assert len(list(scan)) == 1999


def test_writes_reach_the_disk_before_they_are_acknowledged(store: SqliteRows, path: Path) -> None:
    with store._database.reading() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert raw(path, "PRAGMA journal_mode") == [("wal",)]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_hub_that_does_not_exist_is_not_found_and_not_made(
    path: Path, tmp_path: Path, call: Callable[[SqliteRows, str], object]
) -> None:
    store = SqliteRows(path)
    with pytest.raises(NotFound, match=r"rows\.sqlite") as raised:
        call(store, "t")
    assert "init" in raised.value.remedy
    assert store.describe()["bytes"] == 0
    store.close()
    assert list(tmp_path.iterdir()) == []


def test_a_hub_that_was_removed_is_not_found(store: SqliteRows, path: Path) -> None:
    store.close()
    path.unlink()
    with pytest.raises(NotFound):
        store.get("t", b"k")
    assert not path.exists()


def test_a_lock_that_is_held_too_long_makes_the_store_unavailable(
    store: SqliteRows, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.05)
    store.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match=r"rows\.sqlite was locked"):
            store.put("t", b"k", b"v")
        assert store.get("t", b"k") is None
    store.put("t", b"k", b"v")
    assert raw(path, "SELECT value FROM t") == [(b"v",)]


def test_a_full_disk_makes_the_store_unavailable_and_changes_nothing(
    store: SqliteRows, path: Path
) -> None:
    store.put("t", b"before", b"v")
    with store._database.reading() as connection:
        connection.execute("PRAGMA max_page_count = 1")
    rows = {b"%d" % number: bytes(100_000) for number in range(10)}
    with pytest.raises(Unavailable, match=r"rows\.sqlite is full") as raised:
        store.put_many("t", rows)
    assert "space" in raised.value.remedy
    assert raw(path, "SELECT key FROM t") == [(b"before",)]
    store.put_many("t", rows)
    assert raw(path, "SELECT count(*) FROM t") == [(11,)]


def test_a_path_with_two_leading_slashes_is_a_path(tmp_path: Path) -> None:
    store = SqliteRows(Path(f"/{tmp_path}/rows.sqlite"))
    store.create_tables(["t"])
    store.put("t", b"k", b"v")
    store.close()
    assert (tmp_path / "rows.sqlite").is_file()


class _FailsToCommit(sqlite3.Connection):
    code = 0

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        if statement == "COMMIT" and self.total_changes:
            error = sqlite3.OperationalError("made to fail")
            error.sqlite_errorcode = self.code
            raise error
        return super().execute(statement, *values)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (sqlite3.SQLITE_BUSY, Unavailable),
        (sqlite3.SQLITE_FULL, Unavailable),
        (sqlite3.SQLITE_IOERR_FSYNC, OutcomeUnknown),
        (sqlite3.SQLITE_IOERR_WRITE, OutcomeUnknown),
        (sqlite3.SQLITE_ERROR, OutcomeUnknown),
    ],
)
def test_a_commit_that_fails_half_way_has_an_unknown_outcome(
    store: SqliteRows,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    expected: type[ModelhubError],
) -> None:
    store.close()
    monkeypatch.setattr(_FailsToCommit, "code", code)
    connect = sqlite3.connect
    with monkeypatch.context() as patch:
        patch.setattr(
            sqlite3, "connect", lambda *a, **kw: connect(*a, factory=_FailsToCommit, **kw)
        )
        with pytest.raises(expected, match=r"rows\.sqlite"):
            store.put("t", b"k", b"v")
    assert open_files(path) == []
    assert raw(path, "SELECT * FROM t") == []


@pytest.mark.parametrize(("offset", "length"), [(0, 100), (4096, 20_000)])
def test_a_damaged_file_is_named_and_not_served(
    store: SqliteRows, path: Path, offset: int, length: int
) -> None:
    store.put_many("t", {b"%05d" % number: b"v" * 100 for number in range(1000)})
    store.close()
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xa5" * length)
    with pytest.raises(CorruptData, match=r"rows\.sqlite is damaged"):
        list(store.scan("t", b"0", b"1"))
    with pytest.raises(CorruptData, match=r"rows\.sqlite is damaged"):
        store.put("t", b"00500", b"v")


def test_a_hub_of_somebody_else_is_forbidden(
    as_nobody: Callable[[Callable[[], object]], object], shared_folder: Path
) -> None:
    path = shared_folder / "hub" / "rows.sqlite"
    with closing(SqliteRows(path)) as store:
        store.create_tables(["t"])
        store.put("t", b"k", b"v")
    path.chmod(0o444)
    path.parent.chmod(0o555)
    for call in CALLS.values():
        with pytest.raises(Forbidden, match=r"rows\.sqlite") as raised:
            as_nobody(lambda call=call: call(SqliteRows(path), "t"))  # type: ignore[misc]
        assert "permission" in raised.value.remedy
    with pytest.raises(Forbidden):
        as_nobody(lambda: SqliteRows(path.parent / "below" / "rows.sqlite").create_tables(["t"]))
    path.parent.chmod(0o000)
    with pytest.raises(Forbidden):
        as_nobody(lambda: SqliteRows(path).get("t", b"k"))
