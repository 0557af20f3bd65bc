"""Explicit-state exploration: every state that a model can reach, in breadth-first order.

Breadth first means that the first violation found has a shortest trace, and that a run cut short
by a limit has seen everything up to a depth. Nothing is random: two runs see the same states in
the same order.
"""

from __future__ import annotations

import gc
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Generic, Protocol, TypeVar

import msgspec

S = TypeVar("S", bound=Hashable)


class Step(msgspec.Struct, Generic[S], frozen=True, gc=False):
    """One atomic event: who did what to what, how it ended, and the state after it."""

    actor: str
    action: str
    outcome: str
    subject: str
    state: S

    def __str__(self) -> str:
        return f"{self.actor:9} {self.action:14} {self.subject:7} {self.outcome}"


class Model(Protocol[S]):
    """What can happen, and what must never be."""

    def initial(self) -> S:
        """Where everything begins."""

    def steps(self, state: S) -> Iterable[Step[S]]:
        """All that may happen next, always in the same order; some may change nothing."""

    def violations(self, state: S) -> list[str]:
        """What is wrong in ``state``."""

    def at_rest(self, state: S) -> list[str]:
        """What stays wrong after everything that began was tidied up.

        Empty where something is still under way.
        """


class Result(msgspec.Struct, Generic[S], frozen=True):
    """What an exploration saw.

    ``bound`` says what cut it short; it is empty where every reachable state was seen.
    ``violations`` are those of the first bad state, and ``trace`` is a shortest way to it.
    """

    states: int
    transitions: int
    depth: int
    bound: str
    violations: list[str]
    trace: list[Step[S]]

    def __str__(self) -> str:
        end = "violated" if self.violations else self.bound or "complete"
        counts = f"{self.states:,} states, {self.transitions:,} transitions, depth {self.depth}"
        steps = [f"{number:3}. {step}" for number, step in enumerate(self.trace, 1)]
        return "\n".join(
            [f"{counts}, {end}", *steps, *(f"  => {what}" for what in self.violations)]
        )


def explore(model: Model[S], *, max_states: int | None = None) -> Result[S]:
    """Visit every state that ``model`` reaches, or stop at the first that violates it.

    Args:
        model: what to explore. All its states are kept in memory, so they should be small.
        max_states: stop at the end of the level at which so many were seen (None: no limit).
    """
    start = model.initial()
    came_from: dict[S, S | None] = {start: None}
    level, wrong = [start], _wrong(model, start)
    transitions = depth = 0
    bound = ""
    with _without_collection():
        while level and not wrong and not bound:
            depth += 1
            level, tried, wrong = _next_level(model, level, came_from)
            transitions += tried
            if max_states is not None and len(came_from) >= max_states and level:
                bound = f"cut short after {max_states:,} states"
    trace = list(_trace(model, came_from, level[-1])) if wrong and depth else []
    return Result(len(came_from), transitions, depth, bound, wrong, trace)


def _next_level(
    model: Model[S], level: list[S], came_from: dict[S, S | None]
) -> tuple[list[S], int, list[str]]:
    """What is first reached from ``level``, in how many steps, and what is wrong with the last."""
    found: list[S] = []
    tried = 0
    for state in level:
        for step in model.steps(state):
            tried += 1
            after = step.state
            if after not in came_from:
                came_from[after] = state
                found.append(after)
                wrong = _wrong(model, after)
                if wrong:
                    return found, tried, wrong
    return found, tried, []


def _wrong(model: Model[S], state: S) -> list[str]:
    return model.violations(state) or model.at_rest(state)


def _trace(model: Model[S], came_from: dict[S, S | None], end: S) -> Iterator[Step[S]]:
    path = [end]
    while (previous := came_from[path[-1]]) is not None:
        path.append(previous)
    path.reverse()
    for before, after in pairwise(path):
        yield next(step for step in model.steps(before) if step.state == after)


@contextmanager
def _without_collection() -> Iterator[None]:
    # States hold no cycles, and walking millions of them again and again would take most of the
    # time.
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
