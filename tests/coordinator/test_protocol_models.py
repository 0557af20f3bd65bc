"""The commit protocol, state by state: right as it is, wrong with any one of its rules broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from modelhub.testing.protocol import (
    CAUGHT_BY,
    CONFIGURATIONS,
    FULL,
    Configuration,
    Mutation,
    Protocol,
    Result,
    Step,
    Task,
    explore,
)
from modelhub.testing.protocol.client import Client
from modelhub.testing.protocol.model import State
from modelhub.testing.protocol.turns import DEAD, DONE

# --- the protocol --------------------------------------------------------------------------------


def explored(
    name: str, configuration: Configuration, figure: Callable[[str], None]
) -> Result[State]:
    result = explore(Protocol(configuration))
    figure(f"{name}: {result}")
    return result


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_what_always_holds_does_in_every_state(name: str, figure: Callable[[str], None]) -> None:
    result = explored(name, CONFIGURATIONS[name], figure)
    assert not result.violations
    assert not result.bound


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", FULL)
def test_what_always_holds_does_in_every_state_further_on(
    name: str, figure: Callable[[str], None]
) -> None:
    result = explored(name, FULL[name], figure)
    assert not result.violations
    assert not result.bound


@pytest.mark.parametrize("mutation", Mutation, ids=lambda mutation: mutation.name.lower())
def test_every_broken_rule_is_caught(mutation: Mutation, figure: Callable[[str], None]) -> None:
    name = CAUGHT_BY[mutation]
    result = explore(Protocol(CONFIGURATIONS[name], mutation))
    figure(f"{mutation.value} ({name}): {result}")
    assert result.violations


# --- that the models are about something ----------------------------------------------------------


class Witness(Protocol):
    """Calls a state wrong that is to be reached."""

    def __init__(self, name: str, reached: Callable[[State], bool]) -> None:
        super().__init__(CONFIGURATIONS[name])
        self._reached = reached

    def violations(self, state: State) -> list[str]:
        return ["reached"] if self._reached(state) else []


def told(state: State, answer: str) -> bool:
    me = state.actors[0]
    return isinstance(me, Client) and (me.at, me.told) == (DONE, answer)


def txids(state: State) -> list[str]:
    return [entry.txid for entry in state.stores.log]


WITNESSES: dict[str, tuple[str, Callable[[State], bool]]] = {
    "an unknown outcome that lands later": (
        "one client, any number of faults",
        lambda state: told(state, "unknown") and "p1.1" in txids(state),
    ),
    "a commit whose client died": (
        "one client, any number of faults",
        lambda state: state.actors[0].at == DEAD and "p1.1" in txids(state),
    ),
    "a fenced attempt that is rebased": (
        "first entry",
        lambda state: txids(state) == ["fence", "p1.2"] and told(state, "ok"),
    ),
    "pins that outlive their intent": (
        "pack reused",
        lambda state: {row.pack for row in state.stores.intents if row.txid == "p1.1"} == {"x"},
    ),
    "a condemned pack that is brought back and reused": (
        "packs and a collector",
        lambda state: state.stores.pack("x").token == 3 and "x" in packs_needed(state),
    ),
    "a collected pack whose chunks are stored anew": (
        "packs and a collector",
        lambda state: not state.stores.pack("x").file and packs_needed(state) == {"p1-1"},
    ),
    "a new pack that is taken for an orphan, and stored again": (
        "packs and a collector",
        lambda state: state.stores.pack("p1-1").token == 1 and "p1-2" in packs_needed(state),
    ),
    "a request answered with what another call made": (
        "one request, sent twice",
        lambda state: told(state, "ok") and "p2.1" in txids(state),
    ),
    "a conflict": (
        "one request, sent twice, and a conflict",
        lambda state: told(state, "conflict"),
    ),
    "a version deleted while another is published": (
        "publish and delete",
        lambda state: txids(state)[1:] == ["p2.1", "p1.2"] and told(state, "ok"),
    ),
    "a version that comes back": (
        "delete and undelete",
        lambda state: txids(state)[-2:] == ["p1.1", "p2.1"] and told(state, "ok"),
    ),
}


def packs_needed(state: State) -> set[str]:
    return {pack for entry in state.stores.log for pack in entry.packs}


@pytest.mark.parametrize("what", WITNESSES)
def test_the_models_reach_what_they_are_about(what: str) -> None:
    assert explore(Witness(*WITNESSES[what])).violations


def test_making_private_calls_first_hides_no_other_state() -> None:
    class EveryOrder(Protocol):
        def steps(self, state: State) -> Iterator[Step[State]]:
            return self.all_steps(state)

    def public(model: Protocol) -> set[State]:
        states: set[State] = set()
        violations = model.violations

        def noted(state: State) -> list[str]:
            if not model.private_calls(state):
                states.add(state)
            return violations(state)

        model.violations = noted  # type: ignore[method-assign]
        assert not explore(model).violations
        return states

    tasks = (Task(stores=True, attempts=1), Task("delete", 1, attempts=1))
    configuration = Configuration(tasks=tasks, faults=1, whole_sweeps=True)
    assert public(Protocol(configuration)) == public(EveryOrder(configuration))


# --- the explorer ---------------------------------------------------------------------------------


class Counting:
    """Two actors that each read a counter and write it back, one higher."""

    def __init__(self, *, atomic: bool) -> None:
        self._atomic = atomic

    def initial(self) -> tuple[int, ...]:
        return (0, -1, -1)

    def steps(self, state: tuple[int, ...]) -> Iterator[Step[tuple[int, ...]]]:
        """An actor's part is -1 before it read, then what it read, and 9 after it wrote."""
        for actor in (1, 2):
            after = list(state)
            if state[actor] == 9:
                continue
            if self._atomic or state[actor] >= 0:
                after[0] = (state[0] if self._atomic else state[actor]) + 1
                after[actor] = 9
            else:
                after[actor] = state[0]
            action = "write" if after[actor] == 9 else "read"
            yield Step(str(actor), action, "ok", "", tuple(after))

    def violations(self, state: tuple[int, ...]) -> list[str]:
        return ["beyond two"] if state[0] > 2 else []

    def at_rest(self, state: tuple[int, ...]) -> list[str]:
        return ["an update is lost"] if state[1:] == (9, 9) and state[0] != 2 else []


def test_a_lost_update_is_found_with_a_shortest_trace() -> None:
    result = explore(Counting(atomic=False))
    assert result.violations == ["an update is lost"]
    assert sorted((step.actor, step.action) for step in result.trace) == [
        ("1", "read"),
        ("1", "write"),
        ("2", "read"),
        ("2", "write"),
    ]
    assert str(result).splitlines()[1:] == [
        f"{number:3}. {step}" for number, step in enumerate(result.trace, 1)
    ] + ["  => an update is lost"]


def test_without_violations_every_state_is_counted_once() -> None:
    result = explore(Counting(atomic=True))
    assert (result.states, result.transitions, result.depth) == (4, 4, 3)
    assert (result.bound, result.violations, result.trace) == ("", [], [])
    assert str(result) == "4 states, 4 transitions, depth 3, complete"


def test_an_exploration_that_is_cut_short_says_so() -> None:
    result = explore(Counting(atomic=True), max_states=2)
    assert result.bound == "cut short after 2 states"
    assert result.states == 3


def test_two_explorations_see_the_same() -> None:
    model = Protocol(CONFIGURATIONS["two publishers"], Mutation.SHARED_INTENT)
    assert str(explore(model)) == str(explore(model))
