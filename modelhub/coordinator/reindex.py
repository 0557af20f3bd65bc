"""Re-index: a new search target is filled beside the live one, and then takes its place.

The new target is registered before the log is read. Whoever commits later reads the list of targets
again after writing to those that it knew, and so writes to the new one too; whoever committed
before is in the log. Documents carry external versions, so it does not matter who writes last.

Nothing here waits for anybody: a run that lost its lease may go on for as long as it likes. The
list of targets is one row that never holds the same bytes twice, and each change of it is a
compare-and-set against what the run read while it still had its lease.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice

from msgspec.structs import replace

from modelhub.content.ahead import mapped
from modelhub.coordinator import bootstrap, index, keys
from modelhub.coordinator.context import Context, Progress, ignore_progress
from modelhub.coordinator.due import Due, due, render
from modelhub.coordinator.lease import Lease
from modelhub.coordinator.settle import change_row
from modelhub.errors import (
    Conflict,
    CorruptData,
    NotFound,
    OutcomeUnknown,
    Unavailable,
)
from modelhub.records import Reindexing, Targets, encode
from modelhub.results import Listing, Lost, Reindexed, ReindexMode

_BATCH = 200
"""An embedded index keeps publishers waiting while it takes one."""
_THREADS = 3
_WRITE_TRIES = 4
_MOST_TOLD = 1000


def reindex(
    ctx: Context, mode: ReindexMode = "whole", progress: Progress = ignore_progress
) -> Reindexed:
    """Bring search up to the log; what is done in each mode, ``Hub.reindex`` says.

    Raises:
        Conflict: another run has the lease, or took it over.
        Unavailable, OutcomeUnknown: a store stays away; the next run goes on from here.
    """
    run = _Run(ctx, progress)
    try:
        if mode == "whole" or (mode == "scheduled" and run.is_due):
            return run.whole()
        return run.incremental()
    finally:
        run.end()


def new_name(now: datetime) -> str:
    """How the name of a new target ends: tells its age, and is never used again."""
    return f"{now:%Y%m%d}-{secrets.token_hex(6)}"


class _Run:
    """One run, which holds the lease. ``CorruptData`` that it met is in ``unreadable``."""

    def __init__(self, ctx: Context, progress: Progress) -> None:
        self._ctx = ctx
        self._prefix = bootstrap.target_prefix(bootstrap.recognise(ctx))
        self._progress = progress
        self._unreadable: list[CorruptData] = []
        self._documents = self._written = 0
        self._lost: list[Lost] = []
        self._lease = Lease(ctx, keys.REINDEX, Reindexing, "re-index")

    @property
    def is_due(self) -> bool:
        """Whether to fill a target: one was begun, or the live one's form is out of date."""
        targets = index.read_targets(self._ctx)
        begun = self._state.target not in {"", targets.live}
        return begun or targets.targets != (targets.live,) or targets.layout != index.LAYOUT

    def whole(self) -> Reindexed:
        """Fill a target from the log, or go on with the one that was begun, and swap."""
        if index.read_targets(self._ctx).live == self._state.target:
            self._forget()  # a run that died had swapped, nobody knows how long ago
        epoch = self._begin_target()
        self._fill(epoch)
        target = self._state.target
        self._compare(target, epoch)
        self._ctx.stores.search.refresh(target)
        self._change_targets(self._swapped)
        self._change_targets(self._alone)
        # Before anything is dropped: what cannot be must not keep the next run from a new target.
        self._forget()
        return self._result("whole", target, self._drop_others())

    def incremental(self) -> Reindexed:
        """Compare the live target's sequences, and write documents that are lost or behind."""
        targets = index.read_targets(self._ctx)
        self._compare(targets.live, targets.epoch)
        return self._result("incremental", targets.live, self._drop_others())

    def end(self) -> None:
        """Let the next run begin at once."""
        self._lease.end()

    @property
    def _state(self) -> Reindexing:
        return self._lease.state

    def _forget(self) -> None:
        self._lease.note(target="", at="", filled=False)

    # --- the targets ---------------------------------------------------------------------------

    def _begin_target(self) -> int:
        """Make and register the target to be filled; the epoch of its documents."""
        search = self._ctx.stores.search
        there = search.targets()
        begun = self._state
        if begun.layout != index.LAYOUT or begun.target not in there or not self._answers():
            # Named here before it is made: what no list and no row names may be dropped.
            name = new_name(self._ctx.clock.now())
            self._lease.note(target=self._prefix + name, layout=index.LAYOUT, at="", filled=False)
        search.create_target(self._state.target)
        return self._change_targets(self._registered).epoch

    def _answers(self) -> bool:
        """Whether the target that was begun is of use: one without a shard keeps everybody up."""
        try:
            self._ctx.stores.search.refresh(self._state.target)
        except (Unavailable, OutcomeUnknown, NotFound, CorruptData):
            return False
        return True

    def _registered(self, targets: Targets) -> Targets:
        """With the new target beside the live one, and none that an earlier run gave up."""
        return replace(targets, targets=(targets.live, self._state.target))

    def _swapped(self, targets: Targets) -> Targets:
        if self._state.target not in targets.targets:
            raise Conflict(
                f"the search target {self._state.target} was given up meanwhile",
                remedy="Run `modelhub admin reindex` again.",
            )
        return replace(targets, live=self._state.target, layout=self._state.layout)

    def _alone(self, targets: Targets) -> Targets:
        return replace(targets, targets=(targets.live,))

    def _change_targets(self, change: Callable[[Targets], Targets]) -> Targets:
        """Change the list by compare-and-set, until it is as wanted."""
        while True:
            value = self._ctx.stores.rows.get(keys.SYSTEM, keys.SEARCH)
            standing = index.take_targets(self._ctx, value)
            wanted = change(standing)
            if wanted == standing:
                return standing
            # After the reading: whoever took over reads a list that this one changed.
            self._lease.note()
            if change_row(self._ctx, keys.SYSTEM, keys.SEARCH, value, encode(wanted)):
                return wanted

    def _drop_others(self) -> tuple[str, ...]:
        """Drop what is not registered: the target before, and what runs left that died."""
        search = self._ctx.stores.search
        found = [name for name in search.targets() if name.startswith(self._prefix)]
        # After the listing: whoever took over since may have made one that is in it.
        self._lease.note()
        registered = index.read_targets(self._ctx).targets
        # What was begun is kept for the next whole run: its registration may still be on its way.
        kept = {*registered, self._state.target}
        others = tuple(name for name in found if name not in kept)
        for name in others:
            search.drop_target(name)
        return others

    # --- the documents -------------------------------------------------------------------------

    def _fill(self, epoch: int) -> None:
        if self._state.filled:
            return
        target = self._state.target

        def write(batch: Sequence[Due]) -> tuple[str, int]:
            written = len(self._write(target, batch, epoch))
            # Those of the last model may not be all in this batch.
            return batch[-1].head.name, written

        found = due(self._ctx, self._unreadable, at=self._state.at)
        for at, written in mapped(write, _batches(found), threads=_THREADS):
            self._lease.renew(at=at)
            self._written += written
            self._progress("reindex", self._written, 0)
        self._lease.note(filled=True)

    def _compare(self, target: str, epoch: int) -> None:
        """Write what the target lacks, or has an older version of."""

        def compare(batch: Sequence[Due]) -> tuple[int, int]:
            return len(batch), self._repair(target, batch, epoch)

        found = due(self._ctx, self._unreadable)
        for looked_at, written in mapped(compare, _batches(found), threads=_THREADS):
            self._lease.renew()
            self._documents += looked_at
            self._written += written
            self._progress("compare", self._documents, 0)

    def _repair(self, target: str, batch: Sequence[Due], epoch: int) -> int:
        lacking = self._lacking(target, batch, epoch)
        # A publisher's document may be on its way. What is not there once nobody owes it is lost.
        owed = {name: self._is_owed(name) for name in {of.head.name for of in lacking}}
        unowed = [of for of in lacking if not owed[of.head.name]]
        lost = {of.id for of in self._lacking(target, unowed, epoch)}
        written = self._write(target, lacking, epoch)
        self._lost.extend(Lost(target=target, id=one) for one in written if one in lost)
        return len(written)

    def _lacking(self, target: str, batch: Sequence[Due], epoch: int) -> list[Due]:
        """Those of which the target has no document, or an older one."""
        if not batch:
            return []
        ids = [of.id for of in batch]
        held = index.held(self._ctx, target, ids, self._unreadable)
        return [
            of
            for of in batch
            if of.id not in held or held[of.id].version < index.external_version(of.seq, epoch)
        ]

    def _is_owed(self, name: str) -> bool:
        """Whether an intent says that search is behind."""
        scan = self._ctx.stores.rows.scan(keys.INTENTS, *keys.intents_range(name), limit=1)
        return next(iter(scan), None) is not None

    def _write(self, target: str, batch: Sequence[Due], epoch: int) -> list[str]:
        """Write the documents of ``batch``; the ids of those that could be rendered."""
        if not batch:
            return []
        documents = render(self._ctx, batch, self._unreadable)
        versioned = [index.at_epoch(document, epoch) for document in documents]
        for attempt in range(1, _WRITE_TRIES + 1):
            try:
                self._ctx.stores.search.write(target, versioned)
            except (Unavailable, OutcomeUnknown):
                if attempt == _WRITE_TRIES:
                    raise
                self._ctx.back_off(attempt)
            else:
                break
        return [document.id for document in versioned]

    def _result(self, mode: str, target: str, dropped: tuple[str, ...]) -> Reindexed:
        return Reindexed(
            mode=mode,
            target=target,
            documents=self._documents,
            written=self._written,
            lost=Listing(Lost, self._lost[:_MOST_TOLD]),
            documents_lost=len(self._lost),
            damaged=tuple(dict.fromkeys(error.message for error in self._unreadable)),
            dropped=dropped,
        )


def _batches(found: Iterable[Due]) -> Iterator[list[Due]]:
    source = iter(found)
    while batch := list(islice(source, _BATCH)):
        yield batch
