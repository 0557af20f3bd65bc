"""Checking a whole hub against its log, and the log against itself; and mending what can be mended.

Nothing found ends the check: what cannot be read is named, and the rest is looked at all the same.
What is known of packs, models and versions lies in a private file, so memory stays small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

from modelhub.coordinator import keys
from modelhub.coordinator.check_log import CheckedLog
from modelhub.coordinator.check_marks import CheckMarks
from modelhub.coordinator.check_model import ModelCheck
from modelhub.coordinator.check_packs import Choice, PackCheck
from modelhub.coordinator.check_rows import RowCheck
from modelhub.coordinator.context import Context, Progress, ignore_progress
from modelhub.coordinator.due import Due
from modelhub.coordinator.findings import Check
from modelhub.coordinator.lease import Lease
from modelhub.coordinator.log import models
from modelhub.coordinator.state import exists, is_purged
from modelhub.errors import ModelhubError
from modelhub.records import Checking
from modelhub.results import Health
from modelhub.stores import Row

_BATCH = 500
_NOTED_BYTES = 64 << 20
_MOST_WRONG = 1000


def _nothing(_: int) -> None:
    """What is told of bytes where nobody counts them."""


@dataclass(frozen=True)
class Reading:
    """Which bytes of packs a check reads, and how.

    ``parts`` is how many parts all chunks are in, by their digests, and ``part`` which of them is
    read. ``spend`` is told of bytes read, and may wait. With ``resume`` a check that was broken off
    is gone on with.
    """

    parts: int = 1
    part: int = 0
    spend: Callable[[int], None] = _nothing
    resume: bool = False

    def chooses(self, digest: bytes) -> bool:
        """Whether a chunk's bytes are read: over all parts each is, once."""
        return int.from_bytes(digest[:8]) % self.parts == self.part


def check_hub(
    ctx: Context, reading: Reading | None, *, progress: Progress = ignore_progress
) -> Health:
    """Check every model and pack; without ``reading``, all but the bytes inside packs.

    Raises:
        Conflict: another check that is to be resumed is under way.
        Unavailable: a store is away; a check that ends was complete.
    """
    return run_check(ctx, reading, progress).health()


def run_check(ctx: Context, reading: Reading | None, progress: Progress) -> Check:
    """The same, with what may put each finding right."""
    check = Check(ctx)
    with closing(CheckMarks()) as marks:
        _HubCheck(check, marks, reading, progress).run()
    return check


class _HubCheck:
    """One check of a hub, with what it needs at more than one place."""

    def __init__(
        self, check: Check, marks: CheckMarks, reading: Reading | None, progress: Progress
    ) -> None:
        self._check = check
        self._ctx = check.ctx
        self._marks = marks
        self._reading = reading
        self._progress = progress
        chosen: Choice | None = None if reading is None else reading.chooses
        spend = _nothing if reading is None else reading.spend
        self._packs = PackCheck(check, marks, chosen, spend)
        self._rows = RowCheck(check, marks)
        self._whole = True

    def run(self) -> None:
        """See the module."""
        targets = self._rows.check_system()
        lease = None
        if self._reading is not None and self._reading.resume:
            lease = Lease(self._ctx, keys.CHECK, Checking, "check")
        try:
            self._packs.list_all()
            self._check_log(ModelCheck(self._check, targets), lease)
            self._packs.check_needed(self._progress)
            self._packs.check_unneeded(whole=self._whole)
            if self._reading is not None:
                self._check_bytes(self._reading, lease)
            self._packs.check_chunk_rows(self._progress)
            self._rows.check_strays()
            if targets is not None:
                self._rows.check_surplus(targets)
            self._rows.check_intents()
        finally:
            if lease is not None:
                lease.end()

    def _check_log(self, models_check: ModelCheck, lease: Lease[Checking] | None) -> None:
        found = self._ctx.stores.rows.scan(keys.LOG, *keys.log_from(""))
        for done, (name, rows) in enumerate(models(found, self._damaged_key), 1):
            self._check.count("models")
            self._check_model(models_check, name, rows)
            if lease is not None:
                lease.renew()
            self._progress("fsck", done, 0)

    def _damaged_key(self, key: str, exc: object) -> None:
        self._whole = False
        self._check.report("log-damaged", key, exc)

    def _check_model(self, models_check: ModelCheck, name: str, rows: Iterable[Row]) -> None:
        log = CheckedLog(self._check, name, rows)
        self._marks.model(name, log.head.state.next if log.head else 0)
        for batch in _batches(log.versions()):
            for of in batch:
                # Of what is purged nothing has to be there any more.
                if log.head is None:
                    # What the readable entries refer to is still worth knowing to be in use.
                    if not log.is_purged(of.number):
                        self._packs.use(of)
                elif not is_purged(log.head.state, of.number):
                    self._packs.need(of)
            if log.head is not None:
                models_check.check_versions(batch)
        self._whole = self._whole and log.is_whole
        if log.head is not None and exists(log.head.state):
            models_check.check_end(log.head)

    def _check_bytes(self, reading: Reading, lease: Lease[Checking] | None) -> None:
        """Read packs in key order; the lease's row says how far, if there is one."""
        done = _Progress(lease, f"{reading.part}/{reading.parts}")
        try:
            for pack in done.begin():
                done.take(pack, *self._packs.check_chunks(pack, f"pack {pack}"), again=True)
            for found in self._packs.check_bytes(done.at, self._progress):
                done.take(*found)
        except BaseException:
            done.keep()
            raise
        done.finish()


class _Progress:
    """How far a check of bytes got, in the row of its lease; where there is none, nowhere."""

    def __init__(self, lease: Lease[Checking] | None, part: str) -> None:
        self._lease = lease
        self._part = part
        self._wrong: list[str] = []
        self._unnoted_bytes = 0
        self.at = ""

    def begin(self) -> tuple[str, ...]:
        """The packs that a check which was broken off found damaged, to be looked at again."""
        if self._lease is None or self._lease.state.part != self._part:
            return ()
        self.at = self._lease.state.at
        return self._lease.state.wrong

    def take(self, pack: str, read_bytes: int, well: bool, *, again: bool = False) -> None:
        """A pack was looked at; ``again``: it was before."""
        if not well:
            self._wrong.append(pack)
        if self._lease is None or again or len(self._wrong) > _MOST_WRONG:
            return
        self.at = pack
        self._unnoted_bytes += read_bytes
        if self._unnoted_bytes >= _NOTED_BYTES:
            self._note()
        else:
            self._lease.renew(**self._changes())

    def keep(self) -> None:
        """The check ends before it is done."""
        with suppress(ModelhubError):
            self._note()

    def finish(self) -> None:
        """The next check begins anew."""
        if self._lease is not None:
            self._lease.note(at="", wrong=(), part="")

    def _note(self) -> None:
        if self._lease is not None:
            self._lease.note(**self._changes())
            self._unnoted_bytes = 0

    def _changes(self) -> dict[str, Any]:
        return {"at": self.at, "wrong": tuple(dict.fromkeys(self._wrong)), "part": self._part}


def _batches(found: Iterator[Due]) -> Iterator[list[Due]]:
    while batch := list(islice(found, _BATCH)):
        yield batch
