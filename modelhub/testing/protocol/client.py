"""A client that changes a model: the coordinator's ``commit``, one store call at a time.

The names of methods are the names of the coordinator's steps.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import msgspec
from msgspec.structs import replace

from modelhub.testing.protocol.actors import DEAD, DONE, Actor, Call, documents
from modelhub.testing.protocol.mutations import Mutation
from modelhub.testing.protocol.world import (
    ChangePack,
    Entry,
    PutFile,
    PutLog,
    PutLookup,
    PutRow,
    RemoveRows,
    Row,
    Stores,
    Write,
    facts,
)

Told = Literal["", "ok", "unchanged", "failed", "conflict", "unknown"]


class Task(msgspec.Struct, frozen=True):
    """What a client was asked to do.

    Args:
        op: what to change.
        number: the version to delete or undelete.
        request: whether it carries the (one) request id.
        expected: the parent that a publish expects; None: any.
        stores: whether a publish writes a new pack.
        reuses: an older pack that it finds chunks in.
        attempts: after so many lost attempts it gives up.
        names: after so many names of new packs it gives up.
    """

    op: Literal["publish", "delete", "undelete"] = "publish"
    number: int = 0
    request: bool = False
    expected: int | None = None
    stores: bool = False
    reuses: str = ""
    attempts: int = 2
    names: int = 2


class Client(Actor, frozen=True, gc=False, cache_hash=True):
    """A client's memory.

    ``packs`` are those that it relies on, ``doubts`` those whose rows it must (again) read, with the
    token last read; ``new`` is the pack to be written. ``before`` is the lost attempt whose
    rows are still there, ``leaving`` the one whose rows are being removed, and ``after`` what
    follows that. ``unsure``: its log row may have been put. ``debt``: search was not told.
    """

    told: Told = ""
    attempt: int = 0
    announced: bool = False
    base: int = 0
    number: int = 0
    parent: int = 0
    packs: tuple[str, ...] = ()
    doubts: tuple[tuple[str, int], ...] = ()
    new: str = ""
    names: int = 0
    before: str = ""
    leaving: str = ""
    after: str = ""
    unsure: bool = False
    debt: bool = False


@cache
def txid(name: str, attempt: int) -> str:
    """The transaction of a client's ``attempt`` (from 1)."""
    return f"{name}.{attempt}"


class ClientScript:
    """The program of one client."""

    def __init__(self, name: str, task: Task, mutation: Mutation | None) -> None:
        self.name = name
        self.task = task
        self._mutation = mutation
        self._uses_packs = task.stores or bool(task.reuses)

    def start(self) -> Client:
        """Before its first call."""
        return Client("read_head")

    def calls(self, me: Client, stores: Stores) -> list[Call]:
        """The call that it makes next."""
        return [] if me.at in {DONE, DEAD} else [getattr(self, me.at)(me, stores)]

    def crashed(self, me: Client) -> Client | None:
        """Nobody was told anything."""
        return None if me.at in {DONE, DEAD} else Client(DEAD)

    def private(self, me: Client) -> bool:
        """Hints, metadata under a name of its own, and look-ups that are not for the request id."""
        return me.at in {"read_chunks", "put_model", "put_metadata", "put_hints"} or (
            me.at == "put_lookup" and not self.task.request
        )

    def read_head(self, me: Client, stores: Stores) -> Call:
        base = len(stores.log)
        looked_up = me.attempt > 0 and self._mutation is Mutation.REQUEST_CHECKED_ONCE
        me = replace(me, base=base)
        if self.task.request and not looked_up:
            return self._read(replace(me, at="find_request"))
        return self._read(self._begun(me, stores))

    def find_request(self, me: Client, stores: Stores) -> Call:
        log = stores.log[: me.base]
        found = facts(log).by_request
        if self._mutation is Mutation.LOOKUP_BY_SEQUENCE:
            agreed = any(
                seq <= me.base and log[seq - 1].request and log[seq - 1].number == number
                for number, seq in stores.lookup
            )
        else:
            agreed = any(number == found for number, _ in stores.lookup)
        return self._read(self._ended(me, "ok") if agreed else self._begun(me, stores))

    def _begun(self, me: Client, stores: Stores) -> Client:
        """A new attempt on top of the head that was read, unless there is nothing to do."""
        known = facts(stores.log[: me.base])
        if self.task.op == "publish":
            if self.task.expected not in {None, known.head}:
                return self._ended(me, "conflict")
            me = replace(me, number=known.next, parent=known.head)
        else:
            if (self.task.number in known.deleted) == (self.task.op == "delete"):
                return self._ended(me, "unchanged")
            me = replace(me, number=self.task.number)
        if me.attempt == self.task.attempts:
            return self._ended(me, "conflict")
        me = replace(me, attempt=me.attempt + 1, announced=False, unsure=False)
        if not self._uses_packs or me.packs:
            return self._announcing(me)
        return self._storing(me)

    def _storing(self, me: Client) -> Client:
        """Everything stored from the beginning, under a new name."""
        if me.names == self.task.names:
            return Client(DONE, "failed")
        names = me.names + 1 if self.task.stores else me.names
        new = f"{self.name}-{names}" if self.task.stores else ""
        packs = (self.task.reuses,) if self.task.reuses else ()
        return replace(me, at="read_chunks", packs=packs, new=new, names=names, doubts=())

    def read_chunks(self, me: Client, _stores: Stores) -> Call:
        if self._mutation is Mutation.FILE_BEFORE_PIN and me.new and not me.announced:
            return self._read(replace(me, at="write_pack"))
        return self._read(self._announcing(me))

    def _announcing(self, me: Client) -> Client:
        if me.base == 0 and not me.announced:
            return replace(me, at="put_model")
        return replace(me, at="put_pins" if me.announced else "put_intent")

    def put_model(self, me: Client, _stores: Stores) -> Call:
        return self._settled(me, replace(me, at="put_intent"))

    def put_intent(self, me: Client, stores: Stores) -> Call:
        own = () if self._mutation is Mutation.NO_INTENT else ("",)
        return self._put_rows(me, own)

    def put_pins(self, me: Client, stores: Stores) -> Call:
        return self._put_rows(me, ())

    def _put_rows(self, me: Client, own: tuple[str, ...]) -> Call:
        pins = (*me.packs, *((me.new,) if me.new else ()))
        if self._mutation is Mutation.NO_PINS:
            pins = ()
        key = self._row_key(self._txid(me))
        rows = tuple(PutRow(Row(key, pack, me.base)) for pack in (*own, *pins))
        unchecked = self._mutation is Mutation.NO_ROW_CHECK or (
            self._mutation is Mutation.RETRY_WITHOUT_CHECKS and me.attempt > 1 and not me.new
        )
        doubts = () if unchecked else tuple((pack, 0) for pack in me.packs)
        then = self._checked(replace(me, announced=True, doubts=doubts))
        call = self._settled(me, then, rows)
        if self._mutation is Mutation.PIN_NOT_AWAITED:
            return replace(call, unsure=(then,))
        return call

    def _checked(self, me: Client) -> Client:
        """What follows a look at the rows of packs."""
        if me.doubts:
            return replace(me, at="revive_pack" if me.doubts[0][1] else "read_packs")
        return replace(me, at="write_pack" if me.new else "put_metadata")

    def read_packs(self, me: Client, stores: Stores) -> Call:
        rows = [stores.pack(name) for name, _ in me.doubts]
        dead = {row.name for row in rows if row.state not in {"live", "condemned"}}
        doubts = tuple((row.name, row.token) for row in rows if row.state == "condemned")
        if dead and not me.new:
            return self._read(self._storing(me))
        packs = tuple(pack for pack in me.packs if pack not in dead)
        return self._read(self._checked(replace(me, packs=packs, doubts=doubts)))

    def revive_pack(self, me: Client, _stores: Stores) -> Call:
        (pack, token), *others = me.doubts
        again = replace(me, at="read_packs")
        return Call(
            subject=pack,
            writes=(ChangePack(pack, token, "live"),),
            then=(self._checked(replace(me, doubts=tuple(others))),),
            refused=again,
            unsure=(again,),
        )

    def write_pack(self, me: Client, _stores: Stores) -> Call:
        again = () if self._mutation is not Mutation.OVERWRITE else (me,)
        return Call(
            subject=me.new,
            writes=(PutFile(me.new, "whole"),),
            late=(PutFile(me.new, "torn"),),
            then=(replace(me, at="register_pack"),),
            unsure=again or (Client(DONE, "failed"),),
        )

    def register_pack(self, me: Client, _stores: Stores) -> Call:
        resolve = replace(me, at="resolve_pack")
        return Call(
            subject=me.new,
            writes=(ChangePack(me.new, 0, "live"),),
            then=(self._registered(me),),
            refused=resolve,
            unsure=(resolve,),
        )

    def resolve_pack(self, me: Client, stores: Stores) -> Call:
        row = stores.pack(me.new)
        if not row.state:
            then = replace(me, at="register_pack")
        elif (row.state, row.token) == ("live", 1):
            then = self._registered(me)
        else:
            then = self._storing(me)
        return replace(self._read(then), subject=me.new, action="read_packs")

    def _registered(self, me: Client) -> Client:
        me = replace(me, packs=(*me.packs, me.new), new="")
        if not me.announced:
            return self._announcing(me)
        return self._checked(me)

    def put_metadata(self, me: Client, _stores: Stores) -> Call:
        return self._settled(me, replace(me, at="put_lookup"))

    def put_lookup(self, me: Client, _stores: Stores) -> Call:
        rows = (PutLookup(me.number, me.base + 1),) if self.task.request else ()
        return self._settled(me, self._ready(me), rows)

    def _ready(self, me: Client) -> Client:
        """To the commit, but first the lost attempt's rows go: the new one's are in place."""
        me = replace(me, at="put_log")
        return self._withdrawing(me, me.before) if me.before else me

    def put_log(self, me: Client, stores: Stores) -> Call:
        entry = Entry(
            txid=self._txid(me),
            op=self.task.op,
            previous=stores.log[me.base - 1].txid if me.base else "",
            number=me.number,
            parent=me.parent,
            request="r" if self.task.request else "",
            packs=me.packs,
        )
        read = replace(me, at="read_log")
        unsure = replace(read, unsure=True)
        refused = read if self._mutation is Mutation.FALSE_IS_CERTAIN else unsure
        return Call(
            subject=entry.txid,
            writes=(PutLog(me.base + 1, entry),),
            then=(self._landed(me),),
            refused=self._lost(me) if self._mutation is Mutation.FALSE_IS_LOST else refused,
            unsure=(unsure,),
            failed=(read,),
        )

    def read_log(self, me: Client, stores: Stores) -> Call:
        again = replace(me, at="put_log")
        gone = Client(DONE, "unknown" if me.unsure else "failed")
        if me.unsure and self._mutation is Mutation.INTENT_REMOVED_UNRESOLVED:
            gone = self._withdrawing(replace(me, at=DONE, told="unknown"), self._txid(me))
        if len(stores.log) <= me.base:
            then: tuple[Client, ...] = (again, gone)
        elif stores.log[me.base].txid == self._txid(me):
            then = (self._landed(me),)
        else:
            then = (self._lost(me),)
        return Call(subject=self._txid(me), then=then, unsure=(again, gone))

    def _landed(self, me: Client) -> Client:
        return Client("put_hints", "ok", attempt=me.attempt, base=me.base)

    def _lost(self, me: Client) -> Client:
        return Client(
            "read_head", attempt=me.attempt, packs=me.packs, names=me.names, before=self._txid(me)
        )

    def put_hints(self, me: Client, _stores: Stores) -> Call:
        told = replace(me, at="write_search")
        return Call(subject=self._txid(me), then=(told,), unsure=(told,))

    def write_search(self, me: Client, stores: Stores) -> Call:
        versioned = self._mutation is not Mutation.NO_EXTERNAL_VERSION
        shown = Client(DONE, me.told)
        owing = replace(shown, debt=True)
        return Call(
            subject=self._txid(me),
            writes=documents(stores, me.base, me.base + 1, versioned=versioned),
            then=(self._withdrawing(shown, self._txid(me)),),
            unsure=(self._withdrawing(owing, self._txid(me)),),
        )

    def remove_pins(self, me: Client, _stores: Stores) -> Call:
        out = self._withdrawn(me)
        return Call(
            subject=me.leaving,
            writes=(RemoveRows(self._row_key(me.leaving), pins=True),),
            then=(out if me.debt else replace(me, at="remove_intent"),),
            unsure=(out,),
        )

    def remove_intent(self, me: Client, _stores: Stores) -> Call:
        out = self._withdrawn(me)
        return Call(
            subject=me.leaving,
            writes=(RemoveRows(self._row_key(me.leaving), pins=False),),
            then=(out,),
            unsure=(out,),
        )

    def _withdrawing(self, after: Client, attempt: str) -> Client:
        """Remove an attempt's pins, then its intent, then go on as ``after``."""
        if after.debt and not self._uses_packs:
            return replace(after, debt=False)
        first = "remove_pins" if self._uses_packs else "remove_intent"
        return replace(after, at=first, leaving=attempt, after=after.at)

    def _withdrawn(self, me: Client) -> Client:
        return replace(me, at=me.after, leaving="", after="", before="", debt=False)

    def _ended(self, me: Client, told: Told) -> Client:
        """To the end, by way of removing the lost attempt's rows."""
        end = Client(DONE, told)
        return self._withdrawing(end, me.before) if me.before else end

    def _settled(self, me: Client, then: Client, writes: tuple[Write, ...] = ()) -> Call:
        """Repeated until acknowledged or read back, or given up; what is there then stays."""
        return Call(
            subject=self._txid(me),
            writes=writes,
            then=(then,),
            unsure=(me, Client(DONE, "failed")),
            settled=True,
        )

    def _read(self, then: Client) -> Call:
        """A read; an error ends the call, as nothing depends on it yet."""
        return Call(subject=self.name, then=(then,), unsure=(Client(DONE, "failed"),))

    def _txid(self, me: Client) -> str:
        return txid(self.name, me.attempt)

    def _row_key(self, attempt: str) -> str:
        return "shared" if self._mutation is Mutation.SHARED_INTENT else attempt
