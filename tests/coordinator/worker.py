"""One process among several: run as ``python worker.py VERB JSON`` by ``test_processes.py``.

It says what it did in lines of JSON, and where it is told to wait it says so and waits for a line.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import modelhub
from modelhub.coordinator.context import Patience, Progress
from modelhub.errors import Conflict, OutcomeUnknown, Unavailable
from modelhub.hub import Hub

PAUSE_S = 0.2
"""How long somebody waits after a call that failed."""

LEASE_S = 1.0
"""Of a re-index, so that nobody waits long for the next one."""

SHARED = random.Random("shared").randbytes(100_000)


def say(**told: object) -> None:
    # One write of less than a page: a reader gets all of it or nothing.
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


def wait(**told: object) -> None:
    say(**told)
    sys.stdin.readline()


def waiting_from(done: int) -> Progress:
    """Progress that waits once, as soon as so many bytes are done."""
    waited = False

    def progress(_phase: str, so_far: int, _total: int) -> None:
        nonlocal waited
        if so_far >= done and not waited:
            waited = True
            wait(done=so_far)

    return progress


def publish(hub: str, name: str, worker: int, count: int) -> None:
    """Push ``count`` versions: bytes of its own, bytes of its round, and bytes of everybody.

    It says what it is about to push, and which number that got.
    """
    opened = modelhub.connect(hub)
    wait(ready=worker)
    for index in range(count):
        message = f"worker {worker} push {index}"
        files = {
            "own.bin": random.Random(message).randbytes(4000),
            "all/round.bin": random.Random(index).randbytes(2000),
            "all/shared.bin": SHARED,
        }
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "all").mkdir()
            for path, data in files.items():
                (Path(folder) / path).write_bytes(data)
            digests = {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}
            say(message=message, files=digests)
            say(message=message, number=opened.push(name, folder, message=message).number)


def churn(hub: str, name: str, worker: int) -> None:
    """Push and delete until a line comes, whatever fails; it says what it tries and what it hears.

    Every third push is followed by a deletion of an older version of its own. What ends in doubt is
    repeated, as somebody would who has to know: a push by its request id.
    """
    opened = modelhub.connect(hub)
    stop = threading.Event()

    def listen() -> None:
        sys.stdin.readline()
        stop.set()

    threading.Thread(target=listen, daemon=True).start()
    mine = deque[int]()
    say(ready=worker)
    for index in itertools.count():
        if stop.is_set():
            return
        message = f"worker {worker} push {index}"
        data = random.Random(message).randbytes(4000)
        say(tries=message, digest=hashlib.sha256(data).hexdigest())
        number = insist(message, partial(publish_one, opened, name, message, data), stop)
        if number is not None:
            mine.append(number)
            say(pushed=message, number=number)
        if index % 3 == 2 and mine:
            doomed = mine.popleft()
            say(tries_to_delete=doomed)
            if insist(f"delete {doomed}", partial(opened.delete, f"{name}@{doomed}"), stop):
                say(deleted=doomed)


def publish_one(hub: Hub, name: str, message: str, data: bytes) -> int:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "own.bin").write_bytes(data)
        (Path(folder) / "shared.bin").write_bytes(SHARED)
        return hub.push(name, folder, message=message, request_id=message).number


T = TypeVar("T")


def insist(what: str, act: Callable[[], T], stop: threading.Event) -> T | None:
    """What ``act`` gives; None where it certainly did nothing, or nobody can say at the end."""
    while True:
        try:
            return act()
        except OutcomeUnknown as error:
            say(doubts=what, message=error.message)
            if stop.is_set():
                return None
        except (Unavailable, Conflict) as error:
            say(failed=what, message=error.message)
            stop.wait(PAUSE_S)
            return None


def push(hub: str, name: str, folder: str) -> None:
    """Push once, and wait when the files are read."""
    version = modelhub.connect(hub).push(name, folder, progress=waiting_from(1))
    say(number=version.number, parents=version.parents)


def pull(hub: str, revision: str, dest: str, wait_from: int) -> None:
    """Pull once, and wait when so many bytes are done."""
    modelhub.connect(hub).pull(revision, dest, progress=waiting_from(wait_from))
    say(pulled=dest)


def snapshot(hub: str, revision: str) -> None:
    """Take a snapshot, all at the same time."""
    opened = modelhub.connect(hub)
    wait(ready=revision)
    say(folder=str(opened.snapshot(revision)))


def reindex(hub: str) -> None:
    """Re-index, and say after each batch how far it is. Its lease is over soon after it died."""
    opened = modelhub.connect(hub)
    opened._ctx.patience = Patience(lease_s=LEASE_S)

    def progress(phase: str, done: int, _total: int) -> None:
        say(phase=phase, done=done)

    while True:
        try:
            result = opened.reindex(progress=progress)
        except Conflict as error:
            say(waits=error.message)
            time.sleep(LEASE_S / 4)
        else:
            say(target=result.target, lost=[one.id for one in result.lost], dropped=result.dropped)
            return


VERBS: dict[str, Callable[..., None]] = {
    "publish": publish,
    "churn": churn,
    "push": push,
    "pull": pull,
    "snapshot": snapshot,
    "reindex": reindex,
}

if __name__ == "__main__":
    VERBS[sys.argv[1]](**json.loads(sys.argv[2]))
