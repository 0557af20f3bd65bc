"""One change of one model: intent, commit, rebase, search documents, clean-up.

Every verb that changes a model goes through ``commit``; what differs is how its change is built.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from modelhub.coordinator import hints, index, keys
from modelhub.coordinator.context import Context, new_txid
from modelhub.coordinator.log import Head, Sealed, append, read_head
from modelhub.coordinator.state import SNAPSHOT_EVERY, apply
from modelhub.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    ModelhubError,
    NotFound,
    OutcomeUnknown,
    Unavailable,
)
from modelhub.records import Change, Entry, Intent, Metadata, ModelHint, Pin, State, encode

_PUT_TRIES = 4
_REBASES = 1000
_STATE_BYTES = 48 << 10
"""Some 1,000 names. Every 32nd entry carries the state, and the packs of a version besides; what
deletions add to it fits in too."""
_REPEAT = "Nothing was published or changed; repeat the call."


def put_settled(ctx: Context, table: str, rows: dict[bytes, bytes]) -> None:
    """Put rows until each is acknowledged or was read back. The rows must be this writer's own.

    Raises:
        Unavailable: the store stays away; any subset of the rows may be there, or appear later.
    """
    missing = rows
    for attempt in range(1, _PUT_TRIES + 1):
        try:
            ctx.stores.rows.put_many(table, missing)
        except (Unavailable, OutcomeUnknown) as exc:
            failure: ModelhubError = exc
        else:
            return
        try:
            there = ctx.stores.rows.get_many(table, list(missing))
        except Unavailable as exc:
            failure = exc
        else:
            missing = {key: value for key, value in missing.items() if there.get(key) != value}
            if not missing:
                return
        ctx.back_off(attempt)
    raise Unavailable(failure.message, remedy=failure.remedy) from failure


def _put_first(ctx: Context, table: str, key: bytes, value: bytes) -> None:
    """Make sure that a row is there; one that is there already is left as it is.

    Conditional, so that a put which is applied late overwrites nothing that came meanwhile.

    Raises:
        Unavailable: the store stays away.
    """
    for attempt in range(1, _PUT_TRIES + 1):
        try:
            ctx.stores.rows.check_and_put(table, key, None, value)
        except (Unavailable, OutcomeUnknown) as exc:
            failure: ModelhubError = exc
            ctx.back_off(attempt)
        else:
            return
    raise Unavailable(failure.message, remedy=failure.remedy) from failure


class Attempt:
    """One try to put one entry on top of ``base``, announced by rows in ``intents``.

    Nothing that only this attempt refers to may be relied on before it was pinned.
    """

    def __init__(self, ctx: Context, head: Head, op: str) -> None:
        self.txid = new_txid()
        self.base = head.seq
        self.pins: set[str] = set()
        self._ctx = ctx
        self._head = head
        self._op = op
        self._announced = False
        self._renew_at = ctx.clock.now()

    def announce(self, packs: Iterable[str] = ()) -> None:
        """Put the intent, if it is not there yet, and pin ``packs``, each put acknowledged.

        A model's first entry has its ``models`` row put before, so that those name a superset of
        all models.
        """
        new = set(packs) - self.pins
        if self._announced and not new:
            return
        if not self._announced and self.base == 0:
            _put_first(self._ctx, keys.MODELS, keys.model(self._head.name), encode(ModelHint()))
        put_settled(self._ctx, keys.INTENTS, self._rows(new, intent=not self._announced))
        self._announced = True
        self.pins |= new

    def renew(self) -> None:
        """Prolong the lease of the intent and all pins once a third of it has gone by."""
        if self._announced and self._ctx.clock.now() >= self._renew_at:
            put_settled(self._ctx, keys.INTENTS, self._rows(self.pins, intent=True))

    def _rows(self, packs: Iterable[str], *, intent: bool) -> dict[bytes, bytes]:
        now = self._ctx.clock.now()
        lease_s = self._ctx.patience.lease_s
        lease = now + timedelta(seconds=lease_s)
        if intent:
            self._renew_at = now + timedelta(seconds=lease_s / 3)
        name = self._head.name
        pin = encode(Pin(self.base, lease))
        rows = {keys.pin(name, self.txid, pack): pin for pack in packs}
        if intent:
            rows[keys.intent(name, self.txid)] = encode(
                Intent(base=self.base, op=self._op, actor=self._ctx.principal, lease=lease)
            )
        return rows

    def withdraw(self, *, keep_intent: bool = False) -> None:
        """Remove the rows of an attempt whose fate is settled.

        What cannot be removed now is swept later, in whatever part: each row says its base and its
        lease. ``keep_intent`` leaves the intent as a debt: search does not show the change yet.
        """
        if not self._announced:
            return
        name = self._head.name
        doomed = [keys.pin(name, self.txid, pack) for pack in sorted(self.pins)]
        if not keep_intent:
            doomed.append(keys.intent(name, self.txid))
        try:
            if doomed:
                self._ctx.stores.rows.delete_many(keys.INTENTS, doomed)
        except (Unavailable, OutcomeUnknown):
            return


@dataclass(frozen=True)
class Committed:
    """A change that landed: the head with it on top, and the one before."""

    head: Head
    sealed: Sealed


class Plan(Protocol):
    """How a verb builds its change; one object lives through all rebases of one call.

    ``published`` is the entry of the version that the verb is about, once that is known. ``known``
    holds metadata that is at hand, by version, that version's included: once a change has landed,
    nothing more may have to be read before its caller hears of it.
    """

    message: str
    known: dict[int, Metadata]
    published: Sealed | None

    @property
    def op(self) -> str:
        """What the intent says is under way."""

    def build(self, head: Head, attempt: Attempt) -> Change | None:
        """The change to put on top of ``head``, with all it refers to stored and pinned.

        None: there is nothing to change any more (it is as wanted already). Called again, with a
        new head and a new attempt, whenever another entry came first.
        """

    def landed(self, committed: Committed) -> None:
        """What only this verb can put, now that its change stands. Best effort."""


def commit(ctx: Context, name: str, plan: Plan) -> Head:
    """Bring ``plan``'s change into the log of ``name``; the head that has it on top.

    A rebase gets a new txid, and the old attempt's rows go only when the new one's are in place.
    An attempt that ends with an error before its entry was sent can never land, so its
    pins may stay for a resumed push to build on; one with an unknown outcome keeps its intent.

    Raises:
        OutcomeUnknown: the change may have landed; the sweeper settles it.
        Unavailable: a store is away; nothing was changed.
        Conflict: others came first, again and again.
    """
    before: Attempt | None = None
    for rebase in range(_REBASES):
        head = read_head(ctx.stores.rows, name)
        attempt = Attempt(ctx, head, plan.op)
        try:
            change = plan.build(head, attempt)
            if change is not None:
                _check_state(head, change)
                attempt.announce()
        except (Conflict, NotFound, InvalidInput, Forbidden):
            _withdraw(before, attempt)
            raise
        except OutcomeUnknown as exc:
            # The entry was not sent, so whatever became of that call, no change can come of it.
            raise Unavailable(exc.message, remedy=_REPEAT) from exc
        if change is None:
            _withdraw(before, attempt)
            return head
        _withdraw(before)
        sealed = append(ctx, name, next_entry(ctx, head, attempt, plan, change))
        if sealed is not None:
            committed = Committed(head.after(sealed), sealed)
            _finish(ctx, plan, attempt, committed)
            return committed.head
        before = attempt
        ctx.back_off(min(rebase + 1, 4))
    _withdraw(before)
    raise Conflict(
        f"{_REBASES} other changes of {name} came first", remedy="Try again with fewer writers."
    )


def _check_state(head: Head, change: Change) -> None:
    """Refuse a new name where no row could hold the model's state beside a large version."""
    after = apply(head.state, change)
    size_bytes = len(encode(after))
    if size_bytes > _STATE_BYTES and _names(after) > _names(head.state):
        raise InvalidInput(
            f"the branches, tags and aliases of {head.name} would take {size_bytes:,} bytes; the "
            f"limit is {_STATE_BYTES:,}",
            remedy="Delete some branches or aliases; a tag's name stays taken.",
        )


def _names(state: State) -> int:
    return sum(map(len, (state.branches, state.tags, state.aliases, state.protected)))


def _withdraw(*attempts: Attempt | None) -> None:
    for attempt in attempts:
        if attempt is not None:
            attempt.withdraw()


def next_entry(ctx: Context, head: Head, attempt: Attempt, plan: Plan, change: Change) -> Entry:
    """The entry that puts ``change`` on top of ``head``."""
    seq = head.seq + 1
    return Entry(
        model=head.name,
        seq=seq,
        txid=attempt.txid,
        actor=ctx.principal,
        # Log order decides; time within it never goes back, whatever the writers' clocks say.
        time=max(ctx.clock.now(), head.time),
        message=plan.message,
        previous=head.digest,
        change=change,
        state=apply(head.state, change) if seq % SNAPSHOT_EVERY == 0 else None,
    )


def _finish(ctx: Context, plan: Plan, attempt: Attempt, committed: Committed) -> None:
    """What follows a commit: the change stands, so nothing here may fail the call.

    Where hints or search documents could not be written, the intent stays, and the sweeper does it.
    """
    try:
        plan.landed(committed)
        hints.refresh(ctx, committed.head, committed.head.seq - 1, plan.known)
        hinted = True
    except ModelhubError:
        # Whatever it is (a neighbour's damaged row, too), the caller's change has landed.
        hinted = False
    shown = index.publish_documents(ctx, committed.head, plan.known)
    attempt.withdraw(keep_intent=not (hinted and shown))
