"""What HBase, or its gateway, says of a call that it took: what is certain, and what is not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from modelhub.backends import hbase_rows as rows_module
from modelhub.backends.hbase_rows import HBaseRows
from modelhub.backends.hbase_wire import Connection, UnreachableError
from modelhub.errors import Forbidden, ModelhubError, NotFound, OutcomeUnknown, Unavailable
from modelhub.stores import RowStore
from modelhub.testing.contracts import RowBackend
from modelhub.testing.contracts.rows import CALLS
from tests.live.rows import Tables
from tests.live.stack import LiveStack
from tests.live.stand_in_gateway import HOST, gateway, io_error

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
