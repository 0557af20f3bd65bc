"""What every step of the coordinator works with: the stores, who asks, clocks and patience."""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

from modelhub.content.encoder import StoragePolicy
from modelhub.content.read import Reader
from modelhub.coordinator.packs import elsewhere
from modelhub.errors import InvalidInput, Unavailable
from modelhub.names import shown
from modelhub.records import Targets
from modelhub.stores import Folder, RowStore, SearchIndex, WeightStore

Progress = Callable[[str, int, int], None]
"""Called with a phase, how much of it is done and how much there is (0: unknown), often."""

LARGEST_SKEW = timedelta(minutes=5)
_CLOCK_MAX_AGE_S = 600.0


Policy = Callable[[str, str, str], None]
"""Asked with principal, verb and model before a change does any I/O; raises ``Forbidden`` to
refuse."""


def allow_everything(_principal: str, _verb: str, _model: str) -> None:
    """The policy of a hub whose users are trusted with all of it."""


def no_folders(url: str) -> Folder:
    """The folders of a hub that knows no other file systems."""
    raise InvalidInput(
        f"{shown(url)} is a URL, and this hub knows none", remedy="Name a folder of this machine."
    )


def ignore_progress(_phase: str, _done: int, _total: int) -> None:
    """The progress of somebody who does not look."""


def new_txid() -> str:
    """A transaction's id; never used twice."""
    return secrets.token_hex(16)


@dataclass(frozen=True)
class Stores:
    """The three stores of one hub."""

    weights: WeightStore
    rows: RowStore
    search: SearchIndex


@dataclass(frozen=True)
class Patience:
    """How long things may take before others step in."""

    lease_s: float = 600.0
    grace_s: float = 600.0
    resume_hours: float = 72.0
    search_failures: int = 3
    search_rest_s: float = 30.0


class Breaker:
    """Leaves search alone for a while after it failed several times in a row."""

    def __init__(self, failures: int, rest_s: float) -> None:
        self._limit = failures
        self._rest_s = rest_s
        self._failures = 0
        self._closed_until = 0.0
        self._lock = threading.Lock()

    def allows(self) -> bool:
        """Whether a call is worth trying now."""
        with self._lock:
            return time.monotonic() >= self._closed_until

    def record(self, *, ok: bool) -> None:
        """Count the outcome of a call."""
        with self._lock:
            self._failures = 0 if ok else self._failures + 1
            if self._failures >= self._limit:
                self._failures = 0
                self._closed_until = time.monotonic() + self._rest_s


class Clock:
    """This machine's clock, refused where it is far from the row store's.

    The store is asked once in ten minutes; in between its time is carried on by the monotonic
    clock, so that a wall clock that is set wrong meanwhile is noticed without another call.
    """

    def __init__(self, rows: RowStore) -> None:
        self._rows = rows
        self._offset: timedelta | None = None
        self._asked_s = 0.0

    def now(self) -> datetime:
        """The time in UTC.

        Raises:
            Unavailable: this machine's clock is more than five minutes from the store's.
        """
        monotonic_s = time.monotonic()
        if self._offset is None or monotonic_s - self._asked_s > _CLOCK_MAX_AGE_S:
            self._offset = self._rows.now() - _from_monotonic(monotonic_s)
            self._asked_s = monotonic_s
        now = datetime.now(UTC)
        skew = abs(now - (_from_monotonic(monotonic_s) + self._offset))
        if skew > LARGEST_SKEW:
            raise Unavailable(
                f"this machine's clock is {skew.total_seconds():.0f} s from the row store's",
                remedy="Set the clock (NTP); writers more than 5 minutes off are refused.",
            )
        return now


def _from_monotonic(seconds: float) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(seconds=seconds)


@dataclass
class Context:
    """One hub as the coordinator sees it.

    ``pause`` waits for some seconds between two tries. ``folders`` opens the folder that a URL
    names. ``targets`` are the search targets as last read; whoever writes to them reads the list
    again afterwards. ``storage_policy`` is that of
    pushes that name none.
    """

    stores: Stores
    principal: str
    patience: Patience = field(default_factory=Patience)
    pause: Callable[[float], None] = time.sleep
    policy: Policy = allow_everything
    folders: Callable[[str], Folder] = no_folders
    targets: Targets | None = None
    storage_policy: StoragePolicy = "auto"
    clock: Clock = field(init=False)
    breaker: Breaker = field(init=False)
    reader: Reader = field(init=False)

    def __post_init__(self) -> None:
        self.reader = Reader(self.stores.weights, partial(elsewhere, self.stores))
        self.clock = Clock(self.stores.rows)
        self.breaker = Breaker(self.patience.search_failures, self.patience.search_rest_s)

    def back_off(self, attempt: int) -> None:
        """Wait a random while before try ``attempt`` (from 1), longer each time, at most 1 s."""
        self.pause(random.uniform(0, min(1.0, 0.01 * 2**attempt)))
