"""Disasters, and what an operator does then: drills to be repeated on a hub of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from modelhub.content.pack import pack_path
from modelhub.coordinator import keys
from modelhub.coordinator.context import Stores
from modelhub.coordinator.index import read_targets
from modelhub.errors import CorruptData
from modelhub.hub import Hub
from tests.coordinator.test_backup import opened, same
from tests.coordinator.test_collect import (
    AT_ONCE,
    A,
    B,
    data,
    files,
    memory,
    needed,
    pulled,
    push,
)


@pytest.fixture
def hub(any_stores: Stores, tmp_path: Path) -> Hub:
    """Two models, one with a deleted version, and a backup of both."""
    made = opened(any_stores)
    made.init()
    for seed in (1, 2, 3):
        push(made, tmp_path, A, shared="s", own=seed)
        push(made, tmp_path, B, shared="s", own=f"b{seed}")
    made.edit(f"{A}@1", title="The first")
    made.delete(f"{B}@2")
    made.backup(tmp_path / "backup")
    return made


@pytest.fixture
def all_is_well(hub: Hub, tmp_path: Path) -> Iterator[None]:
    """Afterwards everything is as it was, to somebody who comes anew."""
    before = opened(memory())
    before.recover(tmp_path / "backup")
    yield
    again = opened(hub._ctx.stores)
    same(before, again, tmp_path)
    assert push(again, tmp_path, A, own="next") == 4


def clear(stores: Stores, table: str) -> None:
    rows = stores.rows
    rows.delete_many(table, [key for key, _ in rows.scan(table, b"\0", b"\xff")])


@pytest.mark.usefixtures("all_is_well")
def test_the_search_index_is_dropped(hub: Hub, any_stores: Stores) -> None:
    for target in read_targets(hub._ctx).targets:
        any_stores.search.drop_target(target)
    assert {finding.kind for finding in hub.fsck().findings} == {"search-missing"}
    hub.reindex()


@pytest.mark.usefixtures("all_is_well")
def test_the_tables_of_hints_are_dropped(hub: Hub, any_stores: Stores, tmp_path: Path) -> None:
    for table in (keys.VERSIONS, keys.CHUNKS, keys.MODELS):
        clear(any_stores, table)
    assert pulled(hub, tmp_path, A) == {"shared": data("s"), "own": data(3)}
    hub.fsck(repair=True)
    hub.sweep(chunks=True)
    known = files(any_stores)
    push(hub, tmp_path, "nlp.c", shared="s", own=1)
    (new,) = files(any_stores).keys() - known.keys()
    assert files(any_stores)[new] < 4000, "its files are stored again"
    hub.delete("nlp.c@1")
    hub.purge("nlp.c@1")


@pytest.mark.usefixtures("all_is_well")
def test_a_pack_is_missing(hub: Hub, any_stores: Stores, tmp_path: Path) -> None:
    (pack,) = needed(any_stores, 3) - needed(any_stores, 2)
    any_stores.weights.remove(pack_path(pack))
    found = {(finding.kind, finding.subject) for finding in hub.fsck().findings}
    assert ("pack-missing", f"pack {pack} (used by {A})") in found
    with pytest.raises(CorruptData):
        hub.pull(f"{A}@3", tmp_path / "no")
    coming = hub.recover(tmp_path / "backup", dry_run=True)
    assert (coming.packs, coming.models) == (1, 0)
    done = hub.recover(tmp_path / "backup")
    assert (done.packs, done.unreadable, set(done.current)) == (1, (), {A, B})
    assert hub.recover(tmp_path / "backup").packs == 0


@pytest.mark.usefixtures("all_is_well")
def test_every_pack_is_missing(hub: Hub, any_stores: Stores, tmp_path: Path) -> None:
    for pack in files(any_stores):
        any_stores.weights.remove(pack_path(pack))
    assert not hub.recover(tmp_path / "backup").unreadable


@pytest.mark.usefixtures("all_is_well")
def test_the_table_of_packs_is_dropped(hub: Hub, any_stores: Stores) -> None:
    clear(any_stores, keys.PACKS)
    done = hub.fsck(repair=True)
    assert (done.repaired > 0, done.remaining) == (True, 0)


@pytest.mark.usefixtures("all_is_well")
def test_the_log_is_that_of_an_older_backup(hub: Hub, any_stores: Stores, tmp_path: Path) -> None:
    """Entries are lost; nobody has published since."""
    rows = any_stores.rows
    for name in (A, B):
        lost = [key for key, _ in rows.scan(keys.LOG, *keys.prefix(name))][:3]
        rows.delete_many(keys.LOG, lost)
    done = hub.recover(tmp_path / "backup")
    assert (done.models, done.entries, done.taken) == (2, 6, ())


def test_entries_that_no_backup_has_are_named_and_their_numbers_stay_taken(
    hub: Hub, any_stores: Stores, tmp_path: Path
) -> None:
    for seed in (4, 5):
        push(hub, tmp_path, A, own=seed)
    rows = any_stores.rows
    lost = [key for key, _ in rows.scan(keys.LOG, *keys.prefix(A))][:2]
    rows.delete_many(keys.LOG, lost)
    assert {finding.kind for finding in hub.fsck().findings} >= {"log-broken"}
    done = hub.recover(tmp_path / "backup")
    assert done.taken == (f"{A}@4", f"{A}@5")
    assert push(hub, tmp_path, A, own=6) == 6
    assert [entry.number for entry in hub.log(A) if entry.op == "publish"] == [6, 3, 2, 1]


@pytest.mark.usefixtures("all_is_well")
def test_the_trash_is_emptied(hub: Hub, any_stores: Stores, tmp_path: Path) -> None:
    push(hub, tmp_path, "nlp.c", own="c")
    hub.purge("nlp.c@1")
    hub.gc(AT_ONCE[:0])
    assert files(any_stores, "trash")
    for info in list(any_stores.weights.list("trash")):
        any_stores.weights.remove(info.path)
    assert not hub.fsck().findings
    hub.gc(trash_hours=0)


def test_a_hub_is_copied_to_new_addresses(hub: Hub, any_stores: Stores, tmp_path: Path) -> None:
    """Tables and files, by whatever tool; search is made anew there."""
    other = memory()
    other.rows.create_tables(keys.TABLES)
    for table in keys.TABLES:
        for key, value in any_stores.rows.scan(table, b"\0", b"\xff"):
            other.rows.put(table, key, value)
    for info in any_stores.weights.list("packs"):
        writer = other.weights.create(info.path)
        writer.write(any_stores.weights.read(info.path, 0, info.size_bytes))
        writer.commit()
    moved = opened(other)
    moved.reindex()
    same(hub, moved, tmp_path)
    assert push(moved, tmp_path, A, own="next") == 4
