"""A whole re-index on real servers, killed again and again, while everybody goes on.

Tier: CI re-indexes 5,000 versions, ``--full`` 100,000; on servers that no other test uses.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from urllib.request import urlopen

import pytest

from modelhub.coordinator.index import read_targets
from modelhub.errors import Unavailable
from modelhub.hub import Hub
from modelhub.testing.populate import populate
from tests.conftest import TIER
from tests.coordinator.churning import Churning, Worker, check_swept, new_hub
from tests.live.own import Own
from tests.live.stack import read_stack

VERSIONS = 100_000 if TIER == "full" else 5_000
MODELS = VERSIONS // 50
KILLS = 10
TOLD_A_RUN = 2 * (VERSIONS // 500)
"""A run tells of each batch that it writes, and of each that it compares."""


@pytest.fixture
def own() -> Iterator[Own]:
    with Own("reindex", 29400).up() as servers:
        yield servers


class Searching:
    """A thread that searches all the time; ``away`` says that search may be."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._stop = threading.Event()
        self.away = threading.Event()
        self.totals: list[int] = []
        self.took_s: list[float] = []
        self.failures: list[Exception] = []
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            began_s = time.perf_counter()
            try:
                self.totals.append(self._hub.search("").total)
                self.took_s.append(time.perf_counter() - began_s)
            except Exception as error:  # noqa: BLE001 - whoever started it looks at it
                if not (isinstance(error, Unavailable) and self.away.is_set()):
                    self.failures.append(error)

    @contextmanager
    def running(self) -> Iterator[Searching]:
        self._thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            self._thread.join()


def indices(own: Own, hub: Hub) -> set[str]:
    """Every index of the hub, as Elasticsearch itself lists them."""
    prefix = "-".join(read_targets(hub._ctx).live.split("-")[:2])
    url = f"{read_stack(own.home).search_url}/_cat/indices/{prefix}*?format=json"
    with urlopen(url) as answer:
        return {index["index"] for index in json.load(answer)}


@pytest.mark.timeout(3600)
def test_nobody_notices_a_reindex_that_is_killed_ten_times(
    own: Own, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figure: Callable[[str], None]
) -> None:
    filled = partial(populate, versions=VERSIONS, models=MODELS)
    with new_hub(own, tmp_path / "hub", monkeypatch, filled) as hub:
        hub._ctx.stores.search.refresh(read_targets(hub._ctx).live)
        first = hub.search("").total
        assert first > 0.9 * MODELS
        with ExitStack() as held:
            workers = [Churning(number) for number in range(2)]
            for worker in workers:
                held.callback(worker.close)
                worker.pushes(1)
            searching = held.enter_context(Searching(hub).running())
            ended = kill(KILLS)
            lose_elasticsearch(own, searching)
            began_s = time.monotonic()
            last = run_to_its_end()
            took_s = time.monotonic() - began_s
            for worker in workers:
                worker.pushes(1)
                worker.stop()
        assert not searching.failures
        assert min(searching.totals) >= first
        assert last["lost"] == []
        check_swept(hub, data=False)
        assert indices(own, hub) == {f"{read_targets(hub._ctx).live}.index"}
    pushes = sum(worker.count("pushed") for worker in workers)
    figure(
        f"{VERSIONS:,} versions: {KILLS} runs killed, {ended} others finished, the last one took "
        f"{took_s:.0f} s; meanwhile {len(searching.totals):,} searches, the slowest "
        f"{max(searching.took_s):.2f} s, and {pushes} pushes"
    )


def kill(runs: int) -> int:
    """Kill so many runs at random moments; how many others had come to their end before that."""
    chance, died, ended = random.Random(7), 0, 0
    while died < runs:
        run = Worker("reindex", hub="live")
        try:
            caught = run.hear("phase", chance.randint(1, TOLD_A_RUN))
        finally:
            run.close()
        died, ended = died + caught, ended + (not caught)
    return ended


def lose_elasticsearch(own: Own, searching: Searching) -> None:
    """Kill it in the middle of a run, which ends with an error, and start it again."""
    run = Worker("reindex", hub="live")
    try:
        assert run.hear("phase", 2)
        searching.away.set()
        own("server", "elasticsearch", "kill")
        assert run.wait() != 0
        own("server", "elasticsearch", "start")
    finally:
        run.close()
    searching.away.clear()


def run_to_its_end() -> dict[str, object]:
    """A run that nobody kills, and what it said at last."""
    run = Worker("reindex", hub="live")
    try:
        assert run.wait() == 0
        return run.told[-1]
    finally:
        run.close()
