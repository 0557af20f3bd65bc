"""The language of searches: what it means, what is refused and where, and that it never breaks."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from modelhub.errors import InvalidInput
from modelhub.query.clauses import (
    And,
    Bag,
    Clause,
    Equal,
    Not,
    Or,
    Phrase,
    Prefix,
    Range,
    Word,
    sought,
    text_of,
)
from modelhub.query.fields import Sort, facet_of, sort_of
from modelhub.query.parse import CHARS, CLAUSES, DEPTH, parse
from modelhub.query.spelling import respelt, sought_words
from modelhub.testing.contracts.corpus import CLAUSES as EXAMPLES
from modelhub.testing.contracts.corpus import QUERIES

A, B, C, D = map(Word, "abcd")
DAY = 86_400_000
MAY = 1_777_593_600_000  # 2026-05-01


def test_bounds_at_the_ends_of_the_calendar_are_written_again() -> None:
    for text in ("created:<0001", "created:>9999"):
        clause = parse(text)
        assert clause is not None
        assert parse(text_of(clause)) is not None


def test_a_size_without_a_unit_has_that_of_the_other_end() -> None:
    assert parse("size:1..2KB") == Range("size", 1000, 2000)


def test_a_key_to_sort_by_may_be_in_quotes() -> None:
    assert sort_of('-metric."a key"') == Sort("metric.a key", descending=True)


@pytest.mark.parametrize(
    ("text", "message", "remedy"),
    [
        ('"praise', "column 1: a quotation mark", "Close it"),
        ('"label":chinese', "column 1: a quotation mark", "without a colon"),
        ("a AND", "column 6: the search ends", "a word"),
        ("OR a", "column 1: unexpected OR", 'write "OR"'),
        ("a)", "column 2: unexpected ')'", "No parenthesis is open"),
        ("title:/x/", "column 7: '/x/' looks like a regular expression", "quotes"),
    ],
)
def test_a_refusal_says_what_is_wrong_and_what_to_do(text: str, message: str, remedy: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(text)
    assert caught.value.message.startswith(message)
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        ("", None),
        (" \t\n　", None),
        ("a", Bag((A,))),
        ("a b c", Bag((A, B, C))),
        ('a "b c" d', Bag((A, Phrase("b c"), D))),
        ('"say \\"a\\" \\\\"', Bag((Phrase('say "a" \\'),))),
        ("a AND b", And((A, B))),
        ("a AND b c", And((A, B, C))),
        ("a OR b c OR d", Or((A, Bag((B, C)), D))),
        ("a OR b AND c", Or((A, And((B, C))))),
        ("(a b) c", And((Bag((C,)), Bag((A, B))))),
        ("（title：b）“c”", And((Bag((Phrase("c"),)), Word("b", "title")))),
        ("a OR b AND NOT c", Or((A, And((B, Not(C)))))),
        ("(a OR b) c", And((Bag((C,)), Or((A, B))))),
        ("(a b)", Bag((A, B))),
        ("((a))", Bag((A,))),
        ("-a", Not(A)),
        ("a -b", And((Bag((A,)), Not(B)))),
        ("a -(b OR c)", And((Bag((A,)), Not(Or((B, C)))))),
        ('NOT -"a b"', Not(Not(Phrase("a b")))),
        ("or and not", Bag((Word("or"), Word("and"), Word("not")))),
        ("ANDROID ORacle", Bag((Word("ANDROID"), Word("ORacle")))),
        ("title:a", Word("a", "title")),
        ("title:a - 🤖", Word("a", "title")),
        ("title:a - b", And((Bag((B,)), Word("a", "title")))),
        ("- 🤖", Bag((Word("-"), Word("🤖")))),
        ('title:"a b" c', And((Bag((C,)), Phrase("a b", "title")))),
        ("name:nlp.x", Word("nlp.x", "name")),
        ('name:"nlp.x"', Equal("name", "nlp.x")),
        ("name:nlp.*", Prefix("name", "nlp.")),
        ("labels:C++", Equal("label", "C++")),
        ("license:mit*", Prefix("licence", "mit")),
        ("extra.path:/data/x", Equal("extra.path", "/data/x")),
        ('param."learning \\"rate\\"":0.1', Range('param.learning "rate"', 0.1, 0.1)),
        ("params.a.b-c:x", Equal("param.a.b-c", "x")),
        ('param.a:"1"', Equal("param.a", "1")),
        ("param.a:1e-4..", Range("param.a", 1e-4)),
        ("param.a:..-1", Range("param.a", high=-1)),
        ("param.a:x..y", Equal("param.a", "x..y")),
        ("metric.f1:>=.9", Range("metric.f1", 0.9)),
        ("metric.f1:<0.9", Range("metric.f1", high=0.9, strict=True)),
        ("size:<2GB", Range("size", high=2e9, strict=True)),
        ("size:1.5KiB..2mb", Range("size", 1536, 2e6)),
        ("size:17", Range("size", 17, 17)),
        ("created:2026-05-01", Range("created", MAY, MAY + DAY - 1)),
        ("created:2026-05", Range("created", MAY, MAY + 31 * DAY - 1)),
        ("created:2026-05-01..2026-05", Range("created", MAY, MAY + 31 * DAY - 1)),
        ("created:>2026-05-01", Range("created", MAY + DAY)),
        ("created:<2026-05-01", Range("created", high=MAY - 1)),
        ("created:<=2026-05-01", Range("created", high=MAY + DAY - 1)),
        ("created:2026-05-01T00:01", Range("created", MAY + 60_000, MAY + 120_000 - 1)),
        ("created:2026-05-01T02:00:00+02:00", Range("created", MAY, MAY + 999)),
        ('created:"2026-05-01 00:00:00.001Z"', Range("created", MAY + 1, MAY + 1)),
    ],
)
def test_a_search_means(text: str, clause: Clause | None) -> None:
    assert parse(text) == clause


@pytest.mark.parametrize(
    "text",
    [
        *("resnet-50", "nlp.sentiment-v2", "C++", "don't", "e.g.", "GPT-2,", "what?", "100%", "#1"),
        *(
            "中文:情感分析。",
            "「情感」、分析",
            "Note:",
            "12:30",
            "https://example.org/a:b?c=d",
            "a/b",
        ),
        *(
            "x=1;y",
            "{a}",
            "[b]",
            "--flag",
            "-",
            "a--b",
            "...",
            "<b>",
            "l'été",
            "naïve",
            "🤖",
            "~a^2",
        ),
    ],
)
def test_plain_text_is_words_whatever_its_punctuation(text: str) -> None:
    assert parse(f"a {text}") == Bag((A, Word(text)))


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("(a", 3, "ends"),
        ("a)", 2, "'\\)'"),
        ("()", 2, "'\\)'"),
        ("a AND", 6, "ends"),
        ("AND a", 1, "unexpected"),
        ("a OR OR b", 6, "unexpected"),
        ("NOT", 4, "ends"),
        ('say "a', 5, "quotation mark"),
        ('{"script": {"source": "1"}}', 2, "quotation mark"),
        ("script:doc['x'].value", 1, "'script' is not a field"),
        ("a _index:modelhub-x", 3, "'_index' is not a field"),
        ("_id:1 OR _source:x", 1, "'_id' is not a field"),
        ("Owner:ops", 1, "'Owner' is not a field"),
        ("modelhub-*,others", 10, "'\\*'"),
        ("*:*", 1, "'\\*'"),
        ("a *word", 3, "'\\*'"),
        ("name:*word", 6, "'\\*'"),
        ("name:*", 6, "'\\*'"),
        ("owner:a*b*", 8, "'\\*'"),
        ("title:word*", 11, "'\\*'"),
        ("wor*", 4, "'\\*'"),
        ("/[a-z]{9999}/", 1, "regular expression"),
        ("name:/(a+)+$/", 6, "regular expression"),
        ("name:/a+$/", 6, "regular expression"),
        ("owner:", 7, "no value"),
        ("a owner: b", 9, "no value"),
        ('owner:""', 7, "empty value"),
        ("name:(a OR b)", 6, "unexpected"),
        ("param:1", 1, "names no key"),
        ("metric.:1", 1, "names no key"),
        ("a size:big", 8, "is not a size"),
        ("size:2XB", 6, "is not a size"),
        ("size:-1", 6, "is not a size"),
        ("size:1e400", 6, "is not a size"),
        ("number:one", 8, "is not a number"),
        ("number:>", 8, "is not a number"),
        ("number:nan", 8, "is not a number"),
        ("number:..", 8, "without ends"),
        ("number:2..1", 8, "before it begins"),
        ("created:yesterday", 9, "is not a time"),
        ("created:2026-02-30", 9, "is not a time"),
        ("created:0000", 9, "is not a time"),
        ("created:9999-12-31T23:59-23:59", 9, "is not a time"),
        ("param.a:>x", 9, "is not a number"),
        ("a\0b", 2, "in no text"),
        ("ab\ud800", 3, "in no text"),
        ("x" * (CHARS + 1), CHARS + 1, "4,097 characters"),
        ("x " * 2**19, CHARS + 1, "characters"),
        ("(" * CHARS, CHARS + 1, "ends"),
        ("(" * (DEPTH + 1) + "a" + ")" * (DEPTH + 1), 1, "deep"),
        ("a " + "NOT " * (DEPTH + 1) + "a", 3, "deep"),
        ("a " * CLAUSES + "b", 2 * CLAUSES + 1, "more than 64"),
    ],
)
def test_what_is_no_search_is_refused_with_the_column(text: str, column: int, reason: str) -> None:
    begun = time.monotonic()
    with pytest.raises(InvalidInput, match=rf"^column {column}: .*({reason})") as caught:
        parse(text)
    assert caught.value.remedy
    assert len(caught.value.message) < 200
    assert time.monotonic() - begun < 2


def test_what_goes_to_the_limits_is_taken() -> None:
    assert parse("(" * DEPTH + "a" + ")" * DEPTH) == Bag((A,))
    assert parse("a " * CLAUSES) == Bag((A,) * CLAUSES)
    assert parse("x" * CHARS) == Bag((Word("x" * CHARS),))
    assert parse("created:0001..9999") is not None


def test_a_field_that_is_misspelt_is_answered_with_those_that_are_near() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse("onwer:ops")
    assert "owner" in caught.value.remedy


_PIECES = st.sampled_from(
    [
        *("AND", "OR", "NOT", "-", "(", ")", '"', "*", "/", ":", "..", ">", "<=", "\\", " ", "\n"),
        *(
            "a",
            "情感",
            "name:",
            "size:",
            "param.x:",
            'extra."k',
            "created:",
            "2026-05",
            "2GB",
            "0.1",
        ),
    ]
)


@given(st.text(max_size=80) | st.lists(_PIECES, max_size=30).map("".join) | QUERIES)
@example('a" b":c')
@example("x:\\")
@example('param."":1')
@example('param."a\nb":1')
@example("a (AND)")
@example("NOT-a")
def test_any_text_is_a_search_that_can_be_written_again_or_is_refused(text: str) -> None:
    clause, refusal = None, None
    try:
        clause = parse(text)
    except InvalidInput as error:
        refusal = error
    if clause is not None:
        assert parse(text_of(clause)) == clause
    elif refusal is not None:
        column = re.match("column ([0-9]+): ", refusal.message)
        assert column is not None
        assert 1 <= int(column[1]) <= len(text) + 1
        assert refusal.remedy
    else:
        assert not text.strip()


@pytest.mark.parametrize("text", [text for text, _ in EXAMPLES])
def test_a_search_written_again_is_the_same(text: str) -> None:
    clause = parse(text)
    assert clause is not None
    assert parse(text_of(clause)) == clause


@given(st.integers(1, 300).map(lambda n: "(a OR " * n), st.sampled_from(["", ")", '"', "b)("]))
def test_deep_and_broken_nesting_takes_no_time(text: str, end: str) -> None:
    begun = time.monotonic()
    with pytest.raises(InvalidInput):
        parse((text + end)[:CHARS])
    assert time.monotonic() - begun < 2


def test_sorts_and_facets_have_the_names_of_fields() -> None:
    assert sort_of("-created") == Sort("created", descending=True)
    assert sort_of("params.lr") == Sort("param.lr", descending=False)
    assert sort_of("score") == sort_of("-score") == Sort()
    assert facet_of("labels") == "label"
    for wrong in ("", "-", "owner", "param", "_id", "title"):
        with pytest.raises(InvalidInput):
            sort_of(wrong)
    for wrong in ("", "name", "size", "param.lr", "_id"):
        with pytest.raises(InvalidInput):
            facet_of(wrong)


def test_what_is_ruled_out_is_not_sought() -> None:
    clause = parse("a (b OR title:c) -d")
    assert [part.text for part in sought(clause)] == ["a", "b", "c"]


def test_words_are_replaced_wherever_they_stand() -> None:
    clause = parse('Chinse sentimant-v2 -(title:chinse OR "no sentimant") owner:chinse')
    assert clause is not None
    assert sought_words(clause) == ["Chinse", "sentimant"]
    other = respelt(clause, {"Chinse": "chinese", "sentimant": "sentiment"})
    assert text_of(other) == (
        'chinese sentiment-v2 NOT (title:chinse OR "no sentiment") owner:"chinse"'
    )
