"""The framed transport and the compact protocol, on a second gateway that speaks them alone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from modelhub.backends.hbase_rows import HBaseRows
from modelhub.errors import NotFound, OutcomeUnknown, Unavailable
from modelhub.records import ROW_LIMIT_BYTES
from modelhub.testing.contracts import RowBackend
from modelhub.testing.contracts.rows import CALLS, ODD_KEYS
from tests.live.hadoop import second_gateway
from tests.live.proxy import Fault, Proxy
from tests.live.stack import LiveStack

HOST = "127.0.0.1"
T = "contract"


def test_a_framed_and_compact_gateway_keeps_the_contract(
    stack: LiveStack, backend: RowBackend, prefix: str, tmp_path: Path
) -> None:
    """All in one test, since starting the gateway takes most of the time."""
    with second_gateway(stack, tmp_path / "gateway.log", "-framed", "-compact") as port:

        def opened(port: int = port, timeout_s: float = 10.0) -> HBaseRows:
            return HBaseRows(
                HOST,
                port,
                prefix=prefix,
                transport="framed",
                protocol="compact",
                timeout_s=timeout_s,
            )

        with closing(opened()) as store:
            check_rows(store, backend)
            check_large_rows(store)
            check_tables(store)
        check_others_are_told(port, prefix)
        with Proxy(HOST, port) as proxy:
            check_late_reply(lambda: opened(proxy.port), proxy)


def check_rows(store: HBaseRows, backend: RowBackend) -> None:
    for key in ODD_KEYS:
        assert store.check_and_put(T, key, None, key + b"\xff") is True
        assert store.check_and_put(T, key, None, b"other") is False
        assert store.check_and_put(T, key, b"stale", b"other") is False
        assert backend.raw_get(T, key) == key + b"\xff"
    assert store.get_many(T, [*ODD_KEYS, b"absent"]) == {key: key + b"\xff" for key in ODD_KEYS}
    assert [key for key, _ in store.scan(T, b"\0", b"\xff" * 8)] == ODD_KEYS
    store.delete_many(T, ODD_KEYS)
    assert list(store.scan(T, b"\0", b"\xff" * 8)) == []


def check_large_rows(store: HBaseRows) -> None:
    """A framed gateway drops a client whose request is over 2 MB: batches stay below it."""
    rows = {b"large-%03d" % number: b"%d" % number * ROW_LIMIT_BYTES for number in range(10)}
    store.put_many(T, rows)
    assert list(store.scan(T, b"l", b"m")) == list(rows.items())
    assert store.get_many(T, list(rows)) == rows
    # Unavailable, if it closes the connection before it was sent all of it.
    with pytest.raises((OutcomeUnknown, Unavailable)):
        store.put(T, b"too large", bytes(3 * 1024 * 1024))
    assert store.get(T, b"too large") is None
    small = {b"small-%05d" % number: b"v" for number in range(3000)}
    store.put_many(T, small)
    assert list(store.scan(T, b"s", b"t")) == list(small.items())
    store.delete_many(T, [*rows, *small])


def check_tables(store: HBaseRows) -> None:
    store.create_tables([T, "framed"])
    assert store.describe()["version"] == "Thrift 1 gateway"
    assert abs((store.now() - store.now()).total_seconds()) < 60
    for call in CALLS.values():
        with pytest.raises(NotFound, match="missing"):
            call(store, "missing")


def check_others_are_told(port: int, prefix: str) -> None:
    with (
        closing(HBaseRows(HOST, port, prefix=prefix)) as store,
        pytest.raises(Unavailable, match=f"{HOST}:{port} closed the connection") as raised,
    ):
        store.put(T, b"k", b"v")
    assert "buffered transport and binary protocol" in raised.value.remedy


def check_late_reply(opened: Callable[[], HBaseRows], proxy: Proxy) -> None:
    with closing(opened()) as store:
        store.put(T, b"k", b"v")
        proxy.spoil(Fault.HOLD)
        store._gateway._timeout_s = 0.5
        with pytest.raises(OutcomeUnknown, match="did not answer in time"):
            store.check_and_put(T, b"k", b"v", b"w")
        store._gateway._timeout_s = 10.0
        proxy.release()
        assert store.check_and_put(T, b"k", b"stale", b"x") is False
        assert store.get(T, b"k") == b"w"
