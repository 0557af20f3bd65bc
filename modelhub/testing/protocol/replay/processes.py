"""Processes of the coordinator that take turns: each stops at every call that is a step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, cast

from modelhub.coordinator.context import Context, Patience, Stores
from modelhub.hub import Hub
from modelhub.stores import RowStore, SearchIndex, WeightStore
from modelhub.testing.crashes import no_pause
from modelhub.testing.faults import ProcessDied
from modelhub.testing.protocol.replay.calls import (
    IN_SILENCE,
    Answer,
    Part,
    Request,
    dies,
    new_request,
    step_of,
)

Placed = Callable[[Request, Request | None], Part | None]
"""Says which step a call is part of, after the one before; None where no step knows of it."""

_HUNG_S = 60.0
_PATIENCE = Patience(grace_s=0.0)


def open_hub(stores: Stores) -> Hub:
    """A hub of a process of its own, which waits for nothing."""
    ctx = Context(stores, "tester", _PATIENCE, pause=no_pause)
    return Hub(ctx, address="replayed", cache=Path("unused"))


class Process:
    """A thread that runs one verb, and runs only while its owner waits for it.

    So of an owner and all its processes just one runs at any time, and nothing is left to chance.

    Attributes:
        pending: the call that it waits to make; None once the verb is over.
        calls: the names of all calls that it made.
        result: what the verb returned.
        error: what the verb raised.
    """

    def __init__(
        self,
        name: str,
        verb: Callable[[Hub], object],
        stores: Stores,
        placed: Placed = step_of,
        opened: Callable[[Stores], Hub] = open_hub,
    ) -> None:
        self._placed = placed
        self.pending: Request | None = None
        self.calls: set[str] = set()
        self.result: object = None
        self.error: BaseException | None = None
        self._before: Request | None = None
        self._dead = False
        self._requests: SimpleQueue[Request | None] = SimpleQueue()
        self._answers: SimpleQueue[Answer] = SimpleQueue()
        hub = opened(
            Stores(
                weights=cast(WeightStore, _Gate(self, "weights", stores.weights)),
                rows=cast(RowStore, _Gate(self, "rows", stores.rows)),
                search=cast(SearchIndex, _Gate(self, "search", stores.search)),
            )
        )
        self._thread = Thread(target=self._run, args=(verb, hub), name=name, daemon=True)
        self._thread.start()
        self._wait()

    def answer(self, answer: Answer) -> None:
        """Let it make its pending call, which goes as ``answer`` says, and go on to its next."""
        assert self.pending is not None
        self._answers.put(answer)
        self._wait()

    def finish(self) -> None:
        """Let it make all its calls; whatever its verb raises is raised."""
        while self.pending is not None:
            self.answer(Request.make)
        self._thread.join()
        if self.error is not None:
            raise self.error

    def kill(self) -> None:
        """Let its pending call be its last, and not be made."""
        while self.pending is not None:
            self.answer(dies)
        self._thread.join()

    def _wait(self) -> None:
        try:
            self.pending = self._requests.get(timeout=_HUNG_S)
        except Empty:
            raise AssertionError(f"{self._thread.name} hangs") from None

    def _run(self, verb: Callable[[Hub], object], hub: Hub) -> None:
        try:
            self.result = verb(hub)
        except BaseException as error:  # noqa: BLE001 - whoever started it looks at it
            self.error = error
        self._requests.put(None)

    def call(self, made: Request) -> Any:
        """Make a call in this process, when its turn has come."""
        if self._dead:
            raise ProcessDied
        made.part = self._placed(made, self._before)
        self._before = made
        self.calls.add(made.name)
        if made.part is IN_SILENCE:
            return made.make()
        self._requests.put(made)
        try:
            made.answer = self._answers.get()(made)
        except ProcessDied:
            self._dead = True
            raise
        # A file that is being written belongs to the process too.
        return _Gate(self, "weights", made.answer) if made.method == "create" else made.answer


class _Gate:
    """A store as one process has it."""

    def __init__(self, process: Process, kind: str, store: Any) -> None:
        self._process = process
        self._kind = kind
        self._store = store

    def __getattr__(self, method: str) -> Callable[..., Any]:
        return partial(self._call, method)

    def _call(self, method: str, *args: Any, **options: Any) -> Any:
        return self._process.call(new_request(self._kind, self._store, method, args, options))
