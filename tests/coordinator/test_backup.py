"""Backups while others go on, and what comes back of them where."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modelhub.backends.remote import remote_files
from modelhub.content.pack import pack_path
from modelhub.coordinator import keys
from modelhub.coordinator.context import Context, Stores
from modelhub.errors import CorruptData, InvalidInput, NotFound
from modelhub.hub import Hub
from modelhub.testing.crashes import IMPATIENT, no_pause
from modelhub.testing.faults import Call, Faults, Outcome, ProcessDied
from tests.coordinator.conftest import refused
from tests.coordinator.test_collect import (
    AT_ONCE,
    A,
    B,
    Later,
    data,
    files,
    memory,
    pulled,
    push,
)


def opened(
    stores: Stores, plan: Callable[[Call], Outcome] = lambda _: Outcome.OK, *, days: float = 0
) -> Hub:
    """A hub of a process that knows folders, and to which every lease is over."""
    faults = Faults(stores, plan)
    ctx = Context(faults.stores, "tester", IMPATIENT, pause=no_pause)
    ctx.folders = lambda url: remote_files(url, timeout_s=60.0)
    ctx.clock = Later(stores.rows, days)
    return Hub(ctx, address="test", cache=Path("unused"))


@pytest.fixture
def hub(any_stores: Stores, tmp_path: Path) -> Hub:
    made = opened(any_stores)
    made.init()
    for seed in (1, 2):
        push(made, tmp_path, A, shared="s", own=seed)
        push(made, tmp_path, B, shared="s", own=f"b{seed}")
    made.edit(f"{A}@1", title="The first")
    made.alias.set(A, "champion", "1")
    made.tag.create(B, "v1", "1")
    made.delete(f"{B}@2")
    return made


def logs(hub: Hub) -> dict[str, list[object]]:
    return {one.name: list(hub.log(one.name)) for one in hub.list()}


def same(hub: Hub, other: Hub, folder: Path) -> None:
    """Everything that users see of these models is the same in the other hub."""
    assert logs(hub).items() <= logs(other).items()
    for name in logs(hub):
        published = [entry.number for entry in hub.log(name) if entry.op == "publish"]
        for number in published:
            revision = f"{name}@{number}"
            shown = hub.show(revision)
            assert other.show(revision) == shown
            if not shown.deleted:
                assert pulled(other, folder, revision) == pulled(hub, folder, revision)
    found = {hit.name for hit in hub.search("first").hits}
    assert {hit.name for hit in other.search("first").hits} == found
    assert not other.fsck().findings


def test_a_hub_comes_back_whole_in_empty_stores(hub: Hub, tmp_path: Path) -> None:
    told = hub.backup(tmp_path / "backup")
    assert (told.whole, told.models, told.versions, told.missing) == (True, 2, 4, ())
    other = opened(memory())
    coming = other.recover(tmp_path / "backup", dry_run=True)
    done = other.recover(tmp_path / "backup")
    assert (done.models, done.versions, done.packs) == (2, 4, told.packs)
    assert (coming.models, coming.packs, coming.bytes) == (2, done.packs, done.bytes)
    assert (done.unreadable, done.differ, done.taken) == ((), (), ())
    same(hub, other, tmp_path)
    again = other.recover(tmp_path / "backup")
    assert (again.models, set(again.current)) == (0, {A, B})
    assert push(other, tmp_path, A, own=3) == 3
    other.undelete(f"{B}@2")
    assert pulled(other, tmp_path, f"{B}@2") == {"shared": data("s"), "own": data("b2")}


def test_the_next_backup_copies_what_is_new(hub: Hub, tmp_path: Path) -> None:
    first = hub.backup(tmp_path / "backup")
    assert hub.backup(tmp_path / "backup").entries == 0
    push(hub, tmp_path, A, shared="s", own=3)
    next_one = hub.backup(tmp_path / "backup")
    assert (next_one.whole, next_one.entries, next_one.packs) == (False, 1, 1)
    assert hub.backup(tmp_path / "backup", whole=True).entries == first.entries + 1
    assert hub.backup(tmp_path / "backup", whole=True).packs == 0
    other = opened(memory())
    assert other.recover(tmp_path / "backup").versions == 5
    same(hub, other, tmp_path)


def test_one_model_comes_back_as_it_was_at_a_moment(hub: Hub, tmp_path: Path) -> None:
    moment = hub.log(A)[0].created
    for seed in (3, 4):
        push(hub, tmp_path, A, own=seed)
    hub.backup(tmp_path / "backup")
    other = opened(memory())
    done = other.recover(tmp_path / "backup", A, at=moment.isoformat())
    assert (done.models, done.versions) == (1, 2)
    assert done.taken == (f"{A}@3", f"{A}@4")
    assert [one.name for one in other.list()] == [A]
    assert pulled(other, tmp_path, A) == {"shared": data("s"), "own": data(2)}
    assert push(other, tmp_path, A, own=9) == 5
    refused(NotFound, lambda: other.pull(f"{A}@3", tmp_path / "no"))
    assert not other.fsck().findings


def test_what_a_log_lost_comes_back_and_what_went_on_is_left_alone(
    hub: Hub, any_stores: Stores, tmp_path: Path
) -> None:
    hub.backup(tmp_path / "backup")
    before = logs(hub)
    rows = any_stores.rows
    rows.delete_many(keys.LOG, [key for key, _ in rows.scan(keys.LOG, *keys.prefix(A))][:2])
    (key, _), *_ = rows.scan(keys.LOG, *keys.prefix(B))
    rows.delete_many(keys.LOG, [key])
    hub.delete(f"{B}@1", force=True)
    done = hub.recover(tmp_path / "backup")
    assert (done.models, done.entries, done.differ) == (1, 2, (B,))
    assert list(hub.log(A)) == before[A]
    assert hub.show(f"{B}@1").deleted


def test_packs_that_were_collected_meanwhile_come_back_under_new_names(
    hub: Hub, any_stores: Stores, tmp_path: Path
) -> None:
    hub.backup(tmp_path / "backup")
    rows = any_stores.rows
    lost = dict(rows.scan(keys.LOG, *keys.prefix(A)))
    rows.delete_many(keys.LOG, list(lost))
    hub.gc(AT_ONCE, trash_hours=0)
    assert hub.recover(tmp_path / "backup").models == 1
    assert dict(rows.scan(keys.LOG, *keys.prefix(A))) == lost
    assert pulled(hub, tmp_path, f"{A}@1") == {"shared": data("s"), "own": data(1)}
    hub.gc(AT_ONCE, trash_hours=0)
    assert pulled(hub, tmp_path, f"{A}@1") == {"shared": data("s"), "own": data(1)}
    assert not hub.fsck().findings


def test_rewritten_and_collected_packs_are_backed_up_where_they_are(
    hub: Hub, any_stores: Stores, tmp_path: Path
) -> None:
    for seed in range(9):
        push(hub, tmp_path, A, shared="s", own=f"more{seed}")
    hub.backup(tmp_path / "before")
    assert hub.gc().rewritten
    hub.backup(tmp_path / "after")
    for folder in ("before", "after"):
        other = opened(memory())
        assert not other.recover(tmp_path / folder).unreadable
        same(hub, other, tmp_path)


def test_publishes_go_on_and_come_into_the_next_backup(
    hub: Hub, any_stores: Stores, tmp_path: Path
) -> None:
    other = opened(any_stores)
    pushed: list[int] = []

    def publish(phase: str, _done: int, _total: int) -> None:
        if phase == "backup models" and not pushed:
            pushed.append(push(other, tmp_path, A, own=3))
            pushed.append(push(other, tmp_path, B, own=4))

    assert hub.backup(tmp_path / "backup", progress=publish).versions == 4
    assert pushed == [3, 3]
    restored = opened(memory())
    restored.recover(tmp_path / "backup")
    assert (restored.show(A).number, restored.show(B).number) == (2, 1)
    assert not restored.fsck().findings
    assert hub.backup(tmp_path / "backup").versions == 2


# --- damage and deaths ---------------------------------------------------------------------------


def test_damage_of_the_backup_is_named_before_anything_is_written(hub: Hub, tmp_path: Path) -> None:
    told = hub.backup(tmp_path / "backup")
    rows = tmp_path / "backup" / "points" / told.point / "rows.zst"
    sound = rows.read_bytes()
    for position in range(0, len(sound), max(len(sound) // 40, 1)):
        damaged = bytearray(sound)
        damaged[position] ^= 0x10
        rows.write_bytes(bytes(damaged))
        other = opened(memory())
        with pytest.raises(CorruptData, match=r"rows\.zst in the backup"):
            other.recover(tmp_path / "backup")
    rows.unlink()
    with pytest.raises(CorruptData, match=r"rows\.zst is missing"):
        opened(memory()).recover(tmp_path / "backup")


def test_a_damaged_pack_of_the_backup_is_never_taken(hub: Hub, tmp_path: Path) -> None:
    hub.backup(tmp_path / "backup")
    for pack in (tmp_path / "backup" / "packs").rglob("?" * 32):
        broken = bytearray(pack.read_bytes())
        broken[len(broken) // 3] ^= 1
        pack.write_bytes(bytes(broken))
    other = opened(memory())
    done = other.recover(tmp_path / "backup")
    assert set(done.unreadable) == {f"{A}@1", f"{A}@2", f"{B}@1", f"{B}@2"}
    assert {finding.kind for finding in other.fsck().findings} >= {"pack-missing"}


def test_what_is_no_backup_is_refused(hub: Hub, tmp_path: Path) -> None:
    refused(NotFound, lambda: hub.recover(tmp_path / "nothing"), "holds no backup")
    hub.backup(tmp_path / "backup")
    later = (hub.log(A)[0].created).replace(year=2099).isoformat()
    refused(NotFound, lambda: hub.recover(tmp_path / "backup", at=later), "2099")
    other = opened(memory())
    other.init()
    refused(InvalidInput, lambda: other.backup(tmp_path / "backup"), "another hub")


def test_wherever_a_backup_dies_the_next_is_whole(tmp_path: Path) -> None:
    stores = memory()
    hub = opened(stores)
    hub.init()
    for seed in (1, 2):
        push(hub, tmp_path, A, shared="s", own=seed)
    at = 0
    while True:
        folder = tmp_path / f"backup{at}"
        calls = iter(range(100_000))

        def dies(_call: Call, at: int = at, calls: Iterator[int] = calls) -> Outcome:
            return Outcome.FAILS_AFTER if next(calls) == at else Outcome.OK

        try:
            opened(stores, dies).backup(folder)
        except ProcessDied:
            hub.backup(folder)
        else:
            if next(calls) <= at:
                break
        other = opened(memory())
        assert not other.recover(folder).unreadable
        same(hub, other, tmp_path)
        at += 1
    assert at > 5


def test_wherever_a_restore_dies_the_next_finishes_it(tmp_path: Path) -> None:
    hub = opened(memory())
    hub.init()
    for seed in (1, 2):
        push(hub, tmp_path, A, shared="s", own=seed)
    hub.backup(tmp_path / "backup")
    at = 0
    while True:
        stores = memory()
        calls = iter(range(100_000))

        def dies(_call: Call, at: int = at, calls: Iterator[int] = calls) -> Outcome:
            return Outcome.FAILS_AFTER if next(calls) == at else Outcome.OK

        try:
            opened(stores, dies).recover(tmp_path / "backup")
        except ProcessDied:
            opened(stores).recover(tmp_path / "backup")
        else:
            if next(calls) <= at:
                break
        other = opened(stores)
        other.sweep()
        same(hub, other, tmp_path)
        other.gc(trash_hours=0)
        same(hub, other, tmp_path)
        at += 1
    assert at > 20


def test_nothing_is_left_of_a_copy_that_was_cut_off(tmp_path: Path) -> None:
    """The name of its pack is used, so the chunks come back under another."""
    hub = opened(memory())
    hub.init()
    push(hub, tmp_path, A, own=1)
    hub.backup(tmp_path / "backup")
    stores = memory()
    other = opened(stores)
    other.init()
    (pack,) = files(hub._ctx.stores)
    writer = stores.weights.create(pack_path(pack))
    writer.write(b"torn")
    assert other.recover(tmp_path / "backup").packs == 1
    same(hub, other, tmp_path)
