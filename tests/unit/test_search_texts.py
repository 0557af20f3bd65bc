"""What texts are to search: stems, the pieces that are shown, and other spellings."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelhub.backends.highlights import PIECE_CHARS, highlight
from modelhub.backends.spelling import distance, nearest
from modelhub.backends.stems import stem
from modelhub.backends.values import keyword, keywords, numbers
from modelhub.query.parse import parse
from modelhub.stores import Highlight


@pytest.mark.parametrize(
    "words",
    [
        "classify classifies classified classifying",
        "translation translate translated translating translations",
        "detector detectors",
        "reviews review reviewed",
        "quantised quantising",
    ],
)
def test_forms_of_a_word_have_one_stem(words: str) -> None:
    assert len({stem(word) for word in words.split()}) == 1


def test_stems_are_cut_in_several_threads_at_once() -> None:
    words = [f"{letter}{number % 26 * 'x'}ing" for number in range(200) for letter in "abcdef"]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(stem.__wrapped__, words)) == [stem(word) for word in words]


@pytest.mark.parametrize(
    "word", ["情感", "v2", "café", "a", "is", "x" * 65, "", "модели", "résumés"]
)
def test_what_is_no_english_word_is_its_own_stem(word: str) -> None:
    assert stem(word) == word


def marked(found: Highlight | None) -> tuple[str, list[str]]:
    assert found is not None
    return found.field, [found.text[start:end] for start, end in found.marks]


@pytest.mark.parametrize(
    ("body", "text", "expected"),
    [
        ({"title": "a cat", "card": "cats and dogs"}, "cat dog", ("card", ["cats", "dogs"])),
        ({"title": "a cat", "card": "cat"}, "cat dog", ("card", ["cat"])),
        ({"labels": ["dog", "big cat"]}, "cat", ("labels", ["cat"])),
        ({"card": "中文情感分析模型"}, "情感分析", ("card", ["情感分析"])),
        ({"card": "中文情感分析模型"}, "模", ("card", ["模"])),
        ({"card": "ＢＥＲＴ－base Café"}, "bert cafe", ("card", ["ＢＥＲＴ", "Café"])),
        (
            {"card": "nlp.sentiment-v2, gpt_2"},
            "sentiment gpt_2",
            ("card", ["sentiment", "gpt", "2"]),
        ),
        ({"card": "the cat"}, "where is the cat", ("card", ["cat"])),
        ({"card": "cat dog"}, "cat -dog", ("card", ["cat"])),
        ({"card": "cat", "message": "cat dog"}, "cat message:dog", ("message", ["cat", "dog"])),
    ],
)
def test_a_hit_shows_its_words(
    body: dict[str, object], text: str, expected: tuple[str, list[str]]
) -> None:
    assert marked(highlight(body, parse(text))) == expected


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"card": "x" * 4000}, "x" * 4000),
        ({"name": "cat"}, "cat"),
        ({"card": "cat"}, "owner:cat"),
        ({"card": "cat"}, ""),
    ],
)
def test_a_hit_that_shows_nothing_has_no_highlight(body: dict[str, object], text: str) -> None:
    assert highlight(body, parse(text)) is None


def test_of_a_long_text_the_piece_with_the_most_words_is_shown() -> None:
    text = "alpha " + "filler " * 500 + "alpha\nand beta, then " + "filler " * 500 + "beta"
    found = highlight({"card": text}, parse("alpha beta"))
    assert marked(found) == ("card", ["alpha", "beta"])
    assert found is not None
    assert "alpha and beta, then" in found.text
    assert found.text.startswith("… filler ")
    assert found.text.endswith(" filler …")
    assert len(found.text) <= PIECE_CHARS + 4


@given(
    st.text(st.sampled_from("ab 情感分\nﬁé.-🤖"), max_size=400),
    st.lists(
        st.sampled_from(["a", "ab", "情感", "分", "fi", "e", "情感分析"]), min_size=1, max_size=4
    ),
)
def test_marks_lie_in_order_inside_the_piece(text: str, words: list[str]) -> None:
    found = highlight({"card": text}, parse(" ".join(words)))
    if found is not None:
        ends = [0, *(end for mark in found.marks for end in mark), len(found.text)]
        assert ends == sorted(ends)
        assert all(start < end for start, end in found.marks)


@pytest.mark.parametrize(
    ("a", "b", "apart"),
    [
        *(("", "", 0), ("a", "", 1), ("abc", "abc", 0), ("abc", "acb", 1), ("abcd", "acbe", 2)),
        *(("kitten", "sitting", 3), ("model", "mdoel", 1), ("情感", "感情", 1)),
    ],
)
def test_words_are_so_many_edits_apart(a: str, b: str, apart: int) -> None:
    assert distance(a, b) == distance(b, a) == apart


def test_the_nearest_words_come_first_then_the_most_frequent() -> None:
    spelt = {"sentiment": 1, "sentimant": 9, "sentimentt": 2, "segment": 50, "zentiment": 9}
    assert nearest("sentimnt", spelt) == ["sentimant", "sentiment", "sentimentt"]
    assert nearest("Sentiments", spelt) == []  # found by its stem
    assert nearest("cat", {"car": 1, "cart": 5, "dog": 9}) == ["cart", "car"]


def test_a_keyword_is_compared_without_case_accents_width_and_surplus_space() -> None:
    assert keyword("  Ｏｐｓ\u3000 TÉAM ") == "ops team"


def test_values_of_another_type_than_their_fields_are_left_out() -> None:
    body = {
        "owner": 7,
        "labels": ["a", 3, None, "A", ""],
        "number": True,
        "files": 2**63,
        "size_bytes": 1.5,
        "created": "yesterday",
        "params": {"a": None, "b": [1], "c": float("inf"), "d": 2**70, "e": ""},
        "metrics": "none",
        "extra": {"yes": True, "one": 1},
    }
    assert keywords(body) == {"label": ["a"], "extra.yes": ["true"]}
    assert numbers(body) == {"extra.one": 1.0}
