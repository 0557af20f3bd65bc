"""Running a schedule: clients, their processes, and a record of what each was told."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

from modelhub.errors import ModelhubError, OutcomeUnknown, Unavailable
from modelhub.testing.faults import Call, Outcome
from modelhub.testing.simulation.processes import Process
from modelhub.testing.simulation.schedule import (
    Choose,
    Lands,
    Passes,
    Schedule,
    Seen,
    Step,
    Turn,
    keeps_up,
    skew,
)
from modelhub.testing.simulation.verbs import Change, Draw, PushOf, Verb, drawn, found
from modelhub.testing.simulation.world import World, nothing_by_chance


@dataclass
class Asked:
    """What a client asked for, and what it was told.

    Attributes:
        begun, ended: steps of the simulation.
        told: ``done``, ``refused``, ``failed`` (nothing was changed), ``unknown``, ``broken``
            (by an error that is none of modelhub's), or ``died``, which tells nobody anything.
        answer: what was returned, or the error.
    """

    client: int
    verb: Change | Verb
    begun: int
    ended: int = 0
    told: str = "died"
    answer: Any = None


@dataclass(frozen=True)
class Made:
    """A step that was taken: ``call`` is None where a verb began, or nobody made a call."""

    step: Step
    asked: Asked | None = None
    call: Call | None = None


@dataclass
class Run:
    """A run that is over: everything that was asked, and every step."""

    world: World
    asked: list[Asked] = field(default_factory=list)
    made: list[Made] = field(default_factory=list)
    deaths: int = 0

    @property
    def steps(self) -> tuple[Step, ...]:
        """Those that were taken."""
        return tuple(made.step for made in self.made)

    def counts(self) -> Counter[str]:
        """Figures of the run."""
        calls = [made for made in self.made if made.call is not None]
        faults = sum(isinstance(m.step, Turn) and m.step.outcome is not Outcome.OK for m in calls)
        figures = {"verbs": len(self.asked), "calls": len(calls), "faults": faults}
        return Counter(figures | {"deaths": self.deaths})


class _Client:
    """Somebody with a list of verbs to do; a process of his that died is replaced."""

    def __init__(self, number: int, seed: int, script: tuple[int, ...], scratch: Path) -> None:
        self.number = number
        self.running: int | None = None
        self.late: list[Process] = []
        self._left = list(script)
        self._seed = seed
        self._scratch = scratch
        self._doubted: PushOf | None = None
        self._process: Process | None = None
        self._asked: Asked | None = None

    @property
    def next(self) -> int | None:
        """The verb that is under way, or the one to begin."""
        if self.running is not None:
            return self.running
        return self._left[0] if self._left else None

    @property
    def pending(self) -> Call | None:
        """The call to be made."""
        return None if self._process is None else self._process.pending

    def begin(self, run: Run) -> Asked:
        """Begin the next verb."""
        self.running = self._left.pop(0)
        if self._process is None:
            self._process = Process(run.world, f"c{self.number}", skew(self._seed, self.number))
            self.late.append(self._process)
        draw = Draw(
            Random(f"verb {self._seed} {self.number} {self.running}"),
            run.world,
            self._scratch,
            f"c{self.number}.{self.running}",
            self._doubted,
            keeps_up(self._seed, self.number),
        )
        asked = self._asked = Asked(self.number, drawn(draw), run.world.step)
        run.asked.append(asked)
        self._process.begin(asked.verb.run)
        self._look(run)
        return asked

    def go_on(self, run: Run, outcome: Outcome) -> Asked:
        """Make the pending call."""
        assert self._process is not None
        assert self._asked is not None
        asked = self._asked
        self._process.go_on(outcome)
        self._look(run)
        return asked

    def end(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()

    def _look(self, run: Run) -> None:
        """Take note of the verb's end, if it ended."""
        process, asked = self._process, self._asked
        if process is None or asked is None or process.pending is not None:
            return
        asked.ended = run.world.step
        asked.answer = process.result if process.error is None else process.error
        asked.told = _told(process)
        in_doubt = asked.told in {"died", "unknown", "failed"} and isinstance(asked.verb, PushOf)
        self._doubted = asked.verb if in_doubt and isinstance(asked.verb, PushOf) else None
        self.running = self._asked = None
        if process.died:
            run.deaths += 1
            self._process = None


def _told(process: Process) -> str:
    if process.died:
        return "died"
    match process.error:
        case None:
            return "done"
        case OutcomeUnknown():
            return "unknown"
        case Unavailable():
            return "failed"
        case ModelhubError():
            return "refused"
        case _:
            return "broken"


def perform(schedule: Schedule, scratch: Path, choose: Choose | None = None) -> Run:
    """Run a schedule: its steps, and then those that ``choose`` says.

    At last everything that is pending is done, and everything late arrives.

    Args:
        schedule: what to run.
        scratch: a folder for files, which many runs may share.
        choose: says further steps, until it says None.
    """
    with nothing_by_chance():
        stage = _Stage(schedule, scratch)
        try:
            stage.found(schedule)
            for step in schedule.steps:
                stage.take(step)
            while choose is not None and (chosen := choose(stage.seen())) is not None:
                stage.take(chosen)
            stage.finish()
        finally:
            stage.close()
    return stage.run


class _Stage:
    """Clients in the middle of a run."""

    def __init__(self, schedule: Schedule, scratch: Path) -> None:
        self.run = Run(World())
        self._scratch = scratch
        self._clients = [
            _Client(number, schedule.seed, script, scratch)
            for number, script in enumerate(schedule.scripts)
        ]

    def found(self, schedule: Schedule) -> None:
        """Push what there is from the beginning."""
        founder = Process(self.run.world, "founder", timedelta(0))
        for number in range(schedule.founded):
            chance = Random(f"founder {schedule.seed} {number}")
            verb = found(Draw(chance, self.run.world, self._scratch, f"founder.{number}"))
            asked = Asked(-1, verb, self.run.world.step)
            founder.begin(verb.run)
            while founder.pending is not None:
                self.run.world.tick()
                founder.go_on(Outcome.OK)
            asked.ended, asked.told, asked.answer = self.run.world.step, "done", founder.result
            self.run.asked.append(asked)

    def seen(self) -> Seen:
        pending = {
            client.number: (client.next, client.pending)
            for client in self._clients
            if client.next is not None
        }
        return Seen(pending, [client.number for client in self._clients if _late_of(client)])

    def take(self, step: Step) -> None:
        """Take a step, if it can be taken."""
        match step:
            case Passes(minutes=minutes):
                self.run.world.now += timedelta(minutes=minutes)
                self.run.made.append(Made(step))
            case Lands(client=number):
                for process in _late_of(self._clients[number])[:1]:
                    process.faults.land(1)
                    self.run.made.append(Made(step))
            case Turn(client=number, verb=verb):
                client = self._clients[number]
                while client.running is not None and client.running < verb:
                    self._turn(client, Outcome.OK)
                if client.next == verb:
                    self._turn(client, step.outcome)

    def _turn(self, client: _Client, outcome: Outcome) -> None:
        verb, call = client.next, client.pending
        assert verb is not None
        self.run.world.tick()
        begins = client.running is None
        asked = client.begin(self.run) if begins else client.go_on(self.run, outcome)
        self.run.made.append(Made(Turn(client.number, verb, outcome), asked, call))

    def finish(self) -> None:
        """Let every client end its verb, and everything late arrive."""
        for client in self._clients:
            while client.running is not None:
                self._turn(client, Outcome.OK)
        for process in itertools.chain.from_iterable(map(_late_of, self._clients)):
            process.faults.land()

    def close(self) -> None:
        for client in self._clients:
            client.end()


def _late_of(client: _Client) -> list[Process]:
    return [process for process in client.late if process.faults.late]
