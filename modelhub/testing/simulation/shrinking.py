"""A run that went wrong, made as short as it can be, and told in a few lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from modelhub.errors import ModelhubError
from modelhub.testing.faults import Outcome
from modelhub.testing.reference import Edit, Merge, MoveRef, Protect, Restore, Retire
from modelhub.testing.simulation.oracle import Violation, check
from modelhub.testing.simulation.run import Asked, Made, Run, perform
from modelhub.testing.simulation.schedule import Passes, Schedule, Step, Turn
from modelhub.testing.simulation.verbs import Change, Verb

_MOST_RUNS = 400
_MOST_CHARS = 400
COMMAND = "python -m modelhub.testing.simulation"


def shrunk(schedule: Schedule, scratch: Path, rule: str) -> Schedule:
    """The shortest schedule found that breaks the same rule.

    First whole verbs are left out, then spans of steps, then faults one by one; until nothing of it
    can be spared, or it took too long.
    """
    runs = 0

    def still(candidate: Schedule) -> bool:
        nonlocal runs
        runs += 1
        found = None if runs > _MOST_RUNS else broken(candidate, scratch)
        return found is not None and found.rule == rule

    while True:
        before = schedule
        schedule = _fewer_verbs(schedule, still)
        schedule = _fewer_steps(schedule, still)
        schedule = _fewer_faults(schedule, still)
        if schedule == before or runs >= _MOST_RUNS:
            return schedule


def broken(schedule: Schedule, scratch: Path) -> Violation | None:
    """What does not hold of a run; None where all does."""
    try:
        check(perform(schedule, scratch))
    except Violation as violation:
        return violation
    return None


Still = Callable[[Schedule], bool]


def _fewer_verbs(schedule: Schedule, still: Still) -> Schedule:
    while schedule.founded and still(fewer := replace(schedule, founded=schedule.founded - 1)):
        schedule = fewer
    for client, script in enumerate(schedule.scripts):
        for verb in script[::-1]:
            fewer = _without(schedule, client, verb)
            if still(fewer):
                schedule = fewer
    return schedule


def _without(schedule: Schedule, client: int, verb: int) -> Schedule:
    scripts = list(schedule.scripts)
    scripts[client] = tuple(one for one in scripts[client] if one != verb)
    steps = tuple(
        step
        for step in schedule.steps
        if not isinstance(step, Turn) or (step.client, step.verb) != (client, verb)
    )
    return replace(schedule, scripts=tuple(scripts), steps=steps)


def _fewer_steps(schedule: Schedule, still: Still) -> Schedule:
    """Without spans of steps: long ones first, at last single ones."""
    size = max(1, len(schedule.steps) // 2)
    while True:
        at = 0
        while at < len(schedule.steps):
            steps = schedule.steps
            fewer = replace(schedule, steps=steps[:at] + steps[at + size :])
            if still(fewer):
                schedule = fewer
            else:
                at += size
        if size == 1:
            return schedule
        size //= 2


def _fewer_faults(schedule: Schedule, still: Still) -> Schedule:
    for at, step in enumerate(schedule.steps):
        if isinstance(step, Turn) and step.outcome is not Outcome.OK:
            steps = list(schedule.steps)
            steps[at] = step._replace(outcome=Outcome.OK)
            fewer = replace(schedule, steps=tuple(steps))
            if still(fewer):
                schedule = fewer
    return schedule


# --- telling it -------------------------------------------------------------------------------


def told(schedule: Schedule, scratch: Path) -> str:
    """A run step by step: who calls what, until it is somebody else's turn or a call fails."""
    run = perform(schedule, scratch)
    lines = [f"seed {schedule.seed}"]
    lines += [f"  founder: {named(asked.verb)}" for asked in run.asked if asked.client < 0]
    lines += [f"  {line}" for line in _lines(run)]
    lines.append(f"  => {_shortened(str(broken(schedule, scratch)))}")
    lines.append(f"{COMMAND} {schedule.seed}")
    return "\n".join(lines)


def _shortened(text: str) -> str:
    return text if len(text) <= _MOST_CHARS else f"{text[:_MOST_CHARS]} …"


def _lines(run: Run) -> Iterator[str]:
    for asked, span in _spans(run.made):
        if asked is None:
            for made in span:
                match made.step:
                    case Passes(minutes=minutes):
                        yield f"{minutes} minutes go by"
                    case other:
                        yield f"what c{other.client} sent late arrives"
            continue
        begins = span[0].call is None
        calls = [made for made in span if made.call is not None]
        what = f"c{asked.client}: {named(asked.verb)}" if begins else f"c{asked.client} goes on"
        if calls:
            what += f": {len(calls)} calls, " if len(calls) > 1 else ": "
            what += f"the last {_call(calls[-1])}" if len(calls) > 1 else _call(calls[-1])
        if asked.ended and span[-1] is _last(run.made, asked):
            what += f" => {_ending(asked)}"
        yield what


def _spans(made: Sequence[Made]) -> Iterator[tuple[Asked | None, list[Made]]]:
    """Calls that one verb makes in turn, each span ending with the call that fails, if one does."""
    span: list[Made] = []
    for _, group in groupby(made, key=lambda one: id(one.asked)):
        for one in group:
            span.append(one)
            if _fails(one.step):
                yield span[0].asked, span
                span = []
        if span:
            yield span[0].asked, span
            span = []


def _fails(step: Step) -> bool:
    return isinstance(step, Turn) and step.outcome is not Outcome.OK


def _last(made: Sequence[Made], asked: Asked) -> Made:
    return [one for one in made if one.asked is asked][-1]


def _call(made: Made) -> str:
    assert isinstance(made.step, Turn)
    outcome = made.step.outcome
    return f"{made.call}" + (f" {outcome.value.upper()}" if outcome is not Outcome.OK else "")


def _ending(asked: Asked) -> str:
    if isinstance(asked.answer, ModelhubError):
        return f"{asked.told}, {type(asked.answer).__name__}"
    return asked.told


def named(verb: Change | Verb) -> str:
    """A verb in a few words."""
    return _NAMES.get(type(verb), str)(verb)


def _move(verb: MoveRef) -> str:
    expect = "" if verb.expect is None else f" --expect {verb.expect}"
    return f"{verb.kind} {verb.act} {verb.name} {verb.ref} {verb.to}{expect}"


_NAMES: dict[type, Callable[[Any], str]] = {
    Retire: lambda verb: f"{'delete' if verb.deleted else 'undelete'} {verb.name}@{verb.number}",
    Edit: lambda verb: f"edit {verb.name}@{verb.number}",
    MoveRef: _move,
    Protect: lambda verb: f"{'protect' if verb.on else 'unprotect'} {verb.name} {verb.ref}",
    Restore: lambda verb: f"restore {verb.name}@{verb.to} {verb.path} onto {verb.branch}",
    Merge: lambda verb: f"merge {verb.name} {verb.source} into {verb.branch}",
}
