"""Scans over the Thrift gateway, a page at a time.

Between two pages neither a scanner nor a connection is held: whoever reads rows may take as long as
it likes, though a scanner's lease and an idle connection end after 60 s. A page's scanner begins
behind the last row seen, which takes no longer than one scanner for all: 50,000 rows of 500 bytes
took 1.5 s either way.

The gateway counts rows and not bytes. So a scan begins with so few that they fit into a page at the
limit of a row's size, asks for four times as many while rows are small, and for no more of the
largest size seen than fit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from modelhub.backends.hbase_schema import COLUMN
from modelhub.backends.hbase_wire import Connection, idl
from modelhub.stores import Row

PAGE_ROWS = 1000
PAGE_BYTES = 1024 * 1024
_FIRST = 4
_MOST = 64
"""At worst, small rows behind which only the largest come, an answer takes 16 MiB."""


class Growth:
    """How many rows of unknown size to ask for at a time."""

    def __init__(self, first: int, most: int) -> None:
        self.count = first
        self._most = most
        self._largest = 1

    def saw(self, sizes: list[int]) -> None:
        """Learn from the sizes of an answer's rows."""
        self._largest = max(self._largest, *sizes, 1)
        fit = PAGE_BYTES // self._largest
        self.count = max(1, min(self.count * 4, self._most, fit))


@dataclass
class Scan:
    """Where a scan is.

    Attributes:
        start: the next row is this or behind it.
        stop: the end of the range, which is not part of it.
        more: whether there may be rows left.
        page: rows that were read and not yet handed on.
    """

    start: bytes
    stop: bytes
    more: bool = True
    page: list[Row] = field(default_factory=list)
    _growth: Growth = field(default_factory=lambda: Growth(_FIRST, _MOST))

    def read(self, connection: Connection, deadline: float, table: bytes, wanted: int) -> None:
        """Read a page of at most ``wanted`` rows.

        After an error, ``page`` holds the rows that were read before it, and the next page begins
        behind them.
        """
        wanted = min(wanted, PAGE_ROWS)
        limits = idl().TScan(
            startRow=self.start, stopRow=self.stop, columns=[COLUMN], caching=wanted
        )
        scanner = connection.call(deadline, "scannerOpenWithScan", table, limits, {})
        size_bytes = 0
        while self.more and len(self.page) < wanted and size_bytes < PAGE_BYTES:
            count = min(self._growth.count, wanted - len(self.page))
            rows = connection.call(deadline, "scannerGetList", scanner, count)
            size_bytes += self._take(rows)
            self.more = len(rows) == count
        connection.call(deadline, "scannerClose", scanner)

    def _take(self, rows: list[Any]) -> int:
        found = [(row.row, row.columns[COLUMN].value) for row in rows]
        if found:
            self.page.extend(found)
            self.start = found[-1][0] + b"\0"
        sizes = [len(value) for _, value in found]
        self._growth.saw(sizes)
        return sum(sizes)
