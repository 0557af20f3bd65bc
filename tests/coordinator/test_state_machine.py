"""A hub against plain dictionaries, on each kind of stores: 10,000 steps and more in 400 sequences.

Hypothesis cuts some sequences short, so there are twice as many as the 200 that 50 steps each would
take, and what was done is counted. Tier: CI runs all of them, the same ones at every run (about
three minutes); ``--full`` draws new ones each time.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis.stateful import invariant, run_state_machine_as_test

from modelhub.backends.files import LocalWeights
from modelhub.backends.memory import MemoryRows, MemorySearch, MemoryWeights
from modelhub.backends.sqlite_rows import SqliteRows
from modelhub.backends.sqlite_search import SqliteSearch
from modelhub.coordinator.context import Stores
from modelhub.testing.machine import HubMachine

SEQUENCES = 400
STEPS = 50
SHARED_MEMORY = Path("/dev/shm")


class Counted(HubMachine):
    """Counts what it does, and lives in shared memory, where syncing costs nothing."""

    scratch = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
    seen: ClassVar[Counter[str]]

    @invariant()
    def counts(self) -> None:
        self.seen["steps"] += 1

    def teardown(self) -> None:
        self.seen["sequences"] += 1
        super().teardown()


class OnMemory(Counted):
    seen: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        self.stores = Stores(MemoryWeights(), MemoryRows(), MemorySearch())
        super().__init__()

    def open_stores(self, folder: Path) -> Stores:  # noqa: ARG002 - memory has no folder
        return self.stores


class OnEmbedded(Counted):
    seen: ClassVar[Counter[str]] = Counter()

    def open_stores(self, folder: Path) -> Stores:
        return Stores(
            LocalWeights(folder),
            SqliteRows(folder / "rows.sqlite"),
            SqliteSearch(folder / "search.sqlite"),
        )


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("machine", [OnMemory, OnEmbedded], ids=["memory", "embedded"])
def test_a_hub_stays_what_plain_dictionaries_say(
    machine: type[Counted], capsys: pytest.CaptureFixture[str]
) -> None:
    run_state_machine_as_test(
        machine, settings=settings(max_examples=SEQUENCES, stateful_step_count=STEPS)
    )
    assert machine.seen["steps"] >= 200 * STEPS
    with capsys.disabled():
        print(f"\n{machine.__name__}: {dict(machine.seen)}")
