"""Walks of the re-index model, and their replay: publishers, sweeps and runs on a real hub.

What happens between a publisher's opening the hub and its entry is one step here, as are a
sweeper's reading and its tidying up: the other models are about those. No run wants documents of
another form: all processes are of one release.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from modelhub.backends.memory import MemoryRows, MemorySearch, MemoryWeights
from modelhub.coordinator import context, keys, lease, reindex, settle, transaction
from modelhub.coordinator.index import document_id
from modelhub.errors import Conflict, ModelhubError
from modelhub.hub import Hub
from modelhub.records import Intent, Targets, decode
from modelhub.records import Reindexing as RunRow
from modelhub.results import Reindexed
from modelhub.stores import RowStore
from modelhub.testing.crashes import no_pause, open_process
from modelhub.testing.protocol.explore import Step
from modelhub.testing.protocol.filling import Reindexer
from modelhub.testing.protocol.reindexing import FIRST, Reindex, Reindexing, State
from modelhub.testing.protocol.replay.calls import (
    IN_SILENCE,
    MODEL,
    Answer,
    Part,
    Request,
    away,
    doubled,
    unsure,
)
from modelhub.testing.protocol.replay.processes import Process, open_hub
from modelhub.testing.protocol.replay.staged import Staged, ending, follow, pending
from modelhub.testing.protocol.targets import Listed, PutDocument, Run, Stores, Target
from modelhub.testing.protocol.turns import DONE, Actor, Write

RUN_CALLS: Mapping[str, tuple[str, ...]] = {
    "get system reindex": ("read_run", "read_run_back"),
    "check_and_put system reindex": ("put_run",),
    "get system search": ("read_targets", "read_targets_back"),
    "check_and_put system search": ("put_targets",),
    "search targets": ("list_targets",),
    "search create_target": ("create_target",),
    "search drop_target": ("drop_target",),
    "scan log": ("scan_log",),
    "search get": ("get_documents",),
    "search write": ("write_search",),
}
"""Each call of a run, and the steps that it may be."""

WRITER_CALLS: Mapping[str, tuple[str, ...]] = {
    "get_many system": ("open",),
    "search write": ("write_search",),
    "get system search": ("read_targets", "find_target"),
}
"""The same of publishers and the sweeper. What else they call belongs to ``_SEVERAL``."""

_SEVERAL = {"put_log", "scan_intents", "remove_intent"}
"""Steps of several calls; nobody else's come between them."""

_SILENT = {"now", "get_many system", "get_many metadata", "scan intents", "search refresh"}
"""What the model leaves out of a run."""

_TRIES = {
    "put_run": settle._TRIES,
    "put_targets": settle._TRIES,
    "write_search": reindex._WRITE_TRIES,
}
"""How often a run tries what does not succeed."""

_ANSWERS: dict[str, Answer] = {"ok": Request.make, "late": unsure, "doubled": doubled}
_WEIGHTS = {"ok": 1.0, "doubled": 0.3, "late": 0.2, "lands": 0.5, "crash": 0.01}


def walk(configuration: Reindex, seed: int, *, longest: int = 200) -> list[Step[State]]:
    """A walk from the beginning until nothing can happen any more, or of ``longest`` steps.

    A run gives up once it tried as often as the coordinator does, or when chance says so.
    """
    model, chance = Reindexing(configuration), random.Random(seed)
    state = model.initial()
    tries: Counter[tuple[str, str]] = Counter()
    names = [actor for actor, _ in _named_actors(configuration, state)]
    tastes = {name: chance.choice((0.1, 0.3, 1.0)) for name in names}
    tastes |= {outcome: chance.choice((0.2, 1.0, 3.0)) for outcome in _WEIGHTS if outcome != "ok"}
    steps: list[Step[State]] = []
    while len(steps) < longest:
        possible = [
            step
            for step in model.all_steps(state)
            if _can(configuration, state, step, tries) and _in_turn(configuration, state, step)
        ]
        if not possible:
            break
        weights = [
            tastes[step.actor] * tastes.get(step.outcome, 1.0) * _WEIGHTS[step.outcome]
            for step in possible
        ]
        (step,) = chance.choices(possible, weights)
        tries[_tried(step)] = tries[_tried(step)] + 1 if _again(configuration, state, step) else 0
        steps.append(step)
        state = step.state
    return steps


def _can(
    configuration: Reindex, state: State, step: Step[State], tries: Counter[tuple[str, str]]
) -> bool:
    """Whether the coordinator can take a step too: as to its tries, and to what it tidies up."""
    if step.outcome == "late" and step.action == "remove_intent":
        return step.actor != "sweeper"  # which makes several calls
    return not _again(configuration, state, step) or tries[_tried(step)] + 1 < _TRIES[step.action]


def _in_turn(configuration: Reindex, state: State, step: Step[State]) -> bool:
    """Whether the runs before it began: each one's clock is ahead of theirs."""
    if step.action != "read_run":
        return True
    known = dict(_named_actors(configuration, state))
    earlier = [known[f"r{number}"] for number in range(1, int(step.actor[1:]))]
    return all(actor.at != "read_run" for actor in earlier)


def _again(configuration: Reindex, before: State, step: Step[State]) -> bool:
    """Whether a run stands where it stood, to try once more."""
    was, now = (
        dict(_named_actors(configuration, state))[step.actor] for state in (before, step.state)
    )
    return step.outcome == "late" and isinstance(now, Reindexer) and was == now


def _tried(step: Step[State]) -> tuple[str, str]:
    return step.actor, step.action


def _named_actors(configuration: Reindex, state: State) -> list[tuple[str, Actor]]:
    names = [f"p{number}" for number in range(1, configuration.publishers + 1)]
    names += [f"r{number}" for number in range(1, len(configuration.runs) + 1)]
    names += ["sweeper"] * configuration.sweeper
    return list(zip(names, state.actors, strict=True))


def replay(configuration: Reindex, steps: Sequence[Step[State]], folder: Path) -> set[str]:
    """Let the coordinator take the steps of a walk; the names of the calls that it made.

    Raises:
        Drift: see ``follow``.
    """
    initial = Reindexing(configuration).initial()
    return follow(configuration, initial, steps, lambda: _Stage(configuration, folder), _named())


@contextmanager
def _named() -> Iterator[None]:
    """Transactions, runs and targets get the names that they have in the model: their actors'."""

    def actor(_now: datetime | None = None) -> str:
        return threading.current_thread().name

    with (
        patch.object(transaction, "new_txid", actor),
        patch.object(lease, "new_txid", actor),
        patch.object(reindex, "new_name", actor),
    ):
        yield


class _Stage(Staged[Stores]):
    """A hub with publishers, runs and a sweeper."""

    def __init__(self, configuration: Reindex, folder: Path) -> None:
        super().__init__()
        self._configuration = configuration
        self._folder = folder
        self._stores = context.Stores(MemoryWeights(), MemoryRows(), MemorySearch())
        open_hub(self._stores).init()
        for number in range(1, configuration.versions + 1):
            Process(f"old{number}", self._push(f"old{number}"), self._stores).finish()
        self._first = self._targets().live
        self._prefix = self._first.removesuffix("000001")
        self._changes: list[bytes] = []
        self._tries: Counter[str] = Counter()

    def start(self, name: str) -> Process:
        if name == "sweeper":
            verb: Callable[[Hub], object] = Hub.sweep
        else:
            verb = Hub.reindex if name.startswith("r") else self._push(name)
        placed = _placed_in_run if name.startswith("r") else _PlacedInWriter(name)
        return Process(name, verb, self._stores, placed, partial(_open, name))

    def part(self, call: Request, write: Write[Any]) -> Callable[[], Any]:
        if not isinstance(write, PutDocument):
            return call.make
        target, documents = call.args
        named = [one for one in documents if one.id == document_id(MODEL, write.number)]
        return lambda: _written(call.store, target, named)

    def act(self, before: State, steps: Sequence[Step[State]]) -> None:
        step = steps[0]
        process = self.process(step)
        made = pending(process, step)
        process.answer(_ANSWERS[step.outcome])
        while step.action in _SEVERAL and process.pending and process.pending.action == step.action:
            process.answer(Request.make)
        if step.outcome == "late":
            self.send(step, made)
            self._give_up(process, before, step)
        else:
            self._tries[step.actor] = 0
        after = dict(_named_actors(self._configuration, step.state))[step.actor]
        if after.at == DONE or (step.actor == "sweeper" and after.at == "open"):
            self._end(process, step, after)
        else:
            assert process.pending, f"{step.actor} was to go on, and {ending(process)}"

    def _push(self, name: str) -> Callable[[Hub], object]:
        path = self._folder / name / "model.bin"
        if not path.exists():
            path.parent.mkdir()
            path.write_text(name)
        return partial(Hub.push, name=MODEL, path=path.parent)

    def _give_up(self, process: Process, before: State, step: Step[State]) -> None:
        """Fail the tries that are left, where the walk's actor made its last."""
        if step.action not in _TRIES or not step.actor.startswith("r"):
            return
        self._tries[step.actor] += 1
        if _again(self._configuration, before, step):
            return
        for _ in range(self._tries[step.actor], _TRIES[step.action]):
            assert process.pending, f"{step.actor} was to try again, and {ending(process)}"
            process.answer(away)
        self._tries[step.actor] = 0

    def _end(self, process: Process, step: Step[State], after: Actor) -> None:
        self.ended(process, step)
        if not isinstance(after, Reindexer):
            return
        told = f"{step.actor} is told {after.told}, and {ending(process)}"
        if after.told == "ok":
            assert isinstance(process.result, Reindexed), told
        elif after.told == "conflict":
            assert isinstance(process.error, Conflict), told
        else:
            assert isinstance(process.error, ModelhubError), told

    # --- the stores as the model sees them -----------------------------------------------------

    def look(self) -> Stores:
        rows = self._stores.rows
        log = len(list(rows.scan(keys.LOG, *keys.prefix(MODEL))))
        listed = self._targets()
        return Stores(
            log=log,
            listed=Listed(self._seen(listed.live), tuple(map(self._seen, listed.targets))),
            targets=tuple(sorted(map(self._target, self._stores.search.targets()))),
            run=self._run(),
            owed=tuple(sorted(self._owed())),
        )

    def _targets(self) -> Targets:
        value = self._stores.rows.get(keys.SYSTEM, keys.SEARCH)
        assert value is not None
        return decode(value, Targets, "the search targets")

    def _seen(self, name: str) -> str:
        """What a target is called in the model."""
        return FIRST if name == self._first else name.removeprefix(self._prefix)

    def _target(self, name: str) -> Target:
        start = len(document_id(MODEL, 0)) - 1
        shown = {int(one.id[start:]): one.version for one in self._stores.search.scan(name)}
        held = tuple(shown.get(number, 0) for number in range(1, max(shown, default=0) + 1))
        return Target(self._seen(name), held)

    def _run(self) -> Run:
        """Its changes are counted, so look after each."""
        value = self._stores.rows.get(keys.SYSTEM, keys.REINDEX)
        if value is None:
            return Run()
        if value not in self._changes:
            self._changes.append(value)
        row = decode(value, RunRow, "the run")
        return Run(row.run, self._seen(row.target), row.filled, len(self._changes))

    def _owed(self) -> Iterator[tuple[str, int]]:
        for key, value in self._stores.rows.scan(keys.INTENTS, *keys.intents_range()):
            _, txid, pack = keys.parse_intent(key)
            if pack is None:
                yield txid, decode(value, Intent, txid).base


class _Ahead(context.Clock):
    """A clock that is some seconds ahead of the row store's."""

    def __init__(self, rows: RowStore, seconds: float) -> None:
        super().__init__(rows)
        self._ahead = timedelta(seconds=seconds)

    def now(self) -> datetime:
        return super().now() + self._ahead


def _open(name: str, stores: context.Stores) -> Hub:
    """A hub of a process to which the leases of all others are over."""
    if not name.startswith("r"):
        return open_process(stores)[0]
    ctx = context.Context(stores, "tester", context.Patience(lease_s=60.0), pause=no_pause)
    ctx.clock = _Ahead(stores.rows, 61.0 * int(name[1:]))
    return Hub(ctx, address="replayed", cache=Path("unused"))


def _written(store: Any, target: str, documents: list[Any]) -> None:
    """A write to a target that is gone does nothing."""
    if target in store.targets():
        store.write(target, documents)


def _placed_in_run(call: Request, before: Request | None) -> Part | None:
    name = call.name
    if name.endswith(" system") and name != "get_many system":
        name += f" {call.args[1].decode()}"
    if name == "search get" and (before is None or before.name != "scan log"):
        return IN_SILENCE  # a second look at what nobody owes
    if name in RUN_CALLS:
        return Part("|".join(RUN_CALLS[name]))
    return IN_SILENCE if name in _SILENT else None


class _PlacedInWriter:
    """Which step a call of a publisher or the sweeper is part of."""

    def __init__(self, name: str) -> None:
        self._main = "scan_intents" if name == "sweeper" else "put_log"
        self._shown = False

    def __call__(self, call: Request, before: Request | None) -> Part | None:
        """See ``Placed``."""
        del before
        name = call.name + (" search" if call.name == "get system" else "")
        self._shown |= name == "search write"
        if name in WRITER_CALLS:
            return Part("|".join(WRITER_CALLS[name]))
        if name in {"now", "delete_many intents (pins)"} and self._main == "put_log":
            return IN_SILENCE
        return Part("remove_intent" if self._shown else self._main)
