from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelhub.describe.facts import Facts, apply, facts_text, parse_value
from modelhub.errors import InvalidInput
from modelhub.records import Metadata, MetadataRow, decode, encode

HELD = Metadata(
    title="A title",
    description="What it does",
    owner="ann",
    created=datetime(2025, 1, 1, tzinfo=UTC),
    datasets=("glue",),
    params={"lr": 0.1, "epochs": 3},
    labels=("nlp",),
    bases=("org/base",),
    extra={"team": "search"},
)


def stored(metadata: Metadata) -> Metadata:
    """What comes back from a row."""
    return decode(encode(MetadataRow(1, "t", metadata)), MetadataRow, "row").metadata


def test_fields_that_are_not_given_stay_as_they_are() -> None:
    assert apply(HELD, {}) == HELD
    assert apply(HELD, {"title": "Another"}) == Metadata(
        **{field: getattr(HELD, field) for field in HELD.__struct_fields__} | {"title": "Another"}
    )


@pytest.mark.parametrize("nothing", [None, ""])
@pytest.mark.parametrize("field", list(Facts.__annotations__))
def test_none_or_an_empty_text_clears_a_field(field: str, nothing: object) -> None:
    assert getattr(apply(HELD, {field: nothing}), field) == getattr(Metadata(), field)


def test_pairs_are_merged_and_none_removes_a_key() -> None:
    changed = apply(HELD, {"params": {"lr": None, "never there": None, "seed": 7}})
    assert changed.params == {"epochs": 3, "seed": 7}
    assert HELD.params == {"lr": 0.1, "epochs": 3}


def test_lists_are_replaced_and_name_each_item_once() -> None:
    assert apply(HELD, {"labels": ["b", "a", "b"]}).labels == ("b", "a")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float64(0.5), 0.5),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.str_("x"), "x"),
        (True, True),
        (-(2**63), -(2**63)),
        (2**63 - 1, 2**63 - 1),
        ("", ""),
        ("é" * 2048, "é" * 2048),
    ],
)
def test_scalars_come_back_from_a_row_with_their_type(value: Any, expected: object) -> None:
    held = stored(apply(Metadata(), {"metrics": {"m": value}})).metrics["m"]
    assert held == expected
    assert type(held) is type(expected)


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        -math.inf,
        np.float32("inf"),
        Fraction(1, 2),
        2**63,
        -(2**63) - 1,
        10**5000,
        "x" * 4097,
        "\ud800",
        "a\0b",
        [1],
        {"a": 1},
        b"bytes",
        1j,
        object(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_that_json_cannot_keep_is_refused_by_its_key(value: object) -> None:
    with pytest.raises(InvalidInput, match="some key"):
        apply(Metadata(), {"extra": {"some key": value}})


def test_an_unknown_field_is_named_with_those_that_there_are() -> None:
    with pytest.raises(InvalidInput, match="'license' is not a field") as caught:
        apply(Metadata(), {"license": "mit"})
    assert "licence" in caught.value.remedy
    with pytest.raises(InvalidInput, match="'bases' is not a field"):
        apply(Metadata(), {"bases": ["x"]})


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"title": 3}, "title takes a text, not a value of type int"),
        ({"title": "x" * 513}, "title .* is not one line of at most 512"),
        ({"title": "two\nlines"}, "title .* is not one line"),
        ({"owner": "\x1b[2J"}, "owner .* is not one line"),
        ({"description": "x" * 65537}, "description has 65,537 bytes"),
        ({"card": "語" * 21846}, "card has 65,538 bytes"),
        ({"card": "a\0b"}, "card .* is not text that can be stored"),
        ({"licence": "\udcff"}, "licence .* is not text that can be stored"),
        ({"labels": "nlp"}, "labels takes a list of texts, not a value of type str"),
        ({"labels": {"a": 1}}, "labels takes a list"),
        ({"labels": ["x"] * 65}, "labels has 65 items"),
        ({"labels": [""]}, "cannot be one of the labels"),
        ({"labels": ["x" * 129]}, "cannot be one of the labels"),
        ({"labels": [1]}, "a value of type int cannot be one of the labels"),
        ({"labels": ["\ud800"]}, "labels .* is not text"),
        ({"datasets": ["x"] * 257}, "datasets has 257 items"),
        ({"params": [("a", 1)]}, "params takes keys and values"),
        ({"params": {1: 1}}, "a value of type int cannot be a key of params"),
        ({"params": {"": 1}}, "cannot be a key of params"),
        ({"params": {"k" * 129: 1}}, "cannot be a key of params"),
        ({"params": {"a\u202eb": 1}}, "cannot be a key of params"),
        ({"metrics": {str(n): n for n in range(257)}}, "metrics would have 257 keys"),
        ({"created": 2025}, "created takes a datetime or a text"),
        ({"created": "yesterday"}, "'yesterday' is not a time"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(facts: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        apply(HELD, facts)
    assert caught.value.remedy
    assert str(caught.value).isprintable()


def test_a_text_for_a_list_is_told_how_to_write_it() -> None:
    with pytest.raises(InvalidInput) as caught:
        apply(Metadata(), {"labels": "nlp"})
    assert caught.value.remedy == "Write labels=['nlp']."


def test_a_merge_counts_the_keys_that_are_there_already() -> None:
    full = apply(Metadata(), {"extra": {str(n): n for n in range(256)}})
    with pytest.raises(InvalidInput, match="extra would have 257 keys"):
        apply(full, {"extra": {"one more": 1}})
    assert len(apply(full, {"extra": {"0": None, "one more": 1}}).extra) == 256


@pytest.mark.parametrize(
    "created",
    [
        "2026-05-01T14:00+02:00",
        "2026-05-01T12:00",
        datetime(2026, 5, 1, 12),
        datetime(2026, 5, 1, 12, tzinfo=UTC),
        datetime(2026, 5, 1, 14, tzinfo=timezone(timedelta(hours=2))),
    ],
    ids=str,
)
def test_created_becomes_utc_however_it_is_given(created: object) -> None:
    moment = apply(Metadata(), {"created": created}).created
    assert moment == datetime(2026, 5, 1, 12, tzinfo=UTC)
    assert moment is not None
    assert moment.tzinfo is UTC


@given(st.text())
def test_a_title_is_kept_as_given_or_refused(text: str) -> None:
    try:
        held = apply(Metadata(), {"title": text})
    except InvalidInput:
        assert len(text) > 512 or any(ord(char) < 32 or 127 <= ord(char) < 160 for char in text)
    else:
        assert stored(held).title == text


@given(
    st.dictionaries(
        st.text(max_size=130),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        max_size=8,
    )
)
def test_what_is_accepted_comes_back_from_a_row_unchanged(pairs: dict[str, object]) -> None:
    try:
        held = apply(Metadata(), {"params": pairs})
    except InvalidInput:
        return
    back = stored(held).params
    assert back == {key: value for key, value in pairs.items() if value is not None}
    assert [*map(type, back.values())] == [*map(type, held.params.values())]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-40", -40),
        ("+7", 7),
        ("0", 0),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", "9223372036854775808"),
        ("007", "007"),
        ("1_000", "1_000"),
        ("٣", "٣"),
        ("1.5", 1.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e-4", 1e-4),
        ("2E3", 2000.0),
        ("1e999", "1e999"),
        ("nan", "nan"),
        ("inf", "inf"),
        (".", "."),
        ("e5", "e5"),
        ("true", True),
        ("False", False),
        ("no", "no"),
        ('"3"', "3"),
        ("'true'", "true"),
        ('""', ""),
        ('"', '"'),
        ('"it\'s"', "it's"),
        (" 3", " 3"),
        ("3\n", "3\n"),
        ("", ""),
        ("adam", "adam"),
        ("2026-05-01", "2026-05-01"),
    ],
)
def test_a_value_is_typed_by_how_it_is_written(text: str, value: object) -> None:
    parsed = parse_value(text)
    assert parsed == value
    assert type(parsed) is type(value)


@given(st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False))
def test_a_printed_number_is_parsed_back(value: float) -> None:
    parsed = parse_value(str(value))
    if isinstance(value, float) and math.isinf(value):
        assert parsed == str(value)
    else:
        assert parsed == value
        assert type(parsed) is type(value)


@given(st.text())
def test_quotes_make_a_text_of_anything(text: str) -> None:
    assert parse_value(f'"{text}"') == text


@given(st.text())
def test_every_parsed_value_is_one_that_can_be_stored(text: str) -> None:
    if "\0" not in text:
        value = parse_value(text)
        assert stored(apply(Metadata(), {"params": {"p": value}})).params == {"p": value}


def test_search_finds_the_facts() -> None:
    facts = facts_text(
        Metadata(
            title="not here",
            owner="ann",
            creator="bob",
            licence="mit",
            framework="pytorch",
            datasets=("glue", "维基"),
            bases=("org/base",),
            params={"lr": 1e-4, "shuffle": True},
            metrics={"accuracy": 0.91},
            extra={"team": "search", "describe.skipped": "README.md: not UTF-8 text"},
        )
    )
    assert facts == [
        "ann",
        "bob",
        "mit",
        "pytorch",
        "glue",
        "维基",
        "org/base",
        "lr=0.0001",
        "shuffle=true",
        "accuracy=0.91",
        "team=search",
    ]
    assert facts_text(Metadata()) == []
