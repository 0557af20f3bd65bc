"""Processes that take turns: each stops before every store call, until it is told how that goes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from queue import Empty, SimpleQueue
from threading import Thread

from modelhub.hub import Hub
from modelhub.testing.faults import Call, Faults, Outcome, ProcessDied
from modelhub.testing.simulation.world import World

_HUNG_S = 60.0


class Process:
    """A process that opened the hub. It does one verb after the other, each in a thread.

    A thread runs only while its owner waits for it, so just one runs at any time.

    Attributes:
        pending: the call that it waits to make; None between verbs.
        result: what the last verb returned.
        error: what the last verb raised.
        died: it did, in the middle of a verb.
    """

    def __init__(self, world: World, name: str, skew: timedelta) -> None:
        self.pending: Call | None = None
        self.result: object = None
        self.error: BaseException | None = None
        self.died = False
        self._name = name
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._outcomes: SimpleQueue[Outcome | None] = SimpleQueue()
        self.faults = Faults(world.stores, self._ask)
        self._hub = world.open_hub(self.faults.stores, name, skew)

    def begin(self, verb: Callable[[Hub], object]) -> None:
        """Begin a verb, and stop before its first call."""
        self.result = self.error = None
        Thread(target=self._run, args=(verb,), name=self._name, daemon=True).start()
        self._wait()

    def go_on(self, outcome: Outcome) -> None:
        """Let it make its pending call, which has this outcome, and stop before its next."""
        assert self.pending is not None
        self._outcomes.put(outcome)
        self._wait()

    def kill(self) -> None:
        """End it before its pending call."""
        if self.pending is not None:
            self._outcomes.put(None)
            self._wait()

    def _wait(self) -> None:
        try:
            self.pending = self._calls.get(timeout=_HUNG_S)
        except Empty:
            raise AssertionError(f"{self._name} hangs") from None

    def _run(self, verb: Callable[[Hub], object]) -> None:
        try:
            self.result = verb(self._hub)
        except BaseException as error:  # noqa: BLE001 - whoever began it looks at it
            self.error = error
            self.died = isinstance(error, ProcessDied)
        self._calls.put(None)

    def _ask(self, call: Call) -> Outcome:
        self._calls.put(call)
        outcome = self._outcomes.get()
        if outcome is None:
            self.faults.die()
        return outcome
