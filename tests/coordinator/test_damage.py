"""Damaged packs, log rows and metadata: named by fsck, never served, and the rest as it was.

Damage is done past the stores, by raw SQL and by writing into files. What a test expects to fail
for now is strict: it says so once that has come right.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3

import modelhub
from modelhub.backends.files import LocalWeights
from modelhub.content.pack import PackWriter, pack_path
from modelhub.coordinator import keys
from modelhub.coordinator.context import Context
from modelhub.errors import CorruptData
from modelhub.hub import Hub
from modelhub.testing.crashes import IMPATIENT
from tests.coordinator.conftest import (
    COUNTS,
    INTACT,
    LONG,
    MOOD,
    VOCABULARY,
    Damaged,
    Pull,
    files_of,
    refused,
)

pytestmark = pytest.mark.usefixtures("rest_is_sound")


# --- packs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", [0, 1000, 1999])
def test_a_damaged_chunk_is_named_and_not_served(
    damaged: Damaged, pulled: Pull, tmp_path: Path, position: int
) -> None:
    revision = f"{MOOD}@3"
    offset = damaged.chunk(revision, "weights.bin").offset
    damaged.flip_in_pack(revision, offset + position)
    pack = damaged.pack(revision).name

    assert damaged.findings() == {("chunk-damaged", f"pack {pack} (used by {MOOD})")}
    assert [found.subject for found in damaged.hub.verify(revision).findings] == [
        f"{revision} weights.bin"
    ]
    refused(CorruptData, lambda: pulled(revision), pack)
    left = tmp_path / "pulled" / revision
    assert (left / "vocabulary.txt").read_bytes() == VOCABULARY
    assert not (left / "weights.bin").exists()
    refused(CorruptData, lambda: damaged.hub.snapshot(revision), pack)
    assert not list((tmp_path / "cache").glob("snapshots/*"))
    code, complaint = damaged.run("pull", revision, str(tmp_path / "by-command"))
    assert (code, pack in complaint, "fsck" in complaint) == (8, True, True)

    assert damaged.hub.show(revision).metadata.title == revision
    assert len(damaged.hub.log(MOOD)) == 3
    for older in (f"{MOOD}@1", f"{MOOD}@2"):
        assert pulled(older) == files_of(older)
    damaged.flip_in_pack(revision, offset + position)
    assert pulled(revision) == files_of(revision)


def test_a_version_without_the_damaged_chunk_can_follow(
    damaged: Damaged, pulled: Pull, source: Path
) -> None:
    offset = damaged.chunk(f"{MOOD}@3", "weights.bin").offset
    damaged.flip_in_pack(f"{MOOD}@3", offset)
    assert damaged.hub.push(MOOD, source).number == 4
    assert pulled(f"{MOOD}@4") == {"weights.bin": b"new" * 99, "vocabulary.txt": VOCABULARY}


def test_a_damaged_chunk_is_whole_again_once_its_pack_is_restored_as_fsck_says(
    damaged: Damaged, pulled: Pull
) -> None:
    pack = damaged.pack(f"{MOOD}@1")
    backup = pack.read_bytes()
    damaged.flip_in_pack(f"{MOOD}@1", damaged.chunk(f"{MOOD}@1", "vocabulary.txt").offset)
    assert "backup" in damaged.hub.fsck().findings[0].repair
    pack.write_bytes(backup)
    assert not damaged.findings()
    assert pulled(f"{MOOD}@1")["vocabulary.txt"] == VOCABULARY


def test_a_missing_pack_is_named_and_its_version_not_served(
    damaged: Damaged, pulled: Pull, source: Path
) -> None:
    revision, pack = f"{MOOD}@3", damaged.pack(f"{MOOD}@3")
    pack.unlink()
    for data in (True, False):
        assert damaged.findings(data=data) == {
            ("pack-missing", f"pack {pack.name} (used by {MOOD})"),
            ("manifest-damaged", revision),
        }
    for act in (pulled, damaged.hub.snapshot, damaged.hub.files):
        refused(CorruptData, lambda act=act: act(revision), pack.name)  # type: ignore[misc]
    assert damaged.hub.show(revision).number == 3
    assert pulled(f"{MOOD}@2") == files_of(f"{MOOD}@2")
    assert damaged.hub.push(MOOD, source).number == 4
    assert pulled(f"{MOOD}@4")["weights.bin"] == b"new" * 99


@pytest.mark.parametrize("size", [0, 20, 1000, 2500, -200, -1, 7])
def test_a_pack_of_the_wrong_length_is_named_and_served_only_where_it_is_right(
    damaged: Damaged, pulled: Pull, size: int
) -> None:
    """Cut to ``size`` bytes, or by that many; the last case appends instead."""
    revision, pack = f"{MOOD}@3", damaged.pack(f"{MOOD}@3")
    whole = pack.read_bytes()
    pack.write_bytes(whole + b"more" if size == 7 else whole[:size])
    for data in (True, False):
        named = damaged.findings(data=data)
        assert ("pack-damaged", f"pack {pack.name} (used by {MOOD})") in named
    needed = damaged.manifest(revision)
    if pack.stat().st_size >= needed.offset + needed.length:
        assert pulled(revision) == files_of(revision)
    else:
        assert ("manifest-damaged", revision) in named
        refused(CorruptData, lambda: pulled(revision), pack.name)


@pytest.mark.parametrize("position", [-1, -20, -60, -100, -150, -250, 3])
def test_a_damaged_trailer_is_named_and_needed_by_no_reader(
    damaged: Damaged, pulled: Pull, position: int
) -> None:
    """From its end: magic, hash, footer, records; and the magic at its start."""
    revision = f"{MOOD}@3"
    damaged.flip_in_pack(revision, position)
    pack = damaged.pack(revision).name
    assert damaged.findings() == {("pack-damaged", f"pack {pack} (used by {MOOD})")}
    assert pulled(revision) == files_of(revision)


@pytest.mark.parametrize("position", [0, 1500, -1])
def test_a_damaged_manifest_is_named_and_nothing_is_read_by_it(
    damaged: Damaged,
    pulled: Pull,
    source: Path,
    tmp_path: Path,
    position: int,
) -> None:
    revision, place = f"{MOOD}@3", damaged.manifest(f"{MOOD}@3")
    damaged.flip_in_pack(revision, place.offset + position % place.length)
    assert ("manifest-damaged", revision) in damaged.findings(data=False)
    assert {kind for kind, _ in damaged.findings()} == {"manifest-damaged", "chunk-damaged"}
    for act in (pulled, damaged.hub.snapshot, damaged.hub.files):
        refused(CorruptData, lambda act=act: act(revision), place.pack)  # type: ignore[misc]
    refused(CorruptData, lambda: damaged.hub.diff(f"{MOOD}@2", revision), place.pack)
    assert not (tmp_path / "pulled" / revision).exists()
    assert damaged.hub.show(revision).metadata.title == revision
    assert damaged.hub.push(MOOD, source).number == 4
    assert pulled(f"{MOOD}@4")["vocabulary.txt"] == VOCABULARY


def test_a_sound_pack_in_the_place_of_another_is_named(
    damaged: Damaged, pulled: Pull, tmp_path: Path
) -> None:
    """As long, and with the same manifest, but other weights."""
    pack, place = damaged.pack(f"{INTACT}@1"), damaged.manifest(f"{INTACT}@1")
    content = pack.read_bytes()[place.offset :][: place.length]
    forged = PackWriter(LocalWeights(tmp_path / "forged"), pack.name)
    for data in (bytes(2000), content):
        forged.add(blake3(data).digest(), data)
    assert forged.finish() == pack.stat().st_size
    shutil.copy(tmp_path / "forged" / pack_path(pack.name), pack)
    refused(CorruptData, lambda: pulled(f"{INTACT}@1"), pack.name)
    assert any(pack.name in subject for _, subject in damaged.findings())


# --- the log -----------------------------------------------------------------------------------


def test_no_bit_of_the_newest_log_row_turns_round_unnoticed(damaged: Damaged) -> None:
    key = keys.log(MOOD, 3)
    whole = damaged.get("log", key)
    for position in range(len(whole)):
        damaged.flip("log", key, position)
        refused(CorruptData, lambda: damaged.hub.show(f"{MOOD}@1"), f"entry 3 of {MOOD}'s log")
        damaged.put("log", key, whole)
    assert damaged.hub.show(MOOD).number == 3


def test_a_model_with_a_damaged_head_is_named_and_left_alone(
    damaged: Damaged, source: Path, tmp_path: Path
) -> None:
    hub = damaged.hub
    damaged.flip("log", keys.log(MOOD, 3))
    assert ("log-damaged", f"{MOOD} entry 3") in damaged.findings()
    acts: list[Callable[[], object]] = [
        *(lambda act=act: act(MOOD) for act in (hub.show, hub.files, hub.log, hub.snapshot)),
        *(lambda act=act: act(f"{MOOD}@1") for act in (hub.delete, hub.undelete, hub.verify)),
        lambda: hub.pull(f"{MOOD}@1", tmp_path / "pulled"),
        lambda: hub.diff(f"{INTACT}@1", MOOD),
        lambda: hub.edit(MOOD, title="new"),
        lambda: hub.push(MOOD, source),
        lambda: hub.push(INTACT, source, bases=[MOOD]),
    ]
    for act in acts:
        refused(CorruptData, act, f"entry 3 of {MOOD}'s log")
    assert not (tmp_path / "pulled").exists()
    code, complaint = damaged.run("log", MOOD)
    assert (code, MOOD in complaint) == (8, True)
    assert [model.name for model in hub.list()] == sorted(COUNTS)
    assert damaged.sql("SELECT count(*) FROM log") == [(sum(COUNTS.values()),)]


@pytest.mark.parametrize("hurt", [Damaged.flip, Damaged.delete])
def test_a_damaged_row_far_below_the_head_hides_what_needs_it_alone(
    damaged: Damaged,
    pulled: Pull,
    source: Path,
    hurt: Callable[[Damaged, str, bytes], None],
) -> None:
    hurt(damaged, "log", keys.log(LONG, 5))
    assert any(subject.startswith(f"{LONG} entry") for _, subject in damaged.findings())
    for act in (damaged.hub.show, pulled, damaged.hub.snapshot):
        refused(CorruptData, lambda act=act: act(f"{LONG}@5"), LONG)  # type: ignore[misc]
    refused(CorruptData, lambda: damaged.hub.log(LONG), LONG)
    assert len(damaged.hub.log(LONG, limit=34)) == 34
    for revision in (f"{LONG}@4", f"{LONG}@6", f"{LONG}@40"):
        assert pulled(revision) == files_of(revision)
    assert damaged.hub.push(LONG, source).number == 41


@pytest.mark.parametrize("seq", [1, 2])
def test_a_row_that_is_not_there_breaks_the_log(damaged: Damaged, seq: int) -> None:
    damaged.delete("log", keys.log(MOOD, seq))
    assert damaged.findings() == {("log-broken", f"{MOOD} entry {seq + 1}")}
    for act in (damaged.hub.show, damaged.hub.log, damaged.hub.files):
        refused(CorruptData, lambda act=act: act(MOOD), f"the log of {MOOD}")  # type: ignore[misc]


@pytest.mark.parametrize(
    ("seq", "name", "its_seq"),
    [
        *((1, LONG, 1), (2, LONG, 2), (3, LONG, 3)),
        *((1, MOOD, 2), (2, MOOD, 1), (2, MOOD, 3), (3, MOOD, 2)),
    ],
)
def test_another_valid_entry_in_a_rows_place_is_not_taken_for_it(
    damaged: Damaged, seq: int, name: str, its_seq: int
) -> None:
    damaged.put("log", keys.log(MOOD, seq), damaged.get("log", keys.log(name, its_seq)))
    assert any(subject.startswith(f"{MOOD} entry") for _, subject in damaged.findings())
    for act in (damaged.hub.show, damaged.hub.log, damaged.hub.files):
        refused(CorruptData, lambda act=act: act(MOOD), f"the log of {MOOD}")  # type: ignore[misc]


def test_a_newest_row_that_is_not_there_is_missed(damaged: Damaged, source: Path) -> None:
    damaged.delete("log", keys.log(MOOD, 3))
    errors = [found for found in damaged.hub.fsck().findings if found.severity == "error"]
    assert any(MOOD in found.subject for found in errors)


def test_another_models_only_entry_is_not_served_under_this_name(damaged: Damaged) -> None:
    for seq in (2, 3):
        damaged.delete("log", keys.log(MOOD, seq))
    damaged.put("log", keys.log(MOOD, 1), damaged.get("log", keys.log(INTACT, 1)))
    refused(CorruptData, lambda: damaged.hub.files(MOOD), MOOD)


def test_a_damaged_key_is_named(damaged: Damaged) -> None:
    key = keys.log(MOOD, 1)
    damaged.sql("UPDATE log SET key = ? WHERE key = ?", key.replace(b"\0", b"\1"), key)
    assert any(MOOD in subject for _, subject in damaged.findings())


def test_a_damaged_database_is_named(damaged: Damaged, tmp_path: Path) -> None:
    folder = shutil.copytree(damaged.folder, tmp_path / "other")
    with (folder / "rows.sqlite").open("r+b") as file:
        file.write(bytes(16))
    with modelhub.connect(folder) as hub:
        for act in (hub.list, hub.fsck, hub.sweep, lambda: hub.show(MOOD)):
            with pytest.raises(CorruptData, match=r"rows\.sqlite is damaged") as caught:
                act()
            assert "backup" in caught.value.remedy


# --- metadata ----------------------------------------------------------------------------------


def flipped(damaged: Damaged) -> None:
    damaged.flip("metadata", damaged.metadata(f"{MOOD}@3"))


def deleted(damaged: Damaged) -> None:
    damaged.delete("metadata", damaged.metadata(f"{MOOD}@3"))


def exchanged(damaged: Damaged) -> None:
    other = damaged.get("metadata", damaged.metadata(f"{MOOD}@2"))
    damaged.put("metadata", damaged.metadata(f"{MOOD}@3"), other)


@pytest.mark.parametrize("hurt", [flipped, deleted, exchanged])
def test_damaged_metadata_is_named_and_not_shown(
    damaged: Damaged,
    pulled: Pull,
    source: Path,
    hurt: Callable[[Damaged], None],
) -> None:
    revision, hub = f"{MOOD}@3", damaged.hub
    hurt(damaged)
    assert damaged.findings() == {("metadata-damaged", revision)}
    assert [found.kind for found in hub.verify(revision).findings] == ["metadata-damaged"]
    acts: list[Callable[[], object]] = [
        lambda: hub.show(revision),
        lambda: hub.diff(f"{MOOD}@2", revision),
        lambda: hub.delete(revision),
    ]
    for act in acts:
        refused(CorruptData, act, f"the metadata of {revision}")
    assert pulled(revision) == files_of(revision)
    assert hub.show(f"{MOOD}@2").metadata.title == f"{MOOD}@2"
    assert [entry.number for entry in hub.log(MOOD)] == [3, 2, 1]


@pytest.mark.parametrize("hurt", [flipped, deleted, exchanged])
def test_damaged_metadata_of_the_head_keeps_nobody_from_pushing(
    damaged: Damaged,
    source: Path,
    hurt: Callable[[Damaged], None],
    rest_is_sound: None,
) -> None:
    hub = damaged.hub
    hurt(damaged)
    assert hub.push(MOOD, source, title="the next one").number == 4
    assert [hit.number for hit in hub.search('"the next one"').hits] == [4]
    status = hub.status()
    assert status.search_lag is not None
    assert status.search_lag.changes == 1
    settle = Hub(Context(hub._ctx.stores, "sweeper", IMPATIENT), address="", cache=Path("unused"))
    refused(CorruptData, settle.sweep, f"the metadata of {MOOD}@3")
    hub.edit(f"{MOOD}@3", title="written again")
    settle.sweep()
    assert not damaged.findings()
    assert {hit.number for hit in hub.search('"written again"', all_versions=True).hits} == {3}


def test_an_edit_repairs_damaged_metadata_as_fsck_says(damaged: Damaged) -> None:
    flipped(damaged)
    assert "edit" in damaged.hub.fsck().findings[0].repair
    damaged.hub.edit(f"{MOOD}@3", title="written again")
    assert damaged.hub.show(MOOD).metadata.title == "written again"
    assert not damaged.findings()
