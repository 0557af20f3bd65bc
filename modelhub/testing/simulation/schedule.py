"""Schedules: who does what, whose turn it is at each step, and how each call goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import NamedTuple

from modelhub.coordinator import keys
from modelhub.testing.faults import Call, Outcome


class Turn(NamedTuple):
    """A client begins its verb number ``verb``, or makes that verb's next call."""

    client: int
    verb: int
    outcome: Outcome = Outcome.OK


class Passes(NamedTuple):
    """Nobody does anything for some minutes."""

    minutes: int


class Lands(NamedTuple):
    """What is on its way longest of a client's late calls arrives."""

    client: int


Step = Turn | Passes | Lands
Script = tuple[int, ...]
"""The verbs of a client, by number: each is drawn from its number, whatever came before."""


@dataclass(frozen=True)
class Schedule:
    """A run: ``steps``, after which every call that is pending is made, in order of clients.

    Turns of verbs that are in no script are left out. ``founded`` is how many versions there are
    from the beginning.
    """

    seed: int
    scripts: tuple[Script, ...]
    founded: int = 0
    steps: tuple[Step, ...] = ()


class Seen(NamedTuple):
    """What whoever chooses the next step knows: the pending call of each client that can go on.

    None stands for a client that may begin its next verb; ``late`` are those that have calls on
    their way.
    """

    pending: Mapping[int, tuple[int, Call | None]]
    late: Sequence[int]


Choose = Callable[[Seen], Step | None]
"""Says the next step; None ends the run."""

_MOST_STEPS = 400
_UPKEEP = 6
"""Verbs of a client that looks after the hub."""

_SWITCHED_AT = frozenset({keys.LOG, keys.INTENTS, keys.PACKS, keys.SYSTEM})
_MINUTES = (4, 11, 25, 6 * 24 * 60)
"""Enough for a lease to end, for a fence, and for pins of a push to be resumed to go."""

_LOST = (Outcome.LOST_APPLIED, Outcome.LOST_DROPPED, Outcome.LATE)


_CUT_OFF = (3, 11, 11, 99)
"""Calls: a commit gives up after 12."""


def drawn(seed: int) -> Schedule:
    """Four to eight clients with one to three verbs each; the steps are yet to be chosen."""
    chance = Random(f"schedule {seed}")
    clients, verbs = chance.choice((4, 4, 5, 6, 8)), chance.choice((1, 2, 3))
    scripts = [tuple(range(verbs)) for _ in range(clients)]
    if keeps_up(seed, 0):
        scripts[0] = tuple(range(_UPKEEP))
    return Schedule(seed, tuple(scripts), chance.choice((0, 1, 2, 2, 3)))


def keeps_up(seed: int, client: int) -> bool:
    """Whether a client looks after the hub and does nothing else: in half of the seeds one does."""
    return client == 0 and seed % 2 == 0


def skew(seed: int, client: int) -> timedelta:
    """How far a client's clock is from the row store's: less than five minutes."""
    return timedelta(seconds=Random(f"clock {seed} {client}").uniform(-280, 280))


class Chance:
    """Chooses steps by chance, in a manner of each seed's own: hasty or patient, faulty or not.

    Where most is at stake it turns to other clients, lets a client sleep until nobody else has
    anything to do, and fails calls more often. Whoever lost a reply may be cut off from the rows
    for some of its next calls.
    """

    def __init__(self, seed: int) -> None:
        self._random = chance = Random(f"steps {seed}")
        self._stays = chance.choice((0.3, 0.8, 0.95, 0.98))
        self._leaves = chance.choice((0.0, 0.3, 0.6))
        self._sleeps = chance.choice((0.0, 0.1, 0.3))
        self._fails = chance.choice((0.0, 0.01, 0.03, 0.06))
        self._cuts_off = chance.choice((0.0, 0.3, 0.6))
        self._waits = chance.choice((0.0, 0.005, 0.02))
        self._lands = chance.choice((0.01, 0.1))
        self._cut_off: dict[tuple[int, int], int] = {}
        self._asleep: set[int] = set()
        self._night = False
        self._client = -1
        self._steps = 0

    def __call__(self, seen: Seen) -> Step | None:
        """The next step."""
        self._steps += 1
        if not seen.pending or self._steps > _MOST_STEPS:
            return None
        if self._night or self._random.random() < self._waits:
            self._night = False
            return Passes(self._random.choice(_MINUTES))
        if seen.late and self._random.random() < self._lands:
            return Lands(self._random.choice(seen.late))
        client = self._client = self._chosen(seen)
        verb, call = seen.pending[client]
        return Turn(client, verb, Outcome.OK if call is None else self._outcome(client, verb, call))

    def _chosen(self, seen: Seen) -> int:
        """Whose turn it is."""
        client = self._client
        call = seen.pending[client][1] if client in seen.pending else None
        stays = self._stays
        if call is not None and call.writes and call.where in _SWITCHED_AT:
            stays = min(stays, 1 - self._leaves)
            if client not in self._asleep and self._random.random() < self._sleeps:
                self._asleep.add(client)
                self._night = self._random.random() < 0.5
        awake = [one for one in seen.pending if one not in self._asleep]
        if not awake:
            self._asleep.clear()
            awake = list(seen.pending)
        if client in awake and self._random.random() < stays:
            return client
        return self._random.choice(awake)

    def _outcome(self, client: int, verb: int, call: Call) -> Outcome:
        if self._cut_off.get((client, verb)) and call.store == "rows":
            self._cut_off[client, verb] -= 1
            return self._random.choice((Outcome.FAILS_BEFORE, *_LOST))
        commits = call.writes and call.where == keys.LOG
        if self._random.random() > self._fails * (8 if commits else 3 if call.writes else 1):
            return Outcome.OK
        outcome = self._random.choice(call.outcomes)
        if commits and self._random.random() < 0.5:
            outcome = self._random.choice((*_LOST, Outcome.DOUBLED))
        if outcome in _LOST and self._random.random() < self._cuts_off:
            self._cut_off[client, verb] = self._random.choice(_CUT_OFF)
        return outcome
