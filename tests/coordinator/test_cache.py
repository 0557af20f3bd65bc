"""The local cache: shared files, a limit, life without stores, and death at any moment."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import modelhub
from modelhub.coordinator import cache as cache_module
from modelhub.coordinator import cache_room
from modelhub.coordinator.cache import Cache
from modelhub.coordinator.cache_room import KEPT_S
from modelhub.coordinator.locks import locked
from modelhub.errors import Forbidden, InvalidInput, NotFound, Unavailable
from modelhub.hub import Hub

KB = 1000
Push = Callable[..., str]
Limited = Callable[[int], Hub]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MODELHUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MODELHUB_OFFLINE", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def hub(cache: Path, tmp_path: Path) -> Iterator[Hub]:
    with modelhub.connect(tmp_path / "hub") as hub:
        yield hub


@pytest.fixture
def push(hub: Hub, tmp_path: Path) -> Push:
    """Pushes files of so many bytes, which their names and sizes decide; returns the revision."""

    def push(name: str, **sizes: int) -> str:
        folder = tmp_path / "source"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for file, size in sizes.items():
            (folder / file).write_bytes(content(file, size))
        return f"{name}@{hub.push(name, folder, policy='fast').number}"

    return push


@pytest.fixture
def limited(hub: Hub, cache: Path) -> Limited:
    """The same hub with a cache that may hold so many bytes."""
    return lambda limit: Hub(hub._ctx, address="test", cache=Cache(cache, limit_bytes=limit))


def content(file: str, size: int) -> bytes:
    return np.random.default_rng([size, *file.encode()]).bytes(size)


def long_ago(path: Path, hours: float = 24) -> Path:
    """Make it look as if it was used or written so long ago."""
    at = time.time() - hours * 3600
    for each in [path, *path.rglob("*")]:
        os.utime(each, (at, at))
    return path


def names(cache: Path) -> set[str]:
    return {path.name for path in (cache / "snapshots").glob("*")}


def disk_bytes(folder: Path) -> int:
    found = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return sum({each.st_ino: each.st_size for each in found}.values())


# --- one file, however many snapshots have it --------------------------------------------------


def test_equal_files_of_all_snapshots_are_one_file(hub: Hub, push: Push, cache: Path) -> None:
    first, second = push("nlp.a", same=90 * KB, own=KB), push("nlp.b", same=90 * KB, other=KB)
    one, other = hub.snapshot(first), hub.snapshot(second)
    some = hub.snapshot(second, include=["same"])
    shared = {folder / "same" for folder in (one, other, some)}
    assert len(shared) == 3
    assert len({path.stat().st_ino for path in shared}) == 1
    assert disk_bytes(cache / "snapshots") == 92 * KB
    for folder, path, size in [(one, "own", KB), (other, "other", KB), (some, "same", 90 * KB)]:
        assert (folder / path).read_bytes() == content(path, size)
    assert [path.name for path in some.iterdir()] == ["same"]


def test_files_that_differ_in_mode_alone_are_two(hub: Hub, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "model").mkdir()
    (script := tmp_path / "model" / "run.sh").write_text("true")
    for mode in (0o755, 0o644):
        script.chmod(mode)
        hub.push("nlp.x", tmp_path / "model")
    modes = [
        (hub.snapshot(revision) / "run.sh").stat().st_mode & 0o777
        for revision in ("nlp.x@1", "nlp.x@2", "nlp.x@1")
    ]
    assert modes == [0o555, 0o444, 0o555]


def test_what_is_shared_is_not_read_from_the_hub_again(
    hub: Hub, push: Push, tmp_path: Path
) -> None:
    hub.snapshot(push("nlp.a", same=90 * KB))
    told: list[tuple[int, int]] = []
    revision = push("nlp.b", same=90 * KB, new=10 * KB)
    hub.snapshot(revision, progress=lambda _, done, total: told.append((done, total)))
    assert told[0] == (90 * KB, 100 * KB)
    assert told[-1] == (100 * KB, 100 * KB)


def test_a_file_that_somebody_wrote_to_is_given_to_nobody_else(
    hub: Hub, push: Push, cache: Path
) -> None:
    file = hub.snapshot(push("nlp.a", same=90 * KB)) / "same"
    file.chmod(0o644)
    file.write_bytes(bytes(90 * KB))
    other = hub.snapshot(push("nlp.b", same=90 * KB, new=KB)) / "same"
    assert other.read_bytes() == content("same", 90 * KB)
    assert other.stat().st_mode & 0o777 == 0o444


def test_without_hard_links_each_snapshot_has_files_of_its_own(
    hub: Hub, push: Push, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(source: object, target: object) -> None:
        raise PermissionError(1, "Operation not permitted", source, None, target)

    monkeypatch.setattr(os, "link", no_links)
    for name in ("nlp.a", "nlp.b"):
        folder = hub.snapshot(push(name, same=90 * KB, **{name: KB}))
        assert (folder / "same").read_bytes() == content("same", 90 * KB)
    assert disk_bytes(cache) >= 182 * KB


def test_files_are_mapped_into_memory_where_they_lie(hub: Hub, tmp_path: Path) -> None:
    array = np.arange(50_000, dtype=np.float32)
    (tmp_path / "model").mkdir()
    save_file({"w": array}, tmp_path / "model" / "model.safetensors")
    array.tofile(tmp_path / "model" / "raw.bin")
    hub.push("nlp.x", tmp_path / "model")
    folder = hub.snapshot("nlp.x")
    mapped = np.memmap(folder / "raw.bin", dtype=np.float32, mode="r")
    np.testing.assert_array_equal(mapped, array)
    with safe_open(folder / "model.safetensors", framework="numpy") as tensors:
        np.testing.assert_array_equal(tensors.get_tensor("w"), array)


# --- the limit ---------------------------------------------------------------------------------


def test_what_was_used_longest_ago_goes_when_the_limit_is_reached(
    push: Push, limited: Limited, cache: Path
) -> None:
    hub = limited(250 * KB)
    revisions = [push("nlp.x", weights=100 * KB + index) for index in range(3)]
    first, second = (hub.snapshot(revision) for revision in revisions[:2])
    long_ago(first, hours=2)
    long_ago(second, hours=3)
    third = hub.snapshot(revisions[2])
    assert names(cache) == {first.name, third.name}
    assert disk_bytes(cache) <= 250 * KB
    assert hub.snapshot(revisions[0]) == first  # which also marks it as used
    long_ago(third, hours=2)
    assert hub.snapshot(revisions[1]) == second
    assert names(cache) == {first.name, second.name}
    assert (second / "weights").read_bytes() == content("weights", 100 * KB + 1)


def test_what_was_handed_out_within_the_hour_stays_beyond_the_limit(
    push: Push, limited: Limited, cache: Path
) -> None:
    hub = limited(0)
    folders = [hub.snapshot(push("nlp.x", weights=10 * KB + index)) for index in range(3)]
    assert names(cache) == {folder.name for folder in folders}
    long_ago(folders[0], hours=KEPT_S / 3600 - 0.1)
    long_ago(folders[1], hours=KEPT_S / 3600 + 0.1)
    hub.snapshot(push("nlp.x", weights=10 * KB + 3))
    assert folders[0].is_dir()
    assert not folders[1].exists()


def test_a_file_goes_with_the_last_snapshot_that_has_it(
    push: Push, limited: Limited, cache: Path
) -> None:
    hub = limited(250 * KB)
    one = hub.snapshot(push("nlp.a", shared=100 * KB, a=KB))
    two = hub.snapshot(push("nlp.b", shared=100 * KB, b=KB))
    inode = (one / "shared").stat().st_ino
    long_ago(one, hours=3)
    long_ago(two, hours=2)
    three = hub.snapshot(push("nlp.c", own=149 * KB))
    # Without the first one's own file there is room for all of it.
    assert names(cache) == {two.name, three.name}
    assert (two / "shared").stat().st_ino == inode
    long_ago(two, hours=2)
    long_ago(three, hours=1.5)
    hub.snapshot(push("nlp.d", own=101 * KB))
    assert two.name not in names(cache)
    assert 100 * KB not in {path.stat().st_size for path in cache.rglob("*")}


def test_what_is_open_or_mapped_stays_readable_when_it_goes(
    push: Push, limited: Limited, cache: Path
) -> None:
    hub = limited(150 * KB)
    folder = hub.snapshot(push("nlp.x", weights=100 * KB))
    mapped = np.memmap(folder / "weights", dtype=np.uint8, mode="r")
    with (folder / "weights").open("rb") as file:
        long_ago(folder)
        hub.snapshot(push("nlp.x", weights=101 * KB))
        assert not folder.exists()
        assert file.read() == mapped.tobytes() == content("weights", 100 * KB)


def test_without_a_limit_nothing_goes(hub: Hub, push: Push, cache: Path) -> None:
    folders = [long_ago(hub.snapshot(push("nlp.x", weights=100 * KB + n))) for n in range(3)]
    assert names(cache) == {folder.name for folder in folders}


def test_what_is_being_fetched_is_not_taken_away(push: Push, limited: Limited, cache: Path) -> None:
    hub = limited(0)
    inner: list[Path] = []
    other, revision = push("nlp.other", weights=KB), push("nlp.x", a=50 * KB, b=60 * KB)

    def meanwhile(_phase: str, done: int, total: int) -> None:
        if not inner and done > 50 * KB:
            for path in (cache / "building").iterdir():
                long_ago(path)
            inner.append(hub.snapshot(other))

    folder = hub.snapshot(revision, progress=meanwhile)
    assert inner
    for name, size in (("a", 50 * KB), ("b", 60 * KB)):
        assert (folder / name).read_bytes() == content(name, size)


def test_processes_that_fetch_and_take_away_at_once_hand_out_nothing_wrong(
    push: Push, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [{"shared": 40 * KB, "own": 10 * KB + index} for index in range(5)]
    revisions = [push("nlp.x", **each) for each in sizes]
    # Whoever looks takes everything away that it may, so that all get into each other's way.
    monkeypatch.setattr(cache_room, "KEPT_S", 0.0)
    monkeypatch.setattr(cache_module, "KEPT_S", 0.0)

    def child(seed: int) -> None:
        order, read = random.Random(seed), 0
        with modelhub.connect(tmp_path / "hub") as mine:
            limited = Hub(mine._ctx, address="h", cache=Cache(cache, limit_bytes=65 * KB))
            for _ in range(40):
                at = order.randrange(len(revisions))
                folder = limited.snapshot(revisions[at])
                for name, size in sizes[at].items():
                    with suppress(FileNotFoundError):
                        assert (folder / name).read_bytes() == content(name, size)
                        read += 1
        assert read

    processes = [
        multiprocessing.get_context("fork").Process(target=child, args=(n,)) for n in (1, 2, 3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    for folder in (cache / "snapshots").iterdir():
        (size,) = [each for each in sizes if each["own"] == (folder / "own").stat().st_size]
        check(folder, size)
    assert disk_bytes(cache / "snapshots") <= 90 * KB
    assert not list((cache / "building").iterdir())


# --- without the stores ------------------------------------------------------------------------


@pytest.fixture
def offline(hub: Hub, cache: Path, tmp_path: Path) -> Iterator[Hub]:
    """The same hub, offline."""
    with modelhub.connect(tmp_path / "hub", offline=True) as offline:
        yield offline


def test_a_snapshot_is_had_offline_by_each_name_that_it_had(
    hub: Hub, push: Push, offline: Hub, tmp_path: Path
) -> None:
    push("nlp.x", a=KB, b=KB)
    whole = hub.snapshot("nlp.x")
    some = hub.snapshot("nlp.x@main", include=["a"])
    hub.close()
    (tmp_path / "hub").rename(tmp_path / "gone")
    assert offline.snapshot("nlp.x") == offline.snapshot("nlp.x@1") == whole
    assert offline.snapshot("nlp.x@main", include=["a"]) == some
    assert offline.snapshot("nlp.x@1", include=["a"]) == some
    assert not (tmp_path / "hub").exists()


def test_offline_a_name_means_what_it_meant_last(hub: Hub, push: Push, offline: Hub) -> None:
    push("nlp.x", a=KB)
    first = hub.snapshot("nlp.x")
    push("nlp.x", a=2 * KB)
    assert offline.snapshot("nlp.x") == first
    second = hub.snapshot("nlp.x")
    assert offline.snapshot("nlp.x") == second != first
    assert offline.snapshot("nlp.x@1") == first


def test_what_is_not_in_the_cache_is_told_offline(
    hub: Hub, push: Push, offline: Hub, cache: Path
) -> None:
    folder = hub.snapshot(push("nlp.x", a=KB, b=KB))
    asked: list[tuple[str, list[str]]] = [("nlp.y", []), ("nlp.x@2", []), ("nlp.x@1", ["a"])]
    for revision, include in asked:
        with pytest.raises(NotFound) as refused:
            offline.snapshot(revision, include=include)
        for part in (revision, str(cache)[:40], *include):
            assert part in refused.value.message
        assert "MODELHUB_OFFLINE" in refused.value.remedy
    shutil.rmtree(folder)
    with pytest.raises(NotFound, match=r"nlp\.x@1"):
        offline.snapshot("nlp.x@1")
    with pytest.raises(InvalidInput):
        offline.snapshot("no name")


def test_a_record_that_cannot_be_read_is_none(
    hub: Hub, push: Push, offline: Hub, cache: Path
) -> None:
    revision = push("nlp.x", a=KB)
    folder = hub.snapshot(revision)
    (record,) = (cache / "revisions").iterdir()
    for damage in (b"", b'{"hub": 3}', record.read_bytes()[:-9]):
        record.write_bytes(damage)
        with pytest.raises(NotFound):
            offline.snapshot(revision)
    assert hub.snapshot(revision) == offline.snapshot(revision) == folder


def test_two_hubs_do_not_answer_for_each_other_offline(
    hub: Hub, push: Push, tmp_path: Path
) -> None:
    hub.snapshot(push("nlp.x", a=KB))
    with (
        modelhub.connect(tmp_path / "another", offline=True) as another,
        pytest.raises(NotFound),
    ):
        another.snapshot("nlp.x@1")


REFUSED: dict[str, Callable[[Hub, Path], object]] = {
    "lineage": lambda hub, _: hub.lineage("nlp.x"),
    "merge": lambda hub, _: hub.merge("nlp.x", "fix"),
    "rollback": lambda hub, _: hub.rollback("nlp.x", to=1),
    "restore": lambda hub, _: hub.restore("nlp.x@1", ["a"]),
    "protect": lambda hub, _: hub.protect("nlp.x"),
    "unprotect": lambda hub, _: hub.unprotect("nlp.x"),
    "alias set": lambda hub, _: hub.alias.set("nlp.x", "champion", "1"),
    "branch list": lambda hub, _: hub.branch.list("nlp.x"),
    "tag history": lambda hub, _: hub.tag.history("nlp.x", "v1"),
    "init": lambda hub, _: hub.init(),
    "push": lambda hub, folder: hub.push("nlp.x", folder),
    "edit": lambda hub, _: hub.edit("nlp.x", title="new"),
    "delete": lambda hub, _: hub.delete("nlp.x@1"),
    "undelete": lambda hub, _: hub.undelete("nlp.x@1"),
    "list": lambda hub, _: hub.list(),
    "show": lambda hub, _: hub.show("nlp.x"),
    "files": lambda hub, _: hub.files("nlp.x"),
    "log": lambda hub, _: hub.log("nlp.x"),
    "search": lambda hub, _: hub.search("x"),
    "diff": lambda hub, _: hub.diff("nlp.x", "nlp.x"),
    "pull": lambda hub, folder: hub.pull("nlp.x", folder / "copy"),
    "pull to a URL": lambda hub, _: hub.pull("nlp.x", "hdfs://nowhere:8020/x"),
    "export": lambda hub, folder: hub.export("nlp.x", folder),
    "open": lambda hub, _: hub.open("nlp.x", "a"),
    "tensors": lambda hub, _: hub.tensors("nlp.x"),
    "verify": lambda hub, _: hub.verify("nlp.x"),
    "fsck": lambda hub, _: hub.fsck(),
    "sweep": lambda hub, _: hub.sweep(),
    "reindex": lambda hub, _: hub.reindex(),
    "gc": lambda hub, _: hub.gc(),
    "purge": lambda hub, _: hub.purge("nlp.x@1"),
    "backup": lambda hub, folder: hub.backup(folder / "backup"),
    "recover": lambda hub, folder: hub.recover(folder / "backup"),
}


@pytest.mark.parametrize("verb", REFUSED)
def test_offline_every_other_verb_is_refused_at_once(
    push: Push, offline: Hub, tmp_path: Path, verb: str
) -> None:
    push("nlp.x", a=KB)
    with pytest.raises(Unavailable, match="offline") as refused:
        REFUSED[verb](offline, tmp_path / "source")
    assert "MODELHUB_OFFLINE" in refused.value.remedy
    assert [path.name for path in (tmp_path / "source").iterdir()] == ["a"]


def test_the_verbs_that_are_refused_offline_are_all_but_two() -> None:
    verbs = {name for name in vars(Hub) if not name.startswith("_")}
    assert verbs - {verb.split()[0] for verb in REFUSED} == {"snapshot", "status", "close"}


def test_offline_the_status_says_so_of_each_store(offline: Hub) -> None:
    for store in offline.status().stores.values():
        assert not store["reachable"]
        assert "offline" in store["error"]


def test_the_environment_asks_for_offline_and_an_argument_overrides_it(
    hub: Hub, push: Push, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = hub.snapshot(push("nlp.x", a=KB))
    monkeypatch.setenv("MODELHUB_OFFLINE", "1")
    with modelhub.connect(tmp_path / "hub") as offline:
        assert offline.snapshot("nlp.x@1") == folder
        with pytest.raises(Unavailable, match="offline"):
            offline.show("nlp.x")
    with modelhub.connect(tmp_path / "hub", offline=False) as online:
        assert online.show("nlp.x").number == 1


def test_offline_no_backend_is_opened(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for store, url in (("WEIGHTS", "hdfs://h/x"), ("ROWS", "hbase://h"), ("SEARCH", "http://h:1")):
        monkeypatch.setenv(f"MODELHUB_{store}", url)
    monkeypatch.delenv("MODELHUB_HOME")
    monkeypatch.setitem(sys.modules, "happybase", None)
    monkeypatch.setitem(sys.modules, "modelhub.backends.hbase_rows", None)
    with modelhub.connect(offline=True) as hub, pytest.raises(NotFound, match=r"nlp\.x"):
        hub.snapshot("nlp.x")


def test_offline_a_cache_that_may_not_be_written_is_enough(
    hub: Hub, push: Push, offline: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = hub.snapshot(push("nlp.x", a=KB))

    def denied(path: object) -> None:
        raise OSError(30, "Read-only file system", path)

    monkeypatch.setattr(os, "utime", denied)
    assert offline.snapshot("nlp.x@1") == folder


# --- death at any moment -----------------------------------------------------------------------


def check(folder: Path, sizes: dict[str, int]) -> None:
    assert {path.name for path in folder.iterdir()} == set(sizes)
    for name, size in sizes.items():
        assert (folder / name).read_bytes() == content(name, size)
        assert (folder / name).stat().st_mode & 0o222 == 0


def dying(at: int, act: Callable[[], object], cache: Path) -> bool:
    """Run ``act`` in a child that dies before its ``at``-th step in the cache; whether it did."""

    def child() -> None:
        steps = 0

        def hook(event: str, args: tuple[Any, ...]) -> None:
            nonlocal steps
            if event.startswith(("os.", "open", "shutil.", "fcntl.")) and any(
                isinstance(arg, (str, os.PathLike)) and str(cache) in os.fspath(arg) for arg in args
            ):
                steps += 1
                if steps == at:
                    os._exit(9)

        sys.addaudithook(hook)
        act()
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode in {0, 9}
    return process.exitcode == 9


def test_whoever_dies_leaves_nothing_half_and_the_next_call_finishes_it(
    hub: Hub, push: Push, cache: Path, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    old = {"shared": 30 * KB, "old": 20 * KB}
    new = {"shared": 30 * KB, "own": 10 * KB, "more": KB}
    push("nlp.a", **old)
    revision = push("nlp.b", **new)
    hub.snapshot("nlp.a")
    long_ago(cache / "snapshots")
    shutil.copytree(cache, tmp_path / "before", copy_function=os.link)

    def take(limit: int = 60 * KB) -> Path:
        with modelhub.connect(tmp_path / "hub") as mine:
            cached = Cache(cache, hub="h", limit_bytes=limit)
            return Hub(mine._ctx, address="h", cache=cached).snapshot(revision)

    at = 1
    while dying(at, take, cache):
        for folder in (cache / "snapshots").iterdir():
            check(folder, old if (folder / "old").exists() else new)
        with suppress(NotFound):
            recalled = Cache(cache, hub="h").recall(revision, [])
            check(recalled, new)
        taken = take()
        check(taken, new)
        assert names(cache) == {taken.name}
        check(Cache(cache, hub="h").recall(revision, []), new)
        assert not list((cache / "trash").glob("*"))
        assert not list((cache / "building").glob("*"))
        shutil.rmtree(cache)
        shutil.copytree(tmp_path / "before", cache, copy_function=os.link)
        long_ago(cache / "snapshots")
        at += 1
    figure(f"a snapshot that removes another one was killed before each of its {at - 1} steps")
    assert at > 30


def test_what_others_left_unfinished_goes_after_an_hour_and_not_while_it_is_worked_on(
    hub: Hub, push: Push, cache: Path
) -> None:
    revision = push("nlp.x", a=KB)
    building = cache / "building"
    for name in ("recent", "old", "held"):
        (building / name).mkdir(parents=True)
        (building / name / "half").write_bytes(b"half")
        (building / f"{name}.lock").touch()
    (building / "alone.lock").touch()
    for name in ("old", "old.lock", "held", "held.lock", "alone.lock"):
        long_ago(building / name, hours=1.1)
    with locked(building / "held.lock"):
        hub.snapshot(revision)
    left = {path.name for path in building.iterdir()}
    assert left == {"recent", "recent.lock", "held", "held.lock"}
    hub.snapshot(revision)
    assert {path.name for path in building.iterdir()} == {"recent", "recent.lock"}


def test_an_interrupted_snapshot_goes_on_where_it_stopped(
    hub: Hub, push: Push, cache: Path
) -> None:
    revision = push("nlp.x", a=50 * KB, b=60 * KB)

    def interrupt(_phase: str, done: int, _total: int) -> None:
        if done > 60 * KB:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hub.snapshot(revision, progress=interrupt)
    assert not names(cache)
    told: list[int] = []
    folder = hub.snapshot(revision, progress=lambda _, done, __: told.append(done))
    assert told[0] >= 50 * KB
    check(folder, {"a": 50 * KB, "b": 60 * KB})


def test_the_cache_or_any_part_of_it_may_be_deleted(hub: Hub, push: Push, cache: Path) -> None:
    revision = push("nlp.x", a=KB)
    folder = hub.snapshot(revision)
    for part in ("snapshots", "objects", "revisions", "lock", "building", "."):
        path = cache / part
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        assert hub.snapshot(revision) == folder
        check(folder, {"a": KB})


def test_a_cache_in_the_place_of_a_file_is_refused(
    push: Push, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = push("nlp.x", a=KB)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MODELHUB_CACHE", str(tmp_path / "file"))
    with (
        modelhub.connect(tmp_path / "hub") as hub,
        pytest.raises((modelhub.AlreadyExists, Forbidden)),
    ):
        hub.snapshot(revision)
    assert (tmp_path / "file").read_text() == "in the way"
