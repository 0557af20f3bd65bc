"""What a collection rewrites: many small packs, and those of which little is in use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from modelhub.content.pack import read_trailer
from modelhub.coordinator import rewrite
from modelhub.coordinator.context import Stores
from modelhub.errors import Unavailable
from modelhub.hub import Hub
from modelhub.testing.crashes import open_process
from modelhub.testing.faults import Call, Outcome, ProcessDied
from tests.coordinator.tensor_files import drawn, safetensors, tuned, write
from tests.coordinator.test_collect import (
    AT_ONCE,
    A,
    B,
    data,
    files,
    memory,
    opened,
    pulled,
    push,
    source,
    states,
)

COUNT = rewrite.FEWEST + 1


@pytest.fixture
def hub(any_stores: Stores) -> Hub:
    made = opened(any_stores)
    made.init()
    return made


def many(hub: Hub, folder: Path, name: str = A, count: int = COUNT) -> None:
    """Versions that share a file and have one of their own."""
    for seed in range(count):
        push(hub, folder, name, shared="s", own=f"{name}{seed}")


def check(
    hub: Hub, folder: Path, name: str = A, count: int = COUNT, allowed: frozenset[str] = frozenset()
) -> None:
    for seed in range(count):
        wanted = {"shared": data("s"), "own": data(f"{name}{seed}")}
        assert pulled(hub, folder, f"{name}@{seed + 1}") == wanted
    assert {finding.kind for finding in hub.fsck().findings} <= allowed


def test_many_small_packs_of_a_model_become_one(
    hub: Hub, any_stores: Stores, tmp_path: Path
) -> None:
    many(hub, tmp_path)
    push(hub, tmp_path, B, own="b")
    before = files(any_stores)
    done = hub.gc(trash_hours=0)
    assert done.rewritten == COUNT
    assert len(files(any_stores)) == 2
    assert done.bytes_saved == sum(before.values()) - sum(files(any_stores).values()) > 0
    assert files(any_stores, "trash") == {}
    check(hub, tmp_path)
    assert pulled(hub, tmp_path, B) == {"own": data("b")}
    assert hub.gc(trash_hours=0).rewritten == 0


def test_what_is_rewritten_again_is_found_by_its_first_name(
    hub: Hub, any_stores: Stores, tmp_path: Path
) -> None:
    many(hub, tmp_path)
    hub.gc(trash_hours=0)
    for seed in range(COUNT, 2 * COUNT):
        push(hub, tmp_path, A, shared="s", own=f"{A}{seed}")
    assert hub.gc(trash_hours=0).rewritten == COUNT + 1
    assert len(files(any_stores)) == 1
    check(hub, tmp_path, count=2 * COUNT)


def test_a_push_of_what_was_rewritten_stores_nothing_again(
    hub: Hub, any_stores: Stores, tmp_path: Path
) -> None:
    many(hub, tmp_path)
    hub.gc(trash_hours=0)
    known = set(files(any_stores))
    hub.push(A, source(tmp_path, shared="s", own=f"{A}0"))
    hub.push(B, source(tmp_path, shared="s", own=f"{A}3"))
    for pack in files(any_stores).keys() - known:
        records = read_trailer(any_stores.weights, pack)
        assert len(records) == 1, "there are chunks besides the manifest"
    assert hub.rollback(A, to=2).number == COUNT + 2
    check(hub, tmp_path)
    assert pulled(hub, tmp_path, B) == {"shared": data("s"), "own": data(f"{A}3")}


def test_of_a_pack_that_is_mostly_dead_the_rest_is_kept(
    hub: Hub, any_stores: Stores, tmp_path: Path
) -> None:
    push(hub, tmp_path, A, kept="k", one=1, two=2, three=3)
    push(hub, tmp_path, A, kept="k")
    fewer = {f"file{seed}": seed for seed in range(10, 20)}
    push(hub, tmp_path, B, **fewer, more=4)
    push(hub, tmp_path, B, **fewer)
    hub.delete(f"{A}@1")
    hub.delete(f"{B}@1")
    done = hub.gc(AT_ONCE, trash_hours=0)
    assert (done.versions, done.rewritten) == (2, 1)
    # Of B's pack less than half is dead: it stays as it is.
    assert done.bytes_saved > 3000
    assert pulled(hub, tmp_path, A) == {"kept": data("k")}
    assert pulled(hub, tmp_path, B) == {path: data(seed) for path, seed in fewer.items()}
    assert not hub.fsck().findings


def test_differences_and_what_they_build_on_are_rewritten_together(
    hub: Hub, any_stores: Stores, tmp_path: Path
) -> None:
    tensors = drawn(0, count=2)
    for number in range(COUNT):
        tensors = tuned(tensors, number)
        folder = write(tmp_path / f"{number}", {"m.safetensors": safetensors(tensors)})
        hub.push(A, folder)
    assert _differences(any_stores)
    assert hub.gc(trash_hours=0).rewritten == COUNT
    assert _differences(any_stores)
    for number in range(COUNT):
        wanted = (tmp_path / f"{number}" / "m.safetensors").read_bytes()
        assert pulled(hub, tmp_path, f"{A}@{number + 1}") == {"m.safetensors": wanted}
    assert not hub.fsck().findings


def _differences(stores: Stores) -> int:
    return sum(
        record.base is not None
        for pack in files(stores)
        for record in read_trailer(stores.weights, pack)
    )


def test_what_was_stored_fast_is_stored_smaller(
    hub: Hub, any_stores: Stores, tmp_path: Path
) -> None:
    for number in range(COUNT):
        tensors = drawn(number, count=1)
        folder = write(tmp_path / f"{number}", {"m.safetensors": safetensors(tensors)})
        hub.push(A, folder, policy="fast")
    before = sum(files(any_stores).values())
    assert hub.gc(trash_hours=0).bytes_saved > 0.1 * before
    assert sum(files(any_stores).values()) < 0.9 * before
    for number in range(COUNT):
        wanted = (tmp_path / f"{number}" / "m.safetensors").read_bytes()
        assert pulled(hub, tmp_path, f"{A}@{number + 1}") == {"m.safetensors": wanted}
    assert not hub.fsck().findings


# --- others meanwhile, and deaths ----------------------------------------------------------------


def test_a_push_at_any_moment_keeps_what_it_relies_on(tmp_path: Path) -> None:
    """Before each call of the collection somebody publishes what is being rewritten."""
    at, rewritten = 0, 0
    while True:
        stores = memory()
        hub = opened(stores)
        hub.init()
        many(hub, tmp_path)
        calls = iter(range(100_000))

        def publishes(
            _call: Call, calls: Iterator[int] = calls, hub: Hub = hub, at: int = at
        ) -> Outcome:
            if next(calls) == at:
                push(hub, tmp_path, B, shared="s", own=f"{A}2", more="m")
            return Outcome.OK

        collecting, _ = open_process(stores, publishes)
        rewritten += collecting.gc(trash_hours=0).rewritten
        last = next(calls)
        if last <= at:
            break
        wanted = {"shared": data("s"), "own": data(f"{A}2"), "more": data("m")}
        assert pulled(hub, tmp_path, B) == wanted
        check(hub, tmp_path)
        hub.gc(trash_hours=0)
        assert pulled(hub, tmp_path, B) == wanted
        check(hub, tmp_path)
        at += 3
    assert at > 50
    assert rewritten > at


def test_a_collection_at_any_moment_of_a_push_takes_nothing_from_it(tmp_path: Path) -> None:
    at = 0
    while True:
        stores = memory()
        hub = opened(stores)
        hub.init()
        many(hub, tmp_path)
        calls = iter(range(100_000))

        def collects(
            _call: Call, calls: Iterator[int] = calls, hub: Hub = hub, at: int = at
        ) -> Outcome:
            if next(calls) == at:
                hub.gc(trash_hours=0)
            return Outcome.OK

        pushing, _ = open_process(stores, collects)
        push(pushing, tmp_path, B, shared="s", own=f"{A}2", more="m")
        if next(calls) <= at:
            break
        wanted = {"shared": data("s"), "own": data(f"{A}2"), "more": data("m")}
        assert pulled(hub, tmp_path, B) == wanted
        check(hub, tmp_path)
        at += 1
    assert at > 10


def test_wherever_a_rewriting_dies_the_next_run_finishes_it(tmp_path: Path) -> None:
    at = 0
    while True:
        stores = memory()
        hub = opened(stores)
        hub.init()
        many(hub, tmp_path)
        calls = iter(range(100_000))

        def dies(_call: Call, calls: Iterator[int] = calls, at: int = at) -> Outcome:
            return Outcome.FAILS_AFTER if next(calls) == at else Outcome.OK

        dying, _ = open_process(stores, dies)
        try:
            dying.gc(trash_hours=0)
        except ProcessDied:
            check(hub, tmp_path, allowed=frozenset({"pack-condemned", "pack-orphan"}))
        else:
            break
        hub.gc(trash_hours=0)
        hub.gc(trash_hours=0)
        check(hub, tmp_path)
        assert len(files(stores)) < COUNT  # those that the dead run had moved, and the others
        assert "condemned" not in states(stores).values()
        at += 2
    assert at > 50


def test_a_file_that_a_dead_run_left_in_its_place_is_moved_by_the_next(
    hub: Hub, any_stores: Stores, tmp_path: Path
) -> None:
    """It died when the row said where in the trash the file goes, and before the file went."""
    many(hub, tmp_path)
    dying, _ = open_process(
        any_stores, lambda call: Outcome.FAILS_BEFORE if call.method == "move" else Outcome.OK
    )
    with pytest.raises(Unavailable):
        dying.gc(trash_hours=0)
    hub.gc(trash_hours=0)
    moved = {pack for pack, state in states(any_stores).items() if state == "moved"}
    assert len(moved) == COUNT
    assert not moved & files(any_stores).keys()
    check(hub, tmp_path)
