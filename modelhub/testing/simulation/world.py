"""What all simulated processes share: stores in memory, one time, and the log as it came to be."""

from __future__ import annotations

import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import shake_128
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar
from unittest.mock import patch

from modelhub.backends.memory import MemoryRows, MemorySearch, MemoryWeights
from modelhub.content import ahead, encoder
from modelhub.coordinator import keys
from modelhub.coordinator.context import Clock, Context, Patience, Stores
from modelhub.hub import Hub
from modelhub.records import Entry, unseal
from modelhub.testing.crashes import no_pause

P = ParamSpec("P")
T = TypeVar("T")

_CALL_TAKES = timedelta(milliseconds=250)
_NEVER_S = 1e9
PATIENCE = Patience(search_rest_s=_NEVER_S)
"""As for users; but whoever leaves search alone does so for good: it would rest by a real clock."""


class Landed(NamedTuple):
    """An entry, and at which step of the simulation it came into the log."""

    step: int
    entry: Entry


class World:
    """One hub's stores, in which time goes by with the steps of a simulation.

    Attributes:
        step: how many steps were taken.
        now: the row store's time.
        landed: each model's log.
    """

    def __init__(self) -> None:
        self.step = 0
        self.now = datetime(2026, 5, 1, tzinfo=UTC)
        self.landed: dict[str, list[Landed]] = {}
        self.stores = Stores(MemoryWeights(), _Rows(self), MemorySearch())

    def tick(self) -> None:
        """Another step: every call takes some time."""
        self.step += 1
        self.now += _CALL_TAKES

    def open_hub(self, stores: Stores, name: str, skew: timedelta = timedelta(0)) -> Hub:
        """A hub of a process of its own, whose clock is ``skew`` before the row store's."""
        ctx = Context(stores, name, PATIENCE, pause=no_pause)
        ctx.clock = _Clock(self, skew)
        return Hub(ctx, address="simulated", cache=Path("unused"))

    def entries(self, name: str) -> list[Landed]:
        """A model's log so far, oldest first."""
        return self.landed.get(name, [])


class _Clock(Clock):
    """A process's clock."""

    def __init__(self, world: World, skew: timedelta) -> None:
        super().__init__(world.stores.rows)
        self._world = world
        self._skew = skew

    def now(self) -> datetime:
        return self._world.now + self._skew


class _Rows(MemoryRows):
    """Rows that know the simulation's time, and note when an entry comes into a log.

    Rows that carry truth are written once, or by compare-and-set, and never removed.
    """

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def check_and_put(self, table: str, key: bytes, expected: bytes | None, value: bytes) -> bool:
        assert table != keys.LOG or expected is None, "a log row is to be overwritten"
        put = super().check_and_put(table, key, expected, value)
        if put and table == keys.LOG:
            entry, _ = unseal(value, "a log row")
            landed = self._world.landed.setdefault(entry.model, [])
            landed.append(Landed(self._world.step, entry))
        return put

    def put_many(self, table: str, rows: Mapping[bytes, bytes]) -> None:
        assert table not in {keys.LOG, keys.PACKS, keys.SYSTEM}, f"a plain put into {table}"
        super().put_many(table, rows)

    def delete_many(self, table: str, keys: Iterable[bytes]) -> None:
        assert table == "intents", f"rows of {table} are removed"
        super().delete_many(table, keys)

    def now(self) -> datetime:
        return self._world.now


class _InThisThread(Executor):
    """Does what it is given at once: one process is one thread."""

    def __init__(self, *_args: object, **_options: object) -> None:
        pass

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - raised by whoever asks for the result
            future.set_exception(error)
        return future


@contextmanager
def nothing_by_chance() -> Iterator[None]:
    """Whatever is random otherwise follows from who draws it, and how much was drawn before."""
    drawn: Counter[str] = Counter()

    def token_bytes(count: int) -> bytes:
        name = threading.current_thread().name
        drawn[name] += 1
        return shake_128(f"{name} {drawn[name]}".encode()).digest(count)

    def token_hex(count: int) -> str:
        return token_bytes(count).hex()

    here: dict[str, Any] = {"ThreadPoolExecutor": _InThisThread}
    with (
        patch.multiple(secrets, token_bytes=token_bytes, token_hex=token_hex),
        patch.multiple(ahead, **here),
        patch.multiple(encoder, **here),
    ):
        yield
