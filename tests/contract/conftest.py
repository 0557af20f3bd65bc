"""The one list of backends: every contract runs on each."""

from __future__ import annotations

import json
import multiprocessing
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from modelhub.backends.elastic_search import ElasticIndex
from modelhub.backends.files import LocalWeights
from modelhub.backends.memory import MemoryRows, MemorySearch, MemoryWeights
from modelhub.backends.sqlite_rows import SqliteRows
from modelhub.backends.sqlite_search import SqliteSearch
from modelhub.errors import ModelhubError
from modelhub.testing.contracts import RowBackend, SearchBackend, WeightBackend
from tests.live.proxy import Proxy
from tests.live.rows import hbase_rows
from tests.live.search import elastic_search
from tests.live.stack import LiveStack
from tests.live.stand_in import StandIn, serving
from tests.live.weights import arrow_file_weights, hdfs_weights, s3_weights, webhdfs_weights

TABLE = "contract"
TARGET = "contract"


class Memory:
    """Every store that is opened is the same object: there is nothing else to share."""

    def __init__(self, folder: Path) -> None:
        pass

    def rows(self) -> RowBackend:
        store = MemoryRows()
        store.create_tables([TABLE])

        def raw_set(table: str, key: bytes, value: bytes) -> None:
            store._tables[table][key] = value

        return RowBackend(
            open=lambda: store,
            table=TABLE,
            raw_get=lambda table, key: store._tables[table].get(key),
            raw_set=raw_set,
        )

    def weights(self) -> WeightBackend:
        store = MemoryWeights()

        def raw_get(path: str) -> bytes | None:
            file = store._files.get(path)
            return None if file is None else bytes(file.data)

        def raw_set(path: str, data: bytes) -> None:
            store.create(path)
            store._files[path].data[:] = data

        return WeightBackend(open=lambda: store, raw_get=raw_get, raw_set=raw_set)

    def search(self) -> SearchBackend:
        index = MemorySearch()
        index.create_target(TARGET)

        def raw_get(target: str, document_id: str) -> tuple[int, dict[str, Any] | None] | None:
            held = index._targets[target].get(document_id)
            return None if held is None else (held[0], json.loads(held[1]))

        return SearchBackend(open=lambda: index, target=TARGET, raw_get=raw_get)


class Embedded:
    """A folder on a local disk; each store that is opened has connections of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def rows(self) -> RowBackend:
        path = self._folder / "rows.sqlite"
        with closing(SqliteRows(path)) as store:
            store.create_tables([TABLE])

        def raw_get(table: str, key: bytes) -> bytes | None:
            rows = query(path, f"SELECT value FROM {table} WHERE key = ?", key)
            return rows[0][0] if rows else None

        def raw_set(table: str, key: bytes, value: bytes) -> None:
            query(path, f"INSERT INTO {table} (key, value) VALUES (?, ?)", key, value)

        return RowBackend(
            open=lambda: SqliteRows(path), table=TABLE, raw_get=raw_get, raw_set=raw_set
        )

    def weights(self) -> WeightBackend:
        root = self._folder / "weights"

        def raw_get(path: str) -> bytes | None:
            return (root / path).read_bytes() if (root / path).exists() else None

        def raw_set(path: str, data: bytes) -> None:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)

        return WeightBackend(open=lambda: LocalWeights(root), raw_get=raw_get, raw_set=raw_set)

    def search(self) -> SearchBackend:
        path = self._folder / "search.sqlite"
        with closing(SqliteSearch(path)) as index:
            index.create_target(TARGET)

        def raw_get(target: str, document_id: str) -> tuple[int, dict[str, Any] | None] | None:
            (number,) = query(path, "SELECT number FROM targets WHERE name = ?", target)[0]
            select = f"SELECT version, body FROM documents_{number} WHERE id = ?"
            for version, body in query(path, select, document_id):
                return version, None if body is None else json.loads(body)
            return None

        return SearchBackend(open=lambda: SqliteSearch(path), target=TARGET, raw_get=raw_get)


def query(path: Path, sql: str, *values: object) -> list[Any]:
    """Run one statement past the stores."""
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(sql, values).fetchall()


Request = pytest.FixtureRequest

ROWS: dict[str, Callable[[Request, Path], Iterator[RowBackend]]] = {
    "memory": lambda _, folder: iter([Memory(folder).rows()]),
    "embedded": lambda _, folder: iter([Embedded(folder).rows()]),
    "hbase": lambda request, _: hbase_rows(request.getfixturevalue("stack")),
}
WEIGHTS: dict[str, Callable[[Request, Path], Iterator[WeightBackend]]] = {
    "memory": lambda _, folder: iter([Memory(folder).weights()]),
    "embedded": lambda _, folder: iter([Embedded(folder).weights()]),
    "hdfs": lambda request, _: hdfs_weights(request.getfixturevalue("stack")),
    "webhdfs": lambda request, _: webhdfs_weights(request.getfixturevalue("stack")),
    "s3": lambda *_: s3_weights(),
    "arrow-file": lambda _, folder: arrow_file_weights(folder),
}
SEARCHES: dict[str, Callable[[Request, Path], Iterator[SearchBackend]]] = {
    "memory": lambda _, folder: iter([Memory(folder).search()]),
    "embedded": lambda _, folder: iter([Embedded(folder).search()]),
    "elasticsearch": lambda request, _: elastic_search(request.getfixturevalue("stack")),
}


@pytest.fixture(params=ROWS.values(), ids=list(ROWS))
def row_backend(request: Request, tmp_path: Path) -> Iterator[RowBackend]:
    yield from request.param(request, tmp_path)


@pytest.fixture(params=WEIGHTS.values(), ids=list(WEIGHTS))
def weight_backend(request: Request, tmp_path: Path) -> Iterator[WeightBackend]:
    yield from request.param(request, tmp_path)


@pytest.fixture(params=SEARCHES.values(), ids=list(SEARCHES))
def search_backend(request: Request, tmp_path: Path) -> Iterator[SearchBackend]:
    yield from request.param(request, tmp_path)


@pytest.fixture
def backend(stack: LiveStack) -> Iterator[RowBackend]:
    """Tables on the real HBase."""
    yield from hbase_rows(stack)


@pytest.fixture
def prefix(backend: RowBackend) -> str:
    """What the names of the tables of ``backend`` begin with."""
    with closing(backend.open()) as store:
        found: str = store.describe()["prefix"]
        return found


@pytest.fixture
def proxy(stack: LiveStack) -> Iterator[Proxy]:
    """In front of the real gateway."""
    with Proxy(stack.thrift_host, stack.thrift_port) as proxy:
        yield proxy


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    """What answers in Elasticsearch's place."""
    with serving(StandIn()) as stand_in:
        yield stand_in


@pytest.fixture
def opened() -> Iterator[Callable[..., ElasticIndex]]:
    """Opens indices that are closed at the end."""
    with ExitStack() as held:
        yield lambda *args, **options: held.enter_context(
            closing(ElasticIndex(*args, **{"timeout_s": 5.0, **options}))
        )


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that every user can get to."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755)


@pytest.fixture
def as_nobody() -> Callable[[Callable[[], object]], object]:
    """Run something in a child as a user without privileges; what it raises is raised here."""

    def run(call: Callable[[], object]) -> object:
        context = multiprocessing.get_context("fork")
        here, there = context.Pipe()

        def child() -> None:
            if os.geteuid() == 0:
                os.setuid(65534)
            try:
                there.send(call())
            except ModelhubError as error:
                there.send(error)

        process = context.Process(target=child)
        process.start()
        there.close()
        with here:
            result = here.recv()
        process.join()
        if isinstance(result, ModelhubError):
            raise result
        return result

    return run
