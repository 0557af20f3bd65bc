"""Whether a history of calls that overlap could have happened one after the other.

The algorithm of Wing and Gong (1993) with the memory of Lowe (2017): of all calls that nothing has
to come before, each is tried as the next one, and no pair of calls done and state is looked at
twice. See https://doi.org/10.1006/jpdc.1993.1015 and https://doi.org/10.1002/cpe.3928.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

S = TypeVar("S", bound=Hashable)


@dataclass(frozen=True)
class Event:
    """A call: what was asked for, when, and when which answer came.

    Times are of one clock, in any unit. ``returned`` None: nobody knows the outcome; the call may
    take effect at any time after ``invoked``, or never, and ``answer`` says nothing.
    """

    call: Any
    invoked: float
    returned: float | None = None
    answer: Any = None


Apply = Callable[[S, Event], S | None]
"""The state after an event in a state; None where its answer would be another there."""


def order(events: Sequence[Event], initial: S, apply: Apply[S]) -> list[Event] | None:
    """An order of the events, one after the other, in which each answer is right.

    Events whose outcome is unknown are in it only where they took effect. None: there is no such
    order, so that the history is not linearizable.

    Args:
        events: what happened; they may overlap in any way.
        initial: the state before all of them. States must be hashable.
        apply: the sequential specification.
    """
    return _Search(events, apply).run(initial)


@dataclass
class _Place(Generic[S]):
    """How far an order came: which events are in it (as bits), the state, what may come next."""

    done: int
    state: S
    coming: Iterator[int]
    event: int


class _Search(Generic[S]):
    def __init__(self, events: Sequence[Event], apply: Apply[S]) -> None:
        self._events = sorted(events, key=lambda event: event.invoked)
        self._apply = apply
        self._known = sum(
            1 << at for at, event in enumerate(self._events) if event.returned is not None
        )

    def run(self, initial: S) -> list[Event] | None:
        seen = {(0, initial)}
        path = [_Place(0, initial, self._next(0), -1)]
        while path:
            here = path[-1]
            if here.done & self._known == self._known:
                return [self._events[place.event] for place in path[1:]]
            for at in here.coming:
                state = self._apply(here.state, self._events[at])
                done = here.done | 1 << at
                if state is not None and (done, state) not in seen:
                    seen.add((done, state))
                    path.append(_Place(done, state, self._next(done), at))
                    break
            else:
                path.pop()
        return None

    def _next(self, done: int) -> Iterator[int]:
        """The events that nothing which is left has to come before."""
        ends: list[float] = []
        left: list[int] = []
        for at, event in enumerate(self._events):
            if ends and event.invoked > min(ends):
                break
            if not done >> at & 1:
                left.append(at)
                if event.returned is not None:
                    ends.append(event.returned)
        # Whatever answered first was most likely first; what nobody knows of, last.
        return iter(sorted(left, key=self._returned))

    def _returned(self, at: int) -> float:
        returned = self._events[at].returned
        return float("inf") if returned is None else returned
