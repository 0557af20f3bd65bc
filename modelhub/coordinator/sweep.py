"""The sweeper: settles what crashed or paused writers left behind. Any process, any time.

An attempt whose base is behind the head can never land, or has landed. One whose base is the head
still could: when its lease is long over, a fence takes its place in the log first. Clocks affect
only when this happens, never whether it is right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby

from modelhub.coordinator import hints, index, keys
from modelhub.coordinator.context import Context, Progress, ignore_progress, new_txid
from modelhub.coordinator.log import Head, append, entry_at, read_head
from modelhub.coordinator.state import SNAPSHOT_EVERY
from modelhub.errors import CorruptData
from modelhub.records import Entry, Fence, Intent, Pin, decode
from modelhub.results import Sweep


@dataclass
class Remains:
    """The rows of one attempt: its intent, where it is there still, and its pins."""

    txid: str
    base: int
    lease: datetime
    intent: bytes | None = None
    pins: list[bytes] = field(default_factory=list)


def remains(
    ctx: Context, unreadable: Callable[[CorruptData, bytes], None] = lambda *_: None
) -> Iterator[tuple[str, list[Remains]]]:
    """Every model with intents or pins, and its attempts.

    A row that cannot be read keeps nobody from the others: ``unreadable`` is told why, and its key;
    it is left where it is, since nobody knows what relies on it.
    """
    for name, of_model in groupby(_parsed(ctx, unreadable), key=lambda row: row[0]):
        attempts: dict[str, Remains] = {}
        for _, txid, pack, key, row in of_model:
            attempt = attempts.setdefault(txid, Remains(txid, row.base, row.lease))
            attempt.lease = max(attempt.lease, row.lease)
            if pack is None:
                attempt.intent = key
            else:
                attempt.pins.append(key)
        yield name, list(attempts.values())


def _parsed(
    ctx: Context, unreadable: Callable[[CorruptData, bytes], None]
) -> Iterator[tuple[str, str, str | None, bytes, Intent | Pin]]:
    for key, value in ctx.stores.rows.scan(keys.INTENTS, *keys.intents_range()):
        row: Intent | Pin
        try:
            name, txid, pack = keys.parse_intent(key)
            subject = f"an intent of {name} ({txid})"
            row = decode(value, Intent, subject) if pack is None else decode(value, Pin, subject)
        except CorruptData as exc:
            unreadable(exc, key)
        else:
            yield name, txid, pack, key, row


def sweep(ctx: Context, progress: Progress = ignore_progress) -> Sweep:
    """Settle every attempt whose time is over, and bring search up to the log.

    Raises:
        Unavailable: a store is away; what was not settled is left as it was.
        CorruptData: a model's rows are damaged; every other model was settled.
    """
    counts = {"intents": 0, "fenced": 0, "documents": 0, "removed": 0}
    damaged: list[CorruptData] = []
    for done, (name, attempts) in enumerate(remains(ctx), 1):
        counts["intents"] += len(attempts)
        try:
            settled = _settle(ctx, name, attempts)
        except CorruptData as exc:
            damaged.append(exc)
            continue
        for key, value in settled.items():
            counts[key] += value
        progress("sweep", done, 0)
    if damaged:
        raise damaged[0]
    return Sweep(**counts)


def _settle(ctx: Context, name: str, attempts: list[Remains]) -> dict[str, int]:
    now = ctx.clock.now()
    patience = ctx.patience
    head = read_head(ctx.stores.rows, name)
    fenced = 0
    for attempt in attempts:
        if attempt.base < head.seq or now < attempt.lease + timedelta(seconds=patience.grace_s):
            continue
        head, won = _fence(ctx, head)
        fenced += won
    settled = [attempt for attempt in attempts if attempt.base < head.seq]
    written = 0
    if settled:
        written = index.refresh(ctx, head, min(attempt.base for attempt in settled))
        hints.refresh(ctx, head, min(attempt.base for attempt in settled), {})
    removed = 0
    for attempt in settled:
        if now >= attempt.lease:
            removed += _remove(ctx, name, attempt, now)
    return {"fenced": fenced, "documents": written, "removed": removed}


def _fence(ctx: Context, head: Head) -> tuple[Head, bool]:
    """Put a fence on top of ``head``: the head after it, and whether this fence is there."""
    entry = Entry(
        model=head.name,
        seq=head.seq + 1,
        txid=new_txid(),
        actor=ctx.principal,
        time=max(ctx.clock.now(), head.time),
        previous=head.digest,
        change=Fence(),
        state=head.state if (head.seq + 1) % SNAPSHOT_EVERY == 0 else None,
    )
    sealed = append(ctx, head.name, entry)
    if sealed is not None:
        return head.after(sealed), True
    return read_head(ctx.stores.rows, head.name), False


def _remove(ctx: Context, name: str, attempt: Remains, now: datetime) -> int:
    """Remove exactly this attempt's rows, pins first; how many.

    The pins of an attempt that did not land stay for a while, so that a push which is resumed finds
    the packs that it stored already.
    """
    rows = ctx.stores.rows
    doomed = list(attempt.pins)
    if doomed and now < attempt.lease + timedelta(hours=ctx.patience.resume_hours):
        placed = entry_at(rows, name, attempt.base + 1)
        if placed is None or placed.entry.txid != attempt.txid:
            doomed = []
    if doomed:
        rows.delete_many(keys.INTENTS, doomed)
    if attempt.intent is not None:
        rows.delete_many(keys.INTENTS, [attempt.intent])
    return len(doomed) + (attempt.intent is not None)
