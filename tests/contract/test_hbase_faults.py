"""HBase that is not where it should be, or says no: each error names the address and the remedy."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import pytest

from modelhub.backends.hbase_rows import HBaseRows
from modelhub.errors import (
    InvalidInput,
    NotInstalled,
    Unavailable,
)
from modelhub.stores import RowStore
from modelhub.testing.contracts import RowBackend
from modelhub.testing.contracts.rows import CALLS
from tests.live.proxy import Proxy
from tests.live.stack import LiveStack
from tests.live.stand_in_gateway import HOST, gateway, io_error

TIMEOUT_S = 1.0
EVERY = {
    **CALLS,
    "create_tables": lambda store, table: store.create_tables([table]),
    "now": lambda store, _: store.now(),
    "describe": lambda store, _: store.describe(),
}
every_call = pytest.mark.parametrize("call", EVERY.values(), ids=EVERY)
Method = Callable[[RowStore, str], object]


def check_unavailable(store: HBaseRows, address: str, match: str, call: Method) -> None:
    """The call fails in time, says where, and what to do."""
    began = time.monotonic()
    with closing(store), pytest.raises(Unavailable, match=match) as raised:
        call(store, "t")
    assert time.monotonic() - began < TIMEOUT_S + 2
    assert address in raised.value.message
    assert raised.value.remedy


@every_call
def test_a_port_that_nobody_listens_on_refuses(call: Method) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
    check_unavailable(HBaseRows(HOST, port), f"{HOST}:{port}", "refuses connections", call)


@every_call
def test_a_server_that_says_nothing_is_given_up_in_time(call: Method) -> None:
    with socket.create_server((HOST, 0)) as silent:
        port = silent.getsockname()[1]
        store = HBaseRows(HOST, port, timeout_s=TIMEOUT_S)
        check_unavailable(store, f"{HOST}:{port}", "did not answer in time", call)


def test_a_host_that_cannot_be_reached_is_given_up_in_time() -> None:
    store = HBaseRows("192.0.2.1", 9090, timeout_s=TIMEOUT_S)  # an address that is never given out
    check_unavailable(store, "192.0.2.1:9090", "gateway at", EVERY["put"])


def test_a_host_without_an_address_is_unavailable() -> None:
    store = HBaseRows("hbase.invalid", 9090, timeout_s=TIMEOUT_S)
    check_unavailable(store, "hbase.invalid:9090", "cannot be reached", EVERY["put"])


@pytest.mark.parametrize("transport", ["buffered", "framed"])
@pytest.mark.parametrize("protocol", ["binary", "compact"])
@pytest.mark.parametrize("server", ["webhdfs", "elasticsearch", "namenode"])
def test_another_servers_port_is_told_from_a_gateways(
    server: str, transport: Any, protocol: Any, stack: LiveStack
) -> None:
    urls = {
        "webhdfs": stack.webhdfs_url,
        "elasticsearch": stack.search_url,
        "namenode": stack.hdfs_url,
    }
    where = urlsplit(urls[server])
    assert where.hostname
    assert where.port
    store = HBaseRows(
        where.hostname, where.port, transport=transport, protocol=protocol, timeout_s=TIMEOUT_S
    )
    check_unavailable(store, where.netloc, "gateway at", EVERY["put"])


@pytest.mark.parametrize(
    ("transport", "protocol"),
    [("framed", "binary"), ("buffered", "compact"), ("framed", "compact")],
)
def test_a_gateway_that_speaks_otherwise_is_told_by_the_remedy(
    transport: Any, protocol: Any, stack: LiveStack
) -> None:
    store = HBaseRows(
        stack.thrift_host,
        stack.thrift_port,
        transport=transport,
        protocol=protocol,
        timeout_s=TIMEOUT_S,
    )
    with closing(store), pytest.raises(Unavailable) as raised:
        store.put("t", b"k", b"v")
    assert f"{transport} transport and {protocol} protocol" in raised.value.remedy


@every_call
def test_a_gateway_that_went_away_is_unavailable(
    call: Method, backend: RowBackend, stack: LiveStack
) -> None:
    """An idle connection that it has dropped is found out before anything is sent."""
    direct = backend.open()
    assert isinstance(direct, HBaseRows)
    with closing(direct), Proxy(stack.thrift_host, stack.thrift_port) as proxy:
        store = HBaseRows(HOST, proxy.port, prefix=direct.describe()["prefix"])
        assert store.get(backend.table, b"k") is None
        proxy.refuse()
        check_unavailable(store, f"{HOST}:{proxy.port}", "refuses connections", call)


def test_a_gateway_of_thrift_2_is_told(stack: LiveStack) -> None:
    with gateway(io_error(""), server_type=2) as port:
        check_unavailable(HBaseRows(HOST, port), f"{HOST}:{port}", "Thrift 2", EVERY["put"])


def test_a_gateway_without_the_calls_is_told() -> None:
    from thriftpy2.thrift import TApplicationException

    def unknown() -> Exception:
        return TApplicationException(TApplicationException.UNKNOWN_METHOD, "Invalid method name")

    with gateway(unknown) as port:
        check_unavailable(HBaseRows(HOST, port), f"{HOST}:{port}", "Thrift 1", EVERY["put"])


@pytest.mark.parametrize(
    "prefix",
    ["a b", "é_", "-x", ".x", "a:b:", ":", "n s:", "n.s:", "hbase:", "default:x", "x\n", "a" * 129],
)
def test_a_prefix_that_hbase_would_not_take_is_refused_before_io(prefix: str) -> None:
    with pytest.raises(InvalidInput, match="cannot begin the names of tables"):
        HBaseRows(HOST, 1, prefix=prefix)


def test_a_key_longer_than_hbase_takes_is_refused_before_io() -> None:
    key = b"k" * 32_767
    with closing(HBaseRows(HOST, 1)) as store:
        for call in (
            lambda: store.get("t", key),
            lambda: store.get_many("t", [key]),
            lambda: store.put("t", key, b"v"),
            lambda: store.put_many("t", {b"k": b"v", key: b"v"}),
            lambda: store.check_and_put("t", key, None, b"v"),
            lambda: store.delete_many("t", [key]),
        ):
            with pytest.raises(InvalidInput, match="32,767"):
                call()


def test_the_longest_key_can_be_scanned_behind(backend: RowBackend) -> None:
    key = b"k" * 32_766
    with closing(backend.open()) as store:
        store.put(backend.table, key, b"v")
        assert list(store.scan(backend.table, b"k", b"l", limit=2)) == [(key, b"v")]
        assert list(store.scan(backend.table, key + b"\0", b"l")) == []


def test_the_driver_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "happybase", None)
    with pytest.raises(NotInstalled) as raised:
        HBaseRows(HOST, 1)
    assert "pip install 'modelhub[hbase]'" in raised.value.remedy
