"""Runs of which only one is to be under way: each holds a row of ``system`` until its lease ends.

A lease keeps two runs from doing the same work. Nothing else may depend on it: a run that lost its
lease may go on for as long as it likes before it notices.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any, Generic, TypeVar

from msgspec.structs import replace

from modelhub.coordinator import keys
from modelhub.coordinator.context import Context, new_txid
from modelhub.coordinator.settle import change_row
from modelhub.errors import Conflict, CorruptData, ModelhubError
from modelhub.records import Run, decode, encode

R = TypeVar("R", bound=Run)


class Lease(Generic[R]):
    """The lease of a run that begins now; ``state`` is its row, with what the last run left.

    Args:
        ctx: the hub.
        key: of the row.
        kind: what the row holds.
        what: the run in words, such as ``"re-index"``.

    Raises:
        Conflict: another run has the lease.
        Unavailable: the row store stays away.
    """

    def __init__(self, ctx: Context, key: bytes, kind: type[R], what: str) -> None:
        self._ctx = ctx
        self._key = key
        self._what = what
        self._row = ctx.stores.rows.get(keys.SYSTEM, key)
        now = ctx.clock.now()
        self.state = kind(run="", actor="", lease=now)
        if self._row is not None:
            # One that cannot be read says nothing, and whatever its run left is there to be found.
            with suppress(CorruptData):
                self.state = decode(self._row, kind, f"the row of the {what} under way")
        if self.state.run and now < self.state.lease:
            raise Conflict(
                f"a {what} by {self.state.actor} is under way",
                remedy=f"Wait for it; if it died, another may begin at {self.state.lease:%H:%M} "
                "UTC.",
            )
        self._renew_at = now
        self.note(run=new_txid(), actor=ctx.principal)

    def note(self, **changes: Any) -> None:
        """Put how far this run got, and prolong its lease.

        Raises:
            Conflict: it lost its lease, and another run took over.
        """
        now = self._ctx.clock.now()
        lease_s = self._ctx.patience.lease_s
        self._renew_at = now + timedelta(seconds=lease_s / 3)
        state = replace(self.state, **{"lease": now + timedelta(seconds=lease_s), **changes})
        row = encode(state)
        if not change_row(self._ctx, keys.SYSTEM, self._key, self._row, row):
            raise Conflict(f"another {self._what} began meanwhile", remedy="Leave it to that one.")
        self._row, self.state = row, state

    def renew(self, **changes: Any) -> None:
        """The same, once a third of the lease has gone by."""
        if self._ctx.clock.now() >= self._renew_at:
            self.note(**changes)

    def end(self) -> None:
        """Let the next run begin at once."""
        # Where the store stays away, it begins when the lease is over.
        with suppress(ModelhubError):
            self.note(run="", lease=self._ctx.clock.now())
