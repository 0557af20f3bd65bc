"""Embedded hubs are refused where SQLite's locks do not hold, before anything is written."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from modelhub.backends import sqlite
from modelhub.backends.filesystem import refuse_network_file_system
from modelhub.backends.sqlite_rows import SqliteRows
from modelhub.backends.sqlite_search import SqliteSearch
from modelhub.errors import InvalidInput

LOCAL = "27 1 7:777 / / rw,relatime - ext4 /dev/vda rw\n"
NETWORK_TYPES = [
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "ceph", "lustre", "gpfs", "beegfs",
    "glusterfs", "fuse.glusterfs", "afs", "fuse.s3fs", "fuse.gcsfuse",
]  # fmt: skip
LOCAL_TYPES = ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "fuse.fuse-overlayfs", "fuseblk"]


def device(folder: Path) -> str:
    number = folder.stat().st_dev
    return f"{os.major(number)}:{os.minor(number)}"


@pytest.fixture
def mountinfo(tmp_path: Path) -> Callable[[str], Path]:
    def mountinfo(text: str) -> Path:
        path = tmp_path / "mountinfo"
        path.write_text(text)
        return path

    return mountinfo


@pytest.mark.parametrize("kind", NETWORK_TYPES)
def test_a_network_file_system_is_refused_by_its_device(
    tmp_path: Path, mountinfo: Callable[[str], Path], kind: str
) -> None:
    text = LOCAL + f"36 27 {device(tmp_path)} /x /mnt rw shared:1 master:2 - {kind} host:/x rw\n"
    hub = tmp_path / "not" / "yet" / "there"
    with pytest.raises(InvalidInput) as raised:
        refuse_network_file_system(hub, mountinfo=mountinfo(text))
    assert str(hub) in raised.value.message
    assert f"({kind})" in raised.value.message
    assert "MODELHUB_HOME" in raised.value.remedy


@pytest.mark.parametrize("kind", LOCAL_TYPES)
def test_a_local_file_system_is_accepted_by_its_device(
    tmp_path: Path, mountinfo: Callable[[str], Path], kind: str
) -> None:
    text = (
        f"36 27 0:99 / {tmp_path} rw - nfs host:/x rw\n"
        f"37 27 {device(tmp_path)} / /elsewhere rw - {kind} /dev/x rw\n"
    )
    refuse_network_file_system(tmp_path / "hub", mountinfo=mountinfo(text))


def test_without_its_device_the_longest_mount_point_decides(
    tmp_path: Path, mountinfo: Callable[[str], Path]
) -> None:
    folder = tmp_path / "home dir" / "me"
    folder.mkdir(parents=True)
    escaped = str(folder.parent).replace(" ", "\\040")
    nfs = f"40 27 0:998 / {escaped} rw - nfs4 host:/home rw\n"
    beside = f"41 27 0:997 / {escaped}/m rw - ext4 /dev/x rw\n"
    above = f"42 27 0:996 / {tmp_path} rw - ext4 /dev/x rw\n"
    below = f"43 27 0:995 / {escaped}/me rw - xfs /dev/x rw\n"
    root = LOCAL.replace("7:777", "0:999")
    for text in (root + nfs + beside + above, above + beside + nfs + root):
        with pytest.raises(InvalidInput, match=r"\(nfs4\)"):
            refuse_network_file_system(folder / "hub", mountinfo=mountinfo(text))
    refuse_network_file_system(folder / "hub", mountinfo=mountinfo(root + nfs + below))


def test_of_two_mounts_on_one_point_the_later_decides(
    tmp_path: Path, mountinfo: Callable[[str], Path]
) -> None:
    local = f"40 27 0:998 / {tmp_path} rw - ext4 /dev/x rw\n"
    nfs = f"41 40 0:997 / {tmp_path} rw - nfs host:/x rw\n"
    with pytest.raises(InvalidInput):
        refuse_network_file_system(tmp_path, mountinfo=mountinfo(local + nfs))
    refuse_network_file_system(tmp_path, mountinfo=mountinfo(nfs + local))


def test_a_link_to_a_network_file_system_is_refused(
    tmp_path: Path, mountinfo: Callable[[str], Path]
) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "near").symlink_to(tmp_path / "far")
    text = f"40 27 0:998 / {tmp_path}/far rw - nfs host:/x rw\n"
    with pytest.raises(InvalidInput):
        refuse_network_file_system(tmp_path / "near" / "hub", mountinfo=mountinfo(text))


@pytest.mark.parametrize("text", ["", "\n\n", "nonsense\n", "1 2 3 - \n", "a b c d - nfs x y\n"])
def test_an_unreadable_table_of_mounts_refuses_nothing(
    tmp_path: Path, mountinfo: Callable[[str], Path], text: str
) -> None:
    refuse_network_file_system(tmp_path, mountinfo=mountinfo(text))


def test_a_system_without_such_a_table_refuses_nothing(tmp_path: Path) -> None:
    refuse_network_file_system(tmp_path, mountinfo=tmp_path / "absent")


def test_the_folder_of_these_tests_is_accepted(tmp_path: Path) -> None:
    refuse_network_file_system(tmp_path)


@pytest.mark.parametrize(
    "use",
    [
        lambda folder: SqliteRows(folder / "hub" / "rows.sqlite").create_tables(["t"]),
        lambda folder: SqliteRows(folder / "hub" / "rows.sqlite").get("t", b"k"),
        lambda folder: SqliteSearch(folder / "hub" / "search.sqlite").create_target("t"),
        lambda folder: SqliteSearch(folder / "hub" / "search.sqlite").targets(),
    ],
)
def test_embedded_stores_refuse_and_write_nothing(
    tmp_path: Path,
    mountinfo: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    use: Callable[[Path], object],
) -> None:
    table = mountinfo(f"36 27 {device(tmp_path)} / /mnt rw - nfs4 host:/x rw\n")
    refuse = functools.partial(refuse_network_file_system, mountinfo=table)
    monkeypatch.setattr(sqlite, "refuse_network_file_system", refuse)
    with pytest.raises(InvalidInput, match="nfs4"):
        use(tmp_path)
    assert list(tmp_path.iterdir()) == [table]
