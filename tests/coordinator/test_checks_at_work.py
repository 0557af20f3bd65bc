"""A check that runs while others publish reports none of what they do as damage."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from modelhub.backends.memory import MemoryRows, MemorySearch, MemoryWeights
from modelhub.coordinator import keys
from modelhub.coordinator.context import Stores
from modelhub.hub import Hub
from modelhub.testing.crashes import open_process
from modelhub.testing.faults import Call, Outcome

NAME = "nlp.mood"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "weights.bin").write_bytes(b"weights")
    return tmp_path


@pytest.mark.parametrize(
    "change",
    [
        lambda hub, folder: hub.push(NAME, folder),
        lambda hub, _: hub.edit(f"{NAME}@1", title="Mood"),
        lambda hub, _: hub.delete(f"{NAME}@1"),
    ],
    ids=["push", "edit", "delete"],
)
def test_what_comes_after_the_log_was_read_is_no_damage(
    change: Callable[[Hub, Path], object], stores: Stores, folder: Path
) -> None:
    hub, _ = open_process(stores)
    hub.push(NAME, folder)
    meanwhile = [change]

    def plan(call: Call) -> Outcome:
        if call.where == keys.INTENTS and meanwhile:  # just after the log was read
            meanwhile.pop()(hub, folder)
        return Outcome.OK

    checker, _ = open_process(stores, plan)
    assert not checker.fsck().findings
    assert not meanwhile


@pytest.mark.parametrize("at", range(0, 90, 3))
def test_whatever_others_do_at_any_call_of_a_check_is_no_damage(at: int, folder: Path) -> None:
    """A push, an edit, new models, a purge and a collection, all at one call of the check."""
    stores = Stores(MemoryWeights(), MemoryRows(), MemorySearch())
    hub, _ = open_process(stores)
    for number in range(3):
        (folder / "weights.bin").write_bytes(b"weights" * number + b"!")
        hub.push(NAME, folder)
    calls = itertools.count()

    def plan(_call: Call) -> Outcome:
        if next(calls) == at:
            hub.edit(f"{NAME}@2", title="Mood")
            hub.push(NAME, folder, branch="next")
            hub.purge(f"{NAME}@1")
            for name in ("nlp.a", "nlp.x"):
                (folder / "weights.bin").write_bytes(name.encode())
                hub.push(name, folder)
            hub.gc(trash_hours=0)
        return Outcome.OK

    checker, _ = open_process(stores, plan)
    assert not checker.fsck().findings
