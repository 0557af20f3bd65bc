"""Exchanges with the Thrift gateway about one hub's tables, whose errors are the project's own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from modelhub.backends import hbase_errors
from modelhub.backends.hbase_pool import Pool
from modelhub.backends.hbase_scan import Scan
from modelhub.backends.hbase_schema import COLUMN
from modelhub.backends.hbase_wire import AnsweredError, Endpoint, NoReplyError
from modelhub.errors import Forbidden, ModelhubError, NotFound

_SCAN_TRIES = 3


class Gateway:
    """The gateway at an endpoint, for the tables whose names begin with ``prefix``."""

    def __init__(self, endpoint: Endpoint, prefix: str, timeout_s: float) -> None:
        self.endpoint = endpoint
        self._prefix = prefix
        self._timeout_s = timeout_s
        self._pool = Pool(endpoint)

    def name(self, table: str) -> bytes:
        """A table's name in HBase."""
        return f"{self._prefix}{table}".encode()

    def read(self, method: str, table: str, *arguments: object) -> Any:
        """Call ``method`` about ``table``.

        Raises:
            Unavailable: there was no answer.
        """
        with self.translated(table):
            return self.call(method, self.name(table), *arguments)

    def write(self, method: str, table: str, *arguments: object, begun: bool = False) -> Any:
        """Call ``method``, which changes ``table``.

        Args:
            method: the gateway's method.
            table: the table.
            *arguments: what the method takes after the table.
            begun: whether an earlier part of the same write was acknowledged.

        Raises:
            Unavailable: it certainly changed nothing.
            OutcomeUnknown: anything less certain.
        """
        with self.translated(table, writes=True, begun=begun):
            return self.call(method, self.name(table), *arguments)

    def call(self, method: str, *arguments: object) -> Any:
        """Call ``method``; what fails is raised as ``hbase_wire`` has it."""
        deadline = self.deadline()
        with self._pool.lend(deadline) as connection:
            return connection.call(deadline, method, *arguments)

    def read_page(self, table: str, scan: Scan, wanted: int) -> None:
        """Read a scan's next page, beginning anew where a scanner failed: reads may be repeated.

        Raises:
            Unavailable: it failed three times, or the time is up, and there is no row to hand on.
        """
        deadline = self.deadline()
        for last in (False,) * (_SCAN_TRIES - 1) + (True,):
            try:
                with self._pool.lend(deadline) as connection:
                    scan.read(connection, deadline, self.name(table), wanted)
                break
            except hbase_errors.DRIVER_ERRORS as exc:
                if scan.page or not scan.more:
                    break  # the rows read are right; the next page begins behind them
                error = self._error(exc, table)
                passing = isinstance(exc, NoReplyError | AnsweredError)
                lasting = isinstance(error, NotFound | Forbidden)
                if last or lasting or not passing or time.monotonic() >= deadline:
                    raise error from exc

    def greeting(self) -> tuple[int | None, list[bytes]]:
        """What the gateway says it is, and the names of this hub's tables."""
        deadline = self.deadline()
        with self.translated(""), self._pool.lend(deadline) as connection:
            names: list[bytes] = connection.call(deadline, "getTableNames")
            prefix = self._prefix.encode()
            return connection.server_type, [name for name in names if name.startswith(prefix)]

    @contextmanager
    def translated(
        self, table: str, *, writes: bool = False, begun: bool = False
    ) -> Iterator[None]:
        """Raise what goes wrong with the gateway in the block as the project's own errors."""
        try:
            yield
        except hbase_errors.DRIVER_ERRORS as exc:
            raise self._error(exc, table, writes=writes, begun=begun) from exc

    def deadline(self) -> float:
        """When an exchange that begins now has to be over."""
        return time.monotonic() + self._timeout_s

    def close(self) -> None:
        """Close this process's connections; those in use, when their calls end."""
        self._pool.close()

    def _error(
        self,
        exc: hbase_errors.DriverError,
        table: str,
        *,
        writes: bool = False,
        begun: bool = False,
    ) -> ModelhubError:
        if isinstance(exc, AnsweredError) and hbase_errors.may_hide_a_missing_table(exc):
            try:
                self.call("get", self.name(table), b"\0", COLUMN, {})
            except hbase_errors.DRIVER_ERRORS as reason:
                missing = hbase_errors.error(reason, self.endpoint, self._prefix + table)
                if isinstance(missing, NotFound):
                    return missing
        name = self._prefix + table
        return hbase_errors.error(exc, self.endpoint, name, writes=writes, begun=begun)
