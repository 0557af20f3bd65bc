"""A version's plain files, pulled into a URL and exported, seen past modelhub.

Tier: CI runs all of it, on HDFS by both of its protocols, on S3 and on a disk.
"""

from __future__ import annotations

import fcntl
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

import modelhub
from modelhub.backends.remote.files import FileWriter
from modelhub.cli.app import app
from modelhub.coordinator.context import Progress
from modelhub.errors import AlreadyExists, InvalidInput, NotFound, Unavailable
from modelhub.hub import Hub
from tests.live.stack import LiveStack
from tests.live.weights import (
    BUCKET,
    S3_LOGIN,
    moto_server,
    new_folder,
    over_http,
    remove_folder,
    request,
    web_url,
)

NAME = "nlp.mood"
FILES: Mapping[str, bytes] = {
    "weights.bin": random.Random(1).randbytes(5 << 20),
    "tokenizer/词表 1.txt": "你好\n".encode(),
    "empty.txt": b"",
}


class Place(NamedTuple):
    """A folder that is not there yet, and a way to read and write in it past modelhub."""

    url: str
    read: Callable[[str], bytes | None]
    write: Callable[[str, bytes], None]


@pytest.fixture
def hdfs(stack: LiveStack) -> Iterator[Place]:
    folder = new_folder()

    def read(path: str) -> bytes | None:
        status, body = over_http(stack, "GET", f"{folder}/{path}", "OPEN")
        return None if status == 404 else body

    def write(path: str, data: bytes) -> None:
        assert over_http(stack, "PUT", f"{folder}/{path}", "CREATE", data=data)[0] == 201

    yield Place(stack.hdfs_url + folder, read, write)
    remove_folder(stack, folder)


@pytest.fixture
def webhdfs(hdfs: Place, stack: LiveStack) -> Place:
    url = hdfs.url.replace(stack.hdfs_url, web_url(stack))
    return hdfs._replace(url=url)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Place:
    host, folder = moto_server(), new_folder()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")

    def read(path: str) -> bytes | None:
        status, body = request(host, "GET", f"/{BUCKET}{folder}/{path}", headers=S3_LOGIN)
        return None if status == 404 else body

    def write(path: str, data: bytes) -> None:
        target = f"/{BUCKET}{folder}/{path}"
        assert request(host, "PUT", target, data, headers=S3_LOGIN)[0] == 200

    query = f"scheme=http&region=us-east-1&endpoint_override={host.replace(':', '%3A')}"
    return Place(f"s3://{BUCKET}{folder}?{query}", read, write)


@pytest.fixture
def disk(tmp_path: Path) -> Place:
    root = tmp_path / "exported models"

    def read(path: str) -> bytes | None:
        return (root / path).read_bytes() if (root / path).exists() else None

    def write(path: str, data: bytes) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)

    return Place(str(root), read, write)


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(request.param)
    return found


pulls = pytest.mark.parametrize("place", ["hdfs", "webhdfs", "s3"], indirect=True)
exports = pytest.mark.parametrize("place", ["hdfs", "webhdfs", "disk"], indirect=True)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    source = tmp_path / "source"
    for path, data in FILES.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(data)
    with modelhub.connect(tmp_path / "hub") as opened:
        opened.push(NAME, source)
        yield opened


def ascii_only(path: str) -> str:
    """What a plain HTTP request can ask for."""
    return path if path.isascii() else ""


@pulls
def test_a_pull_into_a_url_writes_plain_files(hub: Hub, place: Place) -> None:
    assert hub.pull(NAME, place.url) == place.url
    for path in filter(ascii_only, FILES):
        assert place.read(path) == FILES[path]
    assert hub.pull(NAME, place.url) == place.url, "what is there already is as wanted"


@pulls
def test_a_pull_into_a_url_takes_only_what_is_asked_for(hub: Hub, place: Place) -> None:
    hub.pull(NAME, place.url, include=["*.bin"])
    assert place.read("weights.bin") == FILES["weights.bin"]
    assert place.read("empty.txt") is None
    with pytest.raises(NotFound):
        hub.pull(NAME, place.url, include=["*.onnx"])


@pulls
def test_other_bytes_in_the_way_are_kept_until_overwrite_says_otherwise(
    hub: Hub, place: Place
) -> None:
    other = bytes(len(FILES["weights.bin"]))
    place.write("weights.bin", other)
    with pytest.raises(AlreadyExists, match=r"weights\.bin"):
        hub.pull(NAME, place.url)
    assert (place.read("weights.bin"), place.read("empty.txt")) == (other, None)
    hub.pull(NAME, place.url, overwrite=True)
    assert place.read("weights.bin") == FILES["weights.bin"]


@exports
def test_an_export_is_a_folder_of_plain_files_and_may_be_repeated(hub: Hub, place: Place) -> None:
    where = hub.export(f"{NAME}@1", place.url)
    assert where == f"{place.url}/{NAME}/1"
    for path in filter(ascii_only, FILES):
        assert place.read(f"{NAME}/1/{path}") == FILES[path]
    assert hub.export(NAME, place.url) == where


@exports
def test_an_export_never_takes_the_place_of_something_else(hub: Hub, place: Place) -> None:
    place.write(f"{NAME}/1/weights.bin", b"somebody else's")
    with pytest.raises(AlreadyExists, match=f"{NAME}/1"):
        hub.export(NAME, place.url)
    assert place.read(f"{NAME}/1/weights.bin") == b"somebody else's"
    assert place.read(f"{NAME}/1/empty.txt") is None


@exports
def test_an_export_that_fails_is_not_seen_and_leaves_nothing(
    hub: Hub, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_writer: FileWriter) -> int:
        raise Unavailable("the file system is away")

    with monkeypatch.context() as broken:
        broken.setattr(FileWriter, "commit", fails)
        with pytest.raises(Unavailable):
            hub.export(NAME, place.url)
    folder = hub._ctx.folders(place.url if "://" in place.url else Path(place.url).as_uri())
    assert folder.stat(f"{NAME}/1") is None
    assert not list(folder.list(""))
    folder.close()
    hub.export(NAME, place.url)
    assert place.read(f"{NAME}/1/weights.bin") == FILES["weights.bin"]


def test_objects_cannot_be_exported(hub: Hub, s3: Place) -> None:
    with pytest.raises(InvalidInput, match="objects") as caught:
        hub.export(NAME, s3.url)
    assert "pull" in caught.value.remedy
    assert s3.read(f"{NAME}/1/weights.bin") is None


def test_the_command_line_exports_and_pulls_into_urls(
    hub: Hub, hdfs: Place, tmp_path: Path
) -> None:
    def run(*args: str) -> str:
        result = CliRunner().invoke(app, ["--hub", str(tmp_path / "hub"), *args])
        assert result.exit_code == 0, result.stderr
        return result.stdout.strip()

    assert run("export", NAME, hdfs.url) == f"{hdfs.url}/{NAME}/1"
    assert run("pull", NAME, f"{hdfs.url}/pulled") == f"{hdfs.url}/pulled"
    assert hdfs.read("pulled/weights.bin") == FILES["weights.bin"]


@pytest.mark.parametrize("url", ["ftp://host/x", "hdfs:///x", "http://host/x", "s3://"])
def test_a_url_that_is_none_of_a_folder_is_refused(hub: Hub, url: str) -> None:
    with pytest.raises(InvalidInput) as pulling:
        hub.pull(NAME, url)
    with pytest.raises(InvalidInput) as exporting:
        hub.export(NAME, url)
    assert pulling.value.remedy
    assert exporting.value.remedy


def meanwhile(act: Callable[[], object]) -> Progress:
    """What acts once, when a pull has looked at what is there and begins to write."""
    pending = [act]

    def progress(_phase: str, _done: int, _total: int) -> None:
        if pending:
            pending.pop()()

    return progress


@pulls
def test_a_file_that_comes_while_a_pull_runs_is_kept(hub: Hub, place: Place) -> None:
    comes = meanwhile(lambda: place.write("weights.bin", b"somebody else's"))
    with pytest.raises(AlreadyExists, match=r"weights\.bin") as caught:
        hub.pull(NAME, place.url, progress=comes)
    assert "--overwrite" in caught.value.remedy
    assert place.read("weights.bin") == b"somebody else's"


@pulls
def test_a_file_that_another_pull_brings_meanwhile_is_as_wanted(hub: Hub, place: Place) -> None:
    comes = meanwhile(lambda: hub.pull(NAME, place.url, include=["*.bin"]))
    assert hub.pull(NAME, place.url, progress=comes) == place.url
    assert place.read("weights.bin") == FILES["weights.bin"]
    assert place.read("empty.txt") == b""


def test_what_came_while_a_pull_waited_for_another_one_is_kept(hub: Hub, tmp_path: Path) -> None:
    pulled = tmp_path / "pulled"
    (pulled / ".modelhub-partial").mkdir(parents=True)
    with (
        (pulled / ".modelhub-partial" / "lock").open("w") as lock,
        ThreadPoolExecutor(1) as pool,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        pull = pool.submit(hub.pull, NAME, pulled)
        wait_for_second_holder(lock.fileno())
        (pulled / "empty.txt").write_bytes(b"not empty")
        fcntl.flock(lock, fcntl.LOCK_UN)
        with pytest.raises(AlreadyExists, match=r"empty\.txt"):
            pull.result()
    assert (pulled / "empty.txt").read_bytes() == b"not empty"
    assert not (pulled / "weights.bin").exists()


def wait_for_second_holder(lock: int) -> None:
    """Return when somebody waits for the lock, as the kernel says."""
    inode = f":{os.fstat(lock).st_ino} "
    while not any("->" in line and inode in line for line in locks()):
        pass


def locks() -> list[str]:
    return Path("/proc/locks").read_text().splitlines()


@pytest.mark.parametrize("place", ["hdfs", "disk"], indirect=True)
def test_small_files_are_sent_at_the_same_time(
    hub: Hub, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for number in range(8):
        (many / f"{number}.json").write_bytes(b"%d" % number)
    hub.push("nlp.many", many)
    together, commit = Barrier(4), FileWriter.commit

    def waits(writer: FileWriter) -> int:
        together.wait(60)  # breaks, and fails the export, where fewer than four come
        return commit(writer)

    monkeypatch.setattr(FileWriter, "commit", waits)
    hub.export("nlp.many", place.url)
    for number in range(8):
        assert place.read(f"nlp.many/1/{number}.json") == b"%d" % number


OLD, YOUNG, OTHER = ".1-0123456789abcdef", ".2-0123456789abcdef", ".checkpoints"


def test_what_killed_exports_left_on_hdfs_is_removed_when_it_is_old(
    hub: Hub, hdfs: Place, stack: LiveStack
) -> None:
    root = urlsplit(hdfs.url).path
    for left in (OLD, YOUNG, OTHER):
        hdfs.write(f"{NAME}/{left}/part", b"half")
    two_days_ago = str(int((time.time() - 2 * 86_400) * 1000))
    for path in (f"{OLD}/part", OLD, f"{OTHER}/part", OTHER):
        where = f"{root}/{NAME}/{path}"
        over_http(stack, "PUT", where, "SETTIMES", modificationtime=two_days_ago)
    hub.export(NAME, hdfs.url)
    assert hdfs.read(f"{NAME}/{OLD}/part") is None
    assert hdfs.read(f"{NAME}/{YOUNG}/part") == b"half"
    assert hdfs.read(f"{NAME}/{OTHER}/part") == b"half"


def test_what_killed_exports_left_on_a_disk_is_removed_when_all_of_it_is_old(
    hub: Hub, disk: Place
) -> None:
    for left in (OLD, YOUNG, OTHER):
        disk.write(f"{NAME}/{left}/part", b"half")
    model = Path(disk.url) / NAME
    then = time.time() - 2 * 86_400
    for path in (f"{OLD}/part", OLD, YOUNG, f"{OTHER}/part", OTHER):
        os.utime(model / path, (then, then))
    hub.export(NAME, disk.url)
    assert sorted(path.name for path in model.iterdir()) == [YOUNG, OTHER, "1"]
