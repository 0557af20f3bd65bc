"""A full disk: nothing half-done is kept, nothing that was there is lost, and room is the cure."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner

import modelhub
from modelhub.backends import filesystem
from modelhub.backends.memory import MemoryRows, MemorySearch, MemoryWeights
from modelhub.cli.app import app
from modelhub.coordinator import keys
from modelhub.coordinator.context import Context, Stores
from modelhub.errors import Unavailable
from modelhub.hub import Hub
from modelhub.testing.crashes import no_pause
from tests.coordinator.conftest import MOOD, refused

MIB = 1 << 20


class Disk:
    """A file system in memory, of 8 MiB at first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def grow(self) -> None:
        mount(self.folder, "remount,size=64m")

    def fill(self, *, room: int) -> None:
        """Leave so many bytes free, rounded down to whole pages."""
        free = shutil.disk_usage(self.folder).free
        with self._filler.open("ab") as file:
            os.posix_fallocate(file.fileno(), file.tell(), free - room)

    def clear(self) -> None:
        self._filler.unlink()


def mount(folder: Path, options: str) -> None:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", os.fspath(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    if shutil.which("mount") is None:
        pytest.skip("there is no mount command here")
    monkeypatch.setenv("MODELHUB_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "disk"
    folder.mkdir()
    mount(folder, "size=8m")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", os.fspath(folder)], check=True)


@pytest.fixture
def hub(disk: Disk) -> Iterator[Hub]:
    """A hub on the small disk, with one version."""
    with modelhub.connect(disk.folder / "hub") as hub:
        hub.push(MOOD, model(disk.folder.parent / "first", MIB))
        yield hub


def model(folder: Path, *sizes: int) -> Path:
    """Files of random bytes, named in the order of ``sizes``."""
    folder.mkdir()
    for number, size in enumerate(sizes, 1):
        data = random.Random(f"{folder.name} {number}").randbytes(size)
        (folder / f"{number}.bin").write_bytes(data)
    return folder


def same(one: Path, other: Path) -> bool:
    return {path.name: path.read_bytes() for path in one.iterdir()} == {
        path.name: path.read_bytes() for path in other.iterdir()
    }


def test_a_push_to_a_full_disk_says_so_and_succeeds_once_there_is_room(
    hub: Hub, disk: Disk, tmp_path: Path
) -> None:
    large, free = model(tmp_path / "large", 3 * MIB, 9 * MIB), shutil.disk_usage(disk.folder).free
    error = refused(Unavailable, lambda: hub.push(MOOD, large), str(disk.folder)[:40], "full")
    assert "space" in error.remedy
    result = CliRunner().invoke(app, ["--hub", str(disk.folder / "hub"), "push", MOOD, str(large)])
    assert (result.exit_code, "full" in result.stderr) == (6, True)

    assert hub.show(MOOD).number == 1
    assert same(hub.pull(MOOD, tmp_path / "pulled"), tmp_path / "first")
    assert len(hub.log(MOOD)) == 1
    assert not hub.fsck().findings
    assert shutil.disk_usage(disk.folder).free > free - MIB, "a part of the pack was left"

    disk.grow()
    assert hub.push(MOOD, large).number == 2
    assert same(hub.pull(MOOD, tmp_path / "pulled-2"), large)
    hub.sweep()
    assert not hub.fsck().findings


@pytest.mark.parametrize("pages", [0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64])
def test_a_change_that_the_rows_have_no_room_for_is_made_whole_or_not_at_all(
    hub: Hub, disk: Disk, tmp_path: Path, pages: int
) -> None:
    """The disk fills up at one step after another: pack, intent, commit, hints, search."""
    small = model(tmp_path / "small", 5000)
    disk.fill(room=pages * 4096)
    number = 1
    with suppress(Unavailable):
        number = hub.push(MOOD, small, request_id="once").number
    assert hub.show(MOOD).number == number
    assert [entry.number for entry in hub.log(MOOD)] == [*range(number, 0, -1)]
    assert same(hub.pull(f"{MOOD}@1", tmp_path / "pulled"), tmp_path / "first")
    with suppress(Unavailable):
        hub.edit(MOOD, title="changed in want of room")
    disk.clear()

    assert hub.push(MOOD, small, request_id="once").number == 2
    assert hub.edit(MOOD, title="changed").number == 2
    assert same(hub.pull(MOOD, tmp_path / "pulled-2"), small)
    hub.sweep()
    assert hub.search("changed").total == 1
    assert not hub.fsck().findings


@pytest.mark.parametrize("table", [keys.PACKS, keys.LOG])
def test_a_push_says_which_disk_is_full_wherever_it_finds_out(tmp_path: Path, table: str) -> None:
    class FullRows(MemoryRows):
        def check_and_put(self, to: str, key: bytes, expected: bytes | None, value: bytes) -> bool:
            if to == table:
                raise filesystem.full(tmp_path / "rows.sqlite")
            return super().check_and_put(to, key, expected, value)

    ctx = Context(Stores(MemoryWeights(), FullRows(), MemorySearch()), "tester", pause=no_pause)
    hub, small = Hub(ctx, address="full", cache=tmp_path), model(tmp_path / "small", 5000)
    refused(Unavailable, lambda: hub.push(MOOD, small), "rows.sqlite is full")


def test_a_hub_that_found_no_room_is_made_later(disk: Disk, tmp_path: Path) -> None:
    small = model(tmp_path / "small", 5000)
    for pages in (0, 2, 8, 20, 40, 80):
        disk.fill(room=pages * 4096)
        with modelhub.connect(disk.folder / "hub") as hub, suppress(Unavailable):
            hub.init()
        disk.clear()
    with modelhub.connect(disk.folder / "hub") as hub:
        assert hub.push(MOOD, small).number == 1
        assert not hub.fsck().findings


@pytest.fixture
def elsewhere(tmp_path: Path, disk: Disk) -> Iterator[Hub]:
    """A hub with room, whose version is too large for the small disk."""
    del disk
    with modelhub.connect(tmp_path / "hub") as hub:
        hub.push(MOOD, model(tmp_path / "large", 3 * MIB, 4 * MIB, 5 * MIB))
        yield hub


def test_a_pull_to_a_full_disk_goes_on_where_it_stopped(
    elsewhere: Hub, disk: Disk, tmp_path: Path
) -> None:
    dest, told = disk.folder / "copy", list[int]()
    error = refused(Unavailable, lambda: elsewhere.pull(MOOD, dest), str(dest)[:40], "full")
    assert "again" in error.remedy
    assert {path.name for path in dest.glob("*.bin")} == {"1.bin", "2.bin"}
    for name in ("1.bin", "2.bin"):
        assert (dest / name).read_bytes() == (tmp_path / "large" / name).read_bytes()

    disk.grow()
    elsewhere.pull(MOOD, dest, progress=lambda _phase, done, _total: told.append(done))
    assert told[0] == 7 * MIB
    assert told[1] > 8 * MIB, "what there was of the third file was fetched again"
    assert same(dest, tmp_path / "large")


def test_a_snapshot_in_a_full_cache_is_not_there_until_it_is_whole(
    elsewhere: Hub, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = disk.folder / "cache"
    monkeypatch.setenv("MODELHUB_CACHE", str(cache))
    with modelhub.connect(tmp_path / "hub") as hub:
        refused(Unavailable, lambda: hub.snapshot(MOOD), str(cache)[:40], "full")
        assert not list(cache.glob("snapshots/*"))
        disk.grow()
        assert same(hub.snapshot(MOOD), tmp_path / "large")
