"""Several real processes on one hub: racing, waiting for each other, and killed.

Tier: CI kills publishers once, ``--full`` ten times; all else runs in both. What races or is killed
does so on an embedded hub and on the real servers.
"""

from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import modelhub
from modelhub.backends.files import LocalWeights
from modelhub.connect import embedded_stores
from modelhub.coordinator.context import Clock, Context, Stores
from modelhub.errors import NotFound
from modelhub.hub import Hub
from modelhub.testing.crashes import IMPATIENT
from tests.live.hubs import LiveHubs, as_toml, close

NAME = "nlp.sentiment"
WORKERS, PUSHES = 8, 50
WORKER = Path(__file__).with_name("worker.py")
MIB = 1 << 20

Told = dict[str, Any]


class Worker:
    """Another process that works on a hub."""

    def __init__(self, verb: str, **arguments: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, WORKER, verb, json.dumps(arguments, default=str)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def hear(self) -> Told:
        """The next thing that it says."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, f"it ended with {self._process.wait()}"
        told: Told = json.loads(line)
        return told

    def go_on(self) -> None:
        """Let it go on from where it waits."""
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def waits_for_a_lock(self) -> bool:
        """Whether it stands in a queue for a file's lock."""
        locks = Path("/proc/locks").read_text().splitlines()
        return any("->" in line and f" {self._process.pid} " in line for line in locks)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)

    def end(self) -> list[Told]:
        """What else it said until it ended; it must have ended well, or been killed."""
        assert self._process.stdout
        told = [json.loads(line) for line in self._process.stdout]
        assert self._process.wait() in {0, -signal.SIGKILL}
        return told

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()


class Workers:
    """Starts workers, and sees that none is left."""

    def __init__(self, hub: Path | str, held: ExitStack) -> None:
        self._hub = hub
        self._held = held

    def __call__(self, verb: str, **arguments: object) -> Worker:
        worker = Worker(verb, hub=self._hub, **arguments)
        self._held.callback(worker.close)
        return worker


class Place(NamedTuple):
    """A hub by its name, and how to open its stores."""

    url: Path | str
    stores: Callable[[], Stores]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "hub"


@pytest.fixture
def place(
    request: pytest.FixtureRequest, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Place:
    """An embedded hub, where a test does not ask for others."""
    if getattr(request, "param", "embedded") == "embedded":
        return Place(folder, lambda: embedded_stores(folder))
    hubs: LiveHubs = request.getfixturevalue("live")
    close(hubs())
    (tmp_path / "modelhub.toml").write_text(as_toml(hubs.profile, "live"))
    monkeypatch.setenv("MODELHUB_CONFIG", str(tmp_path / "modelhub.toml"))
    return Place("live", hubs.again)


everywhere = pytest.mark.parametrize("place", ["embedded", "live"], indirect=True)


@pytest.fixture
def hub(place: Place) -> Iterator[Hub]:
    with modelhub.connect(place.url) as opened:
        opened.init()
        yield opened


@pytest.fixture
def start(place: Place, hub: Hub) -> Iterator[Workers]:
    with ExitStack() as held:
        yield Workers(place.url, held)


def started(start: Workers) -> list[Worker]:
    """Publishers that begin together."""
    workers = [
        start("publish", name=NAME, worker=worker, count=PUSHES) for worker in range(WORKERS)
    ]
    for worker in workers:
        worker.hear()
    for worker in workers:
        worker.go_on()
    return workers


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def check_published(hub: Hub, told: list[Told], folder: Path) -> tuple[int, int]:
    """All that was acknowledged is there once, and what is there is what somebody pushed.

    How many versions were acknowledged, and how many there are.
    """
    log = hub.log(NAME)[::-1]
    assert [entry.number for entry in log] == list(range(1, len(log) + 1))
    there = {entry.message: entry.number for entry in log}
    assert len(there) == len(log), "a push was doubled"
    pushed = {said["message"]: said["files"] for said in told if "files" in said}
    acknowledged = {said["message"]: said["number"] for said in told if "number" in said}
    assert acknowledged.items() <= there.items()
    for message, number in there.items():
        assert digests(hub.pull(f"{NAME}@{number}", folder / str(number))) == pushed[message]
    return len(acknowledged), len(there)


def check_swept(place: Place) -> None:
    """Once every lease is over, a sweep leaves nothing that fsck minds."""

    class Tomorrow(Clock):
        def now(self) -> datetime:
            return super().now() + timedelta(days=1)

    stores = place.stores()
    ctx = Context(stores, "sweeper", IMPATIENT)
    ctx.clock = Tomorrow(stores.rows)
    hub = Hub(ctx, address="test", cache=Path("unused"))
    hub.sweep()
    assert not hub.fsck().findings
    assert hub.status().intents == 0
    close(stores)


@everywhere
def test_eight_processes_publish_fifty_versions_each_to_one_model(
    hub: Hub,
    place: Place,
    start: Workers,
    tmp_path: Path,
    figure: Callable[[str], None],
) -> None:
    workers = started(start)
    began_s = time.perf_counter()
    told = [said for worker in workers for said in worker.end()]
    took_s = time.perf_counter() - began_s
    acknowledged, there = check_published(hub, told, tmp_path / "pulled")
    assert acknowledged == there == WORKERS * PUSHES
    check_swept(place)
    figure(f"{WORKERS} processes: {there / took_s:.1f} publishes/s to one model")


@everywhere
@pytest.mark.parametrize(
    "_again", [0, *(pytest.param(again, marks=pytest.mark.full) for again in range(1, 10))]
)
def test_what_killed_publishers_were_told_is_there_once(
    _again: int,
    hub: Hub,
    place: Place,
    start: Workers,
    tmp_path: Path,
    figure: Callable[[str], None],
) -> None:
    workers = started(start)
    told, killed = list[Told](), workers[:2]
    for worker in killed:
        told += [worker.hear() for _ in range(random.randrange(PUSHES))]
        threading.Timer(random.uniform(0, 1), worker.kill).start()
    told += [said for worker in workers for said in worker.end()]
    acknowledged, there = check_published(hub, told, tmp_path / "pulled")
    assert acknowledged <= there <= acknowledged + len(killed)
    assert acknowledged < WORKERS * PUSHES, "nobody was killed before its end"
    check_swept(place)
    figure(f"{acknowledged} acknowledged, {there} there")


def large_version(hub: Hub, tmp_path: Path) -> Path:
    """A version of three files of 8 MiB; the folder that it was pushed from."""
    source = tmp_path / "source"
    source.mkdir()
    for number in range(3):
        (source / f"{number}.bin").write_bytes(random.Random(number).randbytes(8 * MIB))
    hub.push(NAME, source)
    return source


def test_two_pulls_into_one_folder_take_turns(hub: Hub, start: Workers, tmp_path: Path) -> None:
    source, dest = large_version(hub, tmp_path), tmp_path / "dest"
    first = start("pull", revision=NAME, dest=dest, wait_from=MIB)
    first.hear()
    second = start("pull", revision=NAME, dest=dest, wait_from=100 * MIB)
    while not second.waits_for_a_lock():
        pass
    first.go_on()
    assert [worker.end() for worker in (first, second)] == [[{"pulled": str(dest)}]] * 2
    assert digests(dest) == digests(source)


def test_a_killed_pull_leaves_no_half_file_and_the_next_goes_on(
    hub: Hub, folder: Path, start: Workers, tmp_path: Path
) -> None:
    source, dest = large_version(hub, tmp_path), tmp_path / "dest"
    killed = start("pull", revision=NAME, dest=dest, wait_from=12 * MIB)
    done = killed.hear()["done"]
    killed.kill()
    assert not killed.end()
    whole = digests(source)
    left = {path: digest for path, digest in digests(dest).items() if ".modelhub-" not in path}
    assert left == {"0.bin": whole["0.bin"]}
    counting = CountingWeights(folder / "weights")
    stores = embedded_stores(folder)
    ctx = Context(Stores(counting, stores.rows, stores.search), "tester")
    Hub(ctx, address="test", cache=tmp_path).pull(NAME, dest)
    assert digests(dest) == whole
    overhead = 100_000  # The manifest; and the last chunk was perhaps not written in full.
    assert counting.read_bytes <= 3 * 8 * MIB - done + 4 * MIB + overhead
    for store in (stores.rows, stores.search):
        store.close()


class CountingWeights(LocalWeights):
    """Counts the bytes that are read."""

    read_bytes = 0

    def read(self, path: str, offset: int, length: int) -> bytes:
        data = super().read(path, offset, length)
        self.read_bytes += len(data)
        return data


def test_four_processes_take_one_snapshot(hub: Hub, start: Workers, tmp_path: Path) -> None:
    source = large_version(hub, tmp_path)
    workers = [start("snapshot", revision=NAME) for _ in range(4)]
    for worker in workers:
        worker.hear()
    for worker in workers:
        worker.go_on()
    (folder,) = {told["folder"] for worker in workers for told in worker.end()}
    assert digests(Path(folder)) == digests(source)
    assert all(path.stat().st_mode & 0o222 == 0 for path in Path(folder).iterdir())


def test_a_push_whose_parent_is_deleted_meanwhile_follows_the_one_before(
    hub: Hub, place: Place, start: Workers, tmp_path: Path
) -> None:
    source = large_version(hub, tmp_path)
    (source / "2.bin").write_bytes(b"second")
    hub.push(NAME, source)
    (source / "1.bin").write_bytes(b"third")
    worker = start("push", name=NAME, folder=source)
    worker.hear()
    hub.delete(f"{NAME}@2")
    worker.go_on()
    assert worker.end() == [{"number": 3, "parents": [1]}]
    assert digests(hub.pull(NAME, tmp_path / "pulled")) == digests(source)
    with pytest.raises(NotFound):
        hub.pull(f"{NAME}@2", tmp_path / "deleted")
    check_swept(place)
