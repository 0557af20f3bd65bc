"""Stores that fail on purpose: a hub under test runs on these, and a plan decides every call.

A call may fail before it did anything, be the last thing that its process does, lose its reply, get
lost itself, or be applied after its caller gave up. What was delayed lands when the test says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Any, NoReturn, TypeVar

import msgspec

from modelhub.coordinator.context import Stores
from modelhub.errors import OutcomeUnknown, Unavailable
from modelhub.stores import (
    Document,
    FileInfo,
    Hits,
    Query,
    Row,
    RowStore,
    SearchIndex,
    WeightStore,
    Writer,
)

T = TypeVar("T")


class Outcome(Enum):
    """What becomes of one store call."""

    OK = "ok"
    FAILS_BEFORE = "fails before"
    """Unavailable; nothing was or will be applied."""
    FAILS_AFTER = "fails after"
    """Applied, and its process dies before it hears of it."""
    LOST_APPLIED = "applied, and timed out"
    LOST_DROPPED = "dropped, and timed out"
    LATE = "applied late, after the caller gave up"
    PARTIAL = "applied in part, and timed out"
    """For calls with several rows or documents alone: one of them, or the first."""
    DOUBLED = "applied twice"
    """For conditional puts alone: the second sending finds the first, and answers False."""


FAULTS = tuple(outcome for outcome in Outcome if outcome is not Outcome.OK)


class ProcessDied(BaseException):
    """The simulated end of a process: no handler may do anything any more."""


class Call(msgspec.Struct, frozen=True):
    """One store call: which store, which method, and the table, path or target."""

    store: str
    method: str
    where: str
    writes: bool
    several: bool = False
    conditional: bool = False

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """The faults that make a difference for this call."""
        if not self.writes:
            return (Outcome.FAILS_BEFORE, Outcome.FAILS_AFTER)
        senseless = {
            Outcome.PARTIAL: not self.several,
            Outcome.DOUBLED: not self.conditional,
        }
        return tuple(fault for fault in FAULTS if not senseless.get(fault))

    def __str__(self) -> str:
        return " ".join(filter(None, (f"{self.store}.{self.method}", self.where)))


def no_faults(_call: Call) -> Outcome:
    """The plan under which everything works."""
    return Outcome.OK


class Faults:
    """Wraps the stores of one simulated process; ``plan`` is asked before every call.

    ``calls`` are those made so far. A process that died stays dead: make a new ``Faults`` over the
    same stores to start another.
    """

    def __init__(self, stores: Stores, plan: Callable[[Call], Outcome] = no_faults) -> None:
        self.calls: list[Call] = []
        self.plan = plan
        self._dead = False
        self._late: list[Callable[[], object]] = []
        self.stores = Stores(
            weights=FaultyWeights(self, stores.weights),
            rows=FaultyRows(self, stores.rows),
            search=FaultySearch(self, stores.search),
        )

    @property
    def late(self) -> int:
        """How many delayed calls are on their way."""
        return len(self._late)

    def land(self, count: int | None = None) -> None:
        """Apply the delayed calls, in the order they were made; those that fail now are lost.

        With ``count`` only so many.
        """
        count = len(self._late) if count is None else count
        late, self._late = self._late[:count], self._late[count:]
        for apply in late:
            try:
                apply()
            except Exception:  # noqa: BLE001, S112 - nobody waits for this reply any more
                continue

    def call(self, call: Call, apply: Callable[[], T], part: Callable[[], object] | None) -> T:
        """Make one call under the plan; ``part`` applies it in part."""
        if self._dead:
            raise ProcessDied
        self.calls.append(call)
        outcome = self.plan(call)
        if outcome is Outcome.DOUBLED and call.conditional:
            apply()
        if outcome in {Outcome.OK, Outcome.DOUBLED}:
            return apply()
        if outcome is Outcome.FAILS_AFTER:
            apply()
            self.die()
        if outcome is Outcome.LOST_APPLIED:
            apply()
        elif outcome is Outcome.LATE:
            self._late.append(apply)
        elif outcome is Outcome.PARTIAL and part is not None:
            part()
        if outcome is Outcome.FAILS_BEFORE or not call.writes:
            raise Unavailable(f"{call.store} is away ({call.method} {call.where})")
        raise OutcomeUnknown(f"{call.store} did not answer ({call.method} {call.where})")

    def die(self) -> NoReturn:
        """End the simulated process here."""
        self._dead = True
        raise ProcessDied


class _Faulty:
    def __init__(self, faults: Faults, name: str) -> None:
        self._faults = faults
        self._name = name

    def _read(self, method: str, where: str, apply: Callable[[], T]) -> T:
        return self._faults.call(Call(self._name, method, where, writes=False), apply, None)

    def _write(
        self,
        method: str,
        where: str,
        apply: Callable[[], T],
        part: Callable[[], object] | None = None,
        *,
        conditional: bool = False,
    ) -> T:
        several = part is not None
        call = Call(self._name, method, where, True, several, conditional)
        return self._faults.call(call, apply, part)


class FaultyRows(_Faulty):
    """A ``RowStore`` under a plan."""

    def __init__(self, faults: Faults, rows: RowStore) -> None:
        super().__init__(faults, "rows")
        self._rows = rows

    def create_tables(self, tables: Sequence[str]) -> None:
        """See ``RowStore``."""
        self._write("create_tables", "", lambda: self._rows.create_tables(tables))

    def get(self, table: str, key: bytes) -> bytes | None:
        """See ``RowStore``."""
        return self._read("get", table, lambda: self._rows.get(table, key))

    def get_many(self, table: str, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """See ``RowStore``."""
        return self._read("get_many", table, lambda: self._rows.get_many(table, keys))

    def scan(
        self, table: str, start: bytes, stop: bytes, *, limit: int | None = None
    ) -> Iterator[Row]:
        """See ``RowStore``; the whole range is read at once, as one call."""
        found = self._read(
            "scan", table, lambda: list(self._rows.scan(table, start, stop, limit=limit))
        )
        return iter(found)

    def put(self, table: str, key: bytes, value: bytes) -> None:
        """See ``RowStore``."""
        self._write("put", table, lambda: self._rows.put(table, key, value))

    def put_many(self, table: str, rows: Mapping[bytes, bytes]) -> None:
        """See ``RowStore``."""
        copy = dict(rows)
        # The last by its key: of an intent and its pins, a pin; and the same one each time.
        one = dict([max(copy.items())]) if len(copy) > 1 else None
        part = None if one is None else lambda: self._rows.put_many(table, one)
        self._write("put_many", table, lambda: self._rows.put_many(table, copy), part)

    def check_and_put(self, table: str, key: bytes, expected: bytes | None, value: bytes) -> bool:
        """See ``RowStore``."""
        return self._write(
            "check_and_put",
            table,
            lambda: self._rows.check_and_put(table, key, expected, value),
            conditional=True,
        )

    def delete_many(self, table: str, keys: Iterable[bytes]) -> None:
        """See ``RowStore``."""
        doomed = list(keys)
        part = None if len(doomed) < 2 else lambda: self._rows.delete_many(table, doomed[:1])
        self._write("delete_many", table, lambda: self._rows.delete_many(table, doomed), part)

    def now(self) -> datetime:
        """See ``RowStore``."""
        return self._read("now", "", self._rows.now)

    def describe(self) -> dict[str, Any]:
        """See ``RowStore``."""
        return self._read("describe", "", self._rows.describe)

    def close(self) -> None:
        """Leave the wrapped store open: the simulated process does not own it."""


class FaultyWriter(_Faulty):
    """A ``Writer`` under a plan."""

    def __init__(self, faults: Faults, path: str, writer: Writer) -> None:
        super().__init__(faults, "weights")
        self._path = path
        self._writer = writer

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See ``Writer``."""
        kept = bytes(data)
        self._write("write", self._path, lambda: self._writer.write(kept))

    def commit(self) -> int:
        """See ``Writer``."""
        return self._write("commit", self._path, self._writer.commit)

    def abort(self) -> None:
        """See ``Writer``. What a dead process wrote is left as it is."""
        self._writer.abort()


class FaultyWeights(_Faulty):
    """A ``WeightStore`` under a plan."""

    def __init__(self, faults: Faults, weights: WeightStore) -> None:
        super().__init__(faults, "weights")
        self._weights = weights

    def create(self, path: str) -> Writer:
        """See ``WeightStore``."""
        writer = self._write("create", path, lambda: self._weights.create(path))
        return FaultyWriter(self._faults, path, writer)

    def read(self, path: str, offset: int, length: int) -> bytes:
        """See ``WeightStore``."""
        return self._read("read", path, lambda: self._weights.read(path, offset, length))

    def size(self, path: str) -> int | None:
        """See ``WeightStore``."""
        return self._read("size", path, lambda: self._weights.size(path))

    def list(self, prefix: str) -> Iterator[FileInfo]:
        """See ``WeightStore``."""
        return iter(self._read("list", prefix, lambda: list(self._weights.list(prefix))))

    def move(self, source: str, target: str) -> None:
        """See ``WeightStore``."""
        self._write("move", source, lambda: self._weights.move(source, target))

    def remove(self, path: str) -> None:
        """See ``WeightStore``."""
        self._write("remove", path, lambda: self._weights.remove(path))

    def describe(self) -> dict[str, Any]:
        """See ``WeightStore``."""
        return self._read("describe", "", self._weights.describe)

    def close(self) -> None:
        """Leave the wrapped store open: the simulated process does not own it."""


class FaultySearch(_Faulty):
    """A ``SearchIndex`` under a plan."""

    def __init__(self, faults: Faults, search: SearchIndex) -> None:
        super().__init__(faults, "search")
        self._search = search

    def create_target(self, target: str) -> None:
        """See ``SearchIndex``."""
        self._write("create_target", target, lambda: self._search.create_target(target))

    def drop_target(self, target: str) -> None:
        """See ``SearchIndex``."""
        self._write("drop_target", target, lambda: self._search.drop_target(target))

    def targets(self) -> list[str]:
        """See ``SearchIndex``."""
        return self._read("targets", "", self._search.targets)

    def write(
        self, target: str, documents: Sequence[Document], *, timeout_s: float | None = None
    ) -> None:
        """See ``SearchIndex``."""
        kept = list(documents)

        def write(some: list[Document]) -> None:
            self._search.write(target, some, timeout_s=timeout_s)

        part = None if len(kept) < 2 else lambda: write(kept[:1])
        self._write("write", target, lambda: write(kept), part)

    def refresh(self, target: str) -> None:
        """See ``SearchIndex``."""
        self._read("refresh", target, lambda: self._search.refresh(target))

    def get(self, target: str, ids: Sequence[str]) -> dict[str, Document]:
        """See ``SearchIndex``."""
        return self._read("get", target, lambda: self._search.get(target, ids))

    def scan(self, target: str) -> Iterator[Document]:
        """See ``SearchIndex``."""
        return iter(self._read("scan", target, lambda: list(self._search.scan(target))))

    def search(self, target: str, query: Query) -> Hits:
        """See ``SearchIndex``."""
        return self._read("search", target, lambda: self._search.search(target, query))

    def near(self, target: str, words: Sequence[str]) -> dict[str, list[str]]:
        """See ``SearchIndex``."""
        return self._read("near", target, lambda: self._search.near(target, words))

    def describe(self) -> dict[str, Any]:
        """See ``SearchIndex``."""
        return self._read("describe", "", self._search.describe)

    def close(self) -> None:
        """Leave the wrapped store open: the simulated process does not own it."""
