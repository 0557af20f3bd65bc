"""Searches through a hub, on every engine: the syntax, what comes back, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from modelhub.backends.memory import MemoryRows, MemorySearch, MemoryWeights
from modelhub.backends.sqlite_search import SqliteSearch
from modelhub.coordinator.context import Context, Stores
from modelhub.coordinator.index import read_targets
from modelhub.errors import InvalidInput, NotFound
from modelhub.hub import Hub
from modelhub.results import SearchResult
from modelhub.stores import SearchIndex
from tests.live.search import open_elastic

ENGINES: dict[str, Callable[[pytest.FixtureRequest, Path], SearchIndex]] = {
    "memory": lambda _request, _folder: MemorySearch(),
    "sqlite": lambda _, folder: SqliteSearch(folder / "search.sqlite"),
    "elasticsearch": lambda request, _: open_elastic(request.getfixturevalue("stack")),
}

MODELS: dict[str, dict[str, Any]] = {
    "nlp.mood": {
        "title": "Sentiment of reviews",
        "description": "Classifies short Chinese reviews. 判断电商评论的情感。",
        "labels": ["sentiment", "chinese"],
        "framework": "pytorch",
        "licence": "apache-2.0",
        "params": {"lr": 0.01, "optimizer": "adamw"},
        "metrics": {"f1": 0.93},
    },
    "nlp.topics": {
        "title": "Topics of Chinese news",
        "description": "Sorts news into topics. 新闻主题分类。",
        "labels": ["classification", "chinese"],
        "framework": "pytorch",
        "params": {"lr": 0.1},
        "metrics": {"f1": 0.88},
    },
    "vision.ocr": {
        "title": "Text in photographs",
        "description": "Reads printed text in photographs of receipts.",
        "labels": ["ocr"],
        "framework": "onnx",
        "owner": "vision",
    },
}


@pytest.fixture(params=ENGINES.values(), ids=list(ENGINES), scope="module")
def hub(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub with a few models; the first has two versions, and the older one is not current."""
    folder = tmp_path_factory.mktemp("hub")
    with closing(request.param(request, folder)) as search:
        ctx = Context(Stores(MemoryWeights(), MemoryRows(), search), "tester")
        hub = Hub(ctx, address="test", cache=folder / "cache")
        hub.init()
        target = read_targets(ctx).live
        (folder / "model").mkdir()
        for number in (1, 2):
            (folder / "model" / "weights.bin").write_bytes(b"x" * number)
            hub.push("nlp.mood", folder / "model", message=f"take {number}", **MODELS["nlp.mood"])
        hub.push("nlp.topics", folder / "model", bases=["nlp.mood@1"], **MODELS["nlp.topics"])
        hub.push("vision.ocr", folder / "model", **MODELS["vision.ocr"])
        hub.alias.set("nlp.mood", "champion", "nlp.mood@1")
        search.refresh(target)
        yield hub
        search.drop_target(target)


def names(result: SearchResult) -> list[str]:
    return [f"{hit.name}@{hit.number}" for hit in result.hits]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("chinese reviews", {"nlp.mood@2"}),
        ("评论 情感", {"nlp.mood@2"}),
        ("电商评论的中文情感", {"nlp.mood@2"}),
        ("classifying receipts", set()),
        ("name:nlp.* label:chinese", {"nlp.mood@2", "nlp.topics@1"}),
        ("framework:onnx OR metric.f1:>0.9", {"vision.ocr@1", "nlp.mood@2"}),
        ("param.optimizer:adam* license:apache*", {"nlp.mood@2"}),
        ("size:2B files:1", {"nlp.mood@2", "nlp.topics@1", "vision.ocr@1"}),
        ("base:nlp.mood@*", {"nlp.topics@1"}),
        ("parent:nlp.mood@1", {"nlp.mood@2"}),
        ("alias:champion", set()),
        ("created:>=2020 NOT owner:vision actor:tester", {"nlp.mood@2", "nlp.topics@1"}),
        ("created:<2020", set()),
        ('message:"take 2"', {"nlp.mood@2"}),
        ("branch:main -text", {"nlp.mood@2", "nlp.topics@1"}),
    ],
)
def test_a_search_finds_what_it_says(hub: Hub, text: str, found: set[str]) -> None:
    result = hub.search(text)
    assert set(names(result)) == found
    assert result.total == len(found)


def test_other_versions_than_current_ones_are_found_on_request(hub: Hub) -> None:
    assert names(hub.search("alias:champion", all_versions=True)) == ["nlp.mood@1"]
    assert names(hub.search('message:"take"', all_versions=True, sort="-number")) == [
        "nlp.mood@2",
        "nlp.mood@1",
    ]


def test_hits_come_in_the_order_asked_for_with_counts_and_in_pages(hub: Hub) -> None:
    first = hub.search("", sort="-metric.f1", facets=["label", "framework"], limit=2)
    assert names(first) == ["nlp.mood@2", "nlp.topics@1"]
    assert first.total == 3
    counted = {
        field: [(count.value, count.count) for count in counts]
        for field, counts in first.facets.items()
    }
    assert counted == {
        "label": [("chinese", 2), ("classification", 1), ("ocr", 1), ("sentiment", 1)],
        "framework": [("pytorch", 2), ("onnx", 1)],
    }
    rest = hub.search("", sort="-metric.f1", limit=2, after=first.next)
    assert (names(rest), rest.next) == (["vision.ocr@1"], None)


def test_a_hit_shows_the_words_that_were_sought(hub: Hub) -> None:
    (hit,) = hub.search("photograph receipts").hits
    assert hit.highlight is not None
    assert hit.highlight.field == "description"
    marked = [hit.highlight.text[start:end] for start, end in hit.highlight.marks]
    assert marked == ["photographs", "receipts"]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("sentimant chinse", "sentiment chinese"),
        ("Photogaphs -chinese", "photographs NOT chinese"),
        ("label:chinese topcis", 'topics label:"chinese"'),
        ("qwertyuiop", None),
        ("receipts owner:nobody", None),
        ("vision.orc", "vision.ocr"),
    ],
)
def test_where_nothing_is_found_another_spelling_that_finds_something_is_named(
    hub: Hub, text: str, meant: str | None
) -> None:
    result = hub.search(text)
    assert (result.total, result.suggestion) == (0, meant)
    if meant is not None:
        assert hub.search(meant).total
        assert hub.search(meant).suggestion is None


def test_models_that_are_described_alike_are_found_without_the_model_itself(hub: Hub) -> None:
    assert names(hub.search(like="nlp.mood@1"))[0] == "nlp.topics@1"
    assert names(hub.search("framework:onnx", like="nlp.mood")) == []
    with pytest.raises(NotFound):
        hub.search(like="nlp.mood@9")


HOSTILE = {
    "script": "script:ctx._source.remove('x')",
    "script as JSON": '{"script": {"source": "while(true);"}}',
    "an index": "_index:modelhub-secret",
    "all indices": "*:*",
    "indices": "modelhub-*,.security-*",
    "a leading wildcard": "name:*a*a*a*a*",
    "a word with one": "*sentiment",
    "a regular expression": "name:/(a+)+$/",
    "1 MB": "a " * 2**19,
    "1 MB without a space": "情" * 2**20,
    "deep nesting": "(" * 1000 + "a" + ")" * 1000,
    "deep negation": "NOT " * 1000 + "a",
    "very many clauses": "a OR " * 800 + "b",
    "a NUL": "a\0b",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_search_is_refused_with_the_column(hub: Hub, text: str) -> None:
    with pytest.raises(InvalidInput, match=r"^column \d+: ") as caught:
        hub.search(text)
    assert caught.value.remedy
    assert len(caught.value.message) < 300


@pytest.mark.parametrize(
    "options",
    [
        {"limit": 10**9},
        {"after": "x" * 10**6},
        {"after": "eyJzY3JpcHQiOiAxfQ=="},
        {"sort": "_script"},
        {"sort": "param."},
        {"facets": ["_id"]},
        {"facets": ["label"] * 1000},
        {"like": "nlp.*"},
    ],
)
def test_hostile_options_are_refused(hub: Hub, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        hub.search("sentiment", **options)


@pytest.mark.parametrize(
    "text",
    [
        *("'; DROP TABLE documents_1; --", '"} OR 1=1" \' \\', 'label:\'";--" x', "${jndi:ldap}"),
        *(
            "NEAR/7 ^ {x y} : z",
            "owner:{}",
            'title:"a\\" OR b"',
            'param."\'; --":1',
            "\u202e\ufeff",
        ),
    ],
)
def test_what_another_language_would_read_as_a_command_is_text(hub: Hub, text: str) -> None:
    assert hub.search(text).total == 0
    assert hub.search("").total == 3
