"""The rewriter of the collection models: a pack's chunks that are still in use go to a new pack."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from msgspec.structs import replace

from modelhub.testing.protocol.collected import (
    ABSENT,
    ChangePack,
    CreateFile,
    PackRow,
    Place,
    Stores,
    facts,
    followed,
    named,
)
from modelhub.testing.protocol.pack_mutations import PackMutation, Variant
from modelhub.testing.protocol.turns import DONE, Actor, Call

Held = tuple[str, PackRow]
"""A pack, and its row as the rewriter read it or put it last."""


class Rewriter(Actor, frozen=True):
    """A rewriter's memory.

    ``runs`` are over; ``left`` says of each how it ended. ``todo`` are packs that the step at hand
    is about, ``held`` those that it has condemned, ``dropped`` those to be brought back to live.
    ``attempt`` is the number of those attempts that it looks at next, ``places`` what versions use
    of chunks that the packs hold, ``chunks`` what is to be rewritten.
    """

    runs: int = 0
    left: tuple[str, ...] = ()
    todo: tuple[Held, ...] = ()
    held: tuple[Held, ...] = ()
    dropped: tuple[Held, ...] = ()
    attempt: int = 0
    places: tuple[Place, ...] = ()
    chunks: tuple[str, ...] = ()


class RewriterScript:
    """Rewrites packs, in each of its runs one or more into one new pack.

    Args:
        name: of the rewriter; its packs are named after it.
        runs: which packs each run rewrites, as far as they are live when it begins.
        attempts: the highest number of an attempt.
        mutation: what is wrong with it.
    """

    def __init__(
        self,
        name: str,
        runs: tuple[tuple[str, ...], ...],
        *,
        attempts: int = 1,
        mutation: Variant | None = None,
    ) -> None:
        self.name = name
        self._runs = runs
        self._attempts = attempts
        self._mutation = mutation
        self._blind = mutation is PackMutation.ROW_NOT_COMPARED
        self._uncondemned = mutation is PackMutation.REWRITTEN_UNCONDEMNED
        self._scans_first = mutation is PackMutation.REWRITTEN_UNSCANNED

    def start(self) -> Rewriter:
        """Before its first run."""
        return Rewriter("read_packs")

    def calls(self, me: Rewriter, stores: Stores) -> list[Call]:
        """The call that it makes next."""
        return [self._STEPS[me.at](self, me, stores)] if me.at in self._STEPS else []

    def crashed(self, me: Rewriter) -> Rewriter | None:
        """The next run is about other packs."""
        return None if me.at in {"read_packs", DONE} else self._over(me, "crashed")

    def private(self, me: Rewriter) -> bool:
        """Everything that it does depends on others."""
        del me
        return False

    def _over(self, me: Rewriter, how: str) -> Rewriter:
        at = "read_packs" if me.runs + 1 < len(self._runs) else DONE
        return Rewriter(at, me.runs + 1, (*me.left, how))

    def _new(self, me: Rewriter) -> str:
        return f"{self.name}-{me.runs + 1}"

    def _reading(self, then: Rewriter) -> Call:
        """A read. One that fails ends the run, as a crash does."""
        return Call(self.name, (then,))

    # --- the packs -----------------------------------------------------------------------------

    def _read_packs(self, me: Rewriter, stores: Stores) -> Call:
        rows = [(name, stores.pack(name).row) for name in self._runs[me.runs]]
        live = tuple((name, row) for name, row in rows if row.state == "live")
        if not live:
            return self._reading(self._over(me, "not live"))
        if self._uncondemned or self._scans_first:
            return self._reading(self._scan(replace(me, held=live)))
        return self._reading(replace(me, at="condemn_pack", todo=live))

    def _condemn_pack(self, me: Rewriter, _stores: Stores) -> Call:
        """With the name of the new pack. What may not have been condemned is left out."""
        (name, row), *others = me.todo
        unnamed = self._mutation is PackMutation.SUCCESSOR_UNNAMED
        condemned = row.then("condemned", *(() if unnamed else (self._new(me),)))
        me = replace(me, todo=tuple(others))
        held = self._condemned(replace(me, held=(*me.held, (name, condemned))))
        return self._putting((name, row), condemned, held, self._condemned(me))

    def _condemned(self, me: Rewriter) -> Rewriter:
        if me.todo:
            return me
        if not me.held:
            return self._over(me, "not condemned")
        return replace(me, at="write_pack") if self._scans_first else self._scan(me)

    def _putting(self, held: Held, row: PackRow, then: Rewriter, out: Rewriter) -> Call:
        name, standing = held
        return Call(
            name, (then,), (out,), (ChangePack(name, standing, row, self._blind),), refused=out
        )

    def _drop(self, me: Rewriter, dropped: tuple[Held, ...]) -> Rewriter:
        """Give some of the packs up, or all of them."""
        kept = tuple(held for held in me.held if held not in dropped)
        if self._uncondemned or self._scans_first:
            dropped = tuple(held for held in dropped if held[1].state == "condemned")
        me = replace(me, held=kept, dropped=dropped)
        return self._dropping(me)

    def _dropping(self, me: Rewriter) -> Rewriter:
        if me.dropped:
            return replace(me, at="revive_pack")
        if not me.held:
            return self._over(me, "given up")
        return replace(me, at="write_pack")

    def _revive_pack(self, me: Rewriter, _stores: Stores) -> Call:
        """Back to live; where that is refused or unknown, a collector does it."""
        held, *others = me.dropped
        then = self._dropping(replace(me, dropped=tuple(others)))
        return self._putting(held, held[1].then("live"), then, then)

    # --- one complete scan ---------------------------------------------------------------------

    def _scan(self, me: Rewriter) -> Rewriter:
        return replace(me, at="scan_intents", attempt=self._attempts)

    def _scan_intents(self, me: Rewriter, stores: Stores) -> Call:
        """Newer attempts before older ones; the packs that somebody relies on are given up."""
        suffix = f".{me.attempt}"
        pinned = {pin.pack for pin in stores.pins if pin.txid.endswith(suffix)}
        me = replace(me, todo=(*me.todo, *(held for held in me.held if held[0] in pinned)))
        if me.attempt > 1:
            return self._reading(replace(me, attempt=me.attempt - 1))
        dropped = tuple(sorted(set(me.todo)))
        kept = tuple(held for held in me.held if held not in dropped)
        me = replace(me, at="scan_log", attempt=0, todo=(), held=kept, dropped=dropped)
        return self._reading(me if kept else self._drop(me, dropped))

    def _scan_log(self, me: Rewriter, stores: Stores) -> Call:
        """What unpurged versions use of such chunks as the packs hold."""
        chunks = {chunk for name, _ in me.held for chunk in stores.pack(name).holds}
        versions = [*facts(stores.log).unpurged, *facts(stores.other).unpurged]
        used = {place for entry in versions for place in entry.places if place[0] in chunks}
        return self._reading(replace(me, at="scan_packs", places=tuple(sorted(used))))

    def _scan_packs(self, me: Rewriter, stores: Stores) -> Call:
        """Places follow ``moved``; what somebody else is writing is given up."""
        rows = stores.rows()
        written = () if self._mutation is PackMutation.NAMED_REWRITTEN else named(rows)
        dropped = tuple(held for held in me.held if held[0] in written)
        kept = {name for name, _ in me.held if name not in written}
        chunks = {chunk for chunk, pack in me.places if kept & followed([pack], rows)}
        me = replace(me, places=(), chunks=tuple(sorted(chunks)))
        if not chunks:
            dropped = me.held
        elif self._scans_first:
            return self._reading(replace(me, at="condemn_pack", todo=me.held, held=()))
        return self._reading(self._drop(me, (*me.dropped, *dropped)))

    # --- the new pack --------------------------------------------------------------------------

    def _write_pack(self, me: Rewriter, _stores: Stores) -> Call:
        new = self._new(me)
        return Call(
            subject=new,
            writes=(CreateFile(new, me.chunks),),
            late=(CreateFile(new),),
            then=(replace(me, at="register_pack", chunks=()),),
            unsure=(self._failed(me),),
        )

    def _failed(self, me: Rewriter) -> Rewriter:
        return self._drop(replace(me, chunks=()), me.held)

    def _register_pack(self, me: Rewriter, _stores: Stores) -> Call:
        """Put-if-absent; what is not a clean True gives up."""
        out, new = self._failed(me), self._new(me)
        then = replace(me, at="move_pack")
        write = ChangePack(new, ABSENT, ABSENT.then("live"))
        return Call(new, (then,), (out,), (write,), refused=out)

    def _move_pack(self, me: Rewriter, _stores: Stores) -> Call:
        """Against the row as this run wrote it; whatever comes of it, nothing is left to do."""
        held, *others = me.held
        me = replace(me, held=tuple(others))
        more = bool(others)
        then = me if more else self._over(me, "rewritten")
        out = me if more else self._over(me, "too late")
        return self._putting(held, held[1].then("moved", self._new(me)), then, out)

    _STEPS: ClassVar[dict[str, Callable[[RewriterScript, Rewriter, Stores], Call]]] = {
        "read_packs": _read_packs,
        "condemn_pack": _condemn_pack,
        "scan_intents": _scan_intents,
        "scan_log": _scan_log,
        "scan_packs": _scan_packs,
        "revive_pack": _revive_pack,
        "write_pack": _write_pack,
        "register_pack": _register_pack,
        "move_pack": _move_pack,
    }
