"""A client's steps before its entry: announce, pin, look at pack rows, write and register packs."""

from __future__ import annotations

from msgspec.structs import replace

from modelhub.testing.protocol.client import Client, Setting
from modelhub.testing.protocol.mutations import Mutation
from modelhub.testing.protocol.turns import DONE, Call
from modelhub.testing.protocol.world import INTENT, ChangePack, PutFile, PutRow, Row, Stores

_FAILED = Client(DONE, "failed")


def storing(who: Setting, me: Client) -> Client:
    """Everything is stored from the beginning, new chunks under a new name."""
    task = who.task
    if me.names == task.names:
        return _FAILED
    packs = (task.reuses,) if task.reuses else ()
    new = f"{who.name}-{me.names + 1}" if task.stores else ""
    return replace(me, at="read_chunks", packs=packs, new=new, names=me.names + 1, doubts=())


def announcing(me: Client) -> Client:
    """To the intent, if it is not there yet, and the pins."""
    if me.announced:
        return replace(me, at="put_pins")
    return replace(me, at="put_intent" if me.base else "put_model")


def read_chunks(who: Setting, me: Client, _stores: Stores) -> Call:
    """Where chunks may lie: hints, however old."""
    if who.mutation is Mutation.FILE_BEFORE_PIN and not me.announced:
        return who.reading(replace(me, at="write_pack"))
    return who.reading(announcing(me))


def put_model(who: Setting, me: Client, _stores: Stores) -> Call:
    """Before a model's first entry, so that ``models`` names a superset of all."""
    return who.putting(me, replace(me, at="put_intent"))


def put_intent(who: Setting, me: Client, _stores: Stores) -> Call:
    """The intent and the first pins: one call, but not one atomic write."""
    me_announced = replace(me, announced=True)
    rows = () if who.mutation is Mutation.NO_INTENT else (_row(who, me, INTENT),)
    if who.mutation is Mutation.PIN_NOT_AWAITED and _pinned(me):
        return who.putting(me, replace(me_announced, at="put_pins"), rows)
    return who.putting(me, _to_check(who, me_announced), rows + _pins(who, me))


def put_pins(who: Setting, me: Client, _stores: Stores) -> Call:
    """Pins of packs that an announced attempt comes to rely on."""
    then = _to_check(who, me)
    call = who.putting(me, then, _pins(who, me))
    return replace(call, unsure=(then,)) if who.mutation is Mutation.PIN_NOT_AWAITED else call


def _row(who: Setting, me: Client, pack: str) -> PutRow:
    return PutRow(Row(who.row_key(who.txid(me)), pack, me.base))


def _pinned(me: Client) -> tuple[str, ...]:
    return (*me.packs, me.new) if me.new else me.packs


def _pins(who: Setting, me: Client) -> tuple[PutRow, ...]:
    if who.mutation is Mutation.NO_PINS:
        return ()
    return tuple(_row(who, me, pack) for pack in _pinned(me))


def _to_check(who: Setting, me: Client) -> Client:
    """Now that they are pinned, the rows of all packs are to be read: of own ones too."""
    rebased = me.attempt > 1 and not me.new
    unchecked = {
        Mutation.NO_ROW_CHECK: True,
        Mutation.RETRY_WITHOUT_CHECKS: rebased,
        Mutation.FILE_BEFORE_PIN: not rebased,
    }
    if who.mutation is not None and unchecked.get(who.mutation):
        return _checked(me)
    return _checked(replace(me, doubts=tuple((pack, 0) for pack in me.packs)))


def _checked(me: Client) -> Client:
    if me.doubts:
        return replace(me, at="revive_pack" if me.doubts[0][1] else "read_packs")
    return replace(me, at="write_pack" if me.new else "put_metadata")


def read_packs(who: Setting, me: Client, stores: Stores) -> Call:
    """What cannot be had any more is stored anew: in the new pack, or from the beginning."""
    rows = [stores.pack(name) for name, _ in me.doubts]
    lost = {row.name for row in rows if row.state not in {"live", "condemned"}}
    if lost and not me.new:
        return who.reading(storing(who, me))
    doubts = tuple((row.name, row.token) for row in rows if row.state == "condemned")
    packs = tuple(pack for pack in me.packs if pack not in lost)
    return who.reading(_checked(replace(me, packs=packs, doubts=doubts)))


def revive_pack(_who: Setting, me: Client, _stores: Stores) -> Call:
    """A condemned pack back to live, under a new token."""
    (pack, token), *others = me.doubts
    again = replace(me, at="read_packs")
    return Call(
        subject=pack,
        writes=(ChangePack(pack, token, "live"),),
        then=(_checked(replace(me, doubts=tuple(others))),),
        refused=again,
        unsure=(again,),
    )


def write_pack(who: Setting, me: Client, _stores: Stores) -> Call:
    """A file under a name never used before; whatever goes wrong, the name is not used again.

    What it was to hold goes into another, or the client gives up.
    """
    again = (me,) if who.mutation is Mutation.OVERWRITE else (storing(who, me), _FAILED)
    return Call(
        subject=me.new,
        writes=(PutFile(me.new, "whole"),),
        late=(PutFile(me.new, "torn"),),
        then=(replace(me, at="register_pack"),),
        unsure=tuple(dict.fromkeys(again)),
    )


def register_pack(_who: Setting, me: Client, _stores: Stores) -> Call:
    """Put-if-absent of the row; anything but True is settled by reading it."""
    resolve = replace(me, at="resolve_pack")
    return Call(
        subject=me.new,
        writes=(ChangePack(me.new, 0, "live"),),
        then=(_registered(me),),
        refused=resolve,
        unsure=(resolve,),
    )


def resolve_pack(who: Setting, me: Client, stores: Stores) -> Call:
    """The row as this client put it, or none yet; any other and the pack is lost."""
    row = stores.pack(me.new)
    out = _FAILED
    if not row.state:
        then: tuple[Client, ...] = (replace(me, at="register_pack"), out)
    elif (row.state, row.token) == ("live", 1):
        then = (_registered(me),)
    else:
        then = (storing(who, me),)
    return Call(me.new, then, (out,), action="read_packs")


def _registered(me: Client) -> Client:
    me = replace(me, packs=(*me.packs, me.new), new="")
    return replace(me, at="put_metadata") if me.announced else announcing(me)
