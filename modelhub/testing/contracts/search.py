"""The contract of ``SearchIndex``."""

# ruff: noqa: D102 (the tests are named as sentences)

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelhub.backends.matching import Held, holds
from modelhub.errors import InvalidInput, NotFound
from modelhub.query.fields import Sort, sort_of
from modelhub.query.parse import parse
from modelhub.stores import TEXT_FIELDS, Count, Document, Query, SearchIndex
from modelhub.testing.contracts.corpus import BODIES, CLAUSES, MODELS, QUERIES

Add = Callable[..., None]
Found = Callable[..., list[str]]

CALLS: dict[str, Callable[[SearchIndex, str], object]] = {
    "write": lambda index, target: index.write(target, [Document("a", 1, {"name": "a"})]),
    "refresh": lambda index, target: index.refresh(target),
    "get": lambda index, target: index.get(target, ["a"]),
    "scan": lambda index, target: list(index.scan(target)),
    "search": lambda index, target: index.search(target, Query(where=parse("a"))),
    "near": lambda index, target: index.near(target, ["a"]),
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


def _numbered(number: int) -> dict[str, Any]:
    """A document of which some have no value, and some the same one."""
    return {
        "name": f"alpha.{number * 37 % 57:02}",
        "current": True,
        "number": number // 10,
        "size_bytes": 2**40 - number,
        "created": f"2026-05-01T12:{number % 30:02}:00.{number:06}+00:00",
        "params": {"lr": number % 3 / 10} if number % 4 else {"lr": "0.1"},
        "metrics": {"f1": number % 7} if number % 2 else {},
    }


def _place(order: str, number: int) -> tuple[Any, ...]:
    """Where the document stands in an order, told from what it is."""
    sign = -1 if order.startswith("-") else 1
    body = _numbered(number)
    value = {
        "score": 0,
        "name": number * 37 % 57,
        "created": number % 30,
        "number": number // 10,
        "size": 2**40 - number,
        "param.lr": None if number % 4 == 0 else body["params"]["lr"],
        "metric.f1": body["metrics"].get("f1"),
    }[order.removeprefix("-")]
    return value is None, sign * (value or 0), number


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
            hits = index.search(target, Query(where=parse(text), **options))
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
        assert other.search(target, Query(where=parse("sentiment"))).hits[0].body == body

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
            assert other.search(target, Query(where=parse("alpha"))).total == number + 1

    @pytest.mark.parametrize("field", TEXT_FIELDS)
    def test_each_field_is_searched_as_a_text_or_a_list(
        self, add: Add, found: Found, field: str
    ) -> None:
        add("text", **{field: "some alpha words"})
        add("list", **{field: ["some", "alpha words"]})
        add("none", name="nothing", message="alpha is in no searched field")
        assert sorted(found("alpha")) == ["list", "text"]

    def test_two_words_must_both_occur_in_whatever_field(self, add: Add, found: Found) -> None:
        add("both", title="Alpha", card="… beta.")
        add("one", title="alpha", card="gamma")
        add("other", title="beta")
        assert found("alpha beta") == ["both"]
        assert found("BETA, Alpha!") == ["both"]
        assert found("alpha nowhere") == []

    def test_a_weightier_field_ranks_higher(
        self, index: SearchIndex, target: str, add: Add
    ) -> None:
        order = list(TEXT_FIELDS)
        for number, field in enumerate(order):
            add(f"{9 - number}-{field}", **{field: "alpha"})
        for number in range(20):
            add(f"filler{number}", **dict.fromkeys(order, "filler"))
        index.refresh(target)
        hits = index.search(target, Query(where=parse("alpha"))).hits
        assert [hit.id[2:] for hit in hits] == order
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)

    @pytest.mark.parametrize("text", ["alpha", ""])
    def test_equal_scores_are_ordered_by_id(self, add: Add, found: Found, text: str) -> None:
        for number in (3, 1, 4, 5, 9, 2, 6):
            add(f"m@{number}", name="alpha")
        assert found(text) == [f"m@{number}" for number in (1, 2, 3, 4, 5, 6, 9)]

    @pytest.mark.parametrize(
        "order", ["score", "name", "-name", "created", "-number", "-size", "param.lr", "-metric.f1"]
    )
    @pytest.mark.parametrize("text", ["alpha", ""])
    def test_pages_follow_each_other_in_every_order_and_the_total_counts_all(
        self, index: SearchIndex, target: str, text: str, order: str
    ) -> None:
        index.write(target, [Document(f"{n:02}", 1, _numbered(n)) for n in range(57)])
        index.refresh(target)
        query = Query(where=parse(text), limit=20, sort=sort_of(order))
        whole = index.search(target, msgspec.structs.replace(query, limit=1000))
        assert (whole.total, len(whole.hits), whole.next) == (57, 57, None)
        pages = [index.search(target, query)]
        while pages[-1].next is not None:
            query = msgspec.structs.replace(query, after=pages[-1].next)
            pages.append(index.search(target, query))
        assert [(page.total, len(page.hits)) for page in pages] == [(57, 20), (57, 20), (57, 17)]
        found = [hit.id for page in pages for hit in page.hits]
        assert found == [hit.id for hit in whole.hits]
        assert found == sorted(
            (f"{n:02}" for n in range(57)), key=lambda one: _place(order, int(one))
        )

    def test_a_cursor_continues_its_own_search_alone(
        self, index: SearchIndex, target: str, add: Add
    ) -> None:
        for number in range(3):
            add(f"m@{number}", name="alpha", number=number)
        index.refresh(target)
        query = Query(where=parse("alpha"), limit=1)
        after = index.search(target, query).next
        assert after is not None
        others = [
            Query(where=parse("beta"), after=after),
            Query(where=parse("alpha"), sort=sort_of("number"), after=after),
            Query(where=parse("alpha"), current_only=False, after=after),
            *(Query(where=parse("alpha"), after=text) for text in ("", "x", "情", after[:-4])),
        ]
        for other in others:
            with pytest.raises(InvalidInput, match="does not continue"):
                index.search(target, other)

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

    @pytest.mark.parametrize("text", ["!", "?? …", '""', "。、「」", "' -- ^", '"?" AND !'])
    def test_punctuation_finds_nothing_and_is_no_error(
        self, add: Add, found: Found, text: str
    ) -> None:
        add("a", name="alpha", card="? ! * ( ) 。")
        assert found(text) == []

    def test_beside_words_punctuation_counts_for_nothing(self, add: Add, found: Found) -> None:
        add("a", name="alpha", card="beta")
        assert found("alpha, & beta - ?") == ["a"]

    @pytest.mark.parametrize(
        "text", ["' or 1=1 --", "near beta, 6", "alph?", "{title} beta^9", "a\\", "alpha~"]
    )
    def test_no_engines_syntax_is_understood(self, add: Add, found: Found, text: str) -> None:
        add("a", title="alpha", card="5")
        assert found(text) == (["a"] if text == "alpha~" else [])

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("alpha beta nowhere", ["all", "three", "two"]),
            ("gamma delta a1 b1 c1 d1", ["all"]),
            ("alpha nowhere", []),
            ("alpha AND beta AND nowhere", []),
            ("how do I do the omega", ["none"]),
            ('"gamma delta" nowhere b1', ["all"]),
            ("alpha OR nowhere", ["all", "three", "two"]),
            ("alpha AND NOT gamma", ["two"]),
            ("alpha -gamma", ["two"]),
            ("NOT alpha", ["none"]),
            ("gamma AND (delta OR nowhere) OR omega", ["all", "none"]),
            ("alpha (delta OR beta) -delta", ["three", "two"]),
        ],
    )
    def test_of_more_than_two_words_a_third_has_to_occur_unless_operators_say_more(
        self, add: Add, found: Found, text: str, expected: list[str]
    ) -> None:
        add("all", card="alpha beta gamma delta")
        add("three", card="alpha beta gamma")
        add("two", card="alpha beta")
        add("none", card="omega")
        assert sorted(found(text)) == expected

    @pytest.mark.parametrize(("text", "expected"), CLAUSES)
    def test_each_kind_of_clause_finds_what_it_says(
        self, index: SearchIndex, target: str, found: Found, text: str, expected: list[str]
    ) -> None:
        index.write(target, [Document(name, 1, body) for name, body in MODELS.items()])
        assert sorted(found(text)) == expected

    def test_keywords_are_counted_over_all_pages(
        self, index: SearchIndex, target: str, add: Add
    ) -> None:
        for number in range(30):
            add(f"{number:02}", labels=["All", f"l{number % 12:02}"], owner="ops" * (number > 20))
        add("tombstone")
        index.write(target, [Document("tombstone", 2, None)])
        index.refresh(target)
        where = parse("label:all -l03")
        found = index.search(target, Query(where=where, limit=1, facets=("label", "owner", "tag")))
        assert found.facets["label"] == [
            Count("all", 27),
            *(Count(f"l{n:02}", 3) for n in (0, 1, 2, 4, 5)),
            *(Count(f"l{n:02}", 2) for n in (6, 7, 8, 9)),
        ]
        assert found.facets["owner"] == [Count("ops", 8)]
        assert found.facets["tag"] == []

    def test_a_name_that_is_exactly_what_is_sought_comes_first(
        self, add: Add, found: Found
    ) -> None:
        add("a", name="bert.large", title="bert, bert and bert", labels=["bert"], card="bert")
        add("b", name="bert", card="something else altogether, and at some length")
        for number in range(10):
            add(f"f{number}", name=f"filler-{number}")
        assert found("bert") == ["b", "a"]
        assert found("bert OR filler")[0] == "b"

    def test_words_that_stand_together_rank_higher(self, add: Add, found: Found) -> None:
        add("apart", description="image work; later on, and quite unlike it, segmentation")
        add("together", description="work; later on, and quite unlike it, image segmentation")
        for number in range(10):
            add(f"f{number}", description="filler")
        assert found("image segmentation") == ["together", "apart"]

    def test_a_hit_shows_where_its_words_are(self, index: SearchIndex, target: str) -> None:
        body = {"name": "x", "current": True, "description": "Classifiers for 中文情感分析."}
        index.write(target, [Document("x", 1, body)])
        index.refresh(target)
        query = Query(where=parse("classifier 情感分析"), highlight=True)
        (hit,) = index.search(target, query).hits
        assert hit.highlight is not None
        assert hit.highlight.field == "description"
        shown = [hit.highlight.text[start:end] for start, end in hit.highlight.marks]
        assert shown == ["Classifiers", "情感分析"]
        assert index.search(target, Query(where=parse("x"))).hits[0].highlight is None

    def test_words_that_are_spelt_nearly_alike_are_named(
        self, index: SearchIndex, target: str, add: Add
    ) -> None:
        add("a", description="sentiment of reviews", card="sentinel")
        add("b", title="Sentiment", labels=["chinese"])
        add("c", title="sediment centimental", name="sentimental")
        index.refresh(target)
        asked = ["sentimant", "Chinse", "chineses", "sentiment", "qwertyuiop", "情感", "x" * 300]
        assert index.near(target, asked) == {
            "sentimant": ["sentiment"],
            "Chinse": ["chinese"],
        }

    @pytest.mark.parametrize(
        "text",
        [
            *(
                "情感",
                "分析",
                "情感分析",
                "感分",
                "中文情感分析模型",
                "分析 情感",
                "BERT情感",
                "bert",
            ),
            *("中文评论", "判断电商评论是好评还是差评的模型"),
        ],
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
        many = "-".join(f"w{number}" for number in range(1000))[:4096]
        long, chinese = "x" * 4096, "".join(map(chr, range(0x4E00, 0x4E00 + 4096)))
        add("many", card=many)
        add("long", card=f"{long} and {long}")
        add("zh", card=chinese)
        assert (found(many), found(long), found(chinese)) == (["many"], ["long"], ["zh"])
        words = ["alpha", *(chinese[start : start + 60] for start in range(0, 3780, 60))]
        assert found(" ".join(words)) == ["zh"]

    @pytest.mark.parametrize(
        "query",
        [
            Query(limit=0),
            Query(limit=-1),
            Query(limit=1001),
            Query(limit=10**9),
            Query(after="x" * 4097),
            Query(sort=Sort("owner")),
            Query(sort=Sort("nothing")),
            Query(sort=Sort("score", descending=False)),
            Query(facets=("name",)),
            Query(facets=("size",)),
            Query(facets=("_index",)),
            Query(facets=("label",) * 11),
        ],
        ids=repr,
    )
    def test_what_is_no_query_is_refused(
        self, index: SearchIndex, target: str, query: Query
    ) -> None:
        with pytest.raises(InvalidInput):
            index.search(target, query)

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(bodies=st.lists(BODIES, max_size=5), asked=st.lists(QUERIES, min_size=1, max_size=6))
    def test_what_is_found_is_what_holds_for_each_document(
        self, search_backend: SearchBackend, bodies: list[dict[str, Any]], asked: list[str]
    ) -> None:
        target = f"{search_backend.target}-random"
        index = search_backend.open()
        index.drop_target(target)
        index.create_target(target)
        index.write(target, [Document(str(n), 1, body) for n, body in enumerate(bodies)])
        index.refresh(target)
        for text in asked:
            where = parse(text)
            hits = index.search(target, Query(where=where, current_only=False)).hits
            expected = {str(n) for n, body in enumerate(bodies) if holds(where, Held.of(body))}
            assert {hit.id for hit in hits} == expected, text
        index.drop_target(target)
        index.close()

    def test_the_description_says_where_and_what_it_is(
        self, index: SearchIndex, target: str, add: Add
    ) -> None:
        add("a", name="a", params={"lr": 0.1, "optimizer": "adam"}, metrics={"f1": 0.9})
        description = msgspec.json.decode(msgspec.json.encode(index.describe()))
        assert {"kind", "address", "version"} <= description.keys()
        assert description["documents"][target] == 1

    def test_closing_twice_is_closing_once(self, search_backend: SearchBackend) -> None:
        index = search_backend.open()
        index.write(search_backend.target, [Document("a", 1, {"name": "a"})])
        index.close()
        index.close()
        assert search_backend.raw_get(search_backend.target, "a") == (1, {"name": "a"})
