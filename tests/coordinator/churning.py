"""Processes that change a hub on servers of its own while these, or they themselves, are killed."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from modelhub.connect import open_stores
from modelhub.coordinator import bootstrap
from modelhub.coordinator.context import Clock, Context, Stores
from modelhub.hub import Hub
from modelhub.testing.crashes import IMPATIENT
from tests.live.hubs import as_toml, close, new_name, profile
from tests.live.own import Own
from tests.live.stack import read_stack

WORKER = Path(__file__).with_name("worker.py")
MODELS = ["nlp.odd", "nlp.even"]

Told = dict[str, Any]


class Worker:
    """A process of ``worker.py``, and what it said so far."""

    def __init__(self, verb: str, **arguments: object) -> None:
        self.told: list[Told] = []
        self._heard = threading.Condition()
        self._ended = False
        self._process = subprocess.Popen(
            [sys.executable, WORKER, verb, json.dumps(arguments)],
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
        with self._heard:
            self._ended = True
            self._heard.notify_all()

    def count(self, key: str) -> int:
        return sum(key in told for told in self.told)

    def hear(self, key: str, more: int) -> bool:
        """Wait until it said this so many times more; False where it ended before."""
        wanted = self.count(key) + more
        with self._heard:
            came = self._heard.wait_for(
                lambda: self.count(key) >= wanted or self._ended, timeout=240
            )
        assert came, f"no {more} times {key!r} in 240 s; at last it said {self.told[-3:]}"
        return self.count(key) >= wanted

    def stop(self) -> None:
        """Ask it to come to an end, and wait for that."""
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        assert self.wait() == 0

    def wait(self) -> int:
        """Its exit code, once it has come to its end."""
        code = self._process.wait(timeout=1200)
        self._listener.join()
        return code

    def close(self) -> None:
        """Kill it, if it is still there."""
        self._process.kill()
        self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()


class Churning(Worker):
    """One that pushes and deletes."""

    def __init__(self, number: int) -> None:
        self.model = MODELS[number % len(MODELS)]
        super().__init__("churn", hub="live", name=self.model, worker=number)

    def pushes(self, more: int) -> None:
        """Wait until so many more pushes were acknowledged."""
        assert self.hear("pushed", more), f"it ended; at last it said {self.told[-3:]}"


@contextmanager
def new_hub(
    own: Own,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Stores], object] = lambda stores: bootstrap.initialise(Context(stores, "test")),
) -> Iterator[Hub]:
    """A hub on these servers, which workers find as the profile ``live``."""
    stack = read_stack(own.home)
    named = profile(stack, new_name())
    folder.mkdir()
    (folder / "modelhub.toml").write_text(as_toml(named, "live"))
    monkeypatch.setenv("MODELHUB_CONFIG", str(folder / "modelhub.toml"))
    stores = open_stores(named)
    make(stores)
    yield Hub(Context(stores, "tester"), address="live", cache=folder / "cache")
    close(stores)


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


def check_swept(hub: Hub, *, data: bool = True) -> None:
    """One sweep, once every lease is over, makes search equal to the log, and nothing is wrong.

    Files of pushes that were killed are for a collector.
    """

    class Tomorrow(Clock):
        def now(self) -> datetime:
            return super().now() + timedelta(days=1)

    stores = hub._ctx.stores
    ctx = Context(stores, "sweeper", IMPATIENT)
    ctx.clock = Tomorrow(stores.rows)
    sweeper = Hub(ctx, address="live", cache=Path("unused"))
    sweeper.sweep()
    kinds = {finding.kind for finding in sweeper.fsck(data=data).findings}
    assert kinds <= {"pack-orphan"}
    status = sweeper.status()
    assert (status.intents, status.search_lag and status.search_lag.changes) == (0, 0)
    for target in stores.search.targets():
        stores.search.refresh(target)


def check_found(hub: Hub) -> None:
    """A search for everything finds the live versions, and those alone."""
    found: set[tuple[str, int]] = set()
    after: str | None = None
    while True:
        page = hub.search("", limit=1000, all_versions=True, after=after)
        found.update((hit.name, hit.number) for hit in page.hits)
        if page.next is None:
            break
        after = page.next
    live = {
        (model, entry.number)
        for model in MODELS
        for entry in hub.log(model)
        if entry.op == "publish" and not hub.show(f"{model}@{entry.number}").deleted
    }
    assert found == live
