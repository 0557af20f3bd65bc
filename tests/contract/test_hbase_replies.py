"""Replies that come late, cut or not at all: each call fails as it should, and the next is right.

thriftpy2 takes whatever comes next on a socket for the answer to its call. A proxy in front of the
real gateway makes it happen.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from modelhub.backends import hbase_rows as rows_module
from modelhub.backends import hbase_scan
from modelhub.backends.hbase_pool import Pool
from modelhub.backends.hbase_rows import HBaseRows
from modelhub.backends.hbase_wire import Connection
from modelhub.errors import ModelhubError, OutcomeUnknown, Unavailable
from modelhub.testing.contracts import RowBackend
from tests.live.proxy import WAIT_S, Fault, Proxy

SOON_S = 0.5
T = "contract"
PAGE_ROWS = 100
ROWS = {b"%05d" % number: b"row %d" % number for number in range(PAGE_ROWS + 50)}


@dataclass(frozen=True)
class Case:
    """A method whose reply is spoilt.

    Attributes:
        call: the method.
        error: what it raises then.
        after: the replies that come well before the spoilt one.
    """

    call: Callable[[HBaseRows], object]
    error: type[ModelhubError] = Unavailable
    after: int = 0


CASES = {
    "get": Case(lambda store: store.get(T, b"00001")),
    "get_many": Case(lambda store: store.get_many(T, [b"00001", b"00002"])),
    "get_many, second batch": Case(lambda store: store.get_many(T, list(ROWS)), after=1),
    "scan": Case(lambda store: list(store.scan(T, b"0", b"1"))),
    "scan, first rows": Case(lambda store: next(store.scan(T, b"0", b"1")), after=1),
    "put": Case(lambda store: store.put(T, b"new", b"v"), OutcomeUnknown),
    "put_many": Case(lambda store: store.put_many(T, {b"new": b"v"}), OutcomeUnknown),
    "put_many, second batch": Case(lambda store: store.put_many(T, ROWS), OutcomeUnknown, after=1),
    "check_and_put": Case(
        lambda store: store.check_and_put(T, b"swapped", b"0", b"1"), OutcomeUnknown
    ),
    "put if absent": Case(lambda store: store.check_and_put(T, b"new", None, b"v"), OutcomeUnknown),
    "delete_many": Case(lambda store: store.delete_many(T, [b"00007"]), OutcomeUnknown),
    "create_tables": Case(lambda store: store.create_tables([T])),
    "create_tables, a new one": Case(
        lambda store: store.create_tables([f"{T}_more"]), OutcomeUnknown, after=1
    ),
    "now": Case(lambda store: store.now()),
    "now, second call": Case(lambda store: store.now(), after=1),
    "describe": Case(lambda store: store.describe()),
    "describe, regions": Case(lambda store: store.describe(), after=1),
}
SCANS = {"scan", "scan, first rows"}
"""They begin anew where a reply is lost at once, and not where the time is up."""


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hbase_scan, "PAGE_ROWS", PAGE_ROWS)
    monkeypatch.setattr(rows_module, "_BATCH_ROWS", PAGE_ROWS)


@pytest.fixture
def store(backend: RowBackend, proxy: Proxy) -> Iterator[HBaseRows]:
    """A store on rows that are there, with one connection open through the proxy."""
    with (
        closing(opened(backend)) as direct,
        closing(HBaseRows("127.0.0.1", proxy.port, prefix=prefix(direct))) as it,
    ):
        direct.put_many(T, ROWS)
        direct.put(T, b"swapped", b"0")
        assert it.get(T, b"00000") == b"row 0"
        yield it


def opened(backend: RowBackend) -> HBaseRows:
    store = backend.open()
    assert isinstance(store, HBaseRows)
    return store


def prefix(store: HBaseRows) -> str:
    found: str = store.describe()["prefix"]
    return found


def impatiently(store: HBaseRows, call: Callable[[HBaseRows], object]) -> None:
    """Call with a time limit that need not be waited for long."""
    patience, store._gateway._timeout_s = store._gateway._timeout_s, SOON_S
    try:
        call(store)
    finally:
        store._gateway._timeout_s = patience


def check_answers(store: HBaseRows, table: str = T) -> None:
    """Every method gives its own answer."""
    assert store.get(table, b"00003") == b"row 3"
    assert store.get(table, b"absent") is None
    assert store.check_and_put(table, b"00004", b"stale", b"v") is False
    assert store.get_many(table, [b"00005", b"absent"]) == {b"00005": b"row 5"}
    assert store.check_and_put(table, b"00004", b"row 4", b"row 4") is True
    assert list(store.scan(table, b"00005", b"00007")) == [
        (b"00005", b"row 5"),
        (b"00006", b"row 6"),
    ]
    store.put(table, b"answered", b"v")
    assert store.get(table, b"answered") == b"v"
    assert store.describe()["regions"][prefix(store) + table] == 1


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_late_reply_is_nobody_elses(case: Case, store: HBaseRows, proxy: Proxy) -> None:
    proxy.spoil(Fault.HOLD, after=case.after)
    with pytest.raises(ModelhubError, match=f"127.0.0.1:{proxy.port} did not answer") as raised:
        impatiently(store, case.call)
    assert type(raised.value) is case.error
    assert proxy.acted.is_set()
    proxy.release()
    check_answers(store)
    assert proxy.delivered.wait(WAIT_S)
    check_answers(store)
    case.call(store)


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.HALF, Fault.GARBAGE], ids=lambda f: f.name)
@pytest.mark.parametrize("name", [name for name in CASES if name not in SCANS])
def test_a_spoilt_reply_is_nobody_elses(
    name: str, fault: Fault, store: HBaseRows, proxy: Proxy
) -> None:
    case = CASES[name]
    proxy.spoil(fault, after=case.after)
    with pytest.raises(ModelhubError, match=f"127.0.0.1:{proxy.port} ") as raised:
        case.call(store)
    assert type(raised.value) is case.error
    assert raised.value.remedy
    assert proxy.acted.is_set()
    check_answers(store)
    case.call(store)  # a table that was still being made is there now, and dropped after the test


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.HALF, Fault.GARBAGE], ids=lambda f: f.name)
@pytest.mark.parametrize("after", [0, 1, 2, 4, 7])
def test_a_scan_goes_on_behind_the_last_row_seen(
    fault: Fault, after: int, store: HBaseRows, proxy: Proxy
) -> None:
    proxy.spoil(fault, after=after)
    assert list(store.scan(T, b"0", b"1")) == list(ROWS.items())
    assert proxy.acted.is_set()


def test_a_later_page_that_is_late_ends_the_scan_with_an_error(
    store: HBaseRows, proxy: Proxy
) -> None:
    scan = store.scan(T, b"0", b"1")
    seen = [next(scan) for _ in range(PAGE_ROWS)]
    proxy.spoil(Fault.HOLD)
    with pytest.raises(Unavailable, match="did not answer"):
        impatiently(store, lambda _: next(scan))
    assert seen == list(ROWS.items())[:PAGE_ROWS]
    proxy.release()
    check_answers(store)


def test_a_scan_of_a_gateway_that_goes_on_failing_ends_with_an_error(
    store: HBaseRows, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = store.scan(T, b"0", b"1")
    for _ in range(PAGE_ROWS):
        next(scan)
    tries = []

    def fail(connection: Connection, deadline: float, method: str, *arguments: object) -> Any:
        tries.append(method)
        proxy.spoil(Fault.CUT)
        return call(connection, deadline, method, *arguments)

    call = Connection.call
    monkeypatch.setattr(Connection, "call", fail)
    with pytest.raises(Unavailable, match="closed the connection"):
        next(scan)
    assert len(tries) <= 6  # a greeting each, and the call


def test_an_interrupted_calls_reply_is_nobody_elses(store: HBaseRows, proxy: Proxy) -> None:
    """An interrupt is no ``Exception``, and leaves the reply on its way all the same."""

    class InterruptedError(BaseException):
        pass

    def interrupt(*_: object) -> None:
        raise InterruptedError

    def send() -> None:
        proxy.acted.wait(WAIT_S)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        proxy.spoil(Fault.HOLD)
        with pytest.raises(InterruptedError):
            store.get(T, b"00001")
    finally:
        sender.join()
        signal.signal(signal.SIGUSR1, before)
    proxy.release()
    check_answers(store)
    assert proxy.delivered.wait(WAIT_S)
    check_answers(store)


@contextmanager
def keeping_everything() -> Iterator[None]:
    """Break the pool: a connection comes back from a call that failed, and is used whatever."""
    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(Pool, "_drop", lambda pool, connection: pool._idle.append(connection))
        broken.setattr(Connection, "fit", lambda _: True)
        yield


def test_a_pool_that_kept_connections_would_hand_out_anothers_row(
    store: HBaseRows, proxy: Proxy
) -> None:
    with keeping_everything():
        proxy.spoil(Fault.HOLD)
        with pytest.raises(Unavailable):
            impatiently(store, lambda store: store.get(T, b"00001"))
        proxy.release()
        assert store.get(T, b"absent") == b"row 1"


def test_a_pool_that_kept_connections_would_win_a_lost_swap(
    store: HBaseRows, proxy: Proxy, backend: RowBackend
) -> None:
    with keeping_everything():
        proxy.spoil(Fault.HOLD)
        with pytest.raises(OutcomeUnknown):
            impatiently(store, lambda store: store.check_and_put(T, b"swapped", b"0", b"1"))
        proxy.release()
        assert store.check_and_put(T, b"00002", b"stale", b"mine") is True
    assert backend.raw_get(T, b"00002") == b"row 2"


@pytest.mark.parametrize("name", [name for name in CASES if "," not in name])
def test_a_pool_that_kept_connections_would_fail_the_tests_above(
    name: str, store: HBaseRows, proxy: Proxy
) -> None:
    with keeping_everything():
        proxy.spoil(Fault.HOLD)
        with pytest.raises(ModelhubError):
            impatiently(store, CASES[name].call)
        proxy.release()
        try:
            check_answers(store)
        except Exception:  # noqa: BLE001 (an answer of another shape makes anything of it)
            return
    pytest.fail("the late reply was nobody's")


def test_a_late_reply_that_lies_on_an_idle_connection_closes_it(
    store: HBaseRows, proxy: Proxy
) -> None:
    """Even a pool that kept it would not use it once the reply is there."""
    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(Pool, "_drop", lambda pool, connection: pool._idle.append(connection))
        proxy.spoil(Fault.HOLD)
        with pytest.raises(Unavailable):
            impatiently(store, lambda store: store.get(T, b"00001"))
    (connection,) = store._gateway._pool._idle
    assert connection.fit()
    proxy.release()
    assert proxy.delivered.wait(WAIT_S)
    assert not connection.fit()
    check_answers(store)
