"""Many simulated clients at once, on stores that fail: see ``modelhub.testing.simulation``.

Tier: CI runs 1,000 seeds, the same ones at every run; ``--full`` 10,000 others besides.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from modelhub.coordinator import (
    index,
    keys,
    log,
    publish,
    refs,
    sweep,
    transaction,
)
from modelhub.coordinator.context import Context
from modelhub.coordinator.log import Head, Sealed
from modelhub.coordinator.storing import Storing
from modelhub.coordinator.transaction import Attempt
from modelhub.errors import OutcomeUnknown, Unavailable
from modelhub.hub import Hub
from modelhub.names import Revision
from modelhub.records import Entry, ModelHint, Targets, decode, seal
from modelhub.results import ReindexMode
from modelhub.stores import Document, RowStore
from modelhub.testing.simulation import Violation, simulate
from modelhub.testing.simulation.run import perform
from modelhub.testing.simulation.schedule import Chance, drawn
from modelhub.testing.simulation.shrinking import named
from modelhub.testing.simulation.verbs import Upkeep

SEEDS = 1000
FULL_SEEDS = 10_000
LONGEST_REPRODUCTION = 20
"""Lines."""

SHARED_MEMORY = Path("/dev/shm")


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    """A folder that costs nothing."""
    place = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        yield Path(folder)


def simulate_all(seeds: Iterable[int], scratch: Path) -> str:
    """Run them; what there was, in words."""
    begun, counts = time.process_time(), Counter[str]()
    for seed in seeds:
        counts += simulate(seed, scratch) + Counter(seeds=1)
    seconds = time.process_time() - begun
    told = ", ".join(f"{count:,} {what}" for what, count in counts.items())
    return f"{told}; {counts['seeds'] / seconds:.0f} seeds a second of one core"


@pytest.mark.parametrize("part", range(4))
def test_what_always_holds_does(part: int, scratch: Path, figure: Callable[[str], None]) -> None:
    figure(simulate_all(range(part, SEEDS, 4), scratch))


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(4))
def test_it_does_for_longer(part: int, scratch: Path, figure: Callable[[str], None]) -> None:
    figure(simulate_all(range(SEEDS + part, SEEDS + FULL_SEEDS, 4), scratch))


def test_the_same_seed_is_the_same_run(scratch: Path) -> None:
    for seed in range(10):
        schedule = drawn(seed)
        first, second = (perform(schedule, scratch, Chance(seed)) for _ in range(2))
        again = perform(replace(schedule, steps=first.steps), scratch)
        for other in (second, again):
            assert other.steps == first.steps
            assert [made.call for made in other.made] == [made.call for made in first.made]
            assert other.world.landed == first.world.landed


def test_every_verb_is_asked_for(scratch: Path) -> None:
    """And most of the ways to end are taken."""
    endings: dict[str, set[str]] = {}
    for seed in range(100):
        for asked in perform(drawn(seed), scratch, Chance(seed)).asked:
            kind = (
                named(asked.verb) if isinstance(asked.verb, Upkeep) else type(asked.verb).__name__
            )
            endings.setdefault(kind, set()).add(asked.told)
    changes = {"PushOf", "Retire", "Edit", "MoveRef", "Protect", "Restore", "Merge"}
    reads = {"Show", "Pull", "Log", "Search", "Verify", "Check"}
    modes = {f"reindex {mode}" for mode in get_args(ReindexMode)}
    assert endings.keys() == changes | reads | modes | {"sweep", "gc", "init"}
    assert endings["PushOf"] == {"done", "refused", "failed", "unknown", "died"}
    assert all("done" in told for told in endings.values())


# --- that a coordinator with a bug is found ---------------------------------------------------

Patch = Callable[[pytest.MonkeyPatch], None]


def false_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(ctx: Context, name: str, entry: Entry) -> Sealed | None:
        data, digest = seal(entry)
        try:
            put = ctx.stores.rows.check_and_put(keys.LOG, keys.log(name, entry.seq), None, data)
        except (Unavailable, OutcomeUnknown):
            return log.append(ctx, name, entry)
        return Sealed(entry, digest) if put else None

    monkeypatch.setattr(transaction, "append", changed)


def a_lost_reply_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(ctx: Context, name: str, entry: Entry) -> Sealed | None:
        try:
            return log.append(ctx, name, entry)
        except OutcomeUnknown as exc:
            raise Unavailable(exc.message) from exc

    monkeypatch.setattr(transaction, "append", changed)


def requests_are_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    find_request = publish.find_request
    asked = set[threading.Thread]()

    def changed(rows: RowStore, head: Head, request: str) -> Sealed | None:
        me = threading.current_thread()
        if me in asked:
            return None
        asked.add(me)
        return find_request(rows, head, request)

    monkeypatch.setattr(publish, "find_request", changed)


def the_parent_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    check_expected = refs.check_expected
    asked = set[threading.Thread]()

    def changed(rows: RowStore, head: Head, ref: str, number: int, expect: Revision) -> None:
        me = threading.current_thread()
        if me not in asked:
            asked.add(me)
            check_expected(rows, head, ref, number, expect)

    monkeypatch.setattr(publish, "check_expected", changed)
    monkeypatch.setattr(refs, "check_expected", changed)


def nothing_is_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Attempt, "announce", lambda *_: None)


def puts_are_not_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(ctx: Context, table: str, rows: dict[bytes, bytes]) -> None:
        try:
            ctx.stores.rows.put_many(table, rows)
        except (Unavailable, OutcomeUnknown):
            return

    monkeypatch.setattr(transaction, "put_settled", changed)
    monkeypatch.setattr(publish, "put_settled", changed)


def rows_are_not_read_after_a_rebase(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(self: Storing, attempt: Attempt, packs: Iterable[str]) -> None:
        attempt.announce(packs)
        self._attempt = attempt

    monkeypatch.setattr(Storing, "rebind", changed)


def a_rebase_pins_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(self: Storing, attempt: Attempt, _packs: Iterable[str]) -> None:
        self._attempt = attempt

    monkeypatch.setattr(Storing, "rebind", changed)


def intent_goes_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    withdraw = Attempt.withdraw
    monkeypatch.setattr(Attempt, "withdraw", lambda self, **_: withdraw(self))


def intent_goes_while_in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    announced: dict[str, Attempt] = {}
    announce = Attempt.announce

    def announcing(self: Attempt, packs: Iterable[str] = ()) -> None:
        announced[self.txid] = self
        announce(self, packs)

    def changed(ctx: Context, name: str, entry: Entry) -> Sealed | None:
        try:
            return log.append(ctx, name, entry)
        except OutcomeUnknown:
            announced[entry.txid].withdraw()
            raise

    monkeypatch.setattr(Attempt, "announce", announcing)
    monkeypatch.setattr(transaction, "append", changed)


def no_fence_is_put(monkeypatch: pytest.MonkeyPatch) -> None:
    settle = sweep._settle

    def changed(ctx: Context, name: str, attempts: list[sweep.Remains]) -> dict[str, int]:
        head, now = log.read_head(ctx.stores.rows, name), ctx.clock.now()
        behind = [attempt for attempt in attempts if attempt.base < head.seq]
        for attempt in attempts:
            if attempt not in behind and now >= attempt.lease:
                sweep._remove(ctx, name, attempt, now)
        return settle(ctx, name, behind)

    monkeypatch.setattr(sweep, "_settle", changed)


def targets_are_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(ctx: Context, fresh: list[Document], *, timeout_s: float | None = None) -> None:
        known: Targets = ctx.targets or index.read_targets(ctx)
        for target in known.targets:
            versioned = [index.at_epoch(document, known.epoch) for document in fresh]
            index._write(ctx, target, versioned, timeout_s)

    monkeypatch.setattr(index, "write_everywhere", changed)


def whoever_writes_last_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    written = iter(range(2**30, 2**40))

    def changed(document: Document, _epoch: int) -> Document:
        return Document(document.id, next(written), document.body)

    monkeypatch.setattr(index, "at_epoch", changed)


def heads_are_taken_from_models(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(self: Hub, name: str) -> Head:
        rows = self._ctx.stores.rows
        hint = rows.get(keys.MODELS, keys.model(name))
        seq = decode(hint, ModelHint, name).seq if hint else 0
        return log.read_head(rows, name, at=seq or None)

    monkeypatch.setattr(Hub, "_head", changed)


CHANGES: tuple[Patch, ...] = (
    false_is_lost,
    a_lost_reply_is_a_failure,
    requests_are_looked_up_once,
    the_parent_is_checked_once,
    nothing_is_announced,
    puts_are_not_awaited,
    rows_are_not_read_after_a_rebase,
    a_rebase_pins_nothing,
    intent_goes_in_any_case,
    intent_goes_while_in_doubt,
    no_fence_is_put,
    targets_are_not_read_again,
    whoever_writes_last_is_right,
    heads_are_taken_from_models,
)


@pytest.mark.parametrize(
    "change",
    [*CHANGES[:4], *(pytest.param(change, marks=pytest.mark.full) for change in CHANGES[4:])],
    ids=[change.__name__ for change in CHANGES],
)
def test_a_coordinator_with_a_bug_is_found(
    change: Patch,
    monkeypatch: pytest.MonkeyPatch,
    scratch: Path,
    figure: Callable[[str], None],
) -> None:
    change(monkeypatch)
    seed, violation = found(scratch)
    lines = str(violation).splitlines()
    assert len(lines) <= LONGEST_REPRODUCTION, str(violation)
    figure(f"{change.__name__}: {violation.rule}, seed {seed}, told in {len(lines)} lines")


def found(scratch: Path) -> tuple[int, Violation]:
    """The first seed that goes wrong, and how."""
    for seed in range(SEEDS):
        try:
            simulate(seed, scratch)
        except Violation as violation:
            return seed, violation
    pytest.fail(f"no seed below {SEEDS} finds it")


def test_a_reproduction_says_who_does_what(monkeypatch: pytest.MonkeyPatch, scratch: Path) -> None:
    whoever_writes_last_is_right(monkeypatch)
    seed, violation = found(scratch)
    first, *story, command = str(violation).splitlines()
    assert first == f"{violation.rule}: seed {seed}"
    assert any(" calls, the last " in line for line in story)
    assert story[-1].startswith(f"  => {violation.rule}")
    assert command == f"python -m modelhub.testing.simulation {seed}"
