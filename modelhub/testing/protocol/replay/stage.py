"""Replays a walk of a model on the coordinator: every step is a call of a real verb.

Where a model leaves the number of tries open, the walk is looked ahead in: an actor that gives up
there fails all tries here that the coordinator has left. A put that is tried again is read back
first: that answers where the walk's try succeeds, and fails where it does not. Leases are what the
walk wants: a sweep is shown those of the attempts that it settles as over, of others as running.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec

from modelhub.content.pack import pack_path
from modelhub.coordinator import keys, storing, sweep, transaction
from modelhub.errors import Conflict, OutcomeUnknown, Unavailable
from modelhub.hub import Hub
from modelhub.records import Intent, PackRow, Pin, decode, encode
from modelhub.results import Version
from modelhub.testing.protocol.client import Client, Task
from modelhub.testing.protocol.explore import Step
from modelhub.testing.protocol.model import Configuration, Protocol, State
from modelhub.testing.protocol.replay.calls import (
    READ_BACKS,
    Answer,
    Request,
    away,
    doubled,
    pack_id,
    part_of,
    unsure,
)
from modelhub.testing.protocol.replay.mirror import Mirror
from modelhub.testing.protocol.replay.processes import Process
from modelhub.testing.protocol.replay.staged import Staged, ending, follow, pending
from modelhub.testing.protocol.replay.standing import begin, verb
from modelhub.testing.protocol.replay.walks import (
    COLLECTOR,
    RETRIES,
    STRANGER,
    SWEEPER,
    actors,
    makes_no_call,
    task_of,
)
from modelhub.testing.protocol.sweeper import Sweeper
from modelhub.testing.protocol.turns import DONE, Actor
from modelhub.testing.protocol.world import Pack, Stores, facts

_TRIES = {
    **{action: (action,) for action, (place, _) in RETRIES.items() if place == action},
    "read_log": ("put_log", "put_fence", "read_log"),
    "read_packs": ("register_pack", "read_packs"),
}
"""What an actor that gives up at a step would go on to try."""

_MOST_TRIES = 20
"""More than the coordinator ever makes."""

_ANSWERS: dict[str, Answer] = {
    "ok": Request.make,
    "late": unsure,
    "fails_before": away,
    "doubled": doubled,
}
_TOLD = {"conflict": Conflict, "failed": Unavailable, "unknown": OutcomeUnknown}


def replay(configuration: Configuration, steps: Sequence[Step[State]], folder: Path) -> set[str]:
    """Let the coordinator take the steps of a walk; the names of the calls that it made.

    Args:
        configuration: that of the model.
        steps: what happens, from the model's initial state on.
        folder: for files to publish; it may be the same for all walks of a configuration.

    Raises:
        Drift: see ``follow``.
    """
    initial = Protocol(configuration).initial()
    return follow(configuration, initial, steps, lambda: _Stage(configuration, folder), _named())


@contextmanager
def _named() -> Iterator[None]:
    """Transactions and packs get the names that they have in the models: by actor and number."""
    counts: Counter[tuple[str, str]] = Counter()

    def count(kind: str) -> tuple[str, int]:
        name = threading.current_thread().name
        counts[kind, name] += 1
        return name, counts[kind, name]

    def txid() -> str:
        name, number = count("attempts")
        return name if name == STRANGER else f"{name}.{number}"

    def pack() -> str:
        name, number = count("packs")
        return pack_id(f"{name}-{number}")

    with (
        patch.object(transaction, "new_txid", txid),
        patch.object(sweep, "new_txid", txid),
        patch.object(storing, "new_pack_id", pack),
    ):
        yield


class _Stage(Staged[Stores]):
    """A hub with publishers, deleters, a sweeper, a stranger and a collector."""

    def __init__(self, configuration: Configuration, folder: Path) -> None:
        super().__init__()
        self._configuration = configuration
        self._folder = folder
        self._stores = begin(configuration, folder)
        self._mirror = Mirror(self._stores, configuration)
        self._collected = 0

    def look(self) -> Stores:
        return self._mirror.look()

    def expected(self, stores: Stores) -> Stores:
        """The same with the packs of each entry in order of their names."""
        log = tuple(
            msgspec.structs.replace(entry, packs=tuple(sorted(entry.packs))) for entry in stores.log
        )
        return msgspec.structs.replace(stores, log=log)

    def part(self, call: Request, write: Any) -> Callable[[], Any]:
        return part_of(call, write)

    def start(self, name: str) -> Process:
        return Process(name, self._verb(name), self._stores)

    def act(self, before: State, steps: Sequence[Step[State]]) -> None:
        step = steps[0]
        if step.actor == STRANGER:
            self.start(STRANGER).finish()
        elif step.actor == COLLECTOR:
            for pack in step.state.stores.packs:
                self._collect(before.stores.pack(pack.name), pack)
        elif not makes_no_call(self._configuration, before, step.actor, step.action):
            self._call(steps)

    def _collect(self, before: Pack, after: Pack) -> None:
        """What the collector did to a pack."""
        rows, key = self._stores.rows, keys.pack(pack_id(after.name))
        if after.token != before.token:
            self._collected += 1
            value = rows.get(keys.PACKS, key)
            size = 0 if value is None else decode(value, PackRow, after.name).size_bytes
            token = f"collector.{self._collected}"
            changed = {"state": after.state, "size_bytes": size, "token": token}
            row = msgspec.convert(changed, PackRow)
            assert rows.check_and_put(keys.PACKS, key, value, encode(row))
        if after.file != before.file:
            self._stores.weights.remove(pack_path(pack_id(after.name)))

    def _call(self, steps: Sequence[Step[State]]) -> None:
        """Let a process make the calls of a step, then see how it goes on."""
        step = steps[0]
        after = actors(self._configuration, step.state)[step.actor]
        process = self.process(step)
        answer = _ANSWERS[step.outcome]
        if step.action == "scan_intents" and step.outcome == "ok":
            answer = self._leases(after, steps)
        made = pending(process, step)
        if made.name in READ_BACKS and step.outcome != "ok":
            process.answer(away)
            made = pending(process, step)
        process.answer(answer)
        if step.outcome == "late":
            self.send(step, made)
        while step.outcome == "ok" and process.pending and process.pending.continues(made):
            made = process.pending
            process.answer(Request.make)
        if after.at in {DONE, "scan_intents"}:
            self._end(process, step, after)
        else:
            assert process.pending, f"{step.actor} was to go on, and {ending(process)}"

    def _verb(self, name: str) -> Callable[[Hub], object]:
        if name == SWEEPER:
            return Hub.sweep
        task = Task() if name == STRANGER else task_of(self._configuration, name)
        return verb(name, task, self._folder)

    def _leases(self, sweeper: Actor, later: Sequence[Step[State]]) -> Answer:
        """The answer to a scan of intents under which a sweep settles what ``sweeper`` does."""
        assert isinstance(sweeper, Sweeper)
        over = {row.txid for row in sweeper.rows}
        now = datetime.now(UTC)
        # Pins go once a push that is resumed could no longer want them.
        since = timedelta(minutes=1 if _keeps_pins(self._configuration, later) else 10**6)

        def answer(call: Request) -> list[tuple[bytes, bytes]]:
            rows = []
            for key, value in call.make():
                _, txid, pack = keys.parse_intent(key)
                row = decode(value, Pin, txid) if pack else decode(value, Intent, txid)
                lease = now - since if txid in over else now + timedelta(hours=1)
                rows.append((key, encode(msgspec.structs.replace(row, lease=lease))))
            return rows

        return answer

    def _end(self, process: Process, step: Step[State], after: Actor) -> None:
        """Fail the tries that are left to ``process``; then its verb must be over, as foreseen."""
        for _ in range(_MOST_TRIES):
            if process.pending is None or process.pending.action not in _TRIES.get(step.action, ()):
                break
            process.answer(away)
        self.ended(process, step)
        if isinstance(after, Client):
            self._check_told(process, after, step)
        else:
            succeeds = step.outcome == "ok" and step.action != "read_log"
            assert (process.error is None) == succeeds, f"the sweep {ending(process)}"

    def _check_told(self, process: Process, client: Client, step: Step[State]) -> None:
        """Whether a verb ended as its client was told."""
        log = step.state.stores.log
        task = task_of(self._configuration, step.actor)
        own = [one.number for one in log if one.txid.startswith(f"{step.actor}.")]
        told = f"{step.actor} is told {client.told}, and {ending(process)}"
        if client.told in _TOLD:
            assert type(process.error) is _TOLD[client.told], told
            return
        assert isinstance(process.result, Version), told
        number = task.number or (own[0] if own else facts(log).made)
        assert process.result.number == number, told
        if task.op != "publish":
            assert process.result.deleted == (task.op == "delete"), told


def _keeps_pins(configuration: Configuration, later: Sequence[Step[State]]) -> bool:
    """Whether the sweep that begins with ``later`` leaves pins of attempts that did not land."""
    for before, step in pairwise(later):
        if step.actor == SWEEPER and step.outcome == "ok" and step.action == "put_hints":
            seen, doomed = (
                actors(configuration, state)[SWEEPER] for state in (before.state, step.state)
            )
            assert isinstance(seen, Sweeper)
            assert isinstance(doomed, Sweeper)
            return seen.rows != doomed.rows
        if step.actor == SWEEPER and step.action == "scan_intents":
            break
    return False
