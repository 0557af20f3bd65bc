"""Real servers die and come back while four processes publish and delete.

Tier: CI runs each outage once, one after the other in one test, on servers that no other test uses;
with ``--full`` Elasticsearch stays away for a minute.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from modelhub.hub import Hub
from tests.conftest import TIER
from tests.coordinator.churning import (
    MODELS,
    Churning,
    check_found,
    check_model,
    check_swept,
    new_hub,
)
from tests.live.own import Own

WORKERS = 4
DOWN_S = 60.0 if TIER == "full" else 0.0
"""How long Elasticsearch stays away at least."""


@pytest.fixture
def own() -> Iterator[Own]:
    with Own("outages", 29300).up("--datanodes", "3") as servers:
        yield servers


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
            with new_hub(own, tmp_path / outage.__name__, monkeypatch) as hub:
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
    check_found(hub)
    told = {key: sum(worker.count(key) for worker in workers) for key in ("failed", "doubts")}
    return (
        f"away for {away_s:.0f} s: {sum(counts)} versions,"
        f" {told['failed']} calls failed, {told['doubts']} were in doubt"
    )
