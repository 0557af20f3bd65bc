"""What remote files do beyond the contract of weights, on each kind of file system."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from modelhub.backends.remote import remote_files, remote_weights
from modelhub.backends.remote.files import Files, FileWriter
from modelhub.backends.remote.native import NativeFiles
from modelhub.backends.remote.processes import DeadlinePassedError, PerProcess, Threads
from modelhub.errors import AlreadyExists, InvalidInput, NotFound, NotInstalled, Unavailable
from modelhub.stores import Stat
from tests.live.stack import LiveStack
from tests.live.weights import new_folder, over_http, remove_folder, s3_url, web_url

NAMES = [
    "a b",
    " leading and trailing ",
    "情感/模型 v1.bin",
    "é+ü&x=1;y",
    "100%",
    "%2e%2e",
    "a%20b",
    "what?#LATEST",
    "[x]{y}*'~!@$^(),",
    'quo"te',
    "new\u2028line",
]


def hdfs(request: pytest.FixtureRequest, _: Path) -> Iterator[Files]:
    stack: LiveStack = request.getfixturevalue("stack")
    folder = new_folder()
    yield remote_files(f"{stack.hdfs_url}{folder}/it%27s%20%25")
    remove_folder(stack, folder)


def webhdfs(request: pytest.FixtureRequest, _: Path) -> Iterator[Files]:
    stack: LiveStack = request.getfixturevalue("stack")
    folder = new_folder()
    yield remote_files(f"{web_url(stack)}{folder}/it%27s%20%25", user="root")
    remove_folder(stack, folder)


def s3(_: pytest.FixtureRequest, __: Path) -> Iterator[Files]:
    yield remote_files(s3_url(f"models{new_folder()}"))


def arrow_file(_: pytest.FixtureRequest, folder: Path) -> Iterator[Files]:
    yield remote_files((folder / "it's %").as_uri())


@pytest.fixture(params=[hdfs, webhdfs, s3, arrow_file], ids=lambda made: made.__name__)
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Files]:
    for made in request.param(request, tmp_path):
        with closing(made):
            yield made


def write(files: Files, path: str, data: bytes) -> None:
    writer = files.create(path)
    writer.write(data)
    writer.commit()


def test_a_name_in_any_script_and_with_any_sign_is_kept(files: Files) -> None:
    for name in NAMES:
        write(files, f"folder/{name}", name.encode())
        with pytest.raises(AlreadyExists):
            files.create(f"folder/{name}")
    assert sorted(info.path for info in files.list("folder")) == sorted(
        f"folder/{name}" for name in NAMES
    )
    for name in NAMES:
        assert files.read(f"folder/{name}", 0, 1000) == name.encode()
        files.rename(f"folder/{name}", f"moved/{name} ")
        assert files.stat(f"folder/{name}") is None
        assert files.stat(f"moved/{name} ") == Stat(len(name.encode()), is_folder=False)
        files.remove(f"moved/{name} ")
    assert list(files.list("moved")) == []


def test_a_folder_is_renamed_whole_and_never_over_or_into_another(files: Files) -> None:
    write(files, "new/a", b"a")
    write(files, "new/b/c", b"c")
    write(files, "old/x", b"x")
    with pytest.raises(AlreadyExists, match="old"):
        files.rename("new", "old")
    files.rename("new", "models/m/3")
    assert sorted(info.path for info in files.list("")) == [
        "models/m/3/a",
        "models/m/3/b/c",
        "old/x",
    ]
    with pytest.raises(NotFound, match="new"):
        files.rename("new", "newer")


def test_a_file_is_replaced_whole_by_its_commit_or_not_at_all(files: Files) -> None:
    for data in (b"first", b"second"):
        writer = files.put("folder/a file", overwrite=True)
        writer.write(data)
        found = files.stat("folder/a file")
        assert (found is None) == (data == b"first")
        assert writer.commit() == len(data)
        assert files.read("folder/a file", 0, 99) == data
    given_up = files.put("folder/a file", overwrite=True)
    given_up.write(b"third")
    given_up.abort()
    assert files.read("folder/a file", 0, 99) == b"second"
    assert [info.path for info in files.list("")] == ["folder/a file"]


def test_a_file_that_is_not_to_be_overwritten_is_kept_whenever_it_came(files: Files) -> None:
    writer = files.put("folder/a file", overwrite=False)
    writer.write(b"ours")
    write(files, "folder/a file", b"theirs")
    with pytest.raises(AlreadyExists, match="a file"):
        writer.commit()
    assert files.read("folder/a file", 0, 99) == b"theirs"
    assert [info.path for info in files.list("")] == ["folder/a file"]
    free = files.put("folder/another", overwrite=False)
    assert free.commit() == 0
    assert files.stat("folder/another") == Stat(0, is_folder=False)


def test_the_folders_in_a_folder_have_the_time_of_their_last_change(files: Files) -> None:
    assert files.folders("absent") == {}
    write(files, "folder/a/deep/file", b"a")
    write(files, "folder/b/file", b"b")
    write(files, "folder/file", b"c")
    assert files.folders("folder/file") == {}
    found = files.folders("folder")
    assert set(found) == ({"a", "b"} if files.renames_folders else set())
    assert all(abs(datetime.now(UTC) - when) < timedelta(minutes=5) for when in found.values())


def test_only_an_object_store_takes_a_folder_apart(files: Files) -> None:
    assert files.renames_folders is (files.describe()["kind"] != "s3")


def test_removing_a_file_leaves_folders_and_removing_a_folder_takes_all(files: Files) -> None:
    write(files, "folder/a", b"a")
    files.remove("folder")
    assert files.read("folder/a", 0, 9) == b"a"
    files.make_folder("folder/empty/one")
    files.remove_folder("folder")
    files.remove_folder("folder")
    assert files.stat("folder") is None
    assert list(files.list("")) == []


@pytest.mark.parametrize("path", ["../up", "a/../../b", "/root", "a//b", "a/", ".", "nul\0"])
def test_a_path_that_leads_elsewhere_is_refused(files: Files, path: str) -> None:
    with pytest.raises(InvalidInput, match="not a path"):
        files.create(path)
    with pytest.raises(InvalidInput, match="not a path"):
        files.remove_folder(path)


def test_a_file_that_was_given_up_is_never_committed(files: Files) -> None:
    writer = files.create("file")
    writer.write(b"half")
    writer.abort()
    with pytest.raises(Unavailable, match="given up"):
        writer.commit()
    with pytest.raises(Unavailable, match="given up"):
        writer.write(b"more")


def test_only_what_cannot_overwrite_calls_itself_exclusive(files: Files) -> None:
    about = files.describe()
    assert about["exclusive"] is (about["kind"] in {"hdfs", "webhdfs"})
    assert "secret" not in about["address"]


class Shorter:
    """Files that keep less than was written."""

    address = "shorter://"

    def stat(self, _: str) -> Stat:
        return Stat(3, is_folder=False)


class Nowhere:
    """A file that says it took what it did not."""

    def write(self, data: bytes) -> None: ...
    def close(self) -> None: ...
    def discard(self) -> None: ...


def test_a_commit_believes_the_server_and_not_the_writer() -> None:
    writer = FileWriter(Shorter(), "file", Nowhere())  # type: ignore[arg-type]
    writer.write(b"four")
    with pytest.raises(Unavailable, match="4 bytes were written and 3 is there"):
        writer.commit()


def test_a_url_of_another_kind_names_those_that_there_are() -> None:
    with pytest.raises(InvalidInput, match="ftp") as caught:
        remote_weights("ftp://host/folder")
    assert "hdfs" in caught.value.remedy
    with pytest.raises(InvalidInput, match="permission"):
        remote_weights("s3://bucket/folder", permission="750")
    with pytest.raises(InvalidInput, match="replication"):
        remote_weights("s3://bucket/folder", replication=2)
    with pytest.raises(InvalidInput, match="999"):
        remote_weights("hdfs://host:1/folder", permission="999")


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [
        ("hdfs://host:1/x", "hdfs_native", "modelhub[hdfs]"),
        ("webhdfs://host:1/x", "hdfs", "modelhub[webhdfs]"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    url: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(NotInstalled) as caught:
        remote_weights(url)
    assert extra in caught.value.remedy


def test_arrows_own_hdfs_says_what_it_misses() -> None:
    store = remote_weights("arrow+hdfs://127.0.0.1:1/folder", user="somebody", replication=2)
    with pytest.raises(NotInstalled, match="libhdfs") as caught:
        store.size("file")
    assert "modelhub[hdfs]" in caught.value.remedy


@pytest.mark.parametrize("kind", ["hdfs", "webhdfs"])
def test_replication_and_permissions_are_as_they_were_set(stack: LiveStack, kind: str) -> None:
    folder = new_folder()
    address = stack.hdfs_url if kind == "hdfs" else web_url(stack)
    user = None if kind == "hdfs" else "root"
    store = remote_weights(address + folder, user=user, replication=2, permission="750")
    writer = store.create("packs/ab/file")
    writer.write(b"data")
    writer.commit()
    _, file = over_http(stack, "GET", f"{folder}/packs/ab/file", "GETFILESTATUS")
    assert b'"permission":"640"' in file
    assert b'"replication":2' in file
    for path in (f"{folder}/packs", f"{folder}/packs/ab"):
        _, status = over_http(stack, "GET", path, "GETFILESTATUS")
        assert b'"permission":"750"' in status
    remove_folder(stack, folder)


def test_one_process_is_one_user_of_hdfs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HADOOP_USER_NAME", "carol")
    remote_weights("hdfs://host:1/x", user="carol")
    with pytest.raises(InvalidInput, match="acts as carol"):
        remote_weights("hdfs://host:1/x", user="dave")


def test_a_child_neither_spoils_nor_waits_for_what_its_parent_reads(stack: LiveStack) -> None:
    """The driver's cache of connections is doubled by a fork: both would read from one."""
    folder = new_folder()
    data = os.urandom(4 << 20)
    with closing(
        NativeFiles(
            stack.hdfs_url + folder, user=None, replication=1, permission=None, timeout_s=20
        )
    ) as files:
        write(files, "file", data)

        def reads_well() -> bool:
            starts = range(0, len(data), 300_000)
            return all(files.read("file", at, 300_000) == data[at : at + 300_000] for at in starts)

        assert reads_well()
        children = [_forked(lambda: 0 if reads_well() else 1) for _ in range(2)]
        assert reads_well()
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
        assert reads_well()
    remove_folder(stack, folder)


def _forked(call: Callable[[], int]) -> int:
    child = os.fork()
    if child == 0:
        code = 2
        try:
            code = call()
        finally:
            os._exit(code)
    return child


def test_a_child_that_ends_as_programs_do_does_not_hang(stack: LiveStack) -> None:
    program = f"""
import os, sys, modelhub.backends.remote as remote
store = remote.remote_weights("{stack.hdfs_url}/")
store.size("nothing")
if os.fork() == 0:
    sys.exit(7)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    assert os.spawnl(os.P_WAIT, sys.executable, sys.executable, "-c", program) == 7


def test_what_belongs_to_a_process_is_made_once_and_made_anew_when_forgotten() -> None:
    made: list[object] = []

    def make() -> object:
        made.append(object())
        return made[-1]

    held = PerProcess(make)
    assert held.get() is held.get()
    assert held.forget() is made[0]
    assert held.get() is made[1]
    held.abandon()
    assert held.get() is made[2]


def test_a_call_that_hangs_is_left_behind_and_the_next_has_another_thread() -> None:
    threads, gate = Threads(), threading.Event()
    begun = time.monotonic()
    with pytest.raises(DeadlinePassedError):
        threads.run(gate.wait, 0.05)
    assert time.monotonic() - begun < 5
    assert threads.run(lambda: 7, 5) == 7
    gate.set()
    assert threads.run(threading.get_ident, 5) == threads.run(threading.get_ident, 5)
    threads.close()


def test_what_a_call_in_a_thread_raises_is_raised() -> None:
    def fail() -> None:
        raise KeyError("it")

    threads = Threads()
    with pytest.raises(KeyError, match="it"):
        threads.run(fail, 5)
    threads.close()


def test_a_file_of_hdfs_that_was_given_up_stays_incomplete(stack: LiveStack) -> None:
    """Its driver's finaliser would complete it, and wait for whoever keeps silent."""
    folder = new_folder()
    files = remote_files(stack.hdfs_url + folder)
    writer = files.create("half")
    writer.write(b"half a file")
    writer.abort()
    del writer
    status, body = over_http(stack, "GET", f"{folder}/half", "GETFILESTATUS")
    assert (status, json.loads(body)["FileStatus"]["length"]) == (200, 0)
    files.close()
    remove_folder(stack, folder)


@pytest.mark.parametrize("scheme", ["hdfs", "webhdfs", "swebhdfs"])
@pytest.mark.parametrize("sign", ["?", "#"])
def test_what_no_folder_has_is_refused_in_a_url(scheme: str, sign: str) -> None:
    with pytest.raises(InvalidInput, match="behind") as caught:
        remote_files(f"{scheme}://host:1/models/a{sign}b")
    assert "%3F" in caught.value.remedy
