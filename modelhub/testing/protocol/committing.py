"""A client's program: the coordinator's ``commit``, one store call at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec.structs import replace

from modelhub.testing.protocol import storing
from modelhub.testing.protocol.client import Client, Setting, Task, Told, txid
from modelhub.testing.protocol.mutations import Mutation
from modelhub.testing.protocol.turns import DEAD, DONE, Call
from modelhub.testing.protocol.world import (
    INTENT,
    Entry,
    PutLog,
    PutLookup,
    RemoveRows,
    Stores,
    documents,
    facts,
)


def read_head(who: Setting, me: Client, stores: Stores) -> Call:
    """One scan of the log; with a request id, who made it is asked before anything else."""
    me = replace(me, base=len(stores.log))
    asked = me.attempt > 0 and who.mutation is Mutation.REQUEST_CHECKED_ONCE
    if who.task.request and not asked:
        return who.reading(replace(me, at="find_request"))
    return who.reading(_begun(who, me, stores))


def find_request(who: Setting, me: Client, stores: Stores) -> Call:
    """Lookup rows say which versions to look at, and the log which of them carries the request."""
    log = stores.log[: me.base]
    made = facts(log).made
    if who.mutation is Mutation.LOOKUP_BY_SEQUENCE:
        found = any(
            seq <= me.base and log[seq - 1].request and log[seq - 1].number == number
            for number, seq in stores.lookup
        )
    else:
        found = any(number == made for number, _ in stores.lookup)
    return who.reading(_ended(who, me, "ok") if found else _begun(who, me, stores))


def _begun(who: Setting, me: Client, stores: Stores) -> Client:
    """A new attempt on top of the head that was read, unless there is none to make."""
    task = who.task
    known = facts(stores.log[: me.base])
    if task.op == "publish":
        if task.expected not in {None, known.head}:
            return _ended(who, me, "conflict")
        me = replace(me, number=known.next, parent=known.head)
    elif (task.number in known.deleted) == (task.op == "delete"):
        return _ended(who, me, "unchanged")
    else:
        me = replace(me, number=task.number)
    if me.attempt == task.attempts:
        return _ended(who, me, "conflict")
    me = replace(me, attempt=me.attempt + 1)
    return storing.storing(who, me) if task.pins and not me.packs else storing.announcing(me)


def put_metadata(who: Setting, me: Client, _stores: Stores) -> Call:
    """A row of its own, which the entry is to name."""
    return who.putting(me, replace(me, at="put_lookup"))


def put_lookup(who: Setting, me: Client, _stores: Stores) -> Call:
    """What must be found without a scan; with it, all is in place, and a lost attempt's rows go."""
    then = replace(me, at="put_log")
    if me.before:
        then = _withdrawing(who, then, me.before)
    rows = (PutLookup(me.number, me.base + 1),) if who.task.request else ()
    return who.putting(me, then, rows)


def put_log(who: Setting, me: Client, stores: Stores) -> Call:
    """The commit; anything but a clean True is settled by reading the row."""
    entry = Entry(
        txid=who.txid(me),
        op=who.task.op,
        previous=stores.log[me.base - 1].txid if me.base else "",
        number=me.number,
        parent=me.parent,
        request=who.task.request,
        packs=me.packs,
    )
    read = replace(me, at="read_log")
    unsure = replace(read, unsure=True)
    refused = {Mutation.FALSE_IS_LOST: _lost(who, me), Mutation.FALSE_IS_CERTAIN: read}
    return Call(
        subject=entry.txid,
        writes=(PutLog(me.base + 1, entry),),
        then=(_landed(me),),
        refused=unsure if who.mutation is None else refused.get(who.mutation, unsure),
        unsure=(unsure,),
        failed=(read,),
    )


def read_log(who: Setting, me: Client, stores: Stores) -> Call:
    """Mine: it landed. Another's: it never will. Absent or unreadable: put it again, or give up.

    Who gives up leaves the intent.
    """
    again = replace(me, at="put_log")
    out = Client(DONE, "unknown" if me.unsure else "failed")
    if me.unsure and who.mutation is Mutation.INTENT_REMOVED_UNRESOLVED:
        out = _withdrawing(who, out, who.txid(me))
    if len(stores.log) <= me.base:
        then: tuple[Client, ...] = (again, out)
    elif stores.log[me.base].txid == who.txid(me):
        then = (_landed(me),)
    else:
        then = (_lost(who, me),)
    return Call(who.txid(me), then, (again, out))


def _landed(me: Client) -> Client:
    return Client("put_hints", "ok", attempt=me.attempt, base=me.base)


def _lost(who: Setting, me: Client) -> Client:
    """From the head again; what is stored is kept, to be pinned and checked under a new txid."""
    return Client(
        "read_head", attempt=me.attempt, packs=me.packs, names=me.names, before=who.txid(me)
    )


def put_hints(who: Setting, me: Client, _stores: Stores) -> Call:
    """Where the version's entry is, its model's summary, its chunks."""
    then = replace(me, at="write_search")
    return Call(who.txid(me), (then,), (replace(then, debt=True),))


def write_search(who: Setting, me: Client, stores: Stores) -> Call:
    """Tried once: where it fails the intent stays, and keeps the debt."""
    versioned = who.mutation is not Mutation.NO_EXTERNAL_VERSION
    out = Client(DONE, me.told, debt=me.debt)
    return Call(
        subject=who.txid(me),
        writes=documents(stores.log[: me.base + 1], me.base, versioned=versioned),
        then=(_withdrawing(who, out, who.txid(me)),),
        unsure=(_withdrawing(who, replace(out, debt=True), who.txid(me)),),
    )


def remove_pins(who: Setting, me: Client, _stores: Stores) -> Call:
    """Alone, where the intent stays as a debt. What cannot be removed now is swept later."""
    out = _withdrawn(me)
    return Call(
        subject=me.leaving,
        writes=(RemoveRows(who.row_key(me.leaving)),),
        then=(out,),
        unsure=(out,),
    )


def remove_intent(who: Setting, me: Client, _stores: Stores) -> Call:
    """With the pins, if there are any, in any order: each of them is swept by itself."""
    out = _withdrawn(me)
    key = who.row_key(me.leaving)
    pins = (RemoveRows(key),) if who.task.pins else ()
    return Call(
        subject=me.leaving,
        writes=(*pins, RemoveRows(key, (INTENT,))),
        then=(out,),
        unsure=(out,),
    )


def _withdrawing(who: Setting, then: Client, txid: str) -> Client:
    """Remove an attempt's rows, except its intent where that is a debt; then go on as ``then``."""
    if not then.debt:
        return replace(then, at="remove_intent", leaving=txid, after=then.at)
    if who.task.pins:
        return replace(then, at="remove_pins", leaving=txid, after=then.at)
    return replace(then, debt=False)


def _withdrawn(me: Client) -> Client:
    return replace(me, at=me.after, leaving="", after="", before="", debt=False)


def _ended(who: Setting, me: Client, told: Told) -> Client:
    end = Client(DONE, told)
    return _withdrawing(who, end, me.before) if me.before else end


STEPS: Mapping[str, Callable[[Setting, Client, Stores], Call]] = {
    "read_head": read_head,
    "find_request": find_request,
    "read_chunks": storing.read_chunks,
    "put_model": storing.put_model,
    "put_intent": storing.put_intent,
    "put_pins": storing.put_pins,
    "read_packs": storing.read_packs,
    "revive_pack": storing.revive_pack,
    "write_pack": storing.write_pack,
    "register_pack": storing.register_pack,
    "resolve_pack": storing.resolve_pack,
    "put_metadata": put_metadata,
    "put_lookup": put_lookup,
    "put_log": put_log,
    "read_log": read_log,
    "put_hints": put_hints,
    "write_search": write_search,
    "remove_pins": remove_pins,
    "remove_intent": remove_intent,
}
"""The coordinator's steps, by name."""

_PRIVATE = {"read_chunks", "put_model", "put_metadata", "put_hints"}


class ClientScript:
    """The program of one client."""

    def __init__(self, name: str, task: Task, mutation: Mutation | None) -> None:
        self.name = name
        self.task = task
        self._setting = Setting(name, task, mutation)
        attempts = range(1, task.attempts + 1)
        self.txids = frozenset(txid(name, attempt) for attempt in attempts)

    def start(self) -> Client:
        """Before its first call."""
        return Client("read_head")

    def calls(self, me: Client, stores: Stores) -> list[Call]:
        """The call that it makes next."""
        return [] if me.at in {DONE, DEAD} else [STEPS[me.at](self._setting, me, stores)]

    def crashed(self, me: Client) -> Client | None:
        """Nothing is left, and nobody was told anything."""
        return None if me.at in {DONE, DEAD} else Client(DEAD)

    def private(self, me: Client) -> bool:
        """Hints, rows of its own, and lookup rows for anything but the request id."""
        return me.at in _PRIVATE or (me.at == "put_lookup" and not self.task.request)
