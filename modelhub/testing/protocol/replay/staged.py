"""What every replay is made of: processes of the coordinator that take the steps of a walk.

What calls belong to which step, and how stores look to a model, is the business of each replay.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Generic, TypeVar

from modelhub.testing.protocol.explore import Step
from modelhub.testing.protocol.replay.calls import Request
from modelhub.testing.protocol.replay.processes import Process
from modelhub.testing.protocol.turns import Message, State, Value, Write, land

S = TypeVar("S", bound=Value)
Steps = Sequence[Step[State[S]]]


class Drift(AssertionError):
    """Model and coordinator went different ways; the message says how far they went together."""


class Staged(ABC, Generic[S]):
    """A real hub, its processes, and what is on its way to its stores."""

    def __init__(self) -> None:
        self._started: list[Process] = []
        self._processes: dict[str, Process] = {}
        self._flight: dict[Message, Callable[[], Any]] = {}

    @abstractmethod
    def look(self) -> S:
        """The stores as the model sees them; looked at after every step."""

    @abstractmethod
    def act(self, before: State[S], steps: Steps[S]) -> None:
        """Take the first of ``steps``, somebody's call; the others say what comes of it."""

    @abstractmethod
    def start(self, name: str) -> Process:
        """The process that an actor is."""

    @abstractmethod
    def part(self, call: Request, write: Write[S]) -> Callable[[], Any]:
        """Does of ``call`` what is ``write`` in the model."""

    def expected(self, stores: S) -> S:
        """The model's stores, in the form in which ``look`` sees them."""
        return stores

    def close(self) -> set[str]:
        """End all processes; the names of the calls that they made."""
        for process in self._started:
            process.kill()
        return {name for process in self._started for name in process.calls}

    def compare(self, state: State[S]) -> None:
        """Whether the stores are what they are in ``state``.

        What is on its way there, and can change nothing any more, arrives first.
        """
        for message in [one for one in self._flight if one not in state.flight]:
            self._flight.pop(message)()
        seen, expected = self.look(), self.expected(state.stores)
        for field in seen.__struct_fields__:
            here, there = getattr(seen, field), getattr(expected, field)
            assert here == there, f"{field} is {here}, where the model has {there}"

    def take(self, before: State[S], steps: Steps[S]) -> None:
        """Take the first of ``steps``; the others say what comes of it."""
        step = steps[0]
        if step.outcome == "lands":
            message = next(one for one in _sent(before, step) if land(before, (one,)) == step.state)
            self._flight.pop(message)()
        elif step.outcome == "crash":
            if step.actor in self._processes:
                self._processes.pop(step.actor).kill()
        else:
            self.act(before, steps)

    def process(self, step: Step[State[S]]) -> Process:
        """The process of the step's actor."""
        name = step.actor
        if name not in self._processes:
            self._processes[name] = self.start(name)
            self._started.append(self._processes[name])
        return self._processes[name]

    def send(self, step: Step[State[S]], call: Request) -> None:
        """Keep what ``call`` was to write, message by message."""
        for message in _sent(step.state, step):
            # Only fences of two sweeps are the same message and two entries.
            if message not in self._flight or step.action == "put_fence":
                self._flight[message] = self.part(call, message.write)

    def ended(self, process: Process, step: Step[State[S]]) -> None:
        """Its verb must be over."""
        assert process.pending is None, f"{step.actor} was to end, and calls {process.pending}"
        del self._processes[step.actor]


def follow(
    title: object,
    initial: State[S],
    steps: Steps[S],
    stage: Callable[[], Staged[S]],
    named: AbstractContextManager[None],
) -> set[str]:
    """Let the coordinator take the steps of a walk; the names of the calls that it made.

    Args:
        title: says in a drift which walk it was.
        initial: the model's state before the first step.
        steps: what happens from there on.
        stage: makes the hub that is like ``initial``.
        named: gives what processes make the names that it has in the model.

    Raises:
        Drift: it calls what the model does not, or in another order; its stores are not what the
            model says; or somebody is told something else.
    """
    state, taken = initial, 0
    with named:
        staged = stage()
        try:
            staged.compare(state)
            for taken, step in enumerate(steps, 1):
                staged.take(state, steps[taken - 1 :])
                staged.compare(step.state)
                state = step.state
        except Exception as error:
            trace = [f"{number:3}. {one}" for number, one in enumerate(steps[:taken], 1)]
            raise Drift("\n".join([str(title), *trace, f"  => {error}"])) from error
        finally:
            calls = staged.close()
    return calls


def pending(process: Process, step: Step[State[S]]) -> Request:
    """The call that ``process`` waits to make, which must be one of ``step``."""
    call = process.pending
    made = ending(process) if call is None else f"calls {call} ({call.action or 'no step'})"
    there = call is not None and step.action in call.action.split("|")
    assert there, f"{step.actor} was to {step.action}, and {made}"
    assert call is not None
    return call


def ending(process: Process) -> str:
    """How its verb ended."""
    if process.error is None:
        return f"returns {process.result}"
    return f"raises {type(process.error).__name__}: {process.error}"


def _sent(state: State[S], step: Step[State[S]]) -> list[Message]:
    """What is on its way of what ``step`` is about."""
    sent = (step.actor, step.action, step.subject)
    return [one for one in state.flight if (one.actor, one.action, one.subject) == sent]
