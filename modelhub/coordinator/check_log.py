"""Checking a model's log in one pass from its newest entry down, which damage does not end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import NamedTuple

from modelhub.coordinator import keys
from modelhub.coordinator.due import Due
from modelhub.coordinator.findings import Check
from modelhub.coordinator.log import Head, Sealed, head_of, open_row
from modelhub.coordinator.state import SNAPSHOT_EVERY, apply, touched
from modelhub.errors import CorruptData
from modelhub.records import Edited, Floored, Published, Purged, State
from modelhub.stores import Row


class _Read(NamedTuple):
    """A row of the log, and its entry where it can be read."""

    seq: int
    sealed: Sealed | None


class CheckedLog:
    """One model's log. ``head`` is None where its newest entries do not add up.

    ``is_whole``: nothing was wrong, as far as ``versions`` was walked.
    """

    def __init__(self, check: Check, name: str, rows: Iterable[Row]) -> None:
        self.name = name
        self.is_whole = True
        self._check = check
        self._purged: set[int] = set()
        self._seq = 0
        self._above: Sealed | None = None
        self._number: int | None = None
        # The state that an entry above carries, and the entries down from that one.
        self._upper: State | None = None
        self._since: list[Sealed] = []
        opened = self._opened(rows)
        newest = list(islice(opened, SNAPSHOT_EVERY))
        self._log = chain(newest, opened)
        self.head = _head(name, newest)

    def is_purged(self, number: int) -> bool:
        """Whether an entry that was walked says so."""
        return number in self._purged

    def versions(self) -> Iterator[Due]:
        """Every readable version, newest first, as in ``due``; also reports what is wrong.

        Where there is no head, they come with one that says nothing.
        """
        head = self.head or head_of(self.name, [])
        touching: dict[int, int] = {}
        edited: dict[int, str] = {}
        for seq, sealed in self._log:
            self._follow(seq, sealed)
            if sealed is None:
                continue
            change = sealed.entry.change
            for number in touched(change):
                touching.setdefault(number, seq)
            if isinstance(change, Purged):
                self._purged.update(change.numbers)
            elif isinstance(change, Edited):
                edited.setdefault(change.number, change.metadata)
            elif isinstance(change, Published):
                number = change.number
                metadata = edited.pop(number, change.version.metadata)
                yield Due(head, sealed, number, touching.pop(number), metadata)
        self._end()

    def _opened(self, rows: Iterable[Row]) -> Iterator[_Read]:
        for key, value in rows:
            self._check.count("entries")
            seq = keys.parse_log(key)[1]
            try:
                yield _Read(seq, open_row(key, value))
            except CorruptData as exc:
                self._check.report("log-damaged", f"{self.name} entry {seq}", exc)
                self.is_whole = False
                yield _Read(seq, None)

    def _follow(self, seq: int, sealed: Sealed | None) -> None:
        """See whether this row is the one that comes below those walked so far."""
        above, self._above = self._above, sealed
        if self._seq and seq != self._seq - 1:
            self._gap(self._seq, seq + 1)
            above = None
        self._seq = seq
        if sealed is None:
            self._lose_track()
            return
        if above is not None:
            if above.entry.previous != sealed.digest:
                self._broken(seq + 1, "it does not name its predecessor's digest")
            elif above.entry.time < sealed.entry.time:
                self._broken(seq + 1, "its time is before its predecessor's")
        self._count_down(sealed)
        self._add_up(sealed)

    def _count_down(self, sealed: Sealed) -> None:
        """Versions are numbered one by one."""
        change = sealed.entry.change
        if isinstance(change, Floored):
            self._number = None  # the numbers below it are lost, and some are in no entry
        if not isinstance(change, Published):
            return
        if self._number is not None and change.number != self._number:
            cause = f"it publishes version {change.number} where {self._number} is next"
            self._broken(sealed.entry.seq, cause)
        self._number = change.number - 1

    def _add_up(self, sealed: Sealed) -> None:
        """Every so often an entry carries the state as of itself."""
        if sealed.entry.seq % SNAPSHOT_EVERY == 0:
            if sealed.entry.state is None:
                self._broken(sealed.entry.seq, "it carries no state")
                self._lose_track()
            else:
                self._compare(sealed.entry.state)
                self._upper, self._since = sealed.entry.state, []
        if self._upper is not None:
            self._since.append(sealed)

    def _compare(self, lower: State) -> None:
        """Whether a state below and the entries since add up to the one above."""
        if self._upper is None:
            return
        state = lower
        try:
            for sealed in reversed(self._since):
                state = apply(state, sealed.entry.change)
        except KeyError:  # a change of what is not there
            state = State()
        if state != self._upper:
            upper = self._since[0].entry.seq
            self._broken(upper, "the state it carries is not what the log adds up to")

    def _end(self) -> None:
        """The log ends here, and this must be where it begins."""
        if self._seq > 1:
            self._gap(self._seq, 1)
        elif self._seq == 1 and self._number:
            self._broken(1, f"the log does not hold version {self._number} and those before")
        else:
            self._compare(State())

    def _gap(self, above: int, lowest: int) -> None:
        cause = f"entries {lowest} to {above - 1} are missing or unreadable"
        self._broken(above, cause)
        self._lose_track()

    def _broken(self, seq: int, cause: str) -> None:
        self._check.report("log-broken", f"{self.name} entry {seq}", cause)
        self.is_whole = False

    def _lose_track(self) -> None:
        self._number, self._upper, self._since = None, None, []


def _head(name: str, newest: list[_Read]) -> Head | None:
    sealed = [read.sealed for read in newest if read.sealed is not None]
    if len(sealed) < len(newest):
        return None
    try:
        return head_of(name, sealed)
    except (CorruptData, KeyError):  # a change of what is not there cannot be applied
        return None
