"""Real servers die and come back while four processes publish and delete.

Tier: CI runs each outage once, one after the other in one test, on servers that no other test uses;
with ``--full`` Elasticsearch stays away for a minute.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from modelhub.connect import open_stores
from modelhub.coordinator.context import Clock, Context
from modelhub.hub import Hub
from modelhub.testing.crashes import IMPATIENT
from tests.conftest import TIER
from tests.live.hubs import as_toml, close, new_name, profile
from tests.live.stack import absent, command, read_stack

WORKER = Path(__file__).with_name("worker.py")
MODELS = ["nlp.odd", "nlp.even"]
WORKERS = 4
DOWN_S = 60.0 if TIER == "full" else 0.0
"""How long Elasticsearch stays away at least."""

OWN = {
    "MODELHUB_STACK_HOME": f"/var/tmp/modelhub-outages-{os.getuid()}",
    "MODELHUB_STACK_PORTS": "29300",
}

Told = dict[str, Any]


class Churning:
    """A process that pushes and deletes, and what it said so far."""

    def __init__(self, number: int) -> None:
        self.model = MODELS[number % len(MODELS)]
        self.told: list[Told] = []
        self._heard = threading.Condition()
        arguments = {"hub": "live", "name": self.model, "worker": number}
        self._process = subprocess.Popen(
            [sys.executable, WORKER, "churn", json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            with self._heard:
                self.told.append(json.loads(line))
                self._heard.notify_all()

    def count(self, key: str) -> int:
        return sum(key in told for told in self.told)

    def pushes(self, more: int) -> None:
        """Wait until so many more pushes were acknowledged."""
        wanted = self.count("pushed") + more
        with self._heard:
            came = self._heard.wait_for(lambda: self.count("pushed") >= wanted, timeout=240)
        assert came, f"no {more} pushes in 240 s; at last it said {self.told[-3:]}"

    def stop(self) -> None:
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        assert self._process.wait(timeout=240) == 0
        self._listener.join()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()


Own = Callable[..., None]
"""Runs a command on servers that nobody else uses: ``own("server", "thrift", "kill")``."""


def run_own(*arguments: str) -> None:
    done = command(*arguments, **OWN)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def own() -> Iterator[Own]:
    up = command("up", "--datanodes", "3", **OWN)
    if up.returncode:
        absent(up.stderr)
    yield run_own
    command("wipe", **OWN)


@contextmanager
def new_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub on those servers, which workers find as the profile ``live``."""
    stack = read_stack(Path(OWN["MODELHUB_STACK_HOME"]))
    named = profile(stack, new_name())
    folder.mkdir()
    (folder / "modelhub.toml").write_text(as_toml(named, "live"))
    monkeypatch.setenv("MODELHUB_CONFIG", str(folder / "modelhub.toml"))
    stores = open_stores(named)
    hub = Hub(Context(stores, "tester"), address="live", cache=folder / "cache")
    hub.init()
    yield hub
    close(stores)


def thrift(own: Own, _workers: list[Churning]) -> None:
    own("server", "thrift", "kill")
    own("server", "thrift", "start")


def hbase(own: Own, _workers: list[Churning]) -> None:
    own("server", "hbase", "kill")
    own("server", "hbase", "start")


def datanode(own: Own, workers: list[Churning]) -> None:
    """Publishing goes on with two."""
    own("server", "datanode-2", "kill")
    for worker in workers:
        worker.pushes(3)
    own("server", "datanode-2", "start")


def namenode(own: Own, _workers: list[Churning]) -> None:
    own("server", "namenode", "kill")
    own("server", "namenode", "start")


def elasticsearch(own: Own, workers: list[Churning]) -> None:
    """Publishing goes on without."""
    began_s = time.monotonic()
    own("server", "elasticsearch", "kill")
    for worker in workers:
        worker.pushes(5)
    while time.monotonic() < began_s + DOWN_S:
        for worker in workers:
            worker.pushes(1)
    own("server", "elasticsearch", "start")


@pytest.mark.timeout(2400)
def test_nothing_is_lost_doubled_or_half_seen_while_servers_are_away(
    own: Own, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figure: Callable[[str], None]
) -> None:
    for outage in (thrift, hbase, datanode, namenode, elasticsearch):
        own("up")
        try:
            with new_hub(tmp_path / outage.__name__, monkeypatch) as hub:
                figure(f"{outage.__name__} {go_through(outage, own, hub)}")
        except BaseException as error:
            error.add_note(f"while {outage.__name__} was away")
            raise


def go_through(outage: Callable[[Own, list[Churning]], None], own: Own, hub: Hub) -> str:
    """Four processes, a server that goes and comes back, and what must hold then."""
    with ExitStack() as held:
        workers = [Churning(number) for number in range(WORKERS)]
        for worker in workers:
            held.callback(worker.close)
        for worker in workers:
            worker.pushes(3)
        began_s = time.monotonic()
        outage(own, workers)
        away_s = time.monotonic() - began_s
        for worker in workers:
            worker.pushes(3)
        for worker in workers:
            worker.stop()
    counts = [
        check_model(hub, model, [worker for worker in workers if worker.model == model])
        for model in MODELS
    ]
    check_swept(hub)
    told = {key: sum(worker.count(key) for worker in workers) for key in ("failed", "doubts")}
    return (
        f"away for {away_s:.0f} s: {sum(counts)} versions,"
        f" {told['failed']} calls failed, {told['doubts']} were in doubt"
    )


def check_model(hub: Hub, model: str, workers: list[Churning]) -> int:
    """What was acknowledged is there once, and what is there is what somebody tried; how many."""
    told = [said for worker in workers for said in worker.told]
    digests = {said["tries"]: said["digest"] for said in told if "tries" in said}
    pushed = {said["pushed"]: said["number"] for said in told if "pushed" in said}
    deleted = {said["deleted"] for said in told if "deleted" in said}
    doomed = {said["tries_to_delete"] for said in told if "tries_to_delete" in said}
    entries = [entry for entry in hub.log(model) if entry.op == "publish"][::-1]
    assert [entry.number for entry in entries] == list(range(1, len(entries) + 1))
    there = {entry.message: entry.number for entry in entries}
    assert len(there) == len(entries), "a push was doubled"
    assert pushed.items() <= there.items()
    assert there.keys() <= digests.keys()
    for message, number in there.items():
        revision = f"{model}@{number}"
        assert not hub.verify(revision).findings
        if hub.show(revision).deleted:
            assert number in doomed
            continue
        assert number not in deleted
        path = hub.snapshot(revision) / "own.bin"
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digests[message]
    return len(there)


def check_swept(hub: Hub) -> None:
    """One sweep, once every lease is over, makes search equal to the log, and nothing is wrong."""

    class Tomorrow(Clock):
        def now(self) -> datetime:
            return super().now() + timedelta(days=1)

    stores = hub._ctx.stores
    ctx = Context(stores, "sweeper", IMPATIENT)
    ctx.clock = Tomorrow(stores.rows)
    sweeper = Hub(ctx, address="live", cache=Path("unused"))
    sweeper.sweep()
    assert not sweeper.fsck().findings
    status = sweeper.status()
    assert (status.intents, status.search_lag and status.search_lag.changes) == (0, 0)
    for target in stores.search.targets():
        stores.search.refresh(target)
    page = hub.search("", limit=1000, all_versions=True)
    found = {(hit.name, hit.number) for hit in page.hits}
    while page.next is not None:
        page = hub.search("", limit=1000, all_versions=True, after=page.next)
        found |= {(hit.name, hit.number) for hit in page.hits}
    live = {
        (model, entry.number)
        for model in MODELS
        for entry in hub.log(model)
        if entry.op == "publish" and not hub.show(f"{model}@{entry.number}").deleted
    }
    assert found == live
