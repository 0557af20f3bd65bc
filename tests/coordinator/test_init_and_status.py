"""Making a hub in whatever is there, and what is said of one, seen past the coordinator.

Tier: CI runs all of it.
"""

from __future__ import annotations

import re
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from numpy import zeros

import modelhub
from modelhub.backends.elastic_search import ElasticIndex
from modelhub.backends.memory import MemoryRows, MemorySearch, MemoryWeights
from modelhub.cli import text
from modelhub.cli.app import app
from modelhub.connect import open_stores
from modelhub.coordinator import bootstrap, keys
from modelhub.coordinator.context import Context, Stores
from modelhub.errors import CorruptData, InvalidInput, ModelhubError, OutcomeUnknown, Unavailable
from modelhub.hub import Hub
from modelhub.records import ModelHint, encode
from tests.coordinator.conftest import MOOD, hub_folder, push, refused
from tests.live.hubs import LiveHubs, profile
from tests.live.stack import LiveStack

TIMEOUT_S = 5.0


def query(folder: Path, sql: str) -> list[tuple[object, ...]]:
    """Run a statement on a hub's rows, past the store."""
    with closing(sqlite3.connect(folder / "rows.sqlite")) as rows, rows:
        return rows.execute(sql).fetchall()


@pytest.mark.parametrize(
    "lose", ["DELETE FROM system WHERE key = CAST('format' AS BLOB)", "DROP TABLE system"]
)
def test_no_hub_is_made_over_models_without_a_format_row(hub: Hub, lose: str) -> None:
    folder = hub_folder(hub)
    hub.close()
    query(folder, lose)
    before = query(folder, "SELECT name FROM sqlite_master")
    with modelhub.connect(folder) as damaged:
        for act in (damaged.init, lambda: push(damaged, "nlp.new")):
            error = refused(InvalidInput, act, "holds models", "'format'")
            assert "Restore" in error.remedy
    result = CliRunner().invoke(app, ["--hub", str(folder), "admin", "init"])
    assert (result.exit_code, "Restore" in result.stderr) == (2, True)
    assert query(folder, "SELECT name FROM sqlite_master") == before


@pytest.fixture
def memory() -> Stores:
    return Stores(weights=MemoryWeights(), rows=MemoryRows(), search=MemorySearch())


def hub_on(stores: Stores, folder: Path) -> Hub:
    return Hub(Context(stores, "tester"), address="memory", cache=folder)


def test_a_hub_that_is_being_made_by_another_is_no_damage(memory: Stores, tmp_path: Path) -> None:
    """What the other puts between two looks of this one comes in the order that it keeps."""
    with hub_on(memory, tmp_path) as other:
        rows = memory.rows
        scan = rows.scan

        def after_the_other(*args: object, **limits: object) -> Iterator[tuple[bytes, bytes]]:
            rows.scan = scan  # type: ignore[method-assign]
            other.push("nlp.first", {"a": zeros(1)})
            return scan(*args, **limits)  # type: ignore[arg-type]

        rows.create_tables(keys.TABLES)
        rows.scan = after_the_other  # type: ignore[method-assign]
        assert not bootstrap.initialise(Context(memory, "tester"))
        assert other.show("nlp.first").number == 1


def test_making_a_hub_leaves_nothing_in_its_weights(tmp_path: Path) -> None:
    with modelhub.connect(tmp_path / "hub") as hub:
        assert hub.init()
        assert not hub.init()
    assert not list((tmp_path / "hub" / "weights").iterdir())


def test_making_a_hub_tells_of_weights_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "weights").write_text("in the way")
    with modelhub.connect(tmp_path / "hub") as hub:
        refused(InvalidInput, hub.init, "weights")
    result = CliRunner().invoke(app, ["--hub", str(tmp_path / "hub"), "admin", "init"])
    assert (result.exit_code, result.stdout) == (2, "")


class Forgetful(MemoryWeights):
    def read(self, path: str, offset: int, length: int) -> bytes:
        return super().read(path, offset, length)[:-1]


class Silent(MemoryWeights):
    def remove(self, path: str) -> None:
        raise OutcomeUnknown(f"{path}: the answer was lost")


@pytest.mark.parametrize(
    ("weights", "error"), [(Forgetful(), CorruptData), (Silent(), Unavailable)]
)
def test_making_a_hub_tells_of_weights_that_fail(
    memory: Stores, tmp_path: Path, weights: MemoryWeights, error: type[ModelhubError]
) -> None:
    stores = Stores(weights=weights, rows=memory.rows, search=memory.search)
    with hub_on(stores, tmp_path) as hub:
        refused(error, hub.init, "probe-")


def test_a_model_whose_first_push_failed_is_not_counted(hub: Hub) -> None:
    counted = hub.status().models
    assert counted == len(hub.list())
    key = keys.model("nlp.never-was")
    hub._ctx.stores.rows.put(keys.MODELS, key, encode(ModelHint()))
    assert hub.status().models == counted
    assert len(query(hub_folder(hub), "SELECT key FROM models")) == counted + 1
    hub._ctx.stores.rows.put(keys.MODELS, keys.model(MOOD), b"no hint at all")
    assert hub.status().models == counted


def test_status_tells_of_no_other_hubs_documents(live: LiveHubs, tmp_path: Path) -> None:
    stores = live()
    with hub_on(stores, tmp_path) as hub:
        hub.init()
        foreign = f"modelhub-{live.name}-foreign"
        stores.search.create_target(foreign)
        status = hub.status()
        told = status.stores["search"]
        (ours,) = hub._ctx.targets.targets if hub._ctx.targets else ()
        assert set(told["documents"]) == set(told["bytes"]) == {ours}
        assert re.search(rf"^search\.bytes\.{ours} +[0-9.]+ K?i?B$", text.status(status), re.M)
        assert foreign not in text.status(status)
        assert isinstance(stores.search, ElasticIndex)
        assert foreign in stores.search.targets()
        stores.search.drop_target(foreign)


def test_a_status_of_servers_that_all_keep_silent_ends_in_time(
    stack: LiveStack, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        stores = msgspec.structs.replace(
            profile(stack, "silent"),
            weights=f"hdfs://{host}/models",
            rows=f"hbase://{host}",
            search=f"http://{host}",
            weights_timeout_s=TIMEOUT_S,
            rows_timeout_s=TIMEOUT_S,
            search_timeout_s=TIMEOUT_S,
        )
        with hub_on(open_stores(stores), tmp_path) as hub:
            begun = time.monotonic()
            told = hub.status()
            assert time.monotonic() - begun < 2 * TIMEOUT_S + 1
    assert not any(store["reachable"] for store in told.stores.values())
    assert host in told.problem
