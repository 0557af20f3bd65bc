"""Whether people find what they look for: 386 models in two languages, 64 judged queries.

The models' texts and the judgements (3 exactly this, 2 useful, 1 related) were written by hand, by
meaning and across languages; a shared word earns nothing. Those of the queries in set ``a`` were
made before any ranking was seen. Tier: CI, embedded and on Elasticsearch.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from math import fsum, log2
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from modelhub.backends.elastic_search import ElasticIndex
from modelhub.backends.memory import MemoryRows, MemorySearch, MemoryWeights
from modelhub.backends.sqlite_search import SqliteSearch
from modelhub.coordinator.context import Context, Stores
from modelhub.coordinator.index import read_targets
from modelhub.hub import Hub
from modelhub.stores import SearchIndex
from tests.live.hubs import new_name
from tests.live.stack import LiveStack

FOLDER = Path(__file__).parents[1] / "relevance"
BETTER_BY = 0.10
FACTS = (
    *("title", "description", "card", "labels", "owner", "framework", "licence", "datasets"),
    *("params", "metrics"),
)
Model = dict[str, Any]
Ask = Callable[[str], Sequence[str]]
"""The ten best models for a query."""


def read(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / name).read_text().splitlines()]


MODELS, QUERIES = read("models.jsonl"), read("queries.jsonl")


def ndcg(found: Sequence[str], judged: dict[str, int]) -> float:
    """Normalised discounted cumulative gain of the first ten (Järvelin and Kekäläinen, 2002)."""

    def gain(grades: Sequence[int]) -> float:
        return fsum((2**grade - 1) / log2(place + 2) for place, grade in enumerate(grades[:10]))

    best = sorted(judged.values(), reverse=True)
    return gain([judged.get(name, 0) for name in found]) / gain(best)


def scores(ask: Ask) -> dict[str, float]:
    """By set of queries, and of all of them."""
    each = [(query["set"], ndcg(ask(query["query"]), query["judged"])) for query in QUERIES]
    sets = {kind: fmean(score for one, score in each if one == kind) for kind in ("a", "b")}
    return {**sets, "all": fmean(score for _, score in each)}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Stores:
    """A hub in memory that has all the models."""
    stores = Stores(MemoryWeights(), MemoryRows(), MemorySearch())
    file = tmp_path_factory.mktemp("model") / "model.bin"
    file.write_bytes(b"weights")
    hub = Hub(Context(stores, "tester"), address="memory", cache=Path("unused"))
    for model in MODELS:
        hub.push(model["name"], file, **{fact: model[fact] for fact in FACTS if model[fact]})
    return stores


def through_hub(filled: Stores, search: SearchIndex) -> Ask:
    """Searches of a hub with these models, whose documents lie in ``search``."""
    target = read_targets(Context(filled, "tester")).live
    search.create_target(target)
    search.write(target, list(filled.search.scan(target)))
    search.refresh(target)
    stores = Stores(filled.weights, filled.rows, search)
    hub = Hub(Context(stores, "tester"), address="memory", cache=Path("unused"))
    return lambda query: [hit.name for hit in hub.search(query, limit=10).hits]


@pytest.fixture
def embedded(filled: Stores, tmp_path: Path) -> Iterator[tuple[Ask, Ask]]:
    """Ours, and a plain match on the description by the same engine's own words."""
    search = SqliteSearch(tmp_path / "search.sqlite")
    with closing(search), closing(sqlite3.connect(tmp_path / "plain.sqlite")) as plain:
        plain.execute("CREATE VIRTUAL TABLE plain USING fts5 (name UNINDEXED, description)")
        rows = [(model["name"], model["description"]) for model in MODELS]
        plain.executemany("INSERT INTO plain VALUES (?, ?)", rows)

        def match(query: str) -> list[str]:
            words = " OR ".join(f'"{word}"' for word in query.replace('"', " ").split())
            select = "SELECT name FROM plain WHERE plain MATCH ? ORDER BY rank LIMIT 10"
            return [name for (name,) in plain.execute(select, (words,))]

        yield through_hub(filled, search), match


@pytest.fixture
def elastic(filled: Stores, stack: LiveStack) -> Iterator[tuple[Ask, Ask]]:
    """The same on the real server, whose default analyser cuts Chinese into characters."""
    from elasticsearch import Elasticsearch

    search = ElasticIndex(
        stack.search_url, ca=stack.search_ca, user=stack.search_user, password=stack.search_password
    )
    target = read_targets(Context(filled, "tester")).live
    plain, index = Elasticsearch(stack.search_url), new_name()
    try:
        operations: list[dict[str, Any]] = []
        for model in MODELS:
            operations += [{"index": {"_id": model["name"]}}, {"description": model["description"]}]
        plain.bulk(index=index, operations=operations, refresh=True)

        def match(query: str) -> list[str]:
            answer = plain.search(index=index, query={"match": {"description": query}}, size=10)
            return [hit["_id"] for hit in answer["hits"]["hits"]]

        yield through_hub(filled, search), match
    finally:
        search.drop_target(target)
        plain.indices.delete(index=index, ignore_unavailable=True)
        search.close()
        plain.close()


@pytest.mark.parametrize("engine", ["embedded", "elastic"])
def test_models_are_found_better_than_by_a_plain_match(
    engine: str, request: pytest.FixtureRequest, figure: Callable[[str], None]
) -> None:
    ours, plain = request.getfixturevalue(engine)
    mine, theirs = scores(ours), scores(plain)
    told = ", ".join(f"{kind} {mine[kind]:.3f} (plain {theirs[kind]:.3f})" for kind in mine)
    figure(f"nDCG@10, {engine}: {told}")
    for kind in mine:
        assert mine[kind] >= theirs[kind] + BETTER_BY


def test_the_judgements_are_whole() -> None:
    names = {model["name"] for model in MODELS}
    assert len(names) == len(MODELS) >= 300
    assert len(QUERIES) >= 60
    assert sum(query["set"] == "a" for query in QUERIES) >= len(QUERIES) / 2
    for query in QUERIES:
        assert query["judged"].keys() <= names
        assert max(query["judged"].values()) == 3
