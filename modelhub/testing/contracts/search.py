"""The contract of ``SearchIndex``."""

# ruff: noqa: D102 (the tests are named as sentences)

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from modelhub.errors import InvalidInput, NotFound
from modelhub.stores import TEXT_FIELDS, Document, Query, SearchIndex

Add = Callable[..., None]
Found = Callable[..., list[str]]

CALLS: dict[str, Callable[[SearchIndex, str], object]] = {
    "write": lambda index, target: index.write(target, [Document("a", 1, {"name": "a"})]),
    "refresh": lambda index, target: index.refresh(target),
    "get": lambda index, target: index.get(target, ["a"]),
    "scan": lambda index, target: list(index.scan(target)),
    "search": lambda index, target: index.search(target, Query(text="a")),
}


@dataclass(frozen=True)
class SearchBackend:
    """What the tests need of a search index: supply it as the fixture ``search_backend``.

    Attributes:
        open: makes an index on the same documents each time it is called.
        target: a target that exists, without documents.
        raw_get: reads a document's version and body past the index, None where it is absent.
    """

    open: Callable[[], SearchIndex]
    target: str
    raw_get: Callable[[str, str], tuple[int, dict[str, Any] | None] | None]


class SearchIndexContract:
    """What every search index does."""

    @pytest.fixture
    def index(self, search_backend: SearchBackend) -> Iterator[SearchIndex]:
        index = search_backend.open()
        yield index
        index.close()

    @pytest.fixture
    def other(self, search_backend: SearchBackend) -> Iterator[SearchIndex]:
        """A second index on the same documents, as another process has one."""
        other = search_backend.open()
        yield other
        other.close()

    @pytest.fixture
    def target(self, search_backend: SearchBackend) -> str:
        return search_backend.target

    @pytest.fixture
    def found(self, index: SearchIndex, target: str) -> Found:
        """The ids that a query finds."""

        def found(text: str = "", **options: Any) -> list[str]:
            index.refresh(target)
            hits = index.search(target, Query(text=text, **options))
            return [hit.id for hit in hits.hits]

        return found

    @pytest.fixture
    def add(self, index: SearchIndex, target: str) -> Add:
        """Store a current document, by the fields of its body."""

        def add(document_id: str, version: int = 1, **body: Any) -> None:
            index.write(target, [Document(document_id, version, {"current": True, **body})])

        return add

    def test_creating_a_target_again_keeps_its_documents(
        self, index: SearchIndex, target: str, add: Add
    ) -> None:
        add("a", name="a")
        index.create_target(target)
        assert index.get(target, ["a"]).keys() == {"a"}

    def test_targets_are_listed_in_order_until_they_are_dropped(
        self, index: SearchIndex, other: SearchIndex, target: str
    ) -> None:
        names = [f"{target}-c", f"{target}-a", f"{target}-b"]
        for name in names:
            index.create_target(name)
        assert other.targets() == sorted([target, *names])
        for name in (*names, f"{target}-never"):
            other.drop_target(name)
            other.drop_target(name)
        assert index.targets() == [target]

    def test_a_dropped_target_takes_its_documents_and_versions_with_it(
        self, index: SearchIndex, target: str, add: Add
    ) -> None:
        add("a", version=9, name="old")
        index.drop_target(target)
        index.create_target(target)
        assert list(index.scan(target)) == []
        add("a", version=1, name="new")
        assert index.get(target, ["a"])["a"].version == 1

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    def test_a_target_that_does_not_exist_is_not_found_and_never_made(
        self, index: SearchIndex, target: str, call: Callable[[SearchIndex, str], object]
    ) -> None:
        with pytest.raises(NotFound, match=f"{target}-missing"):
            call(index, f"{target}-missing")
        assert index.targets() == [target]

    def test_a_document_is_stored_as_it_was_written(
        self, index: SearchIndex, other: SearchIndex, target: str, search_backend: SearchBackend
    ) -> None:
        body = {
            "name": "nlp.sentiment",
            "labels": ["中文", "nlp"],
            "current": True,
            "number": 3,
            "size_bytes": 2**40,
            "deep": {"list": [1, 2.5, None, {"emoji": "🤖"}], "quote": "'\"\\ \u2028"},
        }
        index.write(target, [Document("nlp.sentiment@3", 2**41 + 7, body)])
        assert search_backend.raw_get(target, "nlp.sentiment@3") == (2**41 + 7, body)
        expected = Document("nlp.sentiment@3", 2**41 + 7, body)
        assert other.get(target, ["nlp.sentiment@3", "absent"]) == {expected.id: expected}
        index.refresh(target)
        assert other.search(target, Query(text="sentiment")).hits[0].body == body

    def test_an_older_or_equal_version_changes_nothing_and_is_no_error(
        self, target: str, add: Add, search_backend: SearchBackend
    ) -> None:
        add("a", version=5, name="five")
        for version in (4, 5):
            add("a", version=version, name="stale")
            held = search_backend.raw_get(target, "a")
            assert held == (5, {"current": True, "name": "five"})
        add("a", version=6, name="six")
        assert search_backend.raw_get(target, "a") == (6, {"current": True, "name": "six"})

    def test_within_one_write_the_highest_version_stays(
        self, index: SearchIndex, target: str
    ) -> None:
        versions = [3, 1, 7, 5, 7, 2]
        index.write(target, [Document("a", version, {"number": version}) for version in versions])
        assert index.get(target, ["a"]) == {"a": Document("a", 7, {"number": 7})}
        index.write(target, [])

    def test_a_write_may_be_told_how_long_it_may_take(
        self, index: SearchIndex, target: str
    ) -> None:
        index.write(target, [Document("a", 1, {"number": 1})], timeout_s=30.0)
        assert index.get(target, ["a"]) == {"a": Document("a", 1, {"number": 1})}

    def test_writes_racing_in_any_order_end_with_the_highest_version(
        self, index: SearchIndex, other: SearchIndex, target: str
    ) -> None:
        def write(version: int) -> None:
            mine = (index, other)[version % 2]
            mine.write(target, [Document("a", version, {"number": version})])

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, (number * 37 % 64 for number in range(64))))
        assert index.get(target, ["a"]) == {"a": Document("a", 63, {"number": 63})}

    def test_a_replaced_document_is_found_by_its_new_words_alone(
        self, add: Add, found: Found
    ) -> None:
        add("a", name="alpha", description="情感分析")
        add("a", version=2, name="beta", description="图像分割")
        assert (found("alpha"), found("情感")) == ([], [])
        assert (found("beta"), found("图像")) == (["a"], ["a"])

    def test_a_tombstone_answers_no_search_and_remembers_its_version(
        self,
        index: SearchIndex,
        target: str,
        add: Add,
        found: Found,
        search_backend: SearchBackend,
    ) -> None:
        add("a", version=1, name="alpha")
        index.write(target, [Document("a", 5, None), Document("b", 5, None)])
        for document_id in ("a", "b"):
            add(document_id, version=4, name="alpha")
            assert search_backend.raw_get(target, document_id) == (5, None)
        assert found("alpha") == found() == found(current_only=False) == []
        assert index.get(target, ["a"]) == {"a": Document("a", 5, None)}
        assert list(index.scan(target)) == [Document("a", 5, None), Document("b", 5, None)]
        add("a", version=6, name="alpha")
        assert found("alpha") == ["a"]

    def test_get_finds_those_that_exist_among_thousands(
        self, index: SearchIndex, target: str
    ) -> None:
        documents = [Document(f"m@{number}", 1, {"n": number}) for number in range(0, 3000, 2)]
        index.write(target, documents)
        asked = [f"m@{number}" for number in range(3000)]
        assert index.get(target, asked) == {document.id: document for document in documents}
        assert index.get(target, []) == {}

    def test_a_scan_has_every_document_in_the_order_of_ids(
        self, index: SearchIndex, target: str
    ) -> None:
        ids = ["B", "a", "a.b", "a@1", "a@10", "a@2", *(f"m@{number:04}" for number in range(2000))]
        documents = [
            Document(document_id, number + 1, None if number % 7 == 0 else {"name": document_id})
            for number, document_id in enumerate(ids)
        ]
        index.write(target, documents[::-1])
        assert list(index.scan(target)) == sorted(documents, key=lambda document: document.id)

    def test_written_documents_are_found_by_another_index_after_a_refresh(
        self, index: SearchIndex, other: SearchIndex, target: str, add: Add
    ) -> None:
        for number in range(10):
            add(f"m@{number}", name="alpha")
            index.refresh(target)
            assert other.search(target, Query(text="alpha")).total == number + 1

    @pytest.mark.parametrize("field", TEXT_FIELDS)
    def test_each_field_is_searched_as_a_text_or_a_list(
        self, add: Add, found: Found, field: str
    ) -> None:
        add("text", **{field: "some alpha words"})
        add("list", **{field: ["some", "alpha words"]})
        add("none", name="nothing", message="alpha is in no searched field")
        assert sorted(found("alpha")) == ["list", "text"]

    def test_every_word_must_occur_in_whatever_field(self, add: Add, found: Found) -> None:
        add("both", title="Alpha", card="… beta.")
        add("one", title="alpha", card="gamma")
        add("other", title="beta")
        assert found("alpha beta") == ["both"]
        assert found("BETA, Alpha!") == ["both"]
        assert found("alpha beta gamma") == []

    def test_a_weightier_field_ranks_higher(
        self, index: SearchIndex, target: str, add: Add
    ) -> None:
        order = list(TEXT_FIELDS)
        for number, field in enumerate(order):
            add(f"{9 - number}-{field}", **{field: "alpha"})
        for number in range(20):
            add(f"filler{number}", **dict.fromkeys(order, "filler"))
        index.refresh(target)
        hits = index.search(target, Query(text="alpha")).hits
        assert [hit.id[2:] for hit in hits] == order
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)

    @pytest.mark.parametrize("text", ["alpha", ""])
    def test_equal_scores_are_ordered_by_id(self, add: Add, found: Found, text: str) -> None:
        for number in (3, 1, 4, 5, 9, 2, 6):
            add(f"m@{number}", name="alpha")
        assert found(text) == [f"m@{number}" for number in (1, 2, 3, 4, 5, 6, 9)]

    def test_pages_follow_each_other_and_the_total_counts_all(
        self, index: SearchIndex, target: str
    ) -> None:
        body = {"name": "alpha", "current": True}
        index.write(target, [Document(f"{number:03}", 1, body) for number in range(57)])
        index.refresh(target)
        for text in ("alpha", ""):
            queries = [Query(text=text, limit=20, offset=offset) for offset in (0, 20, 40, 10_000)]
            pages = [index.search(target, query) for query in queries]
            assert [page.total for page in pages] == [57] * 4
            assert [hit.id for page in pages for hit in page.hits] == [f"{n:03}" for n in range(57)]

    def test_documents_that_are_not_current_are_found_on_request_alone(
        self, add: Add, found: Found
    ) -> None:
        add("m@1", name="alpha", current=False)
        add("m@2", name="alpha")
        for text in ("alpha", ""):
            assert found(text) == ["m@2"]
            assert found(text, current_only=False) == ["m@1", "m@2"]

    @pytest.mark.parametrize("text", ["", " ", "\t\n"])
    def test_an_empty_text_matches_every_document(self, add: Add, found: Found, text: str) -> None:
        add("a", name="alpha")
        add("b", title="")
        add("c")
        assert found(text) == ["a", "b", "c"]

    @pytest.mark.parametrize("text", ["!", "?? …", '"', "。、「」", "***", "( ) ^"])
    def test_punctuation_finds_nothing_and_is_no_error(
        self, add: Add, found: Found, text: str
    ) -> None:
        add("a", name="alpha", card="? ! * ( ) 。")
        assert found(text) == []

    @pytest.mark.parametrize(
        "text",
        [
            "alpha OR beta",
            "name:alpha",
            "{name title} : alpha",
            "alph*",
            "alph?",
            "' OR 1=1 --",
            "NEAR(alpha beta, 5)",
            "alpha AND (beta",
            '"alpha beta',
            "/al.*/",
            "a\\",
        ],
    )
    def test_no_engines_syntax_is_understood(self, add: Add, found: Found, text: str) -> None:
        add("a", title="alpha")
        assert found(text) == []

    @pytest.mark.parametrize(
        "text",
        ["情感", "分析", "情感分析", "感分", "中文情感分析模型", "分析 情感", "BERT情感", "bert"],
    )
    def test_chinese_is_found_by_words_of_two_characters_and_more(
        self, add: Add, found: Found, text: str
    ) -> None:
        add("zh", description="基于BERT的中文情感分析模型,适用于电商评论。")
        add("en", description="a sentiment model")
        assert found(text) == ["zh"]

    def test_a_chinese_word_of_one_character_is_found_where_it_stands_alone(
        self, add: Add, found: Found
    ) -> None:
        add("zh", labels=["猫", "图像"])
        assert found("猫") == ["zh"]

    @pytest.mark.parametrize("text", ["感情", "情析", "情感分割", "情感 图像"])
    def test_chinese_characters_in_another_order_are_not_found(
        self, add: Add, found: Found, text: str
    ) -> None:
        add("zh", description="中文情感分析模型")
        assert found(text) == []

    @pytest.mark.parametrize("text", ["感情分析", "モデル", "日本語", "감성", "분석"])
    def test_japanese_and_korean_are_found_as_chinese_is(
        self, add: Add, found: Found, text: str
    ) -> None:
        add("ja", description="日本語の感情分析モデル", card="한국어 감성 분석")
        add("en", description="a model")
        assert found(text) == ["ja"]

    @pytest.mark.parametrize(
        "text", ["nlp.sentiment-v2", "nlp", "sentiment", "v2", "NLP.Sentiment", "sentiment-v2"]
    )
    def test_a_model_name_is_found_whole_and_by_its_parts(
        self, add: Add, found: Found, text: str
    ) -> None:
        add("a", name="nlp.sentiment-v2")
        add("b", name="vision.ocr_v3")
        assert found(text) == ["a"]

    def test_a_text_of_4096_characters_is_searched_for(self, add: Add, found: Found) -> None:
        many = " ".join(f"w{number}" for number in range(1000))[:4096]
        long, chinese = "x" * 4096, "情感分析" * 1024
        add("many", card=many)
        add("long", card=f"{long} and {long}")
        add("zh", card=chinese)
        assert (found(many), found(long), found(chinese)) == (["many"], ["long"], ["zh"])

    @pytest.mark.parametrize(
        "query",
        [
            Query(text="x" * 4097),
            Query(text="a\0b"),
            Query(text="\ud83e"),
            Query(limit=0),
            Query(limit=-1),
            Query(limit=1001),
            Query(offset=-1),
            Query(offset=10_001),
        ],
        ids=repr,
    )
    def test_what_is_no_query_is_refused(
        self, index: SearchIndex, target: str, query: Query
    ) -> None:
        with pytest.raises(InvalidInput):
            index.search(target, query)

    def test_the_description_says_where_and_what_it_is(
        self, index: SearchIndex, target: str, add: Add
    ) -> None:
        add("a", name="a")
        description = msgspec.json.decode(msgspec.json.encode(index.describe()))
        assert {"kind", "address", "version"} <= description.keys()
        assert description["documents"][target] == 1

    def test_closing_twice_is_closing_once(self, search_backend: SearchBackend) -> None:
        index = search_backend.open()
        index.write(search_backend.target, [Document("a", 1, {"name": "a"})])
        index.close()
        index.close()
        assert search_backend.raw_get(search_backend.target, "a") == (1, {"name": "a"})
