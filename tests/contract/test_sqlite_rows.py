"""What SQLite rows promise beyond the contract: processes, forks, full disks, damage."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Barrier, Event, Thread
from typing import Any

import pytest

from modelhub.backends import filesystem, sqlite
from modelhub.backends.sqlite_rows import SqliteRows
from modelhub.errors import CorruptData, Forbidden, InvalidInput, NotFound, OutcomeUnknown, Unavailable

PROCESSES = 8
SPAWN = multiprocessing.get_context("spawn")
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "hub" / "rows.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteRows]:
    with closing(SqliteRows(path)) as store:
        store.create_tables(["t"])
        yield store


def raw(path: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement).fetchall()


def count_up(path: Path, times: int) -> None:
    with closing(SqliteRows(path)) as store:
        done = 0
        while done < times:
            held = store.get("t", b"counter")
            assert held is not None
            done += store.check_and_put("t", b"counter", held, b"%d" % (int(held) + 1))


def put_numbers(path: Path, name: str) -> None:
    """Put rows for ever, and print each once it was acknowledged."""
    with closing(SqliteRows(path)) as store:
        number = 0
        while True:
            store.put("t", f"{name}-{number}".encode(), b"v")
            os.write(1, f"{name}-{number}\n".encode())
            number += 1


def make_tables(path: Path, start: Any) -> None:
    with closing(SqliteRows(path)) as store:
        start.wait()
        store.create_tables(["t", "u"])
        store.put("t", f"{os.getpid()}".encode(), b"v")


def run(processes: list[BaseProcess]) -> None:
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(processes)


def test_increments_of_racing_processes_all_count(store: SqliteRows, path: Path) -> None:
    store.put("t", b"counter", b"0")
    run([SPAWN.Process(target=count_up, args=(path, 200)) for _ in range(PROCESSES)])
    assert store.get("t", b"counter") == b"%d" % (PROCESSES * 200)


def test_increments_of_forked_processes_and_their_parent_all_count(
    store: SqliteRows, path: Path
) -> None:
    store.put("t", b"counter", b"0")
    processes = [FORK.Process(target=count_up, args=(path, 100)) for _ in range(PROCESSES)]
    parent = Thread(target=count_up, args=(path, 100))
    parent.start()
    run(list(processes))
    parent.join()
    assert store.get("t", b"counter") == b"%d" % ((PROCESSES + 1) * 100)


def test_processes_make_the_tables_at_once(path: Path) -> None:
    start = SPAWN.Barrier(PROCESSES)
    run([SPAWN.Process(target=make_tables, args=(path, start)) for _ in range(PROCESSES)])
    assert raw(path, "SELECT count(*) FROM t") == [(PROCESSES,)]


def test_what_a_killed_process_was_told_is_there(store: SqliteRows, path: Path) -> None:
    for name in ("first", "second", "third"):
        program = f"from {__name__} import *" if False else _PUT_NUMBERS
        with subprocess.Popen(
            [sys.executable, "-c", program, str(path), name], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            told = [process.stdout.readline() for _ in range(50)]
            process.send_signal(signal.SIGKILL)
            told.extend(process.stdout)
        assert all(store.get("t", line.strip()) for line in told if line.endswith(b"\n"))
        store.put("t", b"after", b"v")
    assert raw(path, "PRAGMA integrity_check") == [("ok",)]


_PUT_NUMBERS = ""
