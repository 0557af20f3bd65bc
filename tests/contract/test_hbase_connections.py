"""Connections to HBase over threads, forks, idleness and closing, counted by a proxy."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from modelhub.backends import hbase_pool, hbase_wire
from modelhub.backends.hbase_rows import HBaseRows
from modelhub.errors import NotFound, Unavailable
from modelhub.testing.contracts import RowBackend
from tests.live.proxy import WAIT_S, Fault, Proxy
from tests.live.rows import Tables
from tests.live.stack import LiveStack

FORK = multiprocessing.get_context("fork")
T = "contract"


@pytest.fixture
def store(prefix: str, proxy: Proxy) -> Iterator[HBaseRows]:
    with closing(HBaseRows("127.0.0.1", proxy.port, prefix=prefix)) as store:
        yield store


def in_child(call: Callable[[], object]) -> None:
    """Run something in a forked child, which must end well."""
    process = FORK.Process(target=call)
    process.start()
    process.join()
    assert process.exitcode == 0


def test_a_connection_is_used_again(store: HBaseRows, proxy: Proxy) -> None:
    for number in range(20):
        store.put(T, b"k", b"%d" % number)
        assert store.get(T, b"k") == b"%d" % number
        assert len(list(store.scan(T, b"a", b"z"))) == 1
    assert proxy.accepted == 1


def test_many_threads_share_few_connections_and_get_their_own_answers(
    store: HBaseRows, proxy: Proxy
) -> None:
    threads = 3 * hbase_pool.LIMIT
    start = threading.Barrier(threads)

    def work(thread: int) -> None:
        start.wait()
        key = b"%03d" % thread
        for number in range(10):
            value = b"%d of %d" % (number, thread)
            store.put(T, key, value)
            assert store.get(T, key) == value
            assert list(store.scan(T, key, key + b"\0")) == [(key, value)]

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    assert 1 < proxy.most <= hbase_pool.LIMIT


def test_a_thread_waits_for_a_connection_no_longer_than_for_an_answer(
    prefix: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hbase_pool, "LIMIT", 1)
    with closing(HBaseRows("127.0.0.1", proxy.port, prefix=prefix, timeout_s=1)) as store:
        store.get(T, b"k")
        patient = store._gateway
        proxy.spoil(Fault.HOLD)
        with ThreadPoolExecutor(1) as pool:
            held = pool.submit(store.get, T, b"k")
            assert proxy.acted.wait(WAIT_S)
            patient._timeout_s = 0.2
            with pytest.raises(Unavailable, match="all 1 connections of this process busy"):
                store.put(T, b"k", b"v")
            proxy.release()
            assert held.result() is None


def test_a_slow_reader_holds_no_connection(store: HBaseRows, proxy: Proxy) -> None:
    """Every connection is cut between two rows, as the gateway does after a minute."""
    rows = {b"%05d" % number: b"v%d" % number for number in range(2500)}
    store.put_many(T, rows)
    seen = []
    for number, row in enumerate(store.scan(T, b"0", b"1")):
        if number % 500 == 0:
            proxy.cut()
        seen.append(row)
    assert seen == list(rows.items())


def test_many_scans_may_be_open_at_once(store: HBaseRows, proxy: Proxy) -> None:
    rows = {b"%05d" % number: b"v" for number in range(1050)}
    store.put_many(T, rows)
    scans = [store.scan(T, b"0", b"1") for _ in range(hbase_pool.LIMIT + 1)]
    for row in rows.items():
        assert [next(scan) for scan in scans] == [row] * len(scans)
    assert proxy.most == 1


def test_a_connection_that_was_idle_for_long_is_replaced(
    store: HBaseRows, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.get(T, b"k")
    store.get(T, b"k")
    assert proxy.accepted == 1
    monkeypatch.setattr(hbase_wire, "IDLE_LIMIT_S", 0)
    store.put(T, b"k", b"v")
    assert store.get(T, b"k") == b"v"
    assert proxy.accepted == 3


def test_a_connection_that_the_gateway_dropped_is_replaced_before_a_write(
    store: HBaseRows, proxy: Proxy
) -> None:
    store.get(T, b"k")
    for number in range(5):
        proxy.cut()
        (connection,) = store._gateway._pool._idle
        while connection.fit():  # until the news has come
            time.sleep(0.001)
        store.put(T, b"k", b"%d" % number)  # else its outcome would be unknown
        assert store.check_and_put(T, b"k", b"%d" % number, b"v")
    assert proxy.accepted == 6


def test_a_closed_store_opens_again_when_it_is_used(store: HBaseRows, proxy: Proxy) -> None:
    store.put(T, b"k", b"v")
    store.close()
    store.close()
    assert store.get(T, b"k") == b"v"
    assert proxy.accepted == 2


def test_a_call_under_way_survives_closing_and_its_connection_does_not(
    store: HBaseRows, proxy: Proxy
) -> None:
    store.put(T, b"k", b"v")
    proxy.spoil(Fault.HOLD)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(store.get, T, b"k")
        assert proxy.acted.wait(WAIT_S)
        store.close()
        proxy.release()
        assert held.result() == b"v"
    assert store._gateway._pool._open_ones == set()
    store.put(T, b"k", b"w")
    assert proxy.accepted == 2


def test_a_child_uses_connections_of_its_own_and_leaves_its_parents_alone(
    store: HBaseRows, proxy: Proxy
) -> None:
    store.put(T, b"k", b"parent")

    def child() -> None:
        assert store.get(T, b"k") == b"parent"
        store.put(T, b"k", b"child")
        store.close()

    for _ in range(3):
        in_child(child)
        assert store.get(T, b"k") == b"child"
        store.put(T, b"k", b"parent")
    assert proxy.accepted == 1 + 3


def test_a_child_keeps_no_copy_of_its_parents_connection(store: HBaseRows) -> None:
    store.get(T, b"k")
    (connection,) = store._gateway._pool._idle

    def child() -> None:
        assert connection._socket.fileno() == -1

    in_child(child)
    assert connection.fit()


def test_a_child_that_is_forked_in_the_middle_of_others_calls_works(
    store: HBaseRows, proxy: Proxy
) -> None:
    """Locks may be held, connections in use, and a reply on its way, when the fork comes."""
    store.put(T, b"k", b"v")
    done = threading.Event()

    def work(thread: int) -> None:
        key = b"%d" % thread
        while not done.is_set():
            store.put(T, key, key)
            assert store.get(T, key) == key

    def child() -> None:
        for _ in range(3):
            assert store.get(T, b"k") == b"v"

    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(work, thread) for thread in range(4)]
        try:
            for _ in range(10):
                in_child(child)
        finally:
            done.set()
        for future in working:
            future.result()


def test_the_clock_goes_on_and_leaves_no_row(store: HBaseRows, stack: LiveStack) -> None:
    before, times = datetime.now(UTC), [store.now() for _ in range(5)]
    assert times == sorted(times)
    # The stack's clock is this machine's, to the millisecond.
    assert before - timedelta(milliseconds=1) <= times[0] <= times[-1] <= datetime.now(UTC)
    assert list(store.scan("system", b"\0", b"\xff")) == []


def test_racing_stores_make_the_tables(backend: RowBackend, prefix: str) -> None:
    start = threading.Barrier(4)

    def make(_: int) -> int:
        with closing(backend.open()) as store:
            start.wait()
            store.create_tables(["raced"])
            store.put("raced", b"k", b"v")
            return len(list(store.scan("raced", b"a", b"z")))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(make, range(4))) == [1] * 4


def test_a_table_that_is_made_is_as_it_should_be(
    backend: RowBackend, prefix: str, stack: LiveStack
) -> None:
    tables = Tables(stack.thrift_host, stack.thrift_port, prefix)
    with closing(tables.connect()) as connection:
        (family,) = connection.table(f"{prefix}{T}").families().values()
    assert family["name"] == b"m:"
    assert family["max_versions"] == 1
    assert family["bloom_filter_type"] == b"ROW"
    assert family["compression"] == b"NONE"
    assert family["block_cache_enabled"]
    assert family["time_to_live"] == 2**31 - 1


def test_an_instant_of_a_table_in_the_making_does_not_spoil_the_description(
    backend: RowBackend, prefix: str
) -> None:
    done = threading.Event()

    def describe() -> list[object]:
        seen = []
        with closing(backend.open()) as store:
            while not done.is_set():
                seen.append(store.describe()["regions"].get(f"{prefix}slow"))
                time.sleep(0.01)
        return seen

    with ThreadPoolExecutor(1) as pool, closing(backend.open()) as store:
        describing = pool.submit(describe)
        try:
            store.create_tables(["slow"])
            assert store.describe()["regions"][f"{prefix}slow"] == 1
        finally:
            done.set()
        assert set(describing.result()) <= {None, 0, 1}


def test_nothing_is_asked_for_an_empty_range(stack: LiveStack) -> None:
    with closing(HBaseRows("127.0.0.1", 1)) as nowhere:
        assert list(nowhere.scan(T, b"b", b"a")) == []
        assert list(nowhere.scan(T, b"a", b"")) == []
        assert list(nowhere.scan(T, b"a", b"b", limit=0)) == []
        assert nowhere.get_many(T, []) == {}
        nowhere.put_many(T, {})
        nowhere.delete_many(T, [])


def test_a_table_dropped_in_mid_scan_ends_it_with_an_error(
    backend: RowBackend, prefix: str, stack: LiveStack
) -> None:
    tables = Tables(stack.thrift_host, stack.thrift_port, prefix)
    with closing(backend.open()) as store:
        store.create_tables(["doomed"])
        store.put_many("doomed", {b"%05d" % number: b"v" for number in range(1500)})
        scan = store.scan("doomed", b"0", b"1")
        next(scan)
        tables.empty()
        with pytest.raises(NotFound, match=f"{prefix}doomed"):
            list(scan)
