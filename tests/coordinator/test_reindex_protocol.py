"""Re-indexing, state by state: as it is, with a rule broken, and as the coordinator does it.

Tier: CI explores each configuration with few faults and replays 1,000 walks; ``--full`` explores
with more faults, and replays 4,000 other walks.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelhub.coordinator import index, reindex
from modelhub.coordinator.context import Context
from modelhub.coordinator.lease import Lease
from modelhub.records import Targets
from modelhub.testing.protocol.explore import explore
from modelhub.testing.protocol.filling import Reindexer
from modelhub.testing.protocol.reindexing import (
    REINDEXES,
    REINDEXES_FULL,
    TARGETS_CAUGHT_BY,
    Reindex,
    Reindexing,
    State,
)
from modelhub.testing.protocol.replay.reindexed import RUN_CALLS, WRITER_CALLS, replay, walk
from modelhub.testing.protocol.turns import DEAD, DONE
from modelhub.testing.protocol.writers import TargetMutation
from tests.coordinator.replaying import Replays

WALKS = 250
FULL_WALKS = 1000


@pytest.mark.parametrize("name", REINDEXES)
def test_what_always_holds_does_in_every_state(name: str, figure: Callable[[str], None]) -> None:
    result = explore(Reindexing(REINDEXES[name]))
    figure(f"{name}: {result}")
    assert not result.violations
    assert not result.bound


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", REINDEXES_FULL)
def test_what_always_holds_does_in_every_state_further_on(
    name: str, figure: Callable[[str], None]
) -> None:
    result = explore(Reindexing(REINDEXES_FULL[name]))
    figure(f"{name}: {result}")
    assert not result.violations
    assert not result.bound


@pytest.mark.parametrize("mutation", TargetMutation, ids=lambda mutation: mutation.name.lower())
def test_every_broken_rule_is_caught(
    mutation: TargetMutation, figure: Callable[[str], None]
) -> None:
    name = TARGETS_CAUGHT_BY[mutation]
    result = explore(Reindexing({**REINDEXES_FULL, **REINDEXES}[name], mutation))
    figure(f"{mutation.value} ({name}): {result}")
    assert result.violations


# --- that the models are about something ---------------------------------------------------------


class Witness(Reindexing):
    """Calls a state wrong that is to be reached."""

    def __init__(self, name: str, reached: Callable[[State], bool]) -> None:
        super().__init__(REINDEXES[name])
        self._reached = reached

    def violations(self, state: State) -> list[str]:
        return ["reached"] if self._reached(state) else []


def told(state: State, name: str, answer: str) -> bool:
    runs = [actor for actor in state.actors if isinstance(actor, Reindexer)]
    me = runs[int(name[1:]) - 1]
    return (me.at, me.told) == (DONE, answer)


def documents(state: State, target: str) -> tuple[int, ...]:
    found = state.stores.target(target)
    return () if found is None else found.documents


WITNESSES: dict[str, tuple[str, Callable[[State], bool]]] = {
    "a target that one run began and another made live": (
        "two runs and a publisher",
        lambda state: told(state, "r2", "ok") and state.stores.listed.live == "r1",
    ),
    "a run that is told of another, which took over": (
        "two runs and a publisher",
        lambda state: told(state, "r1", "conflict"),
    ),
    "a registered target that is given up for one of another form": (
        "a run that gives up another's target",
        lambda state: (
            state.stores.listed.targets == ("first", "r2") and state.stores.target("r1") is not None
        ),
    ),
    "a target that is made when nobody wants it any more": (
        "runs alone",
        lambda state: told(state, "r2", "ok") and state.stores.target("r1") is not None,
    ),
    "a version published into both targets before the new one is filled": (
        "a run and two publishers",
        lambda state: (
            documents(state, "r1") == (2, 2) == documents(state, "first")
            and not state.stores.run.filled
        ),
    ),
    "a version shown to the new target by the sweeper": (
        "a run, a publisher and a sweeper",
        lambda state: (
            state.actors[0].at == DEAD
            and not state.stores.owed
            and documents(state, "r1") == (2, 2)
        ),
    ),
}


@pytest.mark.parametrize("what", WITNESSES)
def test_the_models_reach_what_they_are_about(what: str) -> None:
    assert explore(Witness(*WITNESSES[what])).violations


# --- the coordinator -----------------------------------------------------------------------------

WALKED = {
    "a run and two publishers": Reindex(publishers=2, runs=(False,), faults=3),
    "a run, a publisher and a sweeper": Reindex(
        publishers=1, runs=(False,), faults=3, sweeper=True
    ),
    "two runs, two publishers and a sweeper": Reindex(
        publishers=2, runs=(False, False), faults=3, sweeper=True
    ),
    "three runs": Reindex(publishers=1, runs=(False, False, False), faults=4),
}


REPLAYS = Replays(Reindexing, walk, replay, WALKED)


@pytest.mark.parametrize("name", WALKED)
def test_the_coordinator_takes_the_steps_of_the_models(
    name: str, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    figure(REPLAYS.replayed(name, range(WALKS), tmp_path)[0])


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", WALKED)
def test_the_coordinator_takes_the_steps_of_more_walks(
    name: str, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    figure(REPLAYS.replayed(name, range(WALKS, WALKS + FULL_WALKS), tmp_path)[0])


def test_the_walks_take_every_step_with_every_outcome() -> None:
    assert REPLAYS.not_taken(WALKS) == set()


def test_every_call_in_the_tables_is_made(tmp_path: Path) -> None:
    _, calls = REPLAYS.replayed("two runs, two publishers and a sweeper", range(40), tmp_path)
    known = {call.removesuffix(" reindex").removesuffix(" search") for call in RUN_CALLS}
    known |= {call.removesuffix(" search") for call in WRITER_CALLS}
    assert known <= {call.removesuffix(" search") for call in calls}


# --- that a coordinator that goes another way is noticed -----------------------------------------

Patch = Callable[[pytest.MonkeyPatch], None]
Run = reindex._Run


def targets_are_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(ctx: Context, fresh: list[Any], *, timeout_s: float | None = None) -> None:
        for target in (ctx.targets or index.read_targets(ctx)).targets:
            ctx.stores.search.write(target, fresh, timeout_s=timeout_s)

    monkeypatch.setattr(index, "write_everywhere", changed)


def a_missing_target_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(ctx: Context, target: str, versioned: list[Any], timeout_s: float | None) -> bool:
        ctx.stores.search.write(target, versioned, timeout_s=timeout_s)
        return True

    monkeypatch.setattr(index, "_write", changed)


def the_target_is_registered_late(monkeypatch: pytest.MonkeyPatch) -> None:
    change = Run._change_targets

    def late(self: reindex._Run, wanted: Callable[[Targets], Targets]) -> Targets:
        if wanted == self._swapped:
            change(self, self._registered)
        if wanted == self._registered:
            return index.read_targets(self._ctx)
        return change(self, wanted)

    monkeypatch.setattr(Run, "_change_targets", late)


def nothing_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "_compare", lambda *_: None)


def the_lease_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    note = Lease.note

    def changed(self: Lease[Any], **changes: Any) -> None:
        if changes:
            note(self, **changes)

    monkeypatch.setattr(Lease, "note", changed)


def others_are_dropped_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(self: reindex._Run) -> tuple[str, ...]:
        for name in self._ctx.stores.search.targets():
            if name not in index.read_targets(self._ctx).targets:
                self._ctx.stores.search.drop_target(name)
        return ()

    monkeypatch.setattr(Run, "_drop_others", changed)


def the_swap_comes_before_the_filling(monkeypatch: pytest.MonkeyPatch) -> None:
    fill = Run._fill

    def changed(self: reindex._Run, epoch: int) -> None:
        self._change_targets(self._swapped)
        fill(self, epoch)

    monkeypatch.setattr(Run, "_fill", changed)


CHANGES: dict[Patch, str] = {
    targets_are_not_read_again: "a run and two publishers",
    a_missing_target_is_an_error: "a run and two publishers",
    the_target_is_registered_late: "a run and two publishers",
    nothing_is_compared: "a run and two publishers",
    the_lease_is_not_looked_at: "two runs, two publishers and a sweeper",
    others_are_dropped_at_once: "two runs, two publishers and a sweeper",
    the_swap_comes_before_the_filling: "a run and two publishers",
}
"""Each with the configuration whose walks show it."""


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_coordinator_that_goes_another_way_is_noticed(
    change: Patch,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    figure: Callable[[str], None],
) -> None:
    change(monkeypatch)
    figure(f"{change.__name__}: {REPLAYS.noticed(CHANGES[change], WALKS, tmp_path)}")
