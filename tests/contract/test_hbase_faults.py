"""HBase that is not where it should be, or says no: each error names the address and the remedy."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

import pytest

from modelhub.backends import hbase_rows as rows_module
from modelhub.backends import hbase_wire
from modelhub.backends.hbase_rows import HBaseRows
from modelhub.backends.hbase_wire import Connection, UnreachableError
from modelhub.errors import (
    Forbidden,
    InvalidInput,
    ModelhubError,
    NotFound,
    NotInstalled,
    OutcomeUnknown,
    Unavailable,
)
from modelhub.stores import RowStore
from modelhub.testing.contracts import RowBackend
from modelhub.testing.contracts.rows import CALLS
from tests.live.proxy import Proxy
from tests.live.rows import Tables, hbase_rows
from tests.live.stack import LiveStack

HOST = "127.0.0.1"
TIMEOUT_S = 1.0
EVERY = {
    **CALLS,
    "create_tables": lambda store, table: store.create_tables([table]),
    "now": lambda store, _: store.now(),
    "describe": lambda store, _: store.describe(),
}
WRITES = {"put", "put_many", "put_if_absent", "check_and_put", "delete_many"}
every_call = pytest.mark.parametrize("call", EVERY.values(), ids=EVERY)
Method = Callable[[RowStore, str], object]


@pytest.fixture
def backend(stack: LiveStack) -> Iterator[RowBackend]:
    yield from hbase_rows(stack)


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


@contextmanager
def gateway(raised: Callable[[], Exception], server_type: int = 1) -> Iterator[int]:
    """A gateway that answers everything but the greeting with an error; its port."""
    protocols: Any = import_module("thriftpy2.protocol")
    transports: Any = import_module("thriftpy2.transport")
    processor = import_module("thriftpy2.thrift").TProcessor

    class Handler:
        def __getattr__(self, name: str) -> Callable[..., Any]:
            def answer(*_: object) -> Any:
                if name == "getThriftServerType":
                    return server_type
                raise raised()

            return answer

    answering = processor(hbase_wire._service(), Handler())

    def serve(client: socket.socket) -> None:
        transport = transports.TBufferedTransport(transports.TSocket(sock=client))
        protocol = protocols.TBinaryProtocol(transport)
        try:
            while True:
                answering.process(protocol, protocol)
        except Exception:  # noqa: BLE001 (the client has gone)
            client.close()

    def listen() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=[client], daemon=True).start()

    with socket.create_server((HOST, 0)) as listener:
        threading.Thread(target=listen, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def io_error(text: str) -> Callable[[], Exception]:
    return lambda: hbase_wire.idl().IOError(message=text.encode())


HBASE = "org.apache.hadoop.hbase"
BATCH = f"{HBASE}.client.RetriesExhaustedWithDetailsException"
TRACE = "\n\tat java.base/java.lang.Thread.run(Thread.java:840)\n"
FAILURES = {
    "timeout": f"{HBASE}.CallTimeoutException: callTimeout=60000, row 'k' on table 't'{TRACE}",
    "conflict": f"{HBASE}.exceptions.OperationConflictException: nonce{TRACE}",
    "do not retry": f"{HBASE}.DoNotRetryIOException: no{TRACE}",
    "disabled": f"{HBASE}.TableNotEnabledException: modelhub_t is disabled{TRACE}",
    "batch": f"{BATCH}: Failed 1 action: {HBASE}.NotServingRegionException: 1 time{TRACE}",
    "a key that looks like a table's absence": f"java.io.IOException: row 'x {HBASE}."
    f"TableNotFoundException: y' on table 't'{TRACE}",
}


@pytest.mark.parametrize("text", FAILURES.values(), ids=FAILURES)
@every_call
def test_what_hbase_failed_at_is_unknown_for_a_write_and_unavailable_for_a_read(
    call: Method, text: str, request: pytest.FixtureRequest
) -> None:
    writes = request.node.callspec.id.split("-")[0] in WRITES
    with (
        gateway(io_error(text)) as port,
        closing(HBaseRows(HOST, port, timeout_s=TIMEOUT_S)) as store,
        pytest.raises(ModelhubError, match=f"{HOST}:{port}") as raised,
    ):
        call(store, "t")
    assert type(raised.value) is (OutcomeUnknown if writes else Unavailable)
    assert raised.value.remedy
    assert "\n" not in raised.value.message
    assert "org.apache" not in raised.value.message


REFUSALS = {
    "AccessDenied": (
        f"{HBASE}.security.AccessDeniedException: {HBASE}.security.AccessDeniedException: x{TRACE}",
        Forbidden,
        "grant",
    ),
    "AccessDenied in a batch": (
        f"{BATCH}: Failed 2 actions: {HBASE}.security.AccessDeniedException: x{TRACE}",
        Forbidden,
        "grant",
    ),
    "TableNotFound": (
        f"{HBASE}.TableNotFoundException: modelhub_t{TRACE}",
        NotFound,
        "modelhub admin init",
    ),
    "TableNotFound as a cause": (
        f"java.io.IOException: failed{TRACE}Caused by: {HBASE}.TableNotFoundException: t{TRACE}",
        NotFound,
        "modelhub admin init",
    ),
    "NoSuchColumnFamily": (
        f"{HBASE}.regionserver.NoSuchColumnFamilyException: Column family m does not exist{TRACE}",
        NotFound,
        "hbase shell",
    ),
}


@pytest.mark.parametrize(("text", "error", "remedy"), REFUSALS.values(), ids=REFUSALS)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_what_hbase_refuses_is_certain(
    call: Method, text: str, error: type[ModelhubError], remedy: str
) -> None:
    with (
        gateway(io_error(text)) as port,
        closing(HBaseRows(HOST, port)) as store,
        pytest.raises(error, match=f"{HOST}:{port}") as raised,
    ):
        call(store, "t")
    assert "modelhub_t" in raised.value.message
    assert remedy in raised.value.remedy


def test_a_gateway_of_thrift_2_is_told(stack: LiveStack) -> None:
    with gateway(io_error(""), server_type=2) as port:
        check_unavailable(HBaseRows(HOST, port), f"{HOST}:{port}", "Thrift 2", EVERY["put"])


def test_a_gateway_without_the_calls_is_told() -> None:
    from thriftpy2.thrift import TApplicationException

    def unknown() -> Exception:
        return TApplicationException(TApplicationException.UNKNOWN_METHOD, "Invalid method name")

    with gateway(unknown) as port:
        check_unavailable(HBaseRows(HOST, port), f"{HOST}:{port}", "Thrift 1", EVERY["put"])


def test_a_refusal_in_the_middle_of_a_write_leaves_it_unknown(
    backend: RowBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "_BATCH_ROWS", 10)
    batches = []

    def call(connection: Connection, deadline: float, method: str, *arguments: object) -> Any:
        if method == "mutateRows":
            batches.append(arguments)
            if len(batches) == 2:
                raise UnreachableError("is gone")
        return real(connection, deadline, method, *arguments)

    real = Connection.call
    monkeypatch.setattr(Connection, "call", call)
    with closing(backend.open()) as store:
        with pytest.raises(OutcomeUnknown, match="is gone"):
            store.put_many(backend.table, {b"%02d" % number: b"v" for number in range(20)})
        assert len(list(store.scan(backend.table, b"0", b"9"))) == 10


def test_an_error_inside_the_gateway_leaves_a_write_unknown() -> None:
    from thriftpy2.thrift import TApplicationException

    def internal() -> Exception:
        return TApplicationException(TApplicationException.INTERNAL_ERROR, "Internal error")

    with gateway(internal) as port, closing(HBaseRows(HOST, port)) as store:
        with pytest.raises(OutcomeUnknown, match="Internal error"):
            store.put("t", b"k", b"v")
        with pytest.raises(Unavailable, match="Internal error"):
            store.get("t", b"k")


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_missing_table_is_named_with_its_prefix(call: Method, backend: RowBackend) -> None:
    with closing(backend.open()) as store:
        prefix = store.describe()["prefix"]
        with pytest.raises(NotFound, match=f"{prefix}missing") as raised:
            call(store, "missing")
        assert "modelhub admin init" in raised.value.remedy


def test_the_clock_of_a_hub_without_tables_is_not_found(stack: LiveStack) -> None:
    with (
        closing(HBaseRows(stack.thrift_host, stack.thrift_port, prefix="nothing_")) as store,
        pytest.raises(NotFound, match="nothing_system"),
    ):
        store.now()


def test_a_namespace_that_is_missing_is_a_matter_for_the_dba(stack: LiveStack) -> None:
    with (
        closing(HBaseRows(stack.thrift_host, stack.thrift_port, prefix="nobody_s:")) as store,
        pytest.raises(NotFound, match="no namespace nobody_s") as raised,
    ):
        store.create_tables(["log"])
    assert "create_namespace 'nobody_s'" in raised.value.remedy


def test_a_table_without_the_column_family_is_not_accepted(
    backend: RowBackend, stack: LiveStack
) -> None:
    with closing(backend.open()) as store:
        prefix = store.describe()["prefix"]
        tables = Tables(stack.thrift_host, stack.thrift_port, prefix)
        with closing(tables.connect()) as connection:
            connection.create_table(f"{prefix}other", {"q": {}})
        for call in CALLS.values():
            with pytest.raises(NotFound, match=f"{prefix}other .* no column family m"):
                call(store, "other")
        with pytest.raises(NotFound, match=f"{prefix}other .* no column family m"):
            store.create_tables(["other"])


def test_a_disabled_table_is_said_to_be_disabled(backend: RowBackend, stack: LiveStack) -> None:
    with closing(backend.open()) as store:
        prefix = store.describe()["prefix"]
        store.create_tables(["off"])
        tables = Tables(stack.thrift_host, stack.thrift_port, prefix)
        with closing(tables.connect()) as connection:
            connection.disable_table(f"{prefix}off")
        with pytest.raises(Unavailable, match=f"{prefix}off is disabled"):
            store.get("off", b"k")
        with pytest.raises(OutcomeUnknown, match=f"{prefix}off is disabled"):
            store.put("off", b"k", b"v")


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
