"""The actors of the restore models: who restores, and who goes on as if nothing had happened."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import ClassVar

from msgspec.structs import replace

from modelhub.testing.protocol.epochs import (
    Change,
    ChangePack,
    Entry,
    MoveFile,
    PackRow,
    PutLog,
    PutPin,
    PutSystem,
    RenameFolder,
    Restore,
    Stores,
    System,
    Tables,
    facts,
    folder,
)
from modelhub.testing.protocol.turns import DEAD, DONE, Actor, Call


class RestoreMutation(Enum):
    """A rule of restoring, broken. The value says how."""

    FALLEN_THROUGH = "a change that goes on in the new epoch's tables"
    EPOCH_NOT_READ_AGAIN = "a commit acknowledged without reading the epoch again"
    SURVIVORS_READ_FIRST = "surviving numbers read before the old epoch was closed"
    NUMBERS_FROM_BACKUP = "numbers taken from the backup alone"
    ROWS_FROM_BACKUP = "pack rows taken from the backup, not from the files present"
    FOLDER_SHARED = "both epochs' packs in one folder"
    EPOCH_USED_TWICE = "a restore that goes on with the tables of one that died"


PACK = "x"
_NO_ROW = PackRow(PACK, "", 0)


class Client(Actor, frozen=True):
    """The memory of a publisher or collector: its epoch, its base, and the pack's row as read."""

    told: str = ""
    epoch: int = 0
    base: int = 0
    number: int = 0
    row: PackRow = _NO_ROW


class ClientScript:
    """What publishers and collectors have in common: one epoch from their beginning to their end.

    Args:
        name: of the actor.
        mutation: what is wrong with it.
    """

    def __init__(self, name: str, mutation: RestoreMutation | None = None) -> None:
        self.name = name
        self._mutation = mutation
        self._steps: dict[str, Callable[[Client, Stores], Call | None]] = {}

    def start(self) -> Client:
        """Before it knows the epoch."""
        return Client("read_system")

    def calls(self, me: Client, stores: Stores) -> list[Call]:
        """The call that it makes next."""
        call = self._steps[me.at](me, stores) if me.at in self._steps else None
        return [] if call is None else [call]

    def crashed(self, me: Client) -> Client | None:
        """Nothing is left."""
        return None if me.at in {"read_system", DONE, DEAD} else Client(DEAD)

    def private(self, me: Client) -> bool:
        """Everything that it does depends on others."""
        del me
        return False

    def _epoch(self, me: Client, stores: Stores) -> int:
        """Whose tables a call goes to."""
        fallen = self._mutation is RestoreMutation.FALLEN_THROUGH
        return stores.system.epoch if fallen else me.epoch

    def _folder(self, epoch: int) -> str:
        return folder(1 if self._mutation is RestoreMutation.FOLDER_SHARED else epoch)


class PublisherScript(ClientScript):
    """Publishes one version that reuses the pack, in a single attempt."""

    def __init__(self, name: str, mutation: RestoreMutation | None = None) -> None:
        super().__init__(name, mutation)
        self._steps = {
            "read_system": self._read_system,
            "read_head": self._read_head,
            "put_pins": self._put_pins,
            "read_packs": self._read_packs,
            "revive_pack": self._revive_pack,
            "put_log": self._put_log,
            "read_system_again": self._read_system_again,
            "remove_pins": self._remove_pins,
        }

    def _read_system(self, _me: Client, stores: Stores) -> Call | None:
        """Who comes while a restore is under way is refused, and comes again."""
        if not stores.system.open:
            return None
        return Call(self.name, (Client("read_head", epoch=stores.system.epoch),))

    def _read_head(self, me: Client, stores: Stores) -> Call:
        tables = stores.of(self._epoch(me, stores))
        number = max(tables.taken, facts(tables.log).highest) + 1
        then = replace(me, at="put_pins", base=len(tables.log), number=number)
        return Call(self.name, (then,))

    def _put_pins(self, me: Client, stores: Stores) -> Call:
        write = PutPin(self._epoch(me, stores), self.name)
        then = replace(me, at="read_packs")
        return Call(self.name, (then,), (me, Client(DONE, "failed")), (write,))

    def _read_packs(self, me: Client, stores: Stores) -> Call:
        """What is neither live nor condemned would be stored anew, which is not about this."""
        row = stores.of(self._epoch(me, stores)).row(PACK)
        at = {"live": "put_log", "condemned": "revive_pack"}.get(row.state)
        then = replace(me, at=at, row=row) if at else Client(DONE, "failed")
        return Call(self.name, (then,))

    def _revive_pack(self, me: Client, stores: Stores) -> Call:
        write = ChangePack(self._epoch(me, stores), me.row, "live")
        again = replace(me, at="read_packs", row=_NO_ROW)
        then = replace(me, at="put_log", row=_NO_ROW)
        return Call(PACK, (then,), (again,), (write,), refused=again)

    def _put_log(self, me: Client, stores: Stores) -> Call:
        entry = Entry(self.name, me.number, PACK)
        write = PutLog(self._epoch(me, stores), me.base + 1, entry)
        again = self._mutation is not RestoreMutation.EPOCH_NOT_READ_AGAIN
        then = replace(me, at="read_system_again", row=_NO_ROW) if again else self._acked(me)
        unknown, failed = Client(DONE, "unknown"), Client(DONE, "failed")
        return Call(self.name, (then,), (unknown,), (write,), refused=failed)

    def _acked(self, me: Client) -> Client:
        return replace(me, at="remove_pins", told="ok", row=_NO_ROW)

    def _read_system_again(self, me: Client, stores: Stores) -> Call:
        """Only what landed before its epoch was closed is acknowledged."""
        standing = stores.system == System(me.epoch)
        return Call(self.name, (self._acked(me) if standing else Client(DONE, "unknown"),))

    def _remove_pins(self, me: Client, stores: Stores) -> Call:
        write = PutPin(self._epoch(me, stores), self.name, there=False)
        then = Client(DONE, me.told, me.epoch, number=me.number)
        return Call(self.name, (then,), (then,), (write,))


class CollectorScript(ClientScript):
    """Takes the pack away, unless it is referred to. Each of its markings is one step here."""

    def __init__(self, name: str, mutation: RestoreMutation | None = None) -> None:
        super().__init__(name, mutation)
        self._steps = {
            "read_system": self._read_system,
            "condemn_pack": self._condemn_pack,
            "scan": self._scan,
            "delete_pack": self._delete_pack,
            "move_file": self._move_file,
        }

    def _read_system(self, _me: Client, stores: Stores) -> Call | None:
        if not stores.system.open:
            return None
        epoch = stores.system.epoch
        row = stores.of(epoch).row(PACK)
        at = {"live": "condemn_pack", "condemned": "scan", "deleting": "move_file"}.get(row.state)
        then = Client(at, epoch=epoch, row=row) if at else Client(DONE)
        return Call(self.name, (then,))

    def _changing(self, me: Client, stores: Stores, state: str, at: str) -> Call:
        write = ChangePack(self._epoch(me, stores), me.row, state)
        then = replace(me, at=at, row=PackRow(PACK, state, me.row.token + 1))
        return Call(PACK, (then,), (Client(DONE),), (write,), refused=Client(DONE))

    def _condemn_pack(self, me: Client, stores: Stores) -> Call:
        return self._changing(me, stores, "condemned", "scan")

    def _scan(self, me: Client, stores: Stores) -> Call:
        tables = stores.of(self._epoch(me, stores))
        spared = bool(tables.pins) or any(
            entry.number not in tables.missing for entry in facts(tables.log).versions
        )
        return Call(PACK, (Client(DONE) if spared else replace(me, at="delete_pack"),))

    def _delete_pack(self, me: Client, stores: Stores) -> Call:
        return self._changing(me, stores, "deleting", "move_file")

    def _move_file(self, me: Client, stores: Stores) -> Call:
        source = self._folder(self._epoch(me, stores))
        writes: tuple[Change, ...] = (MoveFile(PACK, source),)
        return Call(PACK, (Client(DONE),), (Client(DONE),), writes)


class Restorer(Actor, frozen=True):
    """A restore's memory: the system's row as it put it, what it found, and the rows it is to put.

    ``folder`` is where it found packs that are to be its own.
    """

    runs: int = 0
    system: System = System()
    taken: int = 0
    folder: str = ""
    tables: Tables = Tables()


class RestorerScript:
    """Brings a backup back: closes the epoch, takes its packs, fills new tables, opens them.

    Args:
        backup: the log's beginning, as it was saved.
        runs: how often somebody restores; a run follows one that was done, or that died.
        mutation: what is wrong with it.
    """

    name = "restorer"

    def __init__(
        self, backup: tuple[Entry, ...], runs: int, mutation: RestoreMutation | None = None
    ) -> None:
        self._backup = backup
        self._runs = runs
        self._mutation = mutation

    def start(self) -> Restorer:
        """Before its first run."""
        return Restorer("read_system")

    def calls(self, me: Restorer, stores: Stores) -> list[Call]:
        """The call that it makes next."""
        return [self._STEPS[me.at](self, me, stores)] if me.at in self._STEPS else []

    def crashed(self, me: Restorer) -> Restorer | None:
        """Somebody begins again, or nobody does."""
        return None if me.at in {"read_system", DONE, DEAD} else self._over(me, DEAD)

    def private(self, me: Restorer) -> bool:
        """Everything that it does depends on others."""
        del me
        return False

    def _over(self, me: Restorer, how: str) -> Restorer:
        return Restorer("read_system" if me.runs + 1 < self._runs else how, me.runs + 1)

    def _read_system(self, me: Restorer, stores: Stores) -> Call:
        found = stores.system
        again = self._mutation is RestoreMutation.EPOCH_USED_TWICE and not found.open
        me = replace(me, system=found)
        if again:
            return Call(self.name, (replace(me, at="read_survivors"),))
        first = self._mutation is RestoreMutation.SURVIVORS_READ_FIRST
        return Call(self.name, (replace(me, at="read_survivors" if first else "close"),))

    def _close(self, me: Restorer, _stores: Stores) -> Call:
        """From here on nobody begins, and nothing more is acknowledged, in the old epoch."""
        closed = System(me.system.epoch + 1, open=False)
        first = self._mutation is RestoreMutation.SURVIVORS_READ_FIRST
        then = replace(me, at="list_folders" if first else "read_survivors", system=closed)
        write, out = PutSystem(me.system, closed), self._over(me, DONE)
        return Call(self.name, (then,), (out,), (write,), refused=out)

    def _read_survivors(self, me: Restorer, stores: Stores) -> Call:
        """Every number that anybody may have been told."""
        taken = facts(self._backup).highest
        if self._mutation is not RestoreMutation.NUMBERS_FROM_BACKUP:
            seen = [max(tables.taken, facts(tables.log).highest) for tables in stores.tables]
            taken = max([taken, *seen])
        first = self._mutation is RestoreMutation.SURVIVORS_READ_FIRST
        return Call(self.name, (replace(me, at="close" if first else "list_folders", taken=taken),))

    def _list_folders(self, me: Restorer, stores: Stores) -> Call:
        """Whichever epoch's folder the packs are in; its own, once that is so."""
        own = folder(me.system.epoch)
        found = {where for _, where in stores.files if where.startswith("packs")}
        if self._mutation is RestoreMutation.FOLDER_SHARED or not found - {own}:
            return Call(self.name, (replace(me, at="list_files"),))
        return Call(self.name, (replace(me, at="rename_folder", folder=min(found - {own})),))

    def _rename_folder(self, me: Restorer, _stores: Stores) -> Call:
        """At once, so that a file that is late to be moved is not found any more."""
        then = replace(me, at="list_folders", folder="")
        write = RenameFolder(me.folder, folder(me.system.epoch))
        return Call(self.name, (then,), (then,), (write,))

    def _list_files(self, me: Restorer, stores: Stores) -> Call:
        """Rows for the packs that are there; versions whose packs are not are marked."""
        there = stores.folder_of(PACK).startswith("packs")
        trusting = self._mutation is RestoreMutation.ROWS_FROM_BACKUP
        rows = (PackRow(PACK, "live"),) if there or trusting else ()
        lost = () if rows else facts(self._backup).versions
        missing = tuple(entry.number for entry in lost)
        tables = Tables(self._backup, rows, (), me.taken, missing)
        return Call(self.name, (replace(me, at="put_rows", taken=0, tables=tables),))

    def _put_rows(self, me: Restorer, _stores: Stores) -> Call:
        then = replace(me, at="open", tables=Tables())
        write = Restore(me.system.epoch, me.tables)
        return Call(self.name, (then,), (self._over(me, DEAD),), (write,))

    def _open(self, me: Restorer, _stores: Stores) -> Call:
        over = self._over(me, DONE)
        write = PutSystem(me.system, System(me.system.epoch))
        return Call(self.name, (over,), (over,), (write,), refused=over)

    _STEPS: ClassVar[dict[str, Callable[[RestorerScript, Restorer, Stores], Call]]] = {
        "read_system": _read_system,
        "close": _close,
        "read_survivors": _read_survivors,
        "list_folders": _list_folders,
        "rename_folder": _rename_folder,
        "list_files": _list_files,
        "put_rows": _put_rows,
        "open": _open,
    }
