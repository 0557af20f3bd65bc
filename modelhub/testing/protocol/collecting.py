"""The collector of the collection models: mark, condemn, mark again, delete."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from msgspec.structs import replace

from modelhub.testing.protocol.collected import (
    ABSENT,
    PACKS,
    TRASH,
    Change,
    ChangePack,
    Entry,
    MoveFile,
    PackRow,
    PutLog,
    RemoveFile,
    Rows,
    Stores,
    facts,
    followed,
    named,
)
from modelhub.testing.protocol.pack_mutations import PackMutation, Thrift, Variant
from modelhub.testing.protocol.turns import DONE, Actor, Call, Value


class Job(Value, frozen=True):
    """What is to be done about a pack, of whose row no more is known than that it was ``row``."""

    action: str
    pack: str
    row: PackRow = ABSENT


class Collector(Actor, frozen=True):
    """A collector's memory.

    ``runs`` are over. ``marking`` counts the markings of this run; of the one at hand, ``attempt``
    is the number of those attempts that it looks at next, ``pinned`` and ``needed`` are what it has
    seen. ``files`` are those in packs/ and ``rows`` the rows as of the first marking. ``jobs`` are
    at hand, ``later`` comes after all marking, ``doomed`` is to be deleted unless marked.
    """

    runs: int = 0
    base: int = 0
    number: int = 0
    marking: int = 0
    attempt: int = 0
    pinned: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    rows: tuple[tuple[str, PackRow], ...] = ()
    jobs: tuple[Job, ...] = ()
    doomed: tuple[Job, ...] = ()
    later: tuple[Job, ...] = ()


class CollectorScript:
    """Takes packs away that nobody refers to.

    Its first marking is a matter of thrift, and is done in few steps. In the second, it sees newer
    attempts before older ones, which is the worst order, as pins go from older attempts to newer.

    Args:
        name: of the collector.
        runs: how often it is run.
        attempts: the highest number of an attempt.
        pages: whether it reads, in its first marking, the rows of new packs after those of others.
        mutation: what is wrong with it.
    """

    def __init__(
        self,
        name: str = "collector",
        *,
        runs: int = 1,
        attempts: int = 1,
        pages: bool = False,
        mutation: Variant | None = None,
    ) -> None:
        self.name = name
        self._runs = runs
        self._attempts = attempts
        self._pages = pages
        self._mutation = mutation
        self._blind = mutation is PackMutation.ROW_NOT_COMPARED

    def start(self) -> Collector:
        """Before its first run."""
        return Collector("read_head")

    def calls(self, me: Collector, stores: Stores) -> list[Call]:
        """The calls of which it makes one next."""
        if me.at == "read_head":
            return self._read_head(me, stores)
        return [self._STEPS[me.at](self, me, stores)] if me.at in self._STEPS else []

    def crashed(self, me: Collector) -> Collector | None:
        """The next run takes over, and scans afresh."""
        return None if me.at in {"read_head", DONE} else self._over(me)

    def private(self, me: Collector) -> bool:
        """Everything that it does depends on others."""
        del me
        return False

    def _over(self, me: Collector) -> Collector:
        at = "read_head" if me.runs + 1 < self._runs else DONE
        return Collector(at, runs=me.runs + 1)

    def _reading(self, then: Collector) -> Call:
        """A read. One that fails ends the run, as a crash does."""
        return Call(self.name, (then,))

    # --- retention -----------------------------------------------------------------------------

    def _read_head(self, me: Collector, stores: Stores) -> list[Call]:
        """The retention of a deleted version may be over, or not: that is a matter of clocks."""
        base = len(stores.log)
        ways = [replace(me, at="list_files")]
        for number in sorted(facts(stores.log).retained):
            ways.append(replace(me, at="put_log", base=base, number=number))
        return [self._reading(way) for way in ways]

    def _put_log(self, me: Collector, _stores: Stores) -> Call:
        """Whether it landed is seen when the log is scanned."""
        then = replace(me, at="list_files", base=0, number=0)
        entry = Entry(f"{self.name}.{me.base}", "purge", me.number)
        return Call(entry.txid, (then,), (then,), (PutLog(me.base + 1, entry),), refused=then)

    # --- marking -------------------------------------------------------------------------------

    def _list_files(self, me: Collector, stores: Stores) -> Call:
        """What is in packs/ may be taken away by this run, what is in the trash be removed."""
        trashed = tuple(Job("remove_file", name) for name in stores.within(TRASH))
        me = replace(me, files=stores.within(PACKS), later=trashed)
        return self._reading(self._mark(me, 1))

    def _mark(self, me: Collector, marking: int) -> Collector:
        log_first = self._mutation is PackMutation.LOG_BEFORE_INTENTS
        at = "scan_log" if log_first else "scan_intents"
        attempt = self._attempts if marking == 2 else 0
        return replace(me, at=at, marking=marking, attempt=attempt, pinned=(), needed=())

    def _scan_intents(self, me: Collector, stores: Stores) -> Call:
        """In the second marking: the newer attempts before the older ones."""
        seen = {pin.pack for pin in stores.pins if _is_seen(pin.txid, me.attempt)}
        thrifty = self._mutation is not Thrift.PINS_NOT_SPARED or me.marking == 2
        if self._mutation is PackMutation.BY_AGE_ALONE or not thrifty:
            seen = set()
        me = replace(me, pinned=tuple(sorted({*me.pinned, *seen})))
        if me.attempt > 1:
            return self._reading(replace(me, attempt=me.attempt - 1))
        log_first = self._mutation is PackMutation.LOG_BEFORE_INTENTS
        at = "scan_packs" if log_first else "scan_log"
        return self._reading(replace(me, at=at, attempt=0))

    def _scan_log(self, me: Collector, stores: Stores) -> Call:
        """All models that the log names, all versions that are not purged."""
        logs = [stores.log, stores.other]
        if self._mutation is PackMutation.NAMES_FROM_MODELS:
            logs.pop()
        needed: set[str] = set()
        for log in logs:
            known = facts(log)
            by_clock = self._mutation is PackMutation.RETENTION_BY_CLOCK
            out = known.deleted if by_clock else known.purged
            needed |= {
                pack for entry in known.versions if entry.number not in out for pack in entry.packs
            }
        log_first = self._mutation is PackMutation.LOG_BEFORE_INTENTS
        at = "scan_intents" if log_first else "scan_packs"
        return self._reading(replace(me, at=at, needed=tuple(sorted(needed))))

    def _scan_packs(self, me: Collector, stores: Stores) -> Call:
        """The rows; in a first marking, a later page may show what came after an earlier one."""
        rows = stores.rows()
        if me.marking == 2:
            again = self._mutation is not PackMutation.ROWS_NOT_READ_AGAIN
            return self._reading(self._condemned(me, rows if again else dict(me.rows)))
        if self._pages and not me.rows:
            page = tuple((name, row) for name, row in rows.items() if "-" not in name)
            return self._reading(replace(me, rows=page))
        rows |= dict(me.rows)
        return self._reading(self._marked(replace(me, rows=tuple(sorted(rows.items()))), rows))

    def _marks(self, me: Collector, rows: Rows) -> frozenset[str]:
        """What is pinned, being written, or needed; and where that was rewritten to."""
        follow = self._mutation is not PackMutation.MOVED_NOT_FOLLOWED
        needed = followed(me.needed, rows) if follow else me.needed
        pins = self._mutation is Thrift.PINS_FOLLOWED
        pinned = followed(me.pinned, rows) if pins else me.pinned
        return frozenset({*pinned, *needed, *named(rows)})

    def _marked(self, me: Collector, rows: Rows) -> Collector:
        """After a first marking: what to condemn, and what others left to be done."""
        marks = self._marks(me, rows)
        jobs, doomed, later = [], [], [*me.later]
        for name, row in rows.items():
            if row.state == "live" and name not in marks:
                jobs.append(Job("condemn_pack", name, row))
            elif row.state == "condemned":
                if name in marks:
                    jobs.append(Job("revive_pack", name, row))
                elif self._mutation is PackMutation.TAKEOVER_UNSCANNED:
                    later.append(Job("delete_pack", name, row))
                else:
                    doomed.append(Job("delete_pack", name, row))
            elif row.state == "deleting" or (row.state in {"moved", "gone"} and name in me.files):
                later.append(Job("move_file", name, row))
        claim = "move_file" if self._mutation is PackMutation.MOVED_UNCLAIMED else "claim_file"
        doomed += [Job(claim, name) for name in me.files if name not in rows]
        me = replace(me, pinned=(), needed=(), jobs=tuple(jobs), doomed=tuple(doomed))
        kept = self._mutation is PackMutation.ROWS_NOT_READ_AGAIN
        return self._next(replace(me, rows=me.rows if kept else (), later=tuple(later)))

    def _condemned(self, me: Collector, rows: Rows) -> Collector:
        """After the second marking: what is still not marked goes."""
        marks = self._marks(me, rows)
        if self._mutation is PackMutation.ROW_READ_LATE:
            fresh = [replace(job, row=rows.get(job.pack, ABSENT)) for job in me.doomed]
            me = replace(me, doomed=tuple(job for job in fresh if job.row.state == "condemned"))
        jobs = [job for job in me.doomed if job.pack not in marks or self._claims(job)]
        jobs += [
            replace(job, action="revive_pack")
            for job in me.doomed
            if job.pack in marks and job.action == "delete_pack"
        ]
        return self._finish(replace(me, jobs=(*jobs, *me.later)))

    def _claims(self, job: Job) -> bool:
        """Whether a file is claimed whatever the scans have shown."""
        return job.action == "claim_file" and self._mutation is Thrift.CLAIMED_UNSCANNED

    # --- what comes of it ----------------------------------------------------------------------

    def _next(self, me: Collector) -> Collector:
        """To the next job, the second marking, or the end of the run."""
        if me.jobs:
            return replace(me, at=me.jobs[0].action)
        if me.marking == 1 and me.doomed:
            if self._mutation is PackMutation.NO_SECOND_SCAN:
                return self._finish(replace(me, jobs=(*me.doomed, *me.later)))
            return self._mark(me, 2)
        if me.marking == 1:
            return self._finish(replace(me, jobs=me.later))
        return self._over(me)

    def _finish(self, me: Collector) -> Collector:
        """To the jobs that come after all marking."""
        return self._next(Collector("", runs=me.runs, marking=2, jobs=me.jobs))

    def _done(self, me: Collector, *more: Job) -> Collector:
        return self._next(replace(me, jobs=(*more, *me.jobs[1:])))

    def _putting(self, me: Collector, row: PackRow, then: Collector) -> Call:
        """A pack's row. What is refused or has no known outcome is left to the next run."""
        job, left = me.jobs[0], self._done(me)
        write = ChangePack(job.pack, job.row, row, self._blind and bool(job.row.state))
        return Call(job.pack, (then,), (left,), (write,), refused=left)

    def _condemn_pack(self, me: Collector, _stores: Stores) -> Call:
        job = me.jobs[0]
        row = job.row.then("condemned")
        doomed = (*me.doomed, Job("delete_pack", job.pack, row))
        return self._putting(me, row, self._done(replace(me, doomed=doomed)))

    def _revive_pack(self, me: Collector, _stores: Stores) -> Call:
        return self._putting(me, me.jobs[0].row.then("live"), self._done(me))

    def _delete_pack(self, me: Collector, _stores: Stores) -> Call:
        """Against the row as it was before the second scan of intents."""
        job = me.jobs[0]
        row = job.row.then("deleting")
        return self._putting(me, row, self._done(me, Job("move_file", job.pack, row)))

    def _claim_file(self, me: Collector, stores: Stores) -> Call:
        """Put-if-absent: whoever registers the pack, or claims it, comes first or is refused."""
        return self._delete_pack(me, stores)

    def _move_file(self, me: Collector, _stores: Stores) -> Call:
        job = me.jobs[0]
        bury = (Job("bury_pack", job.pack, job.row),) if job.row.state == "deleting" else ()
        writes: tuple[Change, ...] = (MoveFile(job.pack),)
        return Call(job.pack, (self._done(me, *bury),), (self._done(me),), writes)

    def _bury_pack(self, me: Collector, _stores: Stores) -> Call:
        return self._putting(me, me.jobs[0].row.then("gone"), self._done(me))

    def _remove_file(self, me: Collector, stores: Stores) -> Call:
        """Only what was in the trash before any reader began."""
        job, then = me.jobs[0], self._done(me)
        if stores.reading is not None and job.pack not in stores.reading:
            return Call(job.pack, (then,))
        return Call(job.pack, (then,), (then,), (RemoveFile(job.pack),))

    _STEPS: ClassVar[dict[str, Callable[[CollectorScript, Collector, Stores], Call]]] = {
        "put_log": _put_log,
        "list_files": _list_files,
        "scan_intents": _scan_intents,
        "scan_log": _scan_log,
        "scan_packs": _scan_packs,
        "condemn_pack": _condemn_pack,
        "revive_pack": _revive_pack,
        "delete_pack": _delete_pack,
        "claim_file": _claim_file,
        "move_file": _move_file,
        "bury_pack": _bury_pack,
        "remove_file": _remove_file,
    }


def _is_seen(txid: str, attempt: int) -> bool:
    """Whether a scan that looks at these attempts now (0: at all) sees this one."""
    return not attempt or txid.endswith(f".{attempt}")
