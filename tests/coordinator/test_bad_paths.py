"""Bad paths, and files that change while they are read: the named error, and nothing published.

What a test expects to fail for now is strict: it says so once that has come right.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import modelhub
from modelhub.content import windows
from modelhub.content.pack import new_pack_id
from modelhub.coordinator import storing
from modelhub.errors import Conflict, Forbidden, InvalidInput, ModelhubError, NotFound
from modelhub.hub import Hub
from tests.coordinator.conftest import MOOD, dump, hub_folder, push, refused

LONG = 40_000


# --- paths -------------------------------------------------------------------------------------


def fifo(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(path.relative_to(Path.cwd())))


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def link(path: Path) -> None:
    path.symlink_to("config.json")


def upward(path: Path) -> None:
    path.symlink_to("..")


def undecodable(path: Path) -> None:
    Path(os.fsdecode(os.fsencode(path.parent) + b"/\xff\xfe")).touch()


@pytest.mark.usefixtures("nothing_changes")
@pytest.mark.parametrize("make", [fifo, listening, loop, link, upward, undecodable])
def test_a_folder_with_something_else_in_it_is_refused(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "model" / "odd")
    about = "\\udcff\\udcfe" if make is undecodable else "odd"
    refused(InvalidInput, lambda: push(hub), about)
    if make not in {link, upward}:
        refused(InvalidInput, lambda: push(hub, follow_symlinks=True), about)
    if make is not undecodable:
        refused(InvalidInput, lambda: hub.push(MOOD, "model/odd"), about)
        if make in {link, loop, upward}:
            error = refused(InvalidInput, lambda: push(hub))
            assert "--follow-symlinks" in error.remedy


@pytest.mark.usefixtures("nothing_changes")
def test_a_path_that_holds_nothing_is_refused(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "empty" / "folder").mkdir(parents=True)
    (tmp_path / "model" / "dangling").symlink_to("nowhere")
    for path in (tmp_path / "nowhere", tmp_path / "model" / "config.json" / "below"):
        refused(NotFound, lambda path=path: hub.push(MOOD, path))  # type: ignore[misc]
    refused(NotFound, lambda: push(hub, follow_symlinks=True), "dangling")
    for path in (tmp_path / "empty", Path("/dev/null")):
        refused(InvalidInput, lambda path=path: hub.push(MOOD, path))  # type: ignore[misc]
    for text in ("", "a\0b"):
        refused(InvalidInput, lambda text=text: hub.push(MOOD, text))  # type: ignore[misc]


@pytest.mark.usefixtures("nothing_changes")
def test_a_path_that_is_too_long_is_refused(hub: Hub) -> None:
    refused(InvalidInput, lambda: hub.push(MOOD, "x" * LONG), "xxx")


@pytest.mark.usefixtures("nothing_changes")
def test_what_are_no_arrays_is_refused(hub: Hub) -> None:
    for arrays in ({}, {"a": "text"}, {"a": [1, 2]}, {7: None}):
        refused(InvalidInput, lambda arrays=arrays: hub.push(MOOD, arrays), "arrays")  # type: ignore[misc]


@pytest.mark.usefixtures("nothing_changes")
def test_an_array_of_objects_is_refused(hub: Hub) -> None:
    numpy = pytest.importorskip("numpy")
    refused(InvalidInput, lambda: hub.push(MOOD, {"a": numpy.array([object()])}), "arrays")


def test_a_pull_to_a_url_is_refused(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(InvalidInput, lambda: hub.pull(MOOD, "hdfs://nameservice/models"), "hdfs://")
    assert not (tmp_path / "hdfs:").exists()


# --- permissions -------------------------------------------------------------------------------

NOBODY = 65534
Act = Callable[[Hub, Path], object]


def pushes(hub: Hub, folder: Path) -> object:
    return hub.push(MOOD, folder / "model").number


def pulls(hub: Hub, folder: Path) -> object:
    return str(hub.pull(MOOD, folder / "locked" / "copy"))


def shows(hub: Hub, _folder: Path) -> object:
    return hub.show(MOOD).number


def snapshots(hub: Hub, _folder: Path) -> object:
    return str(hub.snapshot(MOOD))


@pytest.fixture
def nobodys(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of hub and model, and an empty folder, as a user without privileges finds them."""
    hub.close()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("hub", "model"):
            shutil.copytree(hub_folder(hub).parent / part, folder / part)
        (folder / "model" / "new.bin").write_bytes(b"new")
        for path in [folder, *folder.rglob("*")] if os.geteuid() == 0 else []:
            os.chown(path, NOBODY, NOBODY)
        (folder / "locked").mkdir()
        monkeypatch.setenv("MODELHUB_CACHE", str(folder / "locked" / "cache"))
        yield folder


def as_nobody(act: Act, folder: Path) -> object:
    """What ``act`` gives or raises in a child that has no privileges."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()

    def child() -> None:
        if os.geteuid() == 0:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        try:
            with modelhub.connect(folder / "hub", principal="nobody") as hub:
                there.send(act(hub, folder))
        except ModelhubError as error:
            there.send(error)

    process = context.Process(target=child)
    process.start()
    there.close()
    with here:
        result = here.recv()
    process.join()
    if isinstance(result, ModelhubError):
        raise result
    return result


@pytest.mark.parametrize(
    ("act", "locked", "mode"),
    [
        (pushes, "model/weights.bin", 0o000),
        (pushes, "model", 0o000),
        (pushes, "model", 0o600),
        (pulls, "locked", 0o555),
        (snapshots, "locked", 0o555),
        (shows, "hub", 0o000),
        (shows, "hub/rows.sqlite", 0o000),
        (pulls, "hub/weights", 0o000),
        (pushes, "hub/weights/packs", 0o555),
        (pushes, "hub/rows.sqlite", 0o444),
    ],
)
def test_whoever_may_not_is_told_what(
    nobodys: Path, act: Act, locked: str, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In a folder that is there already the pack could be made though `packs` is locked.
    there = {folder.name for folder in (nobodys / "hub" / "weights" / "packs").iterdir()}
    prefix = next(name for name in map("{:02x}".format, range(256)) if name not in there)
    monkeypatch.setattr(storing, "new_pack_id", lambda: prefix + new_pack_id()[2:])
    assert as_nobody(shows, nobodys) == 2
    (nobodys / locked).chmod(mode)
    before = dump(nobodys / "hub")
    about = "weights.bin" if locked == "model/weights.bin" else str(nobodys / locked)
    refused(Forbidden, lambda: as_nobody(act, nobodys), about[:50])
    assert dump(nobodys / "hub") == before
    assert not list((nobodys / "locked").iterdir())


# --- files that change while they are read -----------------------------------------------------


def rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"other")


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def shrink(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)


def remove(path: Path) -> None:
    path.unlink()


def become_a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


CHANGES = [rewrite, grow, shrink, replace, remove, become_a_fifo]
WINDOW_BYTES = 1 << 20


@pytest.fixture
def big(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is read in several windows, after one of its own for what is read before it."""
    monkeypatch.setattr(windows, "_WINDOW_BYTES", WINDOW_BYTES)
    (tmp_path / "model" / "before.bin").write_bytes(random.Random(0).randbytes(WINDOW_BYTES))
    path = tmp_path / "model" / "weights.bin"
    path.write_bytes(random.Random(1).randbytes(12 * WINDOW_BYTES))
    for file in path.parent.iterdir():  # last written long ago
        os.utime(file, (10**9, 10**9))
    return path


@pytest.mark.parametrize("when", ["before it is opened", "in its midst"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_while_it_is_read_makes_no_version(
    hub: Hub, big: Path, change: Callable[[Path], None], when: str
) -> None:
    told: list[int] = []
    done_once: set[str] = set()

    def meanwhile(_phase: str, done: int, total: int) -> None:
        told.append(done)
        now = {
            "before it is opened": len(told) == 1,
            "in its midst": 3 * WINDOW_BYTES < done < total,
        }
        if now[when] and when not in done_once:
            done_once.add(when)
            change(big)

    before, packs = hub.show(MOOD), list(hub_folder(hub).rglob("packs/*/*/*"))
    error = refused(Conflict, lambda: push(hub, progress=meanwhile), "weights.bin")
    assert "again" in error.remedy
    assert hub.show(MOOD) == before
    assert len(hub.log(MOOD)) == 2
    assert not hub.fsck().findings
    assert hub.status().intents == 0
    left = set(hub_folder(hub).rglob("packs/*/*/*")) - set(packs)
    assert len(left) <= 1

    big.unlink(missing_ok=True)
    big.write_bytes(b"at rest")
    push(hub)
    assert hub.show(MOOD).number == 3
    assert (hub.snapshot(MOOD) / "weights.bin").read_bytes() == b"at rest"
    assert not hub.fsck().findings


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_after_it_was_read_is_stored_as_it_was(
    hub: Hub, big: Path, change: Callable[[Path], None]
) -> None:
    read = big.read_bytes()

    def meanwhile(_phase: str, done: int, total: int) -> None:
        if done == total:
            change(big)

    assert push(hub, progress=meanwhile)
    assert (hub.snapshot(MOOD) / "weights.bin").read_bytes() == read
    assert not hub.fsck().findings
