"""What a collection takes away, what it never does, and whoever is in its way.

Tier: CI.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from modelhub.backends.memory import MemoryRows, MemorySearch, MemoryWeights
from modelhub.connect import embedded_stores
from modelhub.content.pack import PackWriter, new_pack_id
from modelhub.coordinator import keys
from modelhub.coordinator.context import Clock, Context, Stores
from modelhub.coordinator.index import read_targets
from modelhub.coordinator.log import read_head
from modelhub.coordinator.versions import publication
from modelhub.errors import (
    Conflict,
    CorruptData,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    Unavailable,
)
from modelhub.hub import Hub
from modelhub.records import Collecting, Metadata, PackRow, Published, decode
from modelhub.results import Collected
from modelhub.rules import RetentionRule, read_rules
from modelhub.stores import RowStore
from modelhub.testing.crashes import IMPATIENT, no_pause, open_process
from modelhub.testing.faults import Call, Outcome, ProcessDied
from tests.coordinator.conftest import refused

A, B = "nlp.a", "nlp.b"
AT_ONCE = [RetentionRule(deleted_days=0)]


class Later(Clock):
    """A clock that is ahead."""

    def __init__(self, rows: RowStore, days: float) -> None:
        super().__init__(rows)
        self._ahead = timedelta(days=days)

    def now(self) -> datetime:
        return super().now() + self._ahead


def opened(stores: Stores, *, days: float = 0) -> Hub:
    """A hub of a process to which every lease is over, in so many days."""
    ctx = Context(stores, "tester", IMPATIENT, pause=no_pause)
    ctx.clock = Later(stores.rows, days)
    return Hub(ctx, address="test", cache=Path("unused"))


@pytest.fixture
def hub(any_stores: Stores) -> Hub:
    made = opened(any_stores)
    made.init()
    return made


def data(seed: object, count: int = 1000) -> bytes:
    return random.Random(str(seed)).randbytes(count)


def source(folder: Path, **wanted: object) -> Path:
    """A folder with files of random bytes, drawn by their seeds."""
    made = folder / "-".join(f"{path}-{seed}" for path, seed in wanted.items())
    made.mkdir(exist_ok=True)
    for path, seed in wanted.items():
        (made / path).write_bytes(data(seed))
    return made


def push(hub: Hub, folder: Path, name: str, **wanted: object) -> int:
    return hub.push(name, source(folder, **wanted)).number


def half_deleted(hub: Hub, folder: Path) -> None:
    """Two versions, of which the first is deleted."""
    for seed in (1, 2):
        push(hub, folder, A, weights=seed)
    hub.delete(f"{A}@1")


def pulled(hub: Hub, folder: Path, revision: str) -> dict[str, bytes]:
    out = hub.pull(revision, folder / f"out-{random.random()}")
    return {path.name: path.read_bytes() for path in out.iterdir()}


def files(stores: Stores, below: str = "packs") -> dict[str, int]:
    """What is there, past the coordinator."""
    return {info.path.rpartition("/")[2]: info.size_bytes for info in stores.weights.list(below)}


def states(stores: Stores) -> dict[str, str]:
    rows = stores.rows.scan(keys.PACKS, b"\0", b"\xff")
    return {key.decode(): decode(value, PackRow, "it").state for key, value in rows}


def everything(stores: Stores) -> tuple[object, ...]:
    """All rows and files."""
    rows = {table: list(stores.rows.scan(table, b"\0", b"\xff")) for table in keys.TABLES}
    return rows, files(stores), files(stores, "trash")


def needed(stores: Stores, number: int) -> set[str]:
    """The packs of a version."""
    change = publication(stores.rows, read_head(stores.rows, A), number).entry.change
    assert isinstance(change, Published)
    return set(change.version.packs)


# --- what goes, and when -------------------------------------------------------------------------


def test_a_deleted_version_goes_when_its_time_is_over_and_not_before(
    hub: Hub, any_stores: Stores, tmp_path: Path
) -> None:
    for seed in (1, 2):
        push(hub, tmp_path, A, weights=seed)
    before = files(any_stores)
    hub.delete(f"{A}@1")
    early = opened(any_stores, days=29).gc()
    assert (early.versions, early.packs, files(any_stores)) == (0, 0, before)
    hub.undelete(f"{A}@1")
    assert pulled(hub, tmp_path, f"{A}@1") == {"weights": data(1)}
    hub.delete(f"{A}@1")
    done = opened(any_stores, days=31).gc()
    assert (done.versions, done.packs) == (1, 1)
    assert [(one.name, one.number, one.fate) for one in done.listed] == [(A, 1, "purge")]
    assert len(files(any_stores)) == len(before) - 1
    assert pulled(hub, tmp_path, f"{A}@2") == {"weights": data(2)}
    assert not hub.fsck().findings
    for act in (hub.undelete, hub.verify, lambda revision: hub.pull(revision, tmp_path / "no")):
        refused(NotFound, lambda act=act: act(f"{A}@1"), "retention has ended")  # type: ignore[misc]
    assert push(hub, tmp_path, A, weights=3) == 3
    assert [entry.op for entry in hub.log(A)][:2] == ["publish", "purge"]


def test_what_other_versions_share_stays(hub: Hub, any_stores: Stores, tmp_path: Path) -> None:
    push(hub, tmp_path, A, shared="s", own=1)
    push(hub, tmp_path, B, shared="s", own=2)
    push(hub, tmp_path, A, own=3)
    hub.delete(f"{A}@1", force=True)
    assert hub.gc(AT_ONCE, trash_hours=0).versions == 1
    assert pulled(hub, tmp_path, f"{B}@1") == {"shared": data("s"), "own": data(2)}
    assert not hub.fsck().findings


def test_files_stay_in_the_trash_for_readers_that_began_before(
    hub: Hub, any_stores: Stores, tmp_path: Path
) -> None:
    push(hub, tmp_path, A, weights=1)
    push(hub, tmp_path, A, weights=2)
    with hub.open(f"{A}@1", "weights") as reading:
        hub.delete(f"{A}@1")
        (gone,) = files(any_stores).keys() - needed(any_stores, 2)
        size = files(any_stores)[gone]
        done = hub.gc(AT_ONCE)
        assert (done.bytes_trashed, done.bytes_freed) == (size, 0)
        assert gone not in files(any_stores)
        assert list(files(any_stores, "trash").values()) == [size]
        assert reading.read() == data(1)
    assert opened(any_stores, days=0.9).gc().bytes_freed == 0
    assert opened(any_stores, days=1.1).gc().bytes_freed == size
    assert files(any_stores, "trash") == {}


def test_bytes_freed_are_those_of_the_disk(tmp_path: Path) -> None:
    stores = embedded_stores(tmp_path / "hub")
    hub = opened(stores)
    hub.init()
    source = tmp_path / "weights.bin"
    for seed in range(3):
        source.write_bytes(data(seed, 1 << 20))
        hub.push(A, source)
    weights = tmp_path / "hub" / "weights"
    used = sum(file.stat().st_size for file in weights.rglob("*") if file.is_file())
    hub.delete(f"{A}@1")
    hub.delete(f"{A}@2")
    coming = hub.gc(AT_ONCE, dry_run=True)
    done = hub.gc(AT_ONCE, trash_hours=0)
    left = sum(file.stat().st_size for file in weights.rglob("*") if file.is_file())
    assert done.bytes_freed == used - left > 2 << 20
    assert done.bytes_trashed == coming.bytes_trashed == done.bytes_freed
    hub.close()


def test_hints_of_chunks_that_are_gone_go_too(hub: Hub, any_stores: Stores, tmp_path: Path) -> None:
    push(hub, tmp_path, A, weights=1)
    push(hub, tmp_path, A, weights=2)
    hints = dict(any_stores.rows.scan(keys.CHUNKS, b"\0", b"\xff"))
    hub.delete(f"{A}@1")
    hub.gc(AT_ONCE)
    left = dict(any_stores.rows.scan(keys.CHUNKS, b"\0", b"\xff"))
    assert left.items() < hints.items()
    wanted = needed(any_stores, 2)
    assert all(any(pack in value.decode() for pack in wanted) for value in left.values())
    assert push(hub, tmp_path, A, weights=1) == 3
    assert pulled(hub, tmp_path, A) == {"weights": data(1)}


def test_an_erasure_leaves_neither_metadata_nor_bytes(
    hub: Hub, any_stores: Stores, tmp_path: Path
) -> None:
    hub.push(A, source(tmp_path, weights=1), title="Of somebody", request_id="r")
    hub.edit(A, description="More of somebody")
    push(hub, tmp_path, A, weights=2)
    assert not hub.purge(f"{A}@1", dry_run=True).deleted
    purged = hub.purge(f"{A}@1", message="a request for erasure")
    assert (purged.deleted, purged.metadata) == (True, Metadata())
    assert hub.purge(f"{A}@1") == purged
    hub.gc(trash_hours=0)
    assert list(files(any_stores)) == list(needed(any_stores, 2))
    rows = [
        value for table in keys.TABLES for _, value in any_stores.rows.scan(table, b"\0", b"\xff")
    ]
    assert not any(b"somebody" in row for row in rows)
    any_stores.search.refresh(read_targets(hub._ctx).live)
    assert not hub.search("somebody", all_versions=True).hits
    refused(NotFound, lambda: hub.undelete(f"{A}@1"), "retention has ended")
    last = hub.log(A)[0]
    assert (last.op, last.message) == ("purge", "a request for erasure")
    assert hub.show(A).number == 2
    assert not hub.fsck().findings


def test_an_erasure_that_was_cut_off_is_finished_by_the_next(
    memory_hub: Hub, stores: Stores, tmp_path: Path
) -> None:
    memory_hub.init()
    memory_hub.push(A, source(tmp_path, weights=1), title="Of somebody")
    push(memory_hub, tmp_path, A, weights=2)
    away, _ = open_process(
        stores,
        lambda call: (
            Outcome.FAILS_BEFORE
            if (call.method, call.where) == ("delete_many", keys.METADATA)
            else Outcome.OK
        ),
    )
    with pytest.raises(OutcomeUnknown, match="its metadata may be there still"):
        away.purge(f"{A}@1")
    assert memory_hub.show(f"{A}@1").metadata.title == "Of somebody"
    assert memory_hub.purge(f"{A}@1").metadata == Metadata()


# --- rules ---------------------------------------------------------------------------------------


def test_rules_say_what_is_kept(memory_hub: Hub, stores: Stores, tmp_path: Path) -> None:
    for number in range(1, 9):
        push(memory_hub, tmp_path, A, weights=number)
        push(memory_hub, tmp_path, B, weights=f"b{number}")
    memory_hub.tag.create(A, "v1", "1")
    memory_hub.alias.set(A, "champion", "2")
    memory_hub.branch.create(A, "old", at="3")
    source = tmp_path / "child"
    source.write_bytes(b"child")
    memory_hub.push("nlp.child", source, bases=[f"{A}@4"])
    rules = [RetentionRule(models="*.a", keep_last=2)]
    before = everything(stores)
    assert _listed(memory_hub.gc(rules, dry_run=True)) == [(A, 5, "delete"), (A, 6, "delete")]
    assert everything(stores) == before
    done = memory_hub.gc(rules)
    assert (_listed(done), done.expired, done.versions) == (
        [(A, 5, "delete"), (A, 6, "delete")],
        2,
        0,
    )
    assert memory_hub.show(f"{A}@5").deleted
    memory_hub.undelete(f"{A}@5")
    assert pulled(memory_hub, tmp_path, f"{A}@5") == {"weights": data(5)}
    later = opened(stores, days=40)
    kept = [RetentionRule(keep_last=1, keep_days=41), RetentionRule(models="*.a", keep_last=1)]
    assert _listed(later.gc(kept, dry_run=True)) == [(A, 6, "purge")]
    assert later.gc([RetentionRule(models=B, keep_days=39)]).expired == 7
    assert memory_hub.show(B).number == 8


def _listed(collected: Collected) -> list[tuple[str, int, str]]:
    return sorted((one.name, one.number, one.fate) for one in collected.listed)


def test_a_protected_model_keeps_everything(memory_hub: Hub, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        push(memory_hub, tmp_path, A, weights=number)
    memory_hub.protect(A)
    assert memory_hub.gc([RetentionRule(keep_last=1)]).expired == 0


RULES = """
[[rules]]
models = "nlp.*"
keep_last = 10
keep_days = 90

[[rules]]
deleted_days = 7
"""


def test_rules_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "retention.toml"
    file.write_text(RULES)
    assert read_rules(file) == (
        RetentionRule(models="nlp.*", keep_last=10, keep_days=90),
        RetentionRule(deleted_days=7),
    )


@pytest.mark.parametrize(
    "text",
    [
        "[[rules]]\nkeep_lats = 3",
        "[[rules]]\nkeep_last = -1",
        "[[rules]]\nkeep_last = 0",
        "[[rules]]\nkeep_days = nan",
        "[[rules]]\ndeleted_days = 1e300",
        "[[rule]]",
        "rules = 3",
        "[[rules",
    ],
)
def test_what_are_no_rules_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "retention.toml"
    file.write_text(text)
    refused(InvalidInput, lambda: read_rules(file))
    refused(InvalidInput, lambda: read_rules(tmp_path / "absent.toml"), "absent.toml")


@pytest.mark.parametrize("options", [{"trash_hours": -1}, {"rate": 0}, {"rate": float("nan")}])
def test_bad_options_are_refused_before_anything_is_read(
    stores: Stores, options: dict[str, Any]
) -> None:
    refused(InvalidInput, lambda: opened(stores).gc(**options), next(iter(options)))


# --- others meanwhile ----------------------------------------------------------------------------


def test_a_push_of_the_same_bytes_takes_a_condemned_pack_back(
    hub: Hub, any_stores: Stores, tmp_path: Path
) -> None:
    """It comes between the condemning and the second scan."""
    half_deleted(hub, tmp_path)
    looked: list[int] = []

    def between(_phase: str, done: int, _total: int) -> None:
        looked.append(done)
        if len(looked) == 2:
            assert "condemned" in states(any_stores).values()
            assert push(opened(any_stores), tmp_path, A, weights=1) == 3

    hub.gc(AT_ONCE, trash_hours=0, progress=between)
    assert looked == [1, 1]
    assert pulled(hub, tmp_path, f"{A}@3") == {"weights": data(1)}
    assert not hub.fsck().findings
    assert set(states(any_stores).values()) <= {"live", "gone"}


def test_a_version_that_is_brought_back_in_time_is_not_purged(
    memory_hub: Hub, stores: Stores, tmp_path: Path
) -> None:
    half_deleted(memory_hub, tmp_path)
    other = opened(stores)

    def undeletes_first(call: Call) -> Outcome:
        if (call.method, call.where) == ("check_and_put", keys.LOG) and not brought:
            brought.append(other.undelete(f"{A}@1").number)
        return Outcome.OK

    brought: list[int] = []
    collecting, _ = open_process(stores, undeletes_first)
    done = collecting.gc(AT_ONCE, trash_hours=0)
    assert brought == [1]
    assert done.versions == 0
    assert pulled(other, tmp_path, f"{A}@1") == {"weights": data(1)}
    assert not other.fsck().findings


def test_only_one_collection_is_under_way(memory_hub: Hub, stores: Stores, tmp_path: Path) -> None:
    push(memory_hub, tmp_path, A, weights=1)
    other = Hub(Context(stores, "other"), address="test", cache=tmp_path / "cache")

    def begin_another(_phase: str, _done: int, _total: int) -> None:
        refused(Conflict, other.gc, "a collection by tester is under way")

    assert not memory_hub.gc(progress=begin_another).dry_run
    row = stores.rows.get(keys.SYSTEM, keys.COLLECTION)
    assert decode(cast(bytes, row), Collecting, "it").run == ""


def test_two_collections_at_once_take_the_same_away(tmp_path: Path) -> None:
    """The second comes before each call of the first, whose lease is over."""
    at = 0
    while True:
        stores = memory()
        hub = opened(stores)
        hub.init()
        half_deleted(hub, tmp_path)
        calls = iter(range(10_000))

        def other_comes(
            _call: Call, hub: Hub = hub, calls: Iterator[int] = calls, at: int = at
        ) -> Outcome:
            if next(calls) == at:
                hub.gc(AT_ONCE, trash_hours=0)
            return Outcome.OK

        collecting, _ = open_process(stores, other_comes)
        with suppress(Conflict):
            collecting.gc(AT_ONCE, trash_hours=0)
        hub.gc(AT_ONCE, trash_hours=0)
        assert set(files(stores)) == needed(stores, 2)
        assert files(stores, "trash") == {}
        assert pulled(hub, tmp_path, A) == {"weights": data(2)}
        assert not hub.fsck().findings
        if next(calls) <= at:
            break
        at += 1
    assert at > 20


# --- what is left over ---------------------------------------------------------------------------


def test_the_next_run_finishes_what_one_that_died_began(tmp_path: Path) -> None:
    """Wherever it died; afterwards two runs leave no garbage."""
    for at in range(10_000):
        stores = memory()
        hub = opened(stores)
        hub.init()
        half_deleted(hub, tmp_path)
        calls = iter(range(10_000))

        def dies(_call: Call, calls: Iterator[int] = calls, at: int = at) -> Outcome:
            return Outcome.FAILS_AFTER if next(calls) == at else Outcome.OK

        dying, _ = open_process(stores, dies)
        try:
            dying.gc(AT_ONCE, trash_hours=0)
        except ProcessDied:
            hub.gc(AT_ONCE, trash_hours=0)
            hub.gc(AT_ONCE, trash_hours=0)
            assert set(files(stores)) == needed(stores, 2)
            assert files(stores, "trash") == {}
            assert set(states(stores).values()) == {"live", "gone"}
            assert pulled(hub, tmp_path, A) == {"weights": data(2)}
            continue
        break
    assert at > 20


def test_files_that_no_push_finished_are_claimed_and_go(
    hub: Hub, any_stores: Stores, tmp_path: Path
) -> None:
    push(hub, tmp_path, A, weights=1)
    orphan = new_pack_id()
    writer = PackWriter(any_stores.weights, orphan)
    writer.add(b"x" * 32, b"left behind")
    writer.finish()
    coming = hub.gc(dry_run=True)
    assert (coming.orphans, orphan in files(any_stores)) == (1, True)
    assert hub.gc(trash_hours=0).orphans == 1
    assert orphan not in files(any_stores)
    assert states(any_stores)[orphan] == "gone"
    assert pulled(hub, tmp_path, A) == {"weights": data(1)}


def test_the_file_of_a_push_under_way_is_left_alone(
    memory_hub: Hub, stores: Stores, tmp_path: Path
) -> None:
    """At every call of the push there is a collection."""
    memory_hub.init()
    half_deleted(memory_hub, tmp_path)
    other = opened(stores)
    count = 0

    def collects(_call: Call) -> Outcome:
        nonlocal count
        count += 1
        other.gc(AT_ONCE, trash_hours=0)
        return Outcome.OK

    pushing, _ = open_process(stores, collects)
    push(pushing, tmp_path, A, weights=3, more=1)
    assert count > 10
    assert pulled(other, tmp_path, A) == {"weights": data(3), "more": data(1)}
    assert not other.fsck().findings


def test_packs_of_a_push_that_may_be_resumed_stay(
    memory_hub: Hub, stores: Stores, tmp_path: Path
) -> None:
    memory_hub.init()
    push(memory_hub, tmp_path, A, weights=1)
    ctx = Context(stores, "tester", pause=no_pause)
    ctx.clock = Later(stores.rows, 1)
    sweeping = Hub(ctx, address="test", cache=Path("unused"))
    dying, _ = open_process(
        stores,
        lambda call: (
            Outcome.FAILS_AFTER
            if (call.method, call.where) == ("check_and_put", keys.PACKS)
            else Outcome.OK
        ),
    )
    with pytest.raises(ProcessDied):
        push(dying, tmp_path, A, weights=2)
    sweeping.sweep()
    before = files(stores)
    assert sweeping.gc().packs == 0
    assert files(stores) == before
    ctx.clock = Later(stores.rows, 5)
    sweeping.sweep()
    assert sweeping.gc().packs == 1


def test_what_somebody_else_put_there_is_left_alone(
    hub: Hub, any_stores: Stores, tmp_path: Path
) -> None:
    for path in ("packs/README", "packs/ab/cd/ffff", "trash/notes/README"):
        writer = any_stores.weights.create(path)
        writer.write(b"mine")
        writer.commit()
    hub.gc(AT_ONCE, trash_hours=0)
    assert sorted([*files(any_stores), *files(any_stores, "trash")]) == ["README", "README", "ffff"]


# --- damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "key"),
    [(keys.LOG, keys.log(B, 1)), (keys.LOG, b"junk"), (keys.PACKS, b"junk"), (keys.INTENTS, b"1")],
    ids=["an entry", "a key of the log", "the row of a pack", "a key of intents"],
)
def test_whatever_cannot_be_read_nothing_is_taken_away(
    memory_hub: Hub, stores: Stores, tmp_path: Path, table: str, key: bytes
) -> None:
    memory_hub.init()
    push(memory_hub, tmp_path, B, weights="b")
    half_deleted(memory_hub, tmp_path)
    stores.rows.put(table, key, b"{damaged")
    before = files(stores)
    refused(CorruptData, lambda: memory_hub.gc(AT_ONCE, trash_hours=0))
    assert files(stores) == before
    assert not any(b'"deleting"' in row for _, row in stores.rows.scan(keys.PACKS, b"0", b"g"))


def test_a_hole_in_a_log_takes_nothing_away(
    memory_hub: Hub, stores: Stores, tmp_path: Path
) -> None:
    memory_hub.init()
    for seed in range(40):
        push(memory_hub, tmp_path, B, weights=seed)
    half_deleted(memory_hub, tmp_path)
    stores.rows.delete_many(keys.LOG, [keys.log(B, 3)])
    refused(CorruptData, lambda: memory_hub.gc(AT_ONCE, trash_hours=0))
    assert len(files(stores)) == 42


def test_a_store_that_stays_away_ends_the_run_and_loses_nothing(
    memory_hub: Hub, stores: Stores, tmp_path: Path
) -> None:
    memory_hub.init()
    half_deleted(memory_hub, tmp_path)
    away, _ = open_process(
        stores,
        lambda call: Outcome.FAILS_BEFORE if call.store == "weights" else Outcome.OK,
    )
    with pytest.raises(Unavailable):
        away.gc(AT_ONCE)
    assert len(files(stores)) == 2
    assert memory_hub.gc(AT_ONCE, trash_hours=0).packs == 1


# --- size ----------------------------------------------------------------------------------------


def test_the_rate_is_kept(memory_hub: Hub, stores: Stores, tmp_path: Path) -> None:
    memory_hub.init()
    for seed in range(30):
        push(memory_hub, tmp_path, A, weights=seed)
    waited: list[float] = []
    memory_hub._ctx.pause = waited.append
    memory_hub.gc(rate=50)
    assert sum(waited) > 0
    memory_hub._ctx.pause = no_pause


def memory() -> Stores:
    return Stores(MemoryWeights(), MemoryRows(), MemorySearch())
