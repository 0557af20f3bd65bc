"""What search in Elasticsearch promises beyond the contract, on a real server."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from modelhub.backends.elastic_search import ElasticIndex
from modelhub.backends.sqlite_search import SqliteSearch
from modelhub.errors import (
    CorruptData,
    InvalidInput,
    ModelhubError,
    NotFound,
    OutcomeUnknown,
    Unavailable,
)
from modelhub.query.parse import parse
from modelhub.stores import TEXT_FIELDS, Document, Query, SearchIndex
from modelhub.testing.contracts import SearchBackend
from modelhub.testing.contracts.search import CALLS
from tests.live.search import SearchStack, elastic_search, open_elastic, request

Raw = Callable[..., Any]

TEXTS = [
    *("many classifiers", "a classifier", "fine-tuned for translating", "classic"),
    *("Café Zürich", "ＢＥＲＴ－ｂａｓｅ", "straße", "Модель Ёлка", "GPT-2 (124M)"),
    *("GPT-J, trained in 2 days", "https://example.org/models/bert_base", "and or not near"),
    *("nlp.sentiment-v2", "nlp.sentiment-v2-large-zh", "sentiment.nlp", "vision.ocr_v3"),
    *("基于BERT的中文情感分析模型,适用于电商评论。", "情感, 分析", "感 情", "情", "图像分割"),
    *("日本語の感情分析モデル", "ﾃﾞｰﾀ", "한국어 감성 분석", "𠮷野家", "C++ and C#", "x" * 9000),
]
QUERIES = [
    *("classifier", "Classifiers", "translation", "class", "cafe zurich", "CAFÉ", "bert base"),
    *("STRASSE", "модель елка", "gpt-2", "bert_base", '"NOT"', "nlp.sentiment-v2", "sentiment"),
    *("v2 nlp", "nlp.sentiment", "sentiment-v2-large", "情感分析", "情感", "感", "情", "BERT 情感"),
    *("感情", "分割 图像", "データ", "モデル", "국", "감성", "𠮷野", "c++", "c", "example.org"),
    *("x" * 4096, "bert的", "BERT的中文", "情感分析 model", "…", "the"),
]


@pytest.fixture
def elastic(stack: SearchStack) -> Iterator[SearchBackend]:
    yield from elastic_search(stack)


@pytest.fixture
def target(elastic: SearchBackend) -> str:
    return elastic.target


@pytest.fixture
def index(elastic: SearchBackend) -> Iterator[SearchIndex]:
    with closing(elastic.open()) as index:
        yield index


@pytest.fixture
def hasty(stack: SearchStack, target: str) -> Iterator[ElasticIndex]:
    """An index that waits for two seconds at most."""
    with closing(open_elastic(stack, prefix=target, timeout_s=2.0)) as index:
        yield index


@pytest.fixture
def raw(stack: SearchStack) -> Raw:
    """One request past the driver, which must succeed; the answer."""

    def raw(method: str, path: str, body: object = None) -> Any:
        status, answer = request(stack, method, path, body)
        assert status < 300, answer
        return answer

    return raw


def found(index: SearchIndex, target: str, text: str) -> list[str]:
    hits = index.search(target, Query(where=parse(text), current_only=False, limit=100)).hits
    return [hit.id for hit in hits]


def test_both_engines_find_the_same_in_english_chinese_and_mixed_scripts(
    index: SearchIndex, target: str, tmp_path: Path
) -> None:
    fields = list(TEXT_FIELDS)
    documents = [
        Document(f"{field}-{number:02}", 1, {field: text if number % 2 else [text, "filler"]})
        for number, text in enumerate(TEXTS)
        for field in (fields[number % len(fields)], "card")
    ]
    with closing(SqliteSearch(tmp_path / "search.sqlite")) as embedded:
        embedded.create_target(target)
        for engine in (index, embedded):
            engine.write(target, documents)
            engine.refresh(target)
        for text in QUERIES:
            here, there = found(index, target, text), found(embedded, target, text)
            assert sorted(here) == sorted(there), text
        assert sum(bool(found(index, target, text)) for text in QUERIES) > 25


def test_the_shorter_of_two_names_with_the_same_word_ranks_higher(
    index: SearchIndex, target: str
) -> None:
    names = ["nlp.sentiment-v2-large-zh", "nlp.sentiment-v2", *(f"m{n}" for n in range(20))]
    index.write(target, [Document(name, 1, {"name": name}) for name in names])
    index.refresh(target)
    assert found(index, target, "nlp.sentiment-v2") == names[1::-1]


def test_a_name_of_a_thousand_parts_is_searched_for(index: SearchIndex, target: str) -> None:
    alphabet = "abcdefghijklmnopqrstuvwxyz012345"
    text = "-".join(f"{a}.{b}" for a in alphabet for b in alphabet)[:4095]
    index.write(target, [Document("a", 1, {"card": text}), Document("b", 1, {"card": text[4:]})])
    index.refresh(target)
    assert found(index, target, text) == ["a"]


@pytest.mark.parametrize("late", [3, 5])
def test_an_older_write_never_wins_however_old_the_tombstone_is(
    index: SearchIndex, elastic: SearchBackend, target: str, raw: Raw, late: int
) -> None:
    # After this time Elasticsearch forgets the versions of documents that it was told to delete.
    raw("PUT", f"/{target}/_settings", {"index": {"gc_deletes": "1ms"}})
    index.write(target, [Document("a", 1, {"name": "alpha"})])
    index.write(target, [Document("a", 5, None), Document("b", 5, None)])
    for step in ("_refresh", "_flush", "_forcemerge?max_num_segments=1"):
        raw("POST", f"/{target}/{step}")
    index.write(target, [Document(name, late, {"name": "alpha"}) for name in ("a", "b")])
    assert [elastic.raw_get(target, name) for name in ("a", "b")] == [(5, None)] * 2


def test_bodies_with_any_keys_and_depth_come_back_as_they_were(
    index: SearchIndex, target: str
) -> None:
    deep: dict[str, Any] = {"end": True}
    for _ in range(100):
        deep = {"deep": deep}
    body = {
        "": 1,
        ".": [],
        "a..b": {},
        "a.b": None,
        "current": "no boolean",
        "number": 10**30,
        "small": 1e-300,
        **deep,
    }
    index.write(target, [Document("a", 1, body), Document("b", 1, {})])
    expected = [Document("a", 1, body), Document("b", 1, {})]
    assert list(index.scan(target)) == expected == [*index.get(target, ["a", "b"]).values()]
    assert [hit.body for hit in index.search(target, Query(current_only=False)).hits] == [body, {}]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_no_call_touches_what_is_a_pattern_or_anothers(
    index: SearchIndex, target: str, call: Callable[[SearchIndex, str], object]
) -> None:
    for name in ("*", f"{target}*", f"{target},{target}-b", "_all", "others", f"{target}/_doc"):
        with pytest.raises(InvalidInput, match="is not the name of a search target"):
            call(index, name)
        with pytest.raises(InvalidInput):
            index.drop_target(name)
    assert index.targets() == [target]


def test_only_aliases_of_indices_named_after_them_are_targets(
    index: SearchIndex, target: str, raw: Raw
) -> None:
    raw("PUT", f"/{target}.index/_alias/{target}-another-name")
    assert index.targets() == [target]
    assert index.describe()["documents"] == {target: 0}


def test_targets_are_made_and_dropped_by_racing_threads(index: SearchIndex, target: str) -> None:
    names = [f"{target}-{letter}" for letter in "ab"] * 3
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(index.create_target, names))
        assert index.targets() == sorted([target, *set(names)])
        list(pool.map(index.drop_target, names))
    assert index.targets() == [target]


def test_a_write_never_makes_an_index_even_while_the_target_is_dropped(
    stack: SearchStack, elastic: SearchBackend, index: SearchIndex, target: str, raw: Raw
) -> None:
    control = f"{target}-control"
    raw("PUT", f"/{control}/_doc/a", {"name": "a"})  # this server makes indices where it may
    raw("DELETE", f"/{control}")
    over = threading.Event()

    def write(worker: int) -> tuple[int, int]:
        taken = refused = 0
        with closing(elastic.open()) as mine:
            while not over.is_set():
                try:
                    mine.write(target, [Document(f"{worker}-{taken}", 1, {"name": "a"})])
                    taken += 1
                except (NotFound, OutcomeUnknown):
                    refused += 1
        return taken, refused

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, number) for number in range(4)]
        try:
            for _ in range(4):
                index.drop_target(target)
                # Were it made by a write, it would stand under the target's own name.
                assert request(stack, "GET", f"/{target}")[0] == 404
                index.create_target(target)
        finally:
            over.set()
        counts = [writer.result() for writer in writers]
    taken, refused = (sum(numbers) for numbers in zip(*counts, strict=True))
    assert taken > 0
    assert refused > 0
    assert list(raw("GET", f"/{target}")) == [f"{target}.index"]
    index.drop_target(target)
    with pytest.raises(NotFound):
        index.write(target, [Document("a", 1, {"name": "a"})])
    assert raw("GET", f"/{target}*?expand_wildcards=all") == {}


@pytest.mark.parametrize("body", ["broken", 7, ["a"]])
def test_a_damaged_document_is_named_and_not_served(
    index: SearchIndex, target: str, raw: Raw, body: object
) -> None:
    fields = {"id": "m@7", "current": True, "body": body}
    raw("PUT", f"/{target}/_doc/m@7?refresh=true", fields)
    reads: list[Callable[[], object]] = [
        lambda: index.get(target, ["m@7"]),
        lambda: list(index.scan(target)),
        lambda: index.search(target, Query()),
    ]
    for read in reads:
        with pytest.raises(CorruptData, match="m@7") as caught:
            read()
        assert "reindex" in caught.value.remedy


def test_a_target_with_another_mapping_is_named_with_the_way_to_mend_it(
    index: SearchIndex, target: str, raw: Raw
) -> None:
    index.drop_target(target)
    mappings = {"dynamic": "strict", "properties": {"id": {"type": "text"}}}
    raw("PUT", f"/{target}.index", {"aliases": {target: {}}, "mappings": mappings})
    for call in ("write", "scan", "search"):
        with pytest.raises(CorruptData, match=target) as caught:
            CALLS[call](index, target)
        assert "reindex" in caught.value.remedy


def test_a_target_of_an_earlier_layout_takes_no_document_of_this_one(
    index: SearchIndex, target: str, raw: Raw, elastic: SearchBackend
) -> None:
    index.drop_target(target)
    earlier = {
        "id": {"type": "keyword"},
        "current": {"type": "boolean"},
        "body": {"enabled": False},
    }
    words = {field: {"type": "text"} for field in TEXT_FIELDS}
    mappings = {"dynamic": "strict", "properties": {**earlier, **words}}
    raw("PUT", f"/{target}.index", {"aliases": {target: {}}, "mappings": mappings})
    with pytest.raises(CorruptData, match=target) as caught:
        index.write(target, [Document("a", 1, {"name": "alpha", "owner": "ops"})])
    assert "modelhub admin reindex" in caught.value.remedy
    assert elastic.raw_get(target, "a") is None


@pytest.mark.parametrize("block", ["read_only_allow_delete", "write"])
def test_a_blocked_index_refuses_writes_and_says_how_to_lift_the_block(
    index: SearchIndex, target: str, raw: Raw, stack: SearchStack, block: str
) -> None:
    index.write(target, [Document("a", 1, {"name": "alpha", "current": True})])
    index.refresh(target)
    raw("PUT", f"/{target}/_settings", {"index": {f"blocks.{block}": True}})
    with pytest.raises(Unavailable, match=f"{stack.search_url}.*blocked by") as caught:
        index.write(target, [Document("b", 1, {"name": "b"}), Document("a", 2, None)])
    assert ("Free disk space" in caught.value.remedy) == (block == "read_only_allow_delete")
    assert index.search(target, Query(where=parse("alpha"))).total == 1
    raw("PUT", f"/{target}/_settings", {"index": {f"blocks.{block}": None}})
    index.write(target, [Document("b", 1, {"name": "b"})])


def test_an_index_without_a_shard_that_is_up_answers_nothing_and_says_where_to_look(
    hasty: ElasticIndex, target: str, raw: Raw, stack: SearchStack
) -> None:
    hasty.drop_target(target)
    nowhere = {"index.routing.allocation.require._name": "no-such-node"}
    raw(
        "PUT",
        f"/{target}.index?wait_for_active_shards=0",
        {"aliases": {target: {}}, "settings": nowhere},
    )
    for name, call in CALLS.items():
        expected = OutcomeUnknown if name == "write" else Unavailable
        started = time.monotonic()
        with pytest.raises(expected, match=stack.search_url) as caught:
            call(hasty, target)
        assert time.monotonic() - started < 4, name
        assert "GET /_cluster/" in caught.value.remedy, name
    assert hasty.describe()["health"] == "red"
    started = time.monotonic()
    with pytest.raises(OutcomeUnknown, match="shard"):
        hasty.write(target, [Document("a", 1, None)], timeout_s=0.5)
    assert time.monotonic() - started < 1.5


def test_a_document_that_elasticsearch_can_never_take_is_refused(
    index: SearchIndex, target: str
) -> None:
    with pytest.raises(InvalidInput, match="id"):
        index.write(target, [Document("x" * 513, 1, {"name": "a"})])


def test_a_forked_child_and_its_parent_each_have_connections_of_their_own(
    elastic: SearchBackend, target: str
) -> None:
    context = multiprocessing.get_context("fork")
    with closing(elastic.open()) as index:
        index.write(target, [Document("a", 1, {"name": "alpha"})])

        def child(number: int, there: Any) -> None:
            try:
                index.write(target, [Document(f"c{number}", 1, {"name": "alpha"})])
                there.send([sorted(index.get(target, ["a"])) for _ in range(20)])
            except ModelhubError as error:
                there.send(error)
            index.close()

        pipes = [context.Pipe() for _ in range(3)]
        children = [
            context.Process(target=child, args=(number, pipe[1]))
            for number, pipe in enumerate(pipes)
        ]
        for process in children:
            process.start()
        assert [sorted(index.get(target, ["a"])) for _ in range(20)] == [["a"]] * 20
        for process, (here, there) in zip(children, pipes, strict=True):
            there.close()
            with here:
                assert here.recv() == [["a"]] * 20
            process.join()
        assert sorted(document.id for document in index.scan(target)) == ["a", "c0", "c1", "c2"]


def test_many_threads_search_at_once(index: SearchIndex, target: str) -> None:
    index.write(target, [Document(f"{n:03}", 1, {"name": f"alpha n{n}"}) for n in range(64)])
    index.refresh(target)
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda n: found(index, target, f"alpha n{n}"), range(64)))
    assert answers == [[f"{n:03}"] for n in range(64)]


def test_a_scan_that_is_given_up_leaves_nothing_open(
    index: SearchIndex, target: str, raw: Raw
) -> None:
    index.write(target, [Document(f"{n:04}", 1, {"n": n}) for n in range(600)])

    def contexts() -> int:
        stats = raw("GET", f"/{target}/_stats/search")
        count: int = stats["_all"]["primaries"]["search"]["open_contexts"]
        return count

    before = contexts()
    scan = index.scan(target)
    assert isinstance(scan, Iterator)
    assert next(scan).id == "0000"
    assert contexts() == before + 1
    scan.close()  # type: ignore[attr-defined]
    assert contexts() == before


def test_a_closed_index_opens_again(index: SearchIndex, target: str) -> None:
    index.write(target, [Document("a", 1, {"name": "a"})])
    index.close()
    assert sorted(index.get(target, ["a"])) == ["a"]
