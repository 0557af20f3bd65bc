"""A pack that cannot be completed costs a push nothing but time.

Tier: CI runs all of it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from modelhub.backends.memory import MemoryRows, MemorySearch, MemoryWeights, MemoryWriter
from modelhub.content import windows
from modelhub.coordinator import storing
from modelhub.coordinator.context import Context, Stores
from modelhub.errors import OutcomeUnknown, Unavailable
from modelhub.hub import Hub
from modelhub.stores import NoSpace
from modelhub.testing.faults import Call, Faults, Outcome

PACK_BYTES = 1 << 20
FILES = 6


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six files of a pack each."""
    monkeypatch.setattr(storing, "PACK_TARGET_BYTES", PACK_BYTES)
    monkeypatch.setattr(windows, "_WINDOW_BYTES", PACK_BYTES)
    folder = tmp_path / "model"
    folder.mkdir()
    for number in range(FILES):
        (folder / f"{number}.bin").write_bytes(random.Random(number).randbytes(PACK_BYTES))
    return folder


@pytest.fixture
def stores() -> Stores:
    return Stores(MemoryWeights(), MemoryRows(), MemorySearch())


def hub_on(stores: Stores, tmp_path: Path, pauses: list[float]) -> Hub:
    ctx = Context(stores, "tester", pause=pauses.append)
    return Hub(ctx, address="test", cache=tmp_path / "cache")


def failing(method: str, outcome: Outcome, *, at: int, times: int) -> Callable[[Call], Outcome]:
    """So many calls of a method of weights fail, from the ``at``-th on."""
    count = 0

    def plan(call: Call) -> Outcome:
        nonlocal count
        if (call.store, call.method) != ("weights", method):
            return Outcome.OK
        count += 1
        return outcome if at <= count < at + times else Outcome.OK

    return plan


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize(
    "fault",
    [
        ("create", Outcome.FAILS_BEFORE),
        ("create", Outcome.LOST_APPLIED),
        ("write", Outcome.FAILS_BEFORE),
        ("commit", Outcome.FAILS_BEFORE),
        ("commit", Outcome.LOST_APPLIED),
        ("commit", Outcome.LOST_DROPPED),
    ],
)
def test_a_pack_is_written_again_under_another_name_and_whole_ones_are_kept(
    stores: Stores, source: Path, tmp_path: Path, fault: tuple[str, Outcome], times: int
) -> None:
    pauses: list[float] = []
    hub_on(stores, tmp_path, pauses).init()
    faults = Faults(stores, failing(*fault, at=3, times=times))
    version = hub_on(faults.stores, tmp_path, pauses).push("nlp.mood", source)
    assert version.new_bytes >= FILES * PACK_BYTES
    created = [call.where for call in faults.calls if call.method == "create"]
    assert len(set(created)) == len(created), "a name was used twice"
    reader = hub_on(stores, tmp_path, pauses)
    for number in range(FILES):
        path = reader.snapshot("nlp.mood") / f"{number}.bin"
        assert path.read_bytes() == (source / f"{number}.bin").read_bytes()
    # What was given up is for a collector.
    assert {one.kind for one in reader.fsck().findings} <= {"pack-orphan"}
    written = sum(call.method == "commit" for call in faults.calls)
    assert written <= FILES + 1 + times, "packs that were whole were written again"
    assert pauses == [1.0, 2.0, 4.0][:times]


def test_it_gives_up_after_four_tries_with_the_stores_own_words(
    stores: Stores, source: Path, tmp_path: Path
) -> None:
    hub_on(stores, tmp_path, []).init()
    faults = Faults(stores, failing("write", Outcome.LOST_DROPPED, at=2, times=10**6))
    with pytest.raises((Unavailable, OutcomeUnknown), match="did not answer"):
        hub_on(faults.stores, tmp_path, []).push("nlp.mood", source)
    assert sum(call.method == "create" for call in faults.calls) <= 5


def test_what_hints_say_is_read_once_however_many_packs_are_lost(
    stores: Stores, source: Path, tmp_path: Path
) -> None:
    hub_on(stores, tmp_path, []).init()
    hub_on(stores, tmp_path, []).push("nlp.mood", source)
    (source / "new.bin").write_bytes(random.Random(99).randbytes(2 * PACK_BYTES))
    faults = Faults(stores, failing("create", Outcome.FAILS_BEFORE, at=1, times=3))
    version = hub_on(faults.stores, tmp_path, []).push("nlp.other", source)
    assert 2 * PACK_BYTES <= version.new_bytes < 2.1 * PACK_BYTES
    read = [call.where for call in faults.calls if (call.store, call.method) == ("weights", "read")]
    assert len(read) == len(set(read)) == FILES


def test_what_lies_in_too_many_packs_is_brought_together(
    stores: Stores, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version's entry names its packs, and a row holds only so much."""
    hub = hub_on(stores, tmp_path, [])
    hub.init()
    hub.push("nlp.mood", source)
    monkeypatch.setattr(storing, "_MOST_REUSED", 4)
    monkeypatch.setattr(storing, "_REUSED_OF_MORE", 2)
    monkeypatch.setattr(storing, "PACK_TARGET_BYTES", 1 << 30)
    (source / "new.bin").write_bytes(b"new")
    version = hub.push("nlp.mood", source)
    stored_anew = FILES - 2
    assert stored_anew * PACK_BYTES < version.new_bytes < (stored_anew + 0.1) * PACK_BYTES
    pulled = hub.snapshot("nlp.mood@2")
    for path in source.iterdir():
        assert (pulled / path.name).read_bytes() == path.read_bytes()
    assert not hub.fsck(data=True).findings
    assert hub.push("nlp.mood", source).new_bytes == 0


def test_a_full_store_is_told_at_once(
    stores: Stores, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_writer: MemoryWriter, _data: bytes) -> None:
        raise NoSpace("the store is full", remedy="Make room.")

    pauses: list[float] = []
    hub = hub_on(stores, tmp_path, pauses)
    hub.init()
    monkeypatch.setattr(MemoryWriter, "write", full)
    with pytest.raises(NoSpace, match="full"):
        hub.push("nlp.mood", source)
    assert not pauses
