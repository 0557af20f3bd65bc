"""Rows in HBase, over its Thrift 1 gateway: a table for each table, a cell in ``m:v`` a row.

What a failed call means stands in ``hbase_errors``. What HBase does to rows that are changed again:

- A write takes the time of the region server's clock, in milliseconds, and a delete hides what is
  not younger. So a row put within a millisecond after it was deleted may stay hidden; and after a
  region moved to a server whose clock is behind, a put may be hidden by the older value, and a
  delete may leave it. ``check_and_put`` is not concerned: HBase gives its cell a time that is not
  before the cell it replaces. Rows that carry truth are written so alone, and never deleted.
- The gateway may repeat a write after it was reported as unknown, and also within one call: then
  ``check_and_put`` finds its own value and says False.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from typing import Any, Literal

from modelhub.backends.checks import check_row
from modelhub.backends.hbase_errors import names
from modelhub.backends.hbase_gateway import Gateway
from modelhub.backends.hbase_scan import PAGE_ROWS, Growth, Scan
from modelhub.backends.hbase_schema import CLOCK_COLUMN, COLUMN, FAMILY, check_prefix
from modelhub.backends.hbase_wire import AnsweredError, Endpoint, idl
from modelhub.errors import InvalidInput, NotInstalled, Unavailable
from modelhub.stores import Row

_CLOCK_TABLE = "system"
_CLOCK_CELL_MS = 60_000

_KEY_LIMIT = 32_766  # one less than HBase's own, so that a scan can begin behind any key
_BATCH_ROWS = 1000
# A framed gateway takes 2 MB at most, and each row adds some bytes of its own.
_BATCH_BYTES = 900 * 1024
_ROW_OVERHEAD_BYTES = 64
_FIRST_READ = 32
_MOST_READ = 128
_WAIT_S = 0.05
_BEING_MADE = {"TableNotEnabledException", "TableNotFoundException"}


class HBaseRows:
    """A row store on the HBase behind the Thrift gateway at ``host`` and ``port``.

    Any number of threads and forked processes may use it; each process has at most 16 connections.

    Args:
        host: the gateway's host.
        port: its port; 9090 by default on its side.
        prefix: comes before every table's name; a namespace is one that ends with a colon.
        transport: as the gateway was told; ``framed`` is its ``-f``.
        protocol: as the gateway was told; ``compact`` is its ``-c``.
        timeout_s: how long one exchange may take, connecting included. Batches and pages of scans
            are an exchange each.

    Raises:
        InvalidInput: ``prefix`` cannot begin a table's name.
        NotInstalled: happybase is missing.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        prefix: str = "modelhub_",
        transport: Literal["buffered", "framed"] = "buffered",
        protocol: Literal["binary", "compact"] = "binary",
        timeout_s: float = 10.0,
    ) -> None:
        check_prefix(prefix)
        if find_spec("happybase") is None:
            raise NotInstalled(
                "the driver of HBase is not installed",
                remedy="Run `pip install 'modelhub[hbase]'`.",
            )
        self._prefix = prefix
        self._gateway = Gateway(Endpoint(host, port, transport, protocol), prefix, timeout_s)

    def create_tables(self, tables: Sequence[str]) -> None:
        """Make the tables that are missing, unsplit, and return when all of them answer.

        Raises:
            NotFound: the prefix names a namespace that does not exist, or a table that somebody
                made has no column family ``m``.
        """
        _, there = self._gateway.greeting()
        for table in tables:
            if self._gateway.name(table) not in there:
                self._create(table)
        for table in tables:
            self._wait_for(table)

    def get(self, table: str, key: bytes) -> bytes | None:
        """The value, or None where there is no such row."""
        _check_keys([key])
        cells = self._gateway.read("get", table, key, COLUMN, {})
        return cells[0].value if cells else None

    def get_many(self, table: str, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The rows that exist among ``keys``, in batches that fit the rows' size."""
        _check_keys(keys)
        wanted = list(dict.fromkeys(keys))
        found: dict[bytes, bytes] = {}
        growth = Growth(_FIRST_READ, _MOST_READ)
        at = 0
        while at < len(wanted):
            batch = wanted[at : at + growth.count]
            rows = self._gateway.read("getRowsWithColumns", table, batch, [COLUMN], {})
            values = {row.row: row.columns[COLUMN].value for row in rows}
            growth.saw([len(value) for value in values.values()])
            found.update(values)
            at += len(batch)
        return found

    def scan(
        self, table: str, start: bytes, stop: bytes, *, limit: int | None = None
    ) -> Iterator[Row]:
        """Rows in key order, read page by page: nothing is held open between pages.

        A page whose scanner failed is begun again behind the last row seen.
        """
        scan = Scan(start, stop)
        while scan.start < stop and scan.more and (limit is None or limit > 0):
            self._gateway.read_page(table, scan, PAGE_ROWS if limit is None else limit)
            rows, scan.page = scan.page, []
            if limit is not None:
                limit -= len(rows)
            yield from rows

    def put(self, table: str, key: bytes, value: bytes) -> None:
        """Write one row, whatever it held."""
        _check_rows({key: value})
        self._gateway.write("mutateRow", table, key, [_put(value)], {})

    def put_many(self, table: str, rows: Mapping[bytes, bytes]) -> None:
        """Write rows in batches; after an error any subset of the batches may be there."""
        _check_rows(rows)
        self._mutate(table, ((key, _put(value), len(value)) for key, value in rows.items()))

    def check_and_put(self, table: str, key: bytes, expected: bytes | None, value: bytes) -> bool:
        """Write the row if it holds ``expected`` now; whether this call did."""
        _check_rows({key: value})
        check_row(key, expected)
        # The gateway takes an expectation that is not given for "is absent".
        wrote: bool = self._gateway.write(
            "checkAndPut", table, key, COLUMN, expected, _put(value), {}
        )
        return wrote

    def delete_many(self, table: str, keys: Iterable[bytes]) -> None:
        """Remove rows in batches; after an error any subset of the batches may be gone."""
        doomed = list(keys)
        _check_keys(doomed)
        delete = idl().Mutation(column=COLUMN, isDelete=True)
        self._mutate(table, ((key, delete, 0) for key in doomed))

    def now(self) -> datetime:
        """The clock of the region server that has the table ``system``, in two calls.

        It is the time that HBase gives to a cell written for the purpose: under a new key, since
        under an old one a clock that was put back would not be seen until it has caught up. HBase
        drops the cell after a minute, and no read of rows ever sees it.
        """
        key = b"clock-" + secrets.token_hex(8).encode()
        cell = idl().Mutation(column=CLOCK_COLUMN, value=b"t")
        expiry = {b"_ttl": _CLOCK_CELL_MS.to_bytes(8, "big")}
        self._gateway.read("mutateRow", _CLOCK_TABLE, key, [cell], expiry)  # nobody's row
        cells = self._gateway.read("get", _CLOCK_TABLE, key, CLOCK_COLUMN, {})
        if not cells:
            raise Unavailable(
                f"HBase behind {self._gateway.endpoint} has no clock: a cell was gone at once",
                remedy="Check the clocks of the region servers, then try again.",
            )
        return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=cells[0].timestamp)

    def describe(self) -> dict[str, Any]:
        """Kind, address, what the gateway says it is, and each table's number of regions.

        Neither HBase's version nor the bytes held can be had over Thrift.
        """
        server_type, tables = self._gateway.greeting()
        regions = {table.decode(): self._regions(table) for table in tables}
        return {
            "kind": "hbase",
            "address": str(self._gateway.endpoint),
            "version": "unknown" if server_type is None else f"Thrift {server_type} gateway",
            "prefix": self._prefix,
            "regions": regions,
        }

    def close(self) -> None:
        """Close this process's connections; those in use, when their calls end."""
        self._gateway.close()

    def _regions(self, name: bytes) -> int | None:
        """A table's number of regions; None while it is being made or dropped."""
        with self._gateway.translated(""):
            try:
                return len(self._gateway.call("getTableRegions", name))
            except AnsweredError:
                return None

    def _create(self, table: str) -> None:
        family = idl().ColumnDescriptor(
            name=f"{FAMILY}:".encode(),
            maxVersions=1,
            bloomFilterType="ROW",
            blockCacheEnabled=True,
        )
        with self._gateway.translated(table, writes=True):
            try:
                self._gateway.call("createTable", self._gateway.name(table), [family])
            except AnsweredError as exc:
                if exc.kind != "exists" and "TableExistsException" not in names(exc):
                    raise  # else somebody was faster

    def _wait_for(self, table: str) -> None:
        """Return when a table answers, which one that somebody else is making soon does."""
        deadline = self._gateway.deadline()
        with self._gateway.translated(table):
            while True:
                try:
                    self._gateway.call("get", self._gateway.name(table), b"\0", COLUMN, {})
                    break
                except AnsweredError as exc:
                    if time.monotonic() > deadline or not names(exc) & _BEING_MADE:
                        raise
                time.sleep(_WAIT_S)

    def _mutate(self, table: str, mutations: Iterable[tuple[bytes, Any, int]]) -> None:
        """Apply a mutation a row, given with the size of what it writes, in batches."""
        begun = False
        for batch in _batches(mutations):
            self._gateway.write("mutateRows", table, batch, {}, begun=begun)
            begun = True


def _batches(mutations: Iterable[tuple[bytes, Any, int]]) -> Iterator[list[Any]]:
    """Runs of rows that a gateway takes in one request."""
    batch: list[Any] = []
    size_bytes = 0
    for key, mutation, value_bytes in mutations:
        row_bytes = len(key) + value_bytes + _ROW_OVERHEAD_BYTES
        if batch and (len(batch) == _BATCH_ROWS or size_bytes + row_bytes > _BATCH_BYTES):
            yield batch
            batch, size_bytes = [], 0
        batch.append(idl().BatchMutation(row=key, mutations=[mutation]))
        size_bytes += row_bytes
    if batch:
        yield batch


def _put(value: bytes) -> Any:
    return idl().Mutation(column=COLUMN, value=value)


def _check_rows(rows: Mapping[bytes, bytes]) -> None:
    for key, value in rows.items():
        check_row(key, value)
    _check_keys(rows)


def _check_keys(keys: Iterable[bytes]) -> None:
    for key in keys:
        check_row(key, None)
        if len(key) > _KEY_LIMIT:
            raise InvalidInput(
                f"a key of {len(key):,} bytes; the limit is {_KEY_LIMIT:,}",
                remedy="Use a shorter key.",
            )
