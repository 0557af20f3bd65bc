"""Random walks of a collection model that the coordinator can take too.

The coordinator does more at once than the model, in an order of its own, and gives up sooner. A
walk takes only what both can do:

- A collector of the coordinator looks for versions whose retention is over while it marks, lists
  files before its second marking, and makes that marking in any case. A walk's collector decides
  only where that leads to the same calls.
- It condemns before it brings back, and brings back before it deletes; files are moved when all
  rows are changed, and removed when all are moved. A walk leaves a collector where it is that would
  do things in another order.
- What a collector or rewriter puts without an answer ends its run in the coordinator, if it stays
  so: in a walk it crashes next.
- Puts are tried as often as the coordinator tries them. Pins that were acknowledged are not put
  again.
- Who follows to a condemned pack brings it back before it sees what that holds.
- After a lost attempt nobody follows: what was rewritten since then is stored anew.
- A publisher that reads several rows reads them at once, the last of which alone may be condemned.
- Nobody gives up after a few lost attempts.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from modelhub.coordinator import log, packs, transaction
from modelhub.testing.protocol.bystanders import Changer
from modelhub.testing.protocol.collected import PACKS, TRASH, Rows, Stores, facts, named
from modelhub.testing.protocol.collecting import Collector, Job
from modelhub.testing.protocol.collection import Collecting, Collection, State
from modelhub.testing.protocol.explore import Step
from modelhub.testing.protocol.reusers import Publisher
from modelhub.testing.protocol.rewriting import Rewriter
from modelhub.testing.protocol.turns import Actor

RETRIES = {
    "put_pins": ("put_pins", transaction._PUT_TRIES),
    "put_log": ("read_log", log._RESOLVE_TRIES),
    "register_pack": ("resolve_pack", packs.TRIES),
    "revive_pack": ("read_packs", packs.TRIES),
}
"""What publishers try again: where they stand after a try that settled nothing, and the tries."""

_WEIGHTS = {"ok": 1.0, "doubled": 0.2, "late": 0.25, "lands": 0.4, "crash": 0.015}
_GIVING_UP = 0.2

Calls = list[tuple[str, str]]
"""What is done to which pack."""


def walk(configuration: Collection, seed: int, *, longest: int = 150) -> list[Step[State]]:
    """A walk from the beginning until nothing can happen any more, or of ``longest`` steps."""
    model, chance = Collecting(configuration), random.Random(seed)
    state = model.initial()
    limits = _Limits(model)
    tastes = {name: chance.choice((0.1, 0.3, 1.0)) for name in model.names}
    tastes |= {outcome: chance.choice((0.2, 1.0, 3.0)) for outcome in _WEIGHTS if outcome != "ok"}
    steps: list[Step[State]] = []
    while len(steps) < longest:
        possible = [step for step in model.all_steps(state) if limits.allow(state, step)]
        if not possible:
            break
        weights = [
            tastes[step.actor] * tastes.get(step.outcome, 1.0) * _weight(model, step)
            for step in possible
        ]
        (step,) = chance.choices(possible, weights)
        limits.take(state, step)
        steps.append(step)
        state = step.state
    return steps


def _weight(model: Collecting, step: Step[State]) -> float:
    me = memory(model, step.state, step.actor)
    gives_up = getattr(me, "told", "") in {"failed", "unknown"} and step.outcome != "lands"
    busy = 0.3 if step.actor == "sweeper" else 1.0
    return _WEIGHTS[step.outcome] * (_GIVING_UP if gives_up else 1) * busy


def memory(model: Collecting, state: State, name: str) -> Actor:
    """What an actor remembers."""
    return state.actors[model.names.index(name)]


def wanted(me: Publisher) -> set[str]:
    """The packs that a publisher pins."""
    return {pack for _, pack in me.places} | ({me.new} if me.new else set())


def skips_second(before: Collector, after: Collector, outcome: str) -> bool:
    """Whether a run goes without a second marking in the model."""
    over = after.runs != before.runs
    return (
        before.marking == 1
        and outcome == "ok"
        and (over or (after.marking == 2 and after.at != "scan_intents"))
    )


class Trashed:
    """Which packs' rows say where in the trash their files go, of those that were rewritten."""

    def __init__(self) -> None:
        self._packs: set[str] = set()

    def take(self, before: State, step: Step[State]) -> None:
        """Note what ``step`` says."""
        moved = before.stores.pack(step.subject).row.state == "moved"
        if step.action == "move_file" and step.outcome != "lands" and moved:
            self._packs.add(step.subject)

    def __contains__(self, pack: str) -> bool:
        return pack in self._packs


class _Limits:
    """Which steps the coordinator can take, given those taken before."""

    def __init__(self, model: Collecting) -> None:
        self._model = model
        self._tries: Counter[tuple[str, str, str]] = Counter()
        self._dying: set[str] = set()
        self._acknowledged: dict[str, set[str]] = defaultdict(set)
        self._early: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
        self._files: dict[str, tuple[str, ...]] = {}
        self._trashed = Trashed()
        self._known: dict[str, set[str]] = {}
        self._sources: dict[str, set[str]] = {}

    def allow(self, state: State, step: Step[State]) -> bool:
        """Whether it can take ``step`` from ``state``."""
        if step.outcome in {"lands", "crash"} or step.actor in self._dying:
            return step.outcome in {"lands", "crash"}
        match memory(self._model, state, step.actor), memory(self._model, step.state, step.actor):
            case Publisher() as me, Publisher() as after:
                return self._publishes(state, step, me, after)
            case Changer(), after:
                return self._tried(step, after)
            case Collector() as me, Collector() as after:
                return self._collects(state, step, me, after)
            case Rewriter() as me, Rewriter() as after:
                return self._rewrites(state, step, me, after)
        return True

    def take(self, state: State, step: Step[State]) -> None:
        """Take ``step``."""
        me, after = (memory(self._model, one, step.actor) for one in (state, step.state))
        self._trashed.take(state, step)
        if step.outcome == "crash":
            self._dying.discard(step.actor)
        elif step.outcome == "lands":
            return
        elif isinstance(me, Publisher | Changer):
            self._count(step, after)
            if step.action == "put_pins" and step.outcome == "ok" and isinstance(me, Publisher):
                self._acknowledged[step.subject] |= wanted(me)
        elif isinstance(me, Collector | Rewriter):
            assert isinstance(after, Collector | Rewriter)
            if step.outcome in {"late", "doubled"} and after.runs == me.runs:
                self._dying.add(step.actor)
        if isinstance(me, Collector) and isinstance(after, Collector):
            self._note(state, step, me, after)
        elif isinstance(after, Rewriter):
            self._note_sources(step, after)

    # --- publishers ----------------------------------------------------------------------------

    def _publishes(self, state: State, step: Step[State], me: Publisher, after: Publisher) -> bool:
        if step.action == "read_head":
            task = next(one.task for one in self._model.publishers if one.name == step.actor)
            return me.attempt < task.attempts
        if step.action == "put_pins":
            known = self._acknowledged[step.subject] & wanted(me)
            there = {pin.pack for pin in state.stores.pins if pin.txid == step.subject}
            if known and (step.outcome == "late" or not known <= there):
                return False
        if step.action == "read_packs" and me.at == "read_packs":
            row = state.stores.pack(me.doubts[0]).row
            if row.state == "condemned" and after.at != "revive_pack":
                return False
            if row.state == "moved" and me.before:
                return False
        if step.action == "read_packs" and me.at == "read_packs" and len(me.doubts) > 1:
            return after.at == "read_packs" and len(after.doubts) < len(me.doubts)
        return self._tried(step, after)

    def _tried(self, step: Step[State], after: Actor) -> bool:
        if not _is_unsettled(step, after):
            return True
        return self._tries[_try(step)] + 1 < RETRIES[step.action][1]

    def _count(self, step: Step[State], after: Actor) -> None:
        if _is_unsettled(step, after):
            self._tries[_try(step)] += 1

    # --- collectors ----------------------------------------------------------------------------

    def _collects(self, state: State, step: Step[State], me: Collector, after: Collector) -> bool:
        stores = state.stores
        if step.outcome == "late" and not _is_of_use(stores, me, step):
            return False
        if step.action == "put_log" and len(stores.log) != me.base:
            return me.number not in facts(stores.log).retained
        if step.action == "scan_log" and me.marking == 1 and step.actor in self._early:
            return self._early[step.actor] == (after.pinned, after.needed)
        pack = stores.pack(step.subject)
        if step.action == "move_file" and (pack.row.state, pack.where) == ("moved", PACKS):
            return pack.name not in self._trashed or pack.name in self._known[step.actor]
        return self._marks(state, step, me, after)

    def _marks(self, state: State, step: Step[State], me: Collector, after: Collector) -> bool:
        """Whether what comes of a marking is what comes of it in the coordinator."""
        stores = state.stores
        if step.action == "scan_packs" and me.marking == 1 and after.at != "scan_packs":
            foreseen = _first_calls(me.pinned, me.needed, stores.rows() | dict(me.rows))
            if foreseen != _jobs(after, {"condemn_pack", "revive_pack"}):
                return False
        if step.action == "scan_packs" and me.marking == 2:
            doomed = {
                job.pack: stores.pack(job.pack).row == job.row
                for job in me.doomed
                if job.action == "delete_pack"
            }
            kept = _reached({*me.pinned, *me.needed}, stores.rows())
            foreseen = self._last_calls(stores, kept, doomed, self._files[step.actor])
            return foreseen == _flat(after, stores)
        if skips_second(me, after, step.outcome):
            now = step.state.stores
            kept = _reached(_referred(now), now.rows())
            return self._last_calls(now, kept, {}, now.within(PACKS)) == _flat(after, now)
        return True

    def _last_calls(
        self, stores: Stores, kept: set[str], doomed: Mapping[str, bool], files: Iterable[str]
    ) -> Calls:
        """What the coordinator does after its second marking, file by file.

        ``doomed`` says of condemned packs whether their rows are still the same.
        """
        rows = stores.rows()
        back = sorted(set(doomed) & kept)
        gone = sorted(set(doomed) - kept)
        claimed = sorted({*files} - rows.keys() - kept)
        calls = [("revive_pack", pack) for pack in back]
        calls += [("delete_pack", pack) for pack in gone]
        calls += [("claim_file", pack) for pack in claimed]
        deleting = {pack for pack, row in rows.items() if row.state == "deleting"}
        for pack in sorted({*deleting, *claimed, *(pack for pack in gone if doomed[pack])}):
            calls += [("move_file", pack), ("bury_pack", pack)]
        for pack, row in sorted(rows.items()):
            if row.state == "moved" and (pack not in self._trashed or pack in files):
                calls.append(("move_file", pack))
        return calls

    def _note(self, state: State, step: Step[State], me: Collector, after: Collector) -> None:
        name = step.actor
        if step.action == "read_head":
            self._early.pop(name, None)
            if after.at == "put_log":
                stores = state.stores
                kept = [*facts(stores.log).unpurged, *facts(stores.other).unpurged]
                kept = [one for one in kept if one.number != after.number or one in stores.other]
                needed = {pack for entry in kept for pack in entry.packs}
                pinned = {pin.pack for pin in stores.pins}
                self._early[name] = tuple(sorted(pinned)), tuple(sorted(needed))
        if after.marking == 2 and after.at == "scan_intents" and me.marking == 1:
            self._files[name] = step.state.stores.within(PACKS)
        if step.action == "scan_packs" or skips_second(me, after, step.outcome):
            self._known[name] = {
                pack.name for pack in state.stores.packs if pack.name in self._trashed
            }

    # --- rewriters -----------------------------------------------------------------------------

    def _rewrites(self, state: State, step: Step[State], me: Rewriter, after: Rewriter) -> bool:
        """Whether the coordinator copies the same: all that versions use, wherever it lies."""
        if step.action != "scan_packs":
            return True
        stores = state.stores
        versions = [*facts(stores.log).unpurged, *facts(stores.other).unpurged]
        sources = self._sources[step.actor]
        used = {one for entry in versions if sources & {*entry.packs} for one, _ in entry.places}
        free = {name for name, _ in me.held} - named(stores.rows())
        copied = {chunk for name in free for chunk in stores.pack(name).holds} & used
        return {*after.chunks} == copied

    def _note_sources(self, step: Step[State], after: Rewriter) -> None:
        """The packs that a run rewrites, and those that lead to them when it begins."""
        if step.action == "read_packs":
            found = {name for name, _ in after.todo}
            rows = step.state.stores.rows()
            for _ in rows:
                found |= {name for name, row in rows.items() if found & {*row.successors}}
            self._sources[step.actor] = found


def _is_unsettled(step: Step[State], after: Actor) -> bool:
    return step.action in RETRIES and after.at == RETRIES[step.action][0]


def _try(step: Step[State]) -> tuple[str, str, str]:
    return step.actor, step.action, step.subject


def _flat(me: Collector, stores: Stores) -> Calls:
    """What the model does; what cannot change anything any more is left out.

    Files are removed after all else, or nothing is like it.
    """
    calls = [call for job in me.jobs for call in _calls_of(job, stores)]
    actions = [job.action == "remove_file" for job in me.jobs]
    return calls if actions == sorted(actions) or not calls else [("remove_file", "too early")]


def _calls_of(job: Job, stores: Stores) -> Calls:
    """What the coordinator does of a job, beside removing files."""
    pack = stores.pack(job.pack)
    burial = [("move_file", job.pack), ("bury_pack", job.pack)]
    match job.action:
        case "delete_pack":
            return [(job.action, job.pack), *(burial if pack.row == job.row else [])]
        case "claim_file":
            return [] if pack.row.state else [(job.action, job.pack), *burial]
        case "move_file" if job.row.state == "deleting":
            return burial if pack.row.state == "deleting" else []
        case "move_file":
            return burial[:1] if pack.where == PACKS else []
        case "revive_pack":
            return [(job.action, job.pack)]
    return []


def _is_of_use(stores: Stores, me: Collector, step: Step[State]) -> bool:
    """Whether a step can change anything; if not, the coordinator may know, and not take it."""
    pack = stores.pack(step.subject)
    if step.action in {"bury_pack", "claim_file"}:
        return pack.row == me.jobs[0].row
    folders = {"move_file": PACKS, "remove_file": TRASH}
    return pack.where == folders.get(step.action, pack.where)


def _jobs(me: Collector, actions: set[str]) -> Calls:
    return [(job.action, job.pack) for job in me.jobs if job.action in actions]


def _referred(stores: Stores) -> set[str]:
    versions = [*facts(stores.log).unpurged, *facts(stores.other).unpurged]
    pinned = {pin.pack for pin in stores.pins}
    return pinned | {pack for entry in versions for pack in entry.packs}


def _reached(packs: Iterable[str], rows: Rows) -> set[str]:
    """What the coordinator takes for referred to: it follows whatever leads anywhere."""
    found: set[str] = set()
    todo = list(packs)
    todo += [one for row in rows.values() if row.state == "condemned" for one in row.successors]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += rows[name].successors if name in rows else ()
    return found


def _first_calls(pinned: Iterable[str], needed: Iterable[str], rows: Rows) -> Calls:
    """What the coordinator does after its first marking."""
    kept = _reached({*pinned, *needed}, rows)
    ordered = sorted(rows.items())
    live = [pack for pack, row in ordered if row.state == "live" and pack not in kept]
    back = [pack for pack, row in ordered if row.state == "condemned" and pack in kept]
    return [("condemn_pack", pack) for pack in live] + [("revive_pack", pack) for pack in back]
