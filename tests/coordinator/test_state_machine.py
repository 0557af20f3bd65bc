"""A hub against plain dictionaries, on each kind of stores: 200 sequences of 50 steps.

Tier: CI runs the same ones at every run (about two minutes), and 5 on the real servers; ``--full``
draws 1,000 new ones, and 50 there.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis.internal.conjecture.providers import AVAILABLE_PROVIDERS
from hypothesis.stateful import invariant, run_state_machine_as_test

from modelhub.backends.memory import MemoryRows, MemorySearch, MemoryWeights
from modelhub.connect import embedded_stores
from modelhub.coordinator.context import Stores
from modelhub.testing.machine import HubMachine
from tests.conftest import TIER
from tests.live.hubs import LiveHubs

SEQUENCES = 200
STEPS = 50

# Hypothesis fills five sixths of its budget with variations of what it drew before, many of them
# cut short. Under another name its own source of choices is asked afresh for each sequence.
AVAILABLE_PROVIDERS["afresh"] = "hypothesis.internal.conjecture.providers.HypothesisProvider"

SHARED_MEMORY = Path("/dev/shm")


class Counted(HubMachine):
    """Counts its steps, and lives in shared memory, where syncing costs nothing."""

    scratch = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
    seen: ClassVar[Counter[str]]

    def __init__(self) -> None:
        super().__init__()
        self.seen["steps"] -= 1  # Invariants are looked at once before the first step.

    @invariant()
    def counts(self) -> None:
        self.seen["steps"] += 1


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
        return embedded_stores(folder)


class OnServers(Counted):
    seen: ClassVar[Counter[str]] = Counter()
    hubs: ClassVar[LiveHubs]

    def __init__(self) -> None:
        self.fresh = False
        super().__init__()

    def open_stores(self, folder: Path) -> Stores:  # noqa: ARG002 - they are not on this machine
        if not self.fresh:
            self.hubs()
            self.fresh = True
        return self.hubs.again()


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("machine", [OnMemory, OnEmbedded], ids=["memory", "embedded"])
def test_a_hub_stays_what_plain_dictionaries_say(
    machine: type[Counted], figure: Callable[[str], None]
) -> None:
    run(machine, max(SEQUENCES, settings().max_examples), figure)


@pytest.mark.timeout(3600)
def test_a_hub_on_the_real_servers_stays_what_plain_dictionaries_say(
    live: LiveHubs, figure: Callable[[str], None]
) -> None:
    OnServers.hubs = live
    run(OnServers, 50 if TIER == "full" else 5, figure)


def run(machine: type[Counted], sequences: int, figure: Callable[[str], None]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=sequences, stateful_step_count=STEPS, backend="afresh"),
    )
    # Hypothesis ends a sequence at one step in 65,536: of 2,500, one run in 26 loses up to 50.
    assert machine.seen["steps"] > 0.9 * sequences * STEPS
    figure(f"{machine.__name__}: {machine.seen['steps']:,} steps in {sequences} sequences")
