"""Publishers of the collection models: they reuse a chunk of an old pack, or write a new pack.

What else a publish does, and what becomes of whoever loses, is the other models' concern.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from modelhub.testing.protocol.collected import (
    ABSENT,
    Change,
    ChangePack,
    CreateFile,
    Entry,
    PackRow,
    Pin,
    Place,
    PutLog,
    PutPin,
    RemovePins,
    Stores,
    facts,
)
from modelhub.testing.protocol.pack_mutations import PackMutation, Thrift, Variant
from modelhub.testing.protocol.turns import DEAD, DONE, Actor, Call


class Reuse(msgspec.Struct, frozen=True):
    """What a publisher is asked to publish.

    Args:
        chunk: what its version holds.
        hint: the pack that holds this chunk, as the publisher believes; empty: it is new.
        delta: whether its version holds a new chunk besides, a difference from ``chunk``.
        attempts: after so many lost attempts it gives up.
        names: after so many names of new packs it gives up.
    """

    chunk: str
    hint: str = ""
    delta: bool = False
    attempts: int = 2
    names: int = 1


class Publisher(Actor, frozen=True):
    """A publisher's memory.

    ``places`` are the chunks that are stored, ``lacking`` those yet to be stored, in the pack
    ``new``; ``names`` counts such packs. ``doubts`` are packs whose rows are to be read,
    ``standing`` is the row of a condemned one. ``before`` is the lost attempt whose pins are there.
    """

    told: str = ""
    attempt: int = 0
    base: int = 0
    places: tuple[Place, ...] = ()
    lacking: tuple[str, ...] = ()
    new: str = ""
    names: int = 0
    doubts: tuple[str, ...] = ()
    standing: PackRow = ABSENT
    before: str = ""


_FAILED = Publisher(DONE, "failed")


class PublisherScript:
    """Publishes one version.

    Args:
        name: of the publisher; its transactions and packs are named after it.
        task: what it publishes.
        mutation: what is wrong with it.
    """

    def __init__(self, name: str, task: Reuse, mutation: Variant | None = None) -> None:
        self.name = name
        self.task = task
        self._mutation = mutation

    def start(self) -> Publisher:
        """It knows from hints where its chunk lies."""
        task = self.task
        fresh = () if task.hint and not task.delta else (self._fresh,)
        places = ((task.chunk, task.hint),) if task.hint else ()
        return self._storing(Publisher("read_head", places=places, lacking=fresh))

    def calls(self, me: Publisher, stores: Stores) -> list[Call]:
        """The call that it makes next."""
        steps: dict[str, Callable[[Publisher, Stores], Call]] = {
            "read_head": self._read_head,
            "put_pins": self._put_pins,
            "read_packs": self._read_packs,
            "revive_pack": self._revive_pack,
            "write_pack": self._write_pack,
            "register_pack": self._register_pack,
            "resolve_pack": self._resolve_pack,
            "put_log": self._put_log,
            "read_log": self._read_log,
            "remove_pins": self._remove_pins,
        }
        return [steps[me.at](me, stores)] if me.at in steps else []

    def crashed(self, me: Publisher) -> Publisher | None:
        """Nothing is left, and nobody was told anything."""
        return None if me.at in {"read_head", DONE, DEAD} else Publisher(DEAD)

    def private(self, me: Publisher) -> bool:
        """Everything that it does is seen."""
        del me
        return False

    @property
    def _fresh(self) -> str:
        return self.task.chunk if not self.task.hint else f"{self.task.chunk}'"

    def _txid(self, me: Publisher) -> str:
        return f"{self.name}.{me.attempt}"

    def _reading(self, then: Publisher) -> Call:
        """A read. One that fails ends the call, as a crash does."""
        return Call(self.name, (then,))

    # --- what the version is to hold -----------------------------------------------------------

    def _read_head(self, me: Publisher, stores: Stores) -> Call:
        if me.attempt == self.task.attempts:
            return self._reading(self._leaving(Publisher(DONE, "conflict"), me.before))
        packs = tuple(sorted({pack for _, pack in me.places}))
        begun = replace(me, attempt=me.attempt + 1, base=len(stores.log), doubts=packs)
        return self._reading(replace(begun, at="put_pins"))

    def _put_pins(self, me: Publisher, _stores: Stores) -> Call:
        """Repeated until acknowledged or read back, or given up."""
        return Call(
            subject=self._txid(me),
            writes=tuple(PutPin(pin) for pin in self._pins(me)),
            then=(self._checking(me),),
            unsure=(me, _FAILED),
        )

    def _pins(self, me: Publisher) -> list[Pin]:
        packs = {pack for _, pack in me.places} | ({me.new} if me.new else set())
        return [Pin(self._txid(me), pack, me.base) for pack in sorted(packs)]

    def _checking(self, me: Publisher) -> Publisher:
        """Now that all is pinned: rows to read, a pack to write, the entry to put."""
        if me.doubts:
            return replace(me, at="read_packs")
        if me.new:
            return replace(me, at="write_pack")
        put = replace(me, at="put_log")
        return self._leaving(put, me.before) if me.before else put

    def _read_packs(self, me: Publisher, stores: Stores) -> Call:
        """Live: rely on it. Condemned: bring it back. Moved: follow. Else: store anew."""
        name, *others = me.doubts
        row = stores.pack(name).row
        if self._mutation is PackMutation.BACK_FROM_DELETING and row.state == "deleting":
            row = replace(row, state="condemned")
        match row.state:
            case "live" if self._holds(me, stores, name):
                then = self._checking(replace(me, doubts=tuple(others)))
            case "condemned" if self._holds(me, stores, name):
                then = replace(me, at="revive_pack", standing=stores.pack(name).row)
            case "moved" if row.successors:
                then = self._follow(me, name, row.successors[0])
            case _:
                then = self._store_anew(me, name)
        return self._reading(then)

    def _holds(self, me: Publisher, stores: Stores, name: str) -> bool:
        """Whether all that it seeks there is there, as the pack's trailer says."""
        if self._mutation is PackMutation.TRAILER_NOT_READ:
            return True
        held = stores.pack(name).holds
        return all(chunk in held for chunk, pack in me.places if pack == name)

    def _follow(self, me: Publisher, moved: str, successor: str) -> Publisher:
        """The same with a pack's successor: pin it, then read its row."""
        places = {(chunk, successor if pack == moved else pack) for chunk, pack in me.places}
        doubts = {successor if pack == moved else pack for pack in me.doubts}
        me = replace(me, places=tuple(sorted(places)), doubts=tuple(sorted(doubts)))
        unpinned = self._mutation in {PackMutation.FOLLOWED_UNPINNED, Thrift.PINS_FOLLOWED}
        return replace(me, at="read_packs" if unpinned else "put_pins")

    def _store_anew(self, me: Publisher, lost: str) -> Publisher:
        """A chunk whose pack is lost goes into a new pack; a difference from it is not made."""
        places = tuple(place for place in me.places if place[1] != lost)
        gone = {chunk for chunk, pack in me.places if pack == lost}
        if self.task.delta and me.lacking:
            gone = set(me.lacking)
        doubts = tuple(pack for pack in me.doubts if pack != lost)
        lacking = tuple(sorted({*me.lacking, *gone}))
        me = replace(me, places=places, lacking=lacking, doubts=doubts, at="put_pins")
        return me if me.new else self._storing(me)

    def _storing(self, me: Publisher) -> Publisher:
        """A new name for what is lacking, or the end of names."""
        if not me.lacking:
            return me
        if me.names == self.task.names:
            return _FAILED
        return replace(me, new=f"{self.name}-{me.names + 1}", names=me.names + 1)

    def _revive_pack(self, me: Publisher, _stores: Stores) -> Call:
        """A condemned pack back to live, under a new token."""
        pack, *others = me.doubts
        again = replace(me, at="read_packs", standing=ABSENT)
        blind = self._mutation is PackMutation.ROW_NOT_COMPARED
        return Call(
            subject=pack,
            writes=(ChangePack(pack, me.standing, me.standing.then("live"), blind),),
            then=(self._checking(replace(me, doubts=tuple(others), standing=ABSENT)),),
            refused=again,
            unsure=(again,),
        )

    # --- a new pack ----------------------------------------------------------------------------

    def _anew(self, me: Publisher) -> Publisher:
        """The same chunks under another name."""
        return replace(self._storing(me), at="put_pins") if me.names < self.task.names else _FAILED

    def _write_pack(self, me: Publisher, _stores: Stores) -> Call:
        """Whatever goes wrong, the name is not used again."""
        return Call(
            subject=me.new,
            writes=(CreateFile(me.new, me.lacking),),
            late=(CreateFile(me.new),),
            then=(replace(me, at="register_pack"),),
            unsure=(self._anew(me),),
        )

    def _register_pack(self, me: Publisher, _stores: Stores) -> Call:
        """Put-if-absent of the row; anything but True is settled by reading it."""
        resolve = replace(me, at="resolve_pack")
        return Call(
            subject=me.new,
            writes=(ChangePack(me.new, ABSENT, ABSENT.then("live")),),
            then=(self._registered(me),),
            refused=resolve,
            unsure=(resolve,),
        )

    def _resolve_pack(self, me: Publisher, stores: Stores) -> Call:
        """The row as this publisher put it, or none yet; any other and the pack is lost."""
        row = stores.pack(me.new).row
        if row == ABSENT:
            then: tuple[Publisher, ...] = (replace(me, at="register_pack"), _FAILED)
        else:
            own = row == ABSENT.then("live")
            then = (self._registered(me) if own else self._anew(me),)
        return Call(me.new, then, action="read_packs")

    def _registered(self, me: Publisher) -> Publisher:
        places = {*me.places, *((chunk, me.new) for chunk in me.lacking)}
        me = replace(me, places=tuple(sorted(places)), lacking=(), new="")
        return self._checking(me)

    # --- the entry -----------------------------------------------------------------------------

    def _entry(self, me: Publisher, stores: Stores) -> Entry:
        number = len(facts(stores.log[: me.base]).versions) + 1
        packs = {pack for _, pack in me.places}
        if self.task.delta and self._mutation is PackMutation.BASE_NOT_LISTED:
            packs = {pack for chunk, pack in me.places if chunk == self._fresh}
        return Entry(self._txid(me), "publish", number, me.places, tuple(sorted(packs)))

    def _put_log(self, me: Publisher, stores: Stores) -> Call:
        """The commit; anything but a clean True is settled by reading the row."""
        writes: tuple[Change, ...] = (PutLog(me.base + 1, self._entry(me, stores)),)
        read = replace(me, at="read_log")
        return Call(self._txid(me), (self._landed(me),), (read,), writes, refused=read)

    def _read_log(self, me: Publisher, stores: Stores) -> Call:
        """Mine: it landed. Another's: it never will. Absent: put it again, or give up."""
        if len(stores.log) <= me.base:
            then: tuple[Publisher, ...] = (replace(me, at="put_log"), Publisher(DONE, "unknown"))
        elif stores.log[me.base].txid == self._txid(me):
            then = (self._landed(me),)
        else:
            then = (replace(me, at="read_head", base=0, before=self._txid(me)),)
        return Call(self._txid(me), then)

    def _landed(self, me: Publisher) -> Publisher:
        return self._leaving(Publisher(DONE, "ok"), self._txid(me))

    def _leaving(self, then: Publisher, txid: str) -> Publisher:
        """Remove an attempt's pins, then go on."""
        return replace(then, at="remove_pins", before=txid)

    def _remove_pins(self, me: Publisher, _stores: Stores) -> Call:
        """What cannot be removed now is swept later."""
        at = DONE if me.told else "put_log"
        then = replace(me, at=at, before="")
        return Call(me.before, (then,), (then,), (RemovePins(me.before),))
