"""Explicit-state exploration: every state that a model can reach, in breadth-first order.

Breadth first means that the first violation found has a shortest trace, and that a run cut short
by a limit has seen everything up to a depth. Nothing is random: two runs see the same states in the
same order.
"""

from __future__ import annotations

import gc
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
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
        return f"{self.actor}: {self.action} {self.subject} … {self.outcome}"


class Model(Protocol[S]):
    """What can happen, and what must never be."""

    def initial(self) -> S:
        """Where everything begins."""

    def steps(self, state: S) -> Iterable[Step[S]]:
        """All that may happen next; a step may lead back to ``state``."""

    def violations(self, state: S) -> list[str]:
        """What is wrong in ``state``: safety. Also called for states at rest."""

    def at_rest(self, state: S) -> list[str]:
        """What is wrong once everything that began in ``state`` was tidied up; empty where
        something is still under way."""


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
        seen = f"{self.states:,} states, {self.transitions:,} transitions, depth {self.depth}, "
        seen += f"cut short by {self.bound}" if self.bound else "complete"
        if not self.violations:
            return seen
        lines = [f"{number:3}. {step}" for number, step in enumerate(self.trace, 1)]
        return "\n".join(
            [f"{seen}; VIOLATED", *lines, *(f"  => {what}" for what in self.violations)]
        )


def explore(model: Model[S], *, max_states: int = 0, max_depth: int = 0) -> Result[S]:
    """Visit every state that ``model`` reaches, or stop at the first that violates it.

    Args:
        model: what to explore; its states should be small, as all of them are kept.
        max_states: stop after so many states (0: no limit).
        max_depth: follow traces of at most so many steps (0: no limit).
    """
    start = model.initial()
    came_from: dict[S, S | None] = {start: None}
    transitions = depth = 0
    bound = ""
    wrong = _wrong(model, start)
    bad, level = start, [start]
    with _no_collection():
        while level and not wrong:
            if max_depth and depth == max_depth:
                bound = f"the limit of {max_depth} steps"
                break
            depth += 1
            found: list[S] = []
            for state in level:
                for step in model.steps(state):
                    transitions += 1
                    if step.state in came_from:
                        continue
                    came_from[step.state] = state
                    found.append(step.state)
                    wrong = _wrong(model, step.state)
                    if wrong:
                        bad = step.state
                        break
                if wrong:
                    break
            level = found
            if max_states and len(came_from) >= max_states:
                bound = f"the limit of {max_states:,} states"
                break
    trace = list(_trace(model, came_from, bad)) if wrong else []
    return Result(len(came_from), transitions, depth, bound, wrong, trace)


def _wrong(model: Model[S], state: S) -> list[str]:
    return model.violations(state) or model.at_rest(state)


def _trace(model: Model[S], came_from: dict[S, S | None], end: S) -> Iterator[Step[S]]:
    path = [end]
    while (previous := came_from[path[-1]]) is not None:
        path.append(previous)
    path.reverse()
    for before, after in zip(path, path[1:], strict=False):
        yield next(step for step in model.steps(before) if step.state == after)


@contextmanager
def _no_collection() -> Iterator[None]:
    # States hold no cycles, and walking millions of them again and again would take most of the time.
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
