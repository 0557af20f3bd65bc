"""The crash walk: a verb is run for every store call it makes and every way that call can fail.

After each run the hub is looked at as a new process sees it: at once, when what was delayed has
landed, after a sweep, and after the same verb was tried again. What always holds must hold then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from modelhub.coordinator import keys
from modelhub.coordinator.context import Context, Patience, Stores
from modelhub.coordinator.log import entries, read_head
from modelhub.coordinator.relatives import read_manifest
from modelhub.coordinator.state import exists, is_purged
from modelhub.errors import ModelhubError, NotFound, OutcomeUnknown
from modelhub.hub import Hub
from modelhub.records import Published
from modelhub.testing.faults import Call, Faults, Outcome, ProcessDied, no_faults

IMPATIENT = Patience(lease_s=0.0, grace_s=0.0, resume_hours=0.0)
"""Every lease is over at once, so that a sweep settles all that it finds."""


LEFT_TO_COLLECTIONS = frozenset({"pack-orphan", "pack-condemned"})
"""What a check finds that the next collection takes away, or puts right."""


def no_pause(_seconds: float) -> None:
    """Waiting that takes no time: nothing a simulated process waits for comes by itself."""


def open_process(
    stores: Stores, plan: Callable[[Call], Outcome] = no_faults, *, cache: Path = Path("unused")
) -> tuple[Hub, Faults]:
    """A new process on ``stores``: a hub, and the faults that it runs under."""
    faults = Faults(stores, plan)
    ctx = Context(faults.stores, "tester", IMPATIENT, pause=no_pause)
    return Hub(ctx, address="simulated", cache=cache), faults


@dataclass(frozen=True)
class Scenario:
    """A verb to walk through.

    Attributes:
        prepare: brings stores into the state before, by processes of its own; it may return the
            faults of one that left calls under way.
        act: the verb. Called again later, it is the retry.
        effect: whether the verb's change is there.
        holds: raises AssertionError unless the stores show the whole change (True), or none of it.
        settles: the verb changes nothing that users see, so ``effect`` is that of what went before.
    """

    name: str
    prepare: Callable[[Stores], Faults | None]
    act: Callable[[Hub], object]
    effect: Callable[[Stores], bool]
    holds: Callable[[Stores, bool], None]
    settles: bool = False


@dataclass(frozen=True)
class Case:
    """One run: call number ``index`` (from 0), which was ``call``, had ``outcome``.

    With ``lasts`` all later calls end the same way: the stores stay away. What is applied late
    lands before the sweep or, with ``outlives_sweep``, after it.
    """

    scenario: str
    index: int
    call: Call
    outcome: Outcome
    lasts: bool = False
    outlives_sweep: bool = False

    def __str__(self) -> str:
        call = f"{self.call.store}.{self.call.method}({self.call.where})"
        when = " from then on" if self.lasts else ""
        when += ", landing after the sweep" if self.outlives_sweep else ""
        return f"{self.scenario}: call {self.index} {call} {self.outcome.value}{when}"


def cases(scenario: Scenario, make_stores: Callable[[], Stores]) -> Iterator[Case]:
    """Every case of ``scenario``: the calls that an undisturbed run makes, times their faults."""
    stores = make_stores()
    scenario.prepare(stores)
    hub, faults = open_process(stores)
    scenario.act(hub)
    for index, call in enumerate(faults.calls):
        for outcome in call.outcomes:
            for lasts in (False, True)[: 1 + (outcome is not Outcome.FAILS_AFTER)]:
                yield Case(scenario.name, index, call, outcome, lasts)
                if outcome is Outcome.LATE:
                    yield Case(scenario.name, index, call, outcome, lasts, outlives_sweep=True)


def run_case(scenario: Scenario, case: Case, make_stores: Callable[[], Stores]) -> str:
    """Run one case and check it at every stage; how the verb ended, for counting.

    Raises:
        AssertionError: something that always holds did not.
    """
    stores = make_stores()
    earlier = scenario.prepare(stores)
    hub, faults = open_process(stores, _fail_at(case))
    ended = _run(lambda: scenario.act(hub))
    _check(scenario, stores, ended)
    if not case.outlives_sweep:
        _land(faults, earlier)
        _check(scenario, stores, ended)
    open_process(stores)[0].sweep()
    effect = scenario.effect(stores)
    scenario.holds(stores, effect)
    _land(faults, earlier)
    assert scenario.effect(stores) == effect, "a change came or went after the sweep"
    open_process(stores)[0].sweep()
    _check_settled(stores, case)
    scenario.act(open_process(stores)[0])
    scenario.holds(stores, effect if scenario.settles else True)
    open_process(stores)[0].sweep()
    _check_settled(stores, case)
    return ended


def _land(*several: Faults | None) -> None:
    for faults in several:
        if faults is not None:
            faults.land()


def _fail_at(case: Case) -> Callable[[Call], Outcome]:
    count = iter(range(10**9))

    def plan(_call: Call) -> Outcome:
        index = next(count)
        failing = index == case.index or (case.lasts and index > case.index)
        return case.outcome if failing else Outcome.OK

    return plan


def _run(act: Callable[[], object]) -> str:
    try:
        act()
    except ProcessDied:
        return "died"
    except OutcomeUnknown:
        return "unknown"
    except ModelhubError as error:
        return error.kind
    return "done"


def _check(scenario: Scenario, stores: Stores, ended: str) -> None:
    """What a new process sees before anybody has swept."""
    effect = scenario.effect(stores)
    if scenario.settles:
        pass
    elif ended == "done":
        assert effect, "an acknowledged change is not there"
    elif ended not in {"died", "unknown"}:
        assert not effect, f"the verb ended with {ended}, but its change is there"
    scenario.holds(stores, effect)


def _check_settled(stores: Stores, case: Case) -> None:
    """After a sweep nothing is left to do but for a collector, and nothing is wrong.

    A hint that was put later than its sweep may be stale: that is what makes it a hint.
    """
    health = open_process(stores)[0].fsck()
    allowed = LEFT_TO_COLLECTIONS | ({"hint-stale"} if case.outlives_sweep else set())
    wrong = [finding for finding in health.findings if finding.kind not in allowed]
    assert not wrong, wrong
    left = [key for key, _ in stores.rows.scan(keys.INTENTS, *keys.intents_range())]
    assert not left, f"intents are left: {left}"


def contents(stores: Stores, name: str) -> dict[int, dict[str, bytes]]:
    """Every version of a model, deleted ones too, with its files' bytes, from log and packs.

    Of a purged one there are none. Also asserts that numbers are dense and in log order.
    """
    head = read_head(stores.rows, name)
    ctx = Context(stores, "reader", IMPATIENT)
    found: dict[int, dict[str, bytes]] = {}
    if not exists(head.state):
        return found
    for sealed in reversed(list(entries(stores.rows, name, newest=head.seq))):
        if isinstance(sealed.entry.change, Published):
            assert sealed.entry.change.number == len(found) + 1
            found[sealed.entry.change.number] = {}
            if is_purged(head.state, sealed.entry.change.number):
                continue
            manifest = read_manifest(ctx, sealed)
            found[sealed.entry.change.number] = {
                file.path: b"".join(ctx.reader.file(manifest, file)) for file in manifest.files
            }
    return found


def shown(stores: Stores, revision: str) -> int | None:
    """The number that a revision resolves to in a new process; None where there is none."""
    try:
        return open_process(stores)[0].show(revision).number
    except NotFound:
        return None
