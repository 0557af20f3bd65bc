"""A run of the re-index: takes the lease, fills a target, puts it in the live one's place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from msgspec.structs import replace

from modelhub.testing.protocol.targets import (
    CreateTarget,
    DropTarget,
    Listed,
    PutDocument,
    PutListed,
    PutRun,
    Run,
    Stores,
    touched,
)
from modelhub.testing.protocol.turns import DEAD, DONE, Actor, Call
from modelhub.testing.protocol.writers import TargetMutation

Told = Literal["", "ok", "conflict", "failed"]


class Reindexer(Actor, frozen=True):
    """A run's memory.

    ``stage`` says what it is about where a step has several uses. ``held`` is its row as it put it
    last, ``run`` as it puts it next; ``standing`` and ``wanted`` are the list of targets as it read
    it and as it is to be. ``head`` is the end of the log that it read, ``lacking`` the documents
    that it found missing there, ``doomed`` the targets that it is to drop.
    """

    stage: str = ""
    told: Told = ""
    held: Run = Run()
    run: Run = Run()
    standing: Listed = Listed("", ())
    wanted: Listed = Listed("", ())
    head: int = 0
    lacking: tuple[int, ...] = ()
    doomed: tuple[str, ...] = ()


class ReindexerScript:
    """One run of the re-index.

    Leases play no part: a run may begin at any moment, as where the one before lost its lease.

    Args:
        name: of the run, and of the target that it begins.
        relayout: whether it wants documents of another form than the runs before it.
        compares: whether it only compares the live target with the log, and makes no new one.
        mutation: what is wrong with it.
    """

    def __init__(
        self,
        name: str,
        *,
        relayout: bool = False,
        compares: bool = False,
        mutation: TargetMutation | None = None,
    ) -> None:
        self.name = name
        self._relayout = relayout
        self._compares = compares
        self._mutation = mutation
        self._late = mutation is TargetMutation.LATE_REGISTRATION

    def start(self) -> Reindexer:
        """Before it began."""
        return Reindexer("read_run", "take")

    def calls(self, me: Reindexer, stores: Stores) -> list[Call]:
        """The call that it makes next."""
        steps: dict[str, Callable[[Reindexer, Stores], Call]] = {
            "read_run": self._read_run,
            "put_run": self._put_run,
            "read_run_back": self._read_run_back,
            "read_targets": self._read_targets,
            "list_targets": self._list_targets,
            "create_target": self._create_target,
            "put_targets": self._put_targets,
            "read_targets_back": self._read_targets_back,
            "scan_log": self._scan_log,
            "get_documents": self._get_documents,
            "write_search": self._write_search,
            "drop_target": self._drop_target,
        }
        return [steps[me.at](me, stores)] if me.at in steps else []

    def crashed(self, me: Reindexer) -> Reindexer | None:
        """Nothing is left."""
        return None if me.at in {DONE, DEAD} else Reindexer(DEAD)

    def private(self, me: Reindexer) -> bool:
        """Everything that it does is seen."""
        del me
        return False

    # --- the lease -----------------------------------------------------------------------------

    def _read_run(self, me: Reindexer, stores: Stores) -> Call:
        taken = replace(stores.run, holder=self.name, change=stores.run.change + 1)
        then = replace(me, at="put_run", run=taken, held=stores.run)
        return self._reading(then)

    def _put_run(self, me: Reindexer, _stores: Stores) -> Call:
        return Call(
            self.name,
            writes=(PutRun(me.run),),
            then=(self._noted(me),),
            refused=replace(me, at="read_run_back"),
            unsure=(me, self._failed(me)),
        )

    def _read_run_back(self, me: Reindexer, stores: Stores) -> Call:
        mine = stores.run == me.run
        then = self._noted(me) if mine else self._lost(me)
        return self._reading(then)

    def _note(self, me: Reindexer, stage: str, **changes: object) -> Reindexer:
        run = replace(me.held, change=me.held.change + 1, **changes)
        return replace(me, at="put_run", stage=stage, run=run)

    def _noted(self, me: Reindexer) -> Reindexer:
        """What follows once the row says what it is to say."""
        me = replace(me, held=me.run, run=Run())
        then = {
            "take": replace(me, at="read_targets", stage="begin"),
            "forget": replace(me, at="list_targets", stage="begin"),
            "name": replace(me, at="create_target", stage=""),
            "finish": replace(me, at="list_targets", stage="drop"),
            "drop": replace(me, at="read_targets"),
            "end": Reindexer(DONE, told=me.told),
        }
        if me.stage in then:
            return then[me.stage]
        if me.stage == "filled":
            return self._compare(me)
        return replace(me, at="put_targets")

    def _end(self, me: Reindexer, told: Told) -> Reindexer:
        """Let go of the lease."""
        return self._note(replace(me, told=told), "end", holder="")

    def _failed(self, me: Reindexer) -> Reindexer:
        if me.stage == "end":
            return Reindexer(DONE, told=me.told)
        if me.stage == "take":
            return Reindexer(DONE, told="failed")
        return self._end(me, "failed")

    def _lost(self, me: Reindexer) -> Reindexer:
        if me.stage == "end":
            return Reindexer(DONE, told=me.told)
        if me.stage == "take":
            return Reindexer(DONE, told="conflict")
        return self._end(me, "conflict")

    # --- the targets ---------------------------------------------------------------------------

    def _read_targets(self, me: Reindexer, stores: Stores) -> Call:
        listed = stores.listed
        me = replace(me, standing=listed)
        if me.stage == "begin":
            if self._compares:
                return self._reading(self._compare(me))
            if listed.live == me.held.target:
                return self._reading(self._note(me, "forget", target="", filled=False))
            return self._reading(replace(me, at="list_targets"))
        if me.stage == "drop":
            # What was begun may be about to be registered.
            begun = self._mutation is not TargetMutation.BEGUN_DROPPED and me.held.target
            kept = {*listed.targets, begun}
            doomed = tuple(name for name in me.doomed if name not in kept)
            return self._reading(self._dropping(replace(me, doomed=doomed)))
        return self._reading(self._changing(me))

    def _changing(self, me: Reindexer) -> Reindexer:
        """Change the list, unless it is as wanted."""
        standing, target = me.standing, me.held.target
        match me.stage:
            case "register":
                wanted = replace(standing, targets=(standing.live, target))
            case "swap":
                if target not in standing.targets:
                    return self._end(me, "conflict")
                wanted = replace(standing, live=target)
            case _:
                wanted = replace(standing, targets=(standing.live,))
        if wanted == standing:
            return self._changed(me)
        me = replace(me, wanted=wanted)
        if self._mutation is TargetMutation.LISTED_UNSEEN:
            return replace(me, at="put_targets")
        return self._note(me, me.stage)

    def _put_targets(self, me: Reindexer, _stores: Stores) -> Call:
        return Call(
            me.stage,
            writes=(PutListed(me.standing, me.wanted),),
            then=(self._changed(me),),
            refused=replace(me, at="read_targets_back"),
            unsure=(me, self._failed(me)),
        )

    def _read_targets_back(self, me: Reindexer, stores: Stores) -> Call:
        changed = stores.listed == me.wanted
        then = self._changed(me) if changed else replace(me, at="read_targets")
        return self._reading(then)

    def _changed(self, me: Reindexer) -> Reindexer:
        me = replace(me, standing=Listed("", ()), wanted=Listed("", ()))
        match me.stage:
            case "register":
                return self._swap(me) if self._late else self._fill(me)
            case "swap":
                return replace(me, at="read_targets", stage="alone")
        return self._note(me, "finish", target="", filled=False)

    def _swap(self, me: Reindexer) -> Reindexer:
        return replace(me, at="read_targets", stage="swap")

    def _list_targets(self, me: Reindexer, stores: Stores) -> Call:
        found = tuple(target.name for target in stores.targets)
        if me.stage == "drop":
            me = replace(me, doomed=found)
            if self._mutation is TargetMutation.DROPPED_UNSEEN:
                return self._reading(replace(me, at="read_targets"))
            return self._reading(self._note(me, "drop"))
        me = replace(me, standing=Listed("", ()))
        outdated = self._relayout and me.held.target != self.name
        if me.held.target in found and not outdated:
            return self._reading(replace(me, at="create_target"))
        return self._reading(self._note(me, "name", target=self.name, filled=False))

    def _create_target(self, me: Reindexer, _stores: Stores) -> Call:
        target = me.held.target
        begun = self._fill(me) if self._late else replace(me, at="read_targets", stage="register")
        return Call(target, (begun,), (self._end(me, "failed"),), (CreateTarget(target),))

    def _dropping(self, me: Reindexer) -> Reindexer:
        me = replace(me, standing=Listed("", ()))
        if me.doomed:
            return replace(me, at="drop_target")
        return self._end(me, "ok")

    def _drop_target(self, me: Reindexer, _stores: Stores) -> Call:
        target, *others = me.doomed
        then = self._dropping(replace(me, doomed=tuple(others)))
        return Call(target, (then,), (self._end(me, "failed"),), (DropTarget(target),))

    # --- the documents -------------------------------------------------------------------------

    def _fill(self, me: Reindexer) -> Reindexer:
        if me.held.filled:
            return self._compare(me)
        return replace(me, at="scan_log", stage="fill")

    def _compare(self, me: Reindexer) -> Reindexer:
        return replace(me, at="scan_log", stage="compare")

    def _compared(self, me: Reindexer) -> Reindexer:
        me = replace(me, head=0, lacking=())
        if self._compares:
            return replace(me, at="list_targets", stage="drop", standing=Listed("", ()))
        return replace(me, at="read_targets", stage="register" if self._late else "swap")

    def _scan_log(self, me: Reindexer, stores: Stores) -> Call:
        me = replace(me, head=stores.log)
        if me.stage == "fill":
            everything = tuple(range(1, me.head + 1))
            return self._reading(replace(me, at="write_search", lacking=everything))
        return self._reading(replace(me, at="get_documents"))

    def _get_documents(self, me: Reindexer, stores: Stores) -> Call:
        target = stores.target(self._filled(me))
        if target is None:
            return self._reading(self._end(me, "failed"))
        held = (*target.documents, *[0] * me.head)
        newest = enumerate(touched(me.head), 1)
        lacking = tuple(number for number, seq in newest if held[number - 1] < seq)
        me = replace(me, lacking=lacking)
        return self._reading(replace(me, at="write_search") if lacking else self._compared(me))

    def _filled(self, me: Reindexer) -> str:
        """The target that is written to."""
        return me.standing.live if self._compares else me.held.target

    def _write_search(self, me: Reindexer, stores: Stores) -> Call:
        target = self._filled(me)
        if stores.target(target) is None:
            return self._reading(self._end(me, "failed"))
        newest = touched(me.head)
        versioned = self._mutation is not TargetMutation.UNVERSIONED
        writes = tuple(
            PutDocument(target, number, newest[number - 1], versioned) for number in me.lacking
        )
        if me.stage == "compare":
            then = self._compared(me)
        else:
            then = self._note(replace(me, head=0, lacking=()), "filled", filled=True)
        return Call(target, (then,), (me, self._end(me, "failed")), writes)

    def _reading(self, then: Reindexer) -> Call:
        """A read. One that fails ends the run, as a crash does."""
        return Call(self.name, (then,))
