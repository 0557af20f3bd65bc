"""A model's log: reading its head and its entries, and the one commit point of the system."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from itertools import chain, groupby, islice
from operator import itemgetter

from modelhub.coordinator import keys
from modelhub.coordinator.context import Context
from modelhub.coordinator.state import SNAPSHOT_EVERY, apply, exists
from modelhub.errors import CorruptData, ModelhubError, NotFound, OutcomeUnknown, Unavailable
from modelhub.records import Entry, State, seal, unseal
from modelhub.stores import Row, RowStore

_LOOKED_AT = 2000
_NEAR = 0.8
"""Two names in one namespace are alike already."""

_RESOLVE_TRIES = 6
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Sealed:
    """An entry and its digest."""

    entry: Entry
    digest: str


@dataclass(frozen=True)
class Head:
    """A model's log as of its entry ``seq`` (0: it has none), with the newest entries at hand."""

    name: str
    seq: int
    digest: str
    time: datetime
    state: State
    recent: dict[int, Sealed]

    def after(self, landed: Sealed) -> Head:
        """The head once ``landed`` is on top of this one."""
        entry = landed.entry
        return Head(
            self.name,
            entry.seq,
            landed.digest,
            entry.time,
            apply(self.state, entry.change),
            {**self.recent, entry.seq: landed},
        )


def read_head(rows: RowStore, name: str, *, at: int | None = None) -> Head:
    """The head of ``name``, or what it was when entry ``at`` was the newest: one scan.

    Raises:
        CorruptData: a row is damaged or the chain of digests is broken.
    """
    start, stop = keys.prefix(name)
    if at is not None:
        start = keys.log(name, at)
    found = rows.scan(keys.LOG, start, stop, limit=SNAPSHOT_EVERY)
    return head_of(name, [open_row(key, value) for key, value in found])


def head_of(name: str, newest: Sequence[Sealed]) -> Head:
    """The head that the newest entries make, of which there must be ``SNAPSHOT_EVERY`` or all.

    Raises:
        CorruptData: the chain of digests is broken.
    """
    recent = {sealed.entry.seq: sealed for sealed in newest}
    if not recent:
        return Head(name, 0, "", _BEGINNING, State(), {})
    top = newest[0]
    state = _fold(name, recent)
    return Head(name, top.entry.seq, top.digest, top.entry.time, state, recent)


def _fold(name: str, recent: dict[int, Sealed]) -> State:
    """The state after the newest of ``recent`` (newest first), from the nearest snapshot on."""
    pending: list[Entry] = []
    below: Sealed | None = None
    state: State | None = None
    for sealed in recent.values():
        if below is not None and (
            below.entry.previous != sealed.digest or below.entry.seq != sealed.entry.seq + 1
        ):
            raise _broken(name, below.entry.seq)
        below = sealed
        if state is None:
            if sealed.entry.state is not None:
                state = sealed.entry.state
            else:
                pending.append(sealed.entry)
    if state is None:
        if below is None or below.entry.seq != 1:
            raise _broken(name, below.entry.seq if below else 0)
        state = State()
    for entry in reversed(pending):
        state = apply(state, entry.change)
    return state


def _broken(name: str, seq: int) -> CorruptData:
    return CorruptData(
        f"the log of {name} is broken below entry {seq}", remedy="Run `modelhub admin fsck`."
    )


def open_row(key: bytes, value: bytes) -> Sealed:
    """The entry of a log row.

    Raises:
        CorruptData: it does not match its digest, or is not where its sequence belongs.
    """
    name, seq = keys.parse_log(key)
    entry, digest = unseal(value, f"entry {seq} of {name}'s log")
    if (entry.model, entry.seq) != (name, seq):
        raise CorruptData(
            f"the log of {name} holds something else in the place of entry {seq}",
            remedy="Run `modelhub admin fsck`.",
        )
    return Sealed(entry, digest)


def models(
    found: Iterable[Row], damaged: Callable[[str, CorruptData], None]
) -> Iterator[tuple[str, Iterator[Row]]]:
    """Every model of the log rows that were found, with its rows.

    ``damaged`` is told of the keys that name no entry.
    """

    def placed() -> Iterator[tuple[str, Row]]:
        for row in found:
            try:
                name, _ = keys.parse_log(row[0])
            except CorruptData as exc:
                damaged(row[0].decode(errors="replace"), exc)
            else:
                yield name, row

    for name, rows in groupby(placed(), key=itemgetter(0)):
        yield name, (row for _, row in rows)


def walked(name: str, rows: Iterator[Row]) -> tuple[Head, Iterator[Sealed]]:
    """A model's head and its whole log, newest first, of which the newest entries are read now.

    Raises:
        CorruptData: a row is damaged or absent; also while the log is walked.
    """
    opened = (open_row(*row) for row in rows)
    newest = list(islice(opened, SNAPSHOT_EVERY))
    head = head_of(name, newest)
    return head, chained(name, chain(newest, opened), newest=head.seq)


def require(rows: RowStore, head: Head) -> Head:
    """``head``, if users see such a model.

    Raises:
        NotFound: they do not; said is which names come near.
    """
    if not exists(head.state):
        near = _near(rows, head.name)
        meant = f"Is it {' or '.join(near)}? " if near else ""
        raise NotFound(
            f"there is no model {head.name}", remedy=f"{meant}`modelhub ls` lists the models."
        )
    return head


def _near(rows: RowStore, name: str) -> list[str]:
    """Models whose names are like this one; of those that begin with the same letter, some."""
    start = name[:1].encode()
    try:
        found = rows.scan(keys.MODELS, start, start + b"\xff", limit=_LOOKED_AT)
        known = {key.decode(errors="replace") for key, _ in found} - {name}
    except ModelhubError:
        return []
    return get_close_matches(name, sorted(known), cutoff=_NEAR)


def entries(rows: RowStore, name: str, *, newest: int, oldest: int = 1) -> Iterator[Sealed]:
    """The entries from ``newest`` down to ``oldest``; a gap is an error.

    Raises:
        CorruptData: a row is damaged, absent, or not the one that its successor names.
    """
    found = rows.scan(keys.LOG, *keys.log_range(name, newest, oldest))
    opened = (open_row(key, value) for key, value in found)
    return chained(name, opened, newest=newest, oldest=oldest)


def chained(
    name: str, found: Iterable[Sealed], *, newest: int, oldest: int = 1
) -> Iterator[Sealed]:
    """The entries that were found, which are to be those from ``newest`` down to ``oldest``.

    Raises:
        CorruptData: one is absent, or not the one that its successor names.
    """
    expected, previous = newest, ""
    for sealed in found:
        if sealed.entry.seq != expected or (previous and previous != sealed.digest):
            raise _broken(name, expected + 1)
        yield sealed
        expected, previous = sealed.entry.seq - 1, sealed.entry.previous
    if expected != oldest - 1:
        raise _broken(name, expected + 1)


def since_entry(rows: RowStore, head: Head, since: int) -> list[Sealed]:
    """The entries after ``since``, newest first; those at hand are not read again."""
    if head.seq <= since:
        return []
    if since + 1 in head.recent:
        return [head.recent[seq] for seq in range(head.seq, since, -1)]
    return list(entries(rows, head.name, newest=head.seq, oldest=since + 1))


def entry_at(rows: RowStore, name: str, seq: int) -> Sealed | None:
    """One entry, or None where the log does not reach so far."""
    key = keys.log(name, seq)
    value = rows.get(keys.LOG, key)
    return None if value is None else open_row(key, value)


def append(ctx: Context, name: str, entry: Entry) -> Sealed | None:
    """Put ``entry`` into the log, once: None if another entry is in its place for good.

    Whatever the store answers but a clean True is settled by reading the row: a False may be this
    very put, sent twice by a gateway, and an error may hide that it landed or will land. While the
    row is absent the same bytes are put again.

    Raises:
        OutcomeUnknown: the store stays away; the intent must stay.
        Unavailable: the store stayed away, and certainly took nothing.
    """
    data, digest = seal(entry)
    key = keys.log(name, entry.seq)
    rows = ctx.stores.rows
    certain, said = True, ""
    for attempt in range(1, _RESOLVE_TRIES + 1):
        try:
            if rows.check_and_put(keys.LOG, key, None, data):
                return Sealed(entry, digest)
            certain = False  # It may be an earlier sending of this very put that came first.
        except (Unavailable, OutcomeUnknown) as exc:
            certain = certain and isinstance(exc, Unavailable)
            said = exc.message
        try:
            found = rows.get(keys.LOG, key)
        except Unavailable:
            found = None
        if found == data:
            return Sealed(entry, digest)
        if found is not None:
            return None
        ctx.back_off(attempt)
    if certain:
        raise Unavailable(
            f"the row store did not take the change of {name}; nothing was changed: {said}",
            remedy="Try again when `modelhub admin status` shows it in order.",
        )
    raise OutcomeUnknown(
        f"the row store stopped answering while {name} was changed; the change may have landed",
        remedy=f"Look for txid {entry.txid} with `modelhub log {name}` before trying again, "
        "or repeat with the same --request-id.",
        txid=entry.txid,
    )
