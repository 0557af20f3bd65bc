"""What weights in files promise beyond the contract: durability, full disks, crashes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from modelhub.backends.files import LocalWeights
from modelhub.errors import (
    AlreadyExists,
    Forbidden,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    Unavailable,
)
from modelhub.testing.contracts.weights import PATH, write


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "new" / "hub"


@pytest.fixture
def store(root: Path) -> LocalWeights:
    return LocalWeights(root)


def failing(code: int) -> Callable[..., int]:
    def call(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    return call


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What was synced, in order, by the name that it had then."""
    paths: list[Path] = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        paths.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    return paths


def test_a_commit_syncs_the_file_and_every_folder_that_leads_to_it(
    store: LocalWeights, root: Path, synced: list[Path]
) -> None:
    writer = store.create("packs/ab/cd/one")
    writer.write(b"data")
    synced.clear()
    writer.commit()
    folder = root / "packs/ab/cd"
    assert synced[0] == folder / "one"
    assert {*synced[1:]} == {folder, folder.parent, root / "packs", root}


def test_folders_that_another_process_made_are_synced_too(
    store: LocalWeights, root: Path, synced: list[Path]
) -> None:
    (root / "packs/ab").mkdir(parents=True)
    write(store, "packs/ab/one", b"data")
    assert {root / "packs/ab", root / "packs", root} <= {*synced}


def test_a_move_is_durable_under_its_new_name_before_the_old_one_goes(
    store: LocalWeights, root: Path, synced: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(store, PATH, b"data")
    synced.clear()
    unlink = Path.unlink

    def checked(path: Path, **options: bool) -> None:
        assert root / "trash" in synced
        synced.clear()
        unlink(path, **options)

    monkeypatch.setattr(Path, "unlink", checked)
    store.move(PATH, "trash/one")
    assert synced == [(root / PATH).parent]


def test_short_writes_lose_nothing(
    store: LocalWeights, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os_write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: os_write(fd, data[:7]))
    data = bytes(range(256)) * 5
    assert write(store, PATH, data, memoryview(data)) == 2 * len(data)
    assert (root / PATH).read_bytes() == 2 * data


@pytest.mark.parametrize(
    ("code", "message"), [(errno.ENOSPC, "is full"), (errno.EDQUOT, "is over its quota")]
)
def test_a_full_disk_is_named_and_the_space_of_what_was_written_is_freed(
    store: LocalWeights,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    message: str,
) -> None:
    writer = store.create(PATH)
    writer.write(b"half")
    monkeypatch.setattr(os, "write", failing(code))
    with pytest.raises(Unavailable, match=message) as raised:
        writer.write(b"and half")
    assert str(root) in raised.value.message
    assert "space" in raised.value.remedy
    with pytest.raises(Unavailable):
        writer.commit()
    assert list(store.list("")) == []


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_file_that_cannot_be_synced_has_an_unknown_outcome(
    store: LocalWeights, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    writer = store.create(PATH)
    writer.write(b"data")
    monkeypatch.setattr(os, "fsync", failing(code))
    with pytest.raises(OutcomeUnknown, match="Pack_1"):
        writer.commit()
    writer.abort()
    assert store.read(PATH, 0, 10) == b"data"


def test_a_move_or_removal_that_cannot_be_synced_has_an_unknown_outcome(
    store: LocalWeights, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(store, PATH, b"data")
    monkeypatch.setattr(os, "fsync", failing(errno.EIO))
    with pytest.raises(OutcomeUnknown, match="trash/one"):
        store.move(PATH, "trash/one")
    with pytest.raises(OutcomeUnknown, match="Pack_1"):
        store.remove(PATH)


def test_giving_up_after_the_commit_changes_nothing(store: LocalWeights) -> None:
    writer = store.create(PATH)
    writer.write(b"data")
    writer.commit()
    writer.abort()
    assert store.read(PATH, 0, 10) == b"data"


def test_giving_up_frees_the_space(store: LocalWeights) -> None:
    writer = store.create(PATH)
    writer.write(b"data")
    writer.abort()
    assert store.size(PATH) is None


def test_a_move_that_crashed_between_its_steps_is_finished_by_the_next(
    store: LocalWeights, root: Path
) -> None:
    write(store, PATH, b"data")
    (root / "trash").mkdir()
    (root / "trash/one").hardlink_to(root / PATH)
    store.move(PATH, "trash/one")
    assert [info.path for info in store.list("")] == ["trash/one"]
    assert store.read("trash/one", 0, 10) == b"data"


def test_two_that_move_one_file_at_once_lose_nothing(store: LocalWeights) -> None:
    for number in range(50):
        write(store, f"packs/{number}", b"data")

        def move(target: str, source: str = f"packs/{number}") -> None:
            with suppress(NotFound):
                store.move(source, target)

        with ThreadPoolExecutor(3) as pool:
            list(pool.map(move, [f"trash/{number}-a", f"trash/{number}-b", f"trash/{number}-a"]))
        assert store.size(f"packs/{number}") is None
        assert {store.size(f"trash/{number}-{name}") for name in "ab"} >= {4}


def test_files_that_no_path_can_name_are_left_out_of_lists(store: LocalWeights, root: Path) -> None:
    write(store, PATH, b"data")
    for name in ("copy of a pack", "packs/ab/été", "packs/lost+found/x"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"strange")
    assert [info.path for info in store.list("")] == [PATH]


def test_a_file_that_goes_while_the_folder_is_read_is_left_out(
    store: LocalWeights, root: Path
) -> None:
    for number in range(10):
        write(store, f"packs/{number}", b"data")
    listed = store.list("packs")
    first = next(listed)
    for number in range(10):
        store.remove(f"packs/{number}")
    assert [first.path, *(info.path for info in listed)] == [first.path]


def test_reading_a_folder_that_does_not_exist_makes_nothing(
    store: LocalWeights, tmp_path: Path
) -> None:
    assert list(store.list("")) == []
    assert store.size(PATH) is None
    with pytest.raises(NotFound):
        store.read(PATH, 0, 1)
    with pytest.raises(NotFound):
        store.move(PATH, "trash/one")
    store.remove(PATH)
    assert store.describe()["bytes"] == 0
    assert list(tmp_path.iterdir()) == []


def test_a_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InvalidInput, match="is no folder"):
            LocalWeights(root).create(PATH)


def test_a_file_where_a_folder_should_be_takes_the_name(store: LocalWeights) -> None:
    write(store, "packs/ab", b"data")
    with pytest.raises(AlreadyExists):
        store.create("packs/ab/cd")
    with pytest.raises(AlreadyExists):
        store.create("packs")


def test_a_folder_of_somebody_else_is_forbidden(
    as_nobody: Callable[[Callable[[], object]], object], shared_folder: Path
) -> None:
    store = LocalWeights(shared_folder)
    write(store, "packs/one", b"data")
    (shared_folder / "packs/one").chmod(0o400)
    calls: list[Callable[[], object]] = [
        lambda: store.create("packs/two"),
        lambda: store.move("packs/one", "packs/two"),
        lambda: store.remove("packs/one"),
    ]
    (shared_folder / "packs").chmod(0o555)
    for call in calls:
        with pytest.raises(Forbidden, match="packs") as raised:
            as_nobody(call)
        assert "permission" in raised.value.remedy
    (shared_folder / "packs").chmod(0o000)
    for call in (lambda: store.read("packs/one", 0, 1), lambda: list(store.list(""))):
        with pytest.raises(Forbidden, match="packs"):
            as_nobody(call)
    (shared_folder / "packs").chmod(0o755)
    assert store.read("packs/one", 0, 10) == b"data"
