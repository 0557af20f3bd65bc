from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelhub.errors import InvalidInput
from modelhub.names import (
    AtTime,
    Digest,
    Head,
    Number,
    Ref,
    Selector,
    file_path,
    instant,
    message_text,
    model_name,
    ref_name,
    request_id,
    revision,
    shown,
)

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)

BAD_NAMES = {
    "two dots": "nlp..sentiment",
    "parent": "../sentiment",
    "slash": "nlp/sentiment",
    "escaped slash": "nlp%2esentiment",
    "backslash": "nlp\\sentiment",
    "NUL": "nlp\0sentiment",
    "newline inside": "nlp\nsentiment",
    "newline at the end": "nlp\n",
    "upper case": "NLP",
    "right-to-left mark": "nlp\u200f",
    "right-to-left override": "nlp\u202etnemitnes",
    "look-alike letter": "nlр",  # the last is Cyrillic
    "full width": "ｎｌｐ",
    "long s, which folds to s": "ſentiment",
    "combining accent": "nlp\u0301",
    "zero-width space": "nlp\u200bx",
    "escape sequence": "nlp\x1b[2J",
    "lone surrogate": "nlp\udcff",
    "40 KB": "a" * 40_960,
    "129 characters": "a" * 129,
    "empty": "",
    "space": " ",
    "space around": " nlp ",
    "dot first": ".nlp",
    "dash first": "-nlp",
    "glob": "nlp*",
    "tab": "nlp\t",
    "colon": "models:nlp",
}

PARSERS: list[Callable[[str], object]] = [
    model_name,
    ref_name,
    file_path,
    request_id,
    message_text,
    revision,
    instant,
]


def refused(parse: Callable[[Any], object], text: object) -> InvalidInput:
    """The refusal, which says what to do and cannot disguise itself in a terminal."""
    with pytest.raises(InvalidInput) as caught:
        parse(text)
    error = caught.value
    assert error.remedy
    assert len(error.message) < 200
    assert error.message.isprintable()
    assert error.remedy.isprintable()
    return error


@pytest.mark.parametrize("text", BAD_NAMES.values(), ids=BAD_NAMES.keys())
def test_a_bad_model_name_is_refused_alone_and_in_a_revision(text: str) -> None:
    refused(model_name, text)
    for after in ("", "@3", "@champion", "@{2026-05-01}"):
        refused(revision, text + after)


@pytest.mark.parametrize("kind", ["two dots", "slash", "NUL", "newline at the end", "40 KB"])
def test_a_bad_ref_is_refused_alone_and_in_a_revision(kind: str) -> None:
    refused(ref_name, BAD_NAMES[kind])
    refused(revision, f"nlp@{BAD_NAMES[kind]}")
    refused(revision, f"nlp@{BAD_NAMES[kind]}@{{2026-05-01}}")


@pytest.mark.parametrize("text", ["a", "0", "nlp.sentiment", "a-b_c.d", "a" * 128, "3d", "a."])
def test_a_good_model_name_is_returned_as_it_is(text: str) -> None:
    assert model_name(text) == text


@pytest.mark.parametrize(
    "text", ["main", "Champion", "v1.0", "release-2026_05", "abcdefg", "a" * 128]
)
def test_a_good_ref_is_returned_as_it_is(text: str) -> None:
    assert ref_name(text) == text


@pytest.mark.parametrize(
    "text", ["3", "0", "12345678901234567890", "deadbeef", "DEADBEEF", "a" * 64]
)
def test_a_ref_cannot_read_as_a_number_or_a_digest(text: str) -> None:
    refused(ref_name, text)


def test_what_is_a_little_off_a_digest_may_be_a_ref() -> None:
    for text in ("abcdef0", "a" * 65, "deadbeefg"):
        assert revision(f"nlp@{ref_name(text)}").selector == Ref(text)


@pytest.mark.parametrize(
    ("text", "selector"),
    [
        ("", Head()),
        ("@3", Number(3)),
        ("@003", Number(3)),
        ("@999999999999", Number(999_999_999_999)),
        ("@champion", Ref("champion")),
        ("@v1.0", Ref("v1.0")),
        ("@deadbee", Ref("deadbee")),
        ("@DEADBEEF", Digest("deadbeef")),
        ("@" + "0a" * 32, Digest("0a" * 32)),
        ("@{2026-05-01}", AtTime(None, datetime(2026, 5, 1, tzinfo=UTC))),
        ("@{2026-05-01T12:00Z}", AtTime(None, NOON)),
        ("@{2026-05-01 14:00:00+0200}", AtTime(None, NOON)),
        ("@champion@{2026-05-01T12:00}", AtTime("champion", NOON)),
    ],
)
def test_every_form_of_a_revision_is_understood(text: str, selector: Selector) -> None:
    parsed = revision(f"nlp.sentiment{text}")
    assert parsed.model == "nlp.sentiment"
    assert parsed.selector == selector
    assert str(parsed) == f"nlp.sentiment{text}"


@pytest.mark.parametrize(
    "after",
    [
        "@",
        "@@",
        "@0",
        "@000",
        "@-1",
        "@1234567890123",
        "@²",
        "@٣",
        "@3\n",
        "@champion@3",
        "@champion@",
        "@3@{2026-05-01}",
        "@champion{2026-05-01}",
        "@{}",
        "@{yesterday}",
        "@{2026-05-01",
        "@2026-05-01}",
        "@{{2026-05-01}}",
        "@{2026-02-30}",
        "@..",
        "@" + "x" * 40_960,
    ],
    ids=lambda after: after[:20],
)
def test_what_is_no_revision_is_refused(after: str) -> None:
    refused(revision, f"nlp{after}")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-05-01", datetime(2026, 5, 1, tzinfo=UTC)),
        ("2026-05-01T12:00", NOON),
        ("2026-05-01 12:00:00Z", NOON),
        ("2026-05-01T12:00:00.5Z", NOON.replace(microsecond=500_000)),
        ("2026-05-01T12:00:00.000001+00:00", NOON.replace(microsecond=1)),
        ("2026-05-01T02:30-09:30", NOON),
    ],
)
def test_a_time_becomes_utc(text: str, moment: datetime) -> None:
    parsed = instant(text)
    assert parsed == moment
    assert parsed.tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        "",
        "12:00",
        "2026",
        "20260501",
        "2026-W18-5",
        "2026-05-01Z",
        "2026-05-01+02:00",  # a lenient parser takes this for two o'clock
        "2026-05-01-0200",
        "2026-05-01T",
        "2026-05-01T12",
        "2026-05-01T12:00\n",
        "2026-05-01T12:00:00.0000001",
        "2026-05-01x12:00",
        "2026-13-01",
        "2026-05-01T25:00",
        "2026-05-01T12:00+99:00",
        "0001-01-01T00:00+01:00",
        "9999-12-31T23:59-01:00",
        "٢٠٢٦-05-01",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    refused(instant, text)


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_written_moment_is_read_back(moment: datetime) -> None:
    assert instant(moment.isoformat()) == moment


@pytest.mark.parametrize(
    "text", ["a", "a/b.txt", "模型/权重.bin", "a b\n", "...", "%2e", "a\\b", "é" * 512]
)
def test_file_paths_may_be_in_any_script(text: str) -> None:
    assert file_path(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a\0b", "a\udcff", "é" * 513],
    ids=ascii,
)
def test_a_path_that_leaves_its_version_or_cannot_be_stored_is_refused(text: str) -> None:
    refused(file_path, text)


@pytest.mark.parametrize("text", ["", "a\n", "é", "a\0", "x" * 257, "\x7f"])
def test_a_request_id_is_printable_ascii(text: str) -> None:
    refused(request_id, text)
    assert request_id("run 7 / 0f8a") == "run 7 / 0f8a"


@pytest.mark.parametrize("text", ["a\0", "\udcff", "é" * 8193], ids=ascii)
def test_a_message_that_cannot_be_stored_is_refused(text: str) -> None:
    refused(message_text, text)
    assert message_text("\n多行\n") == "\n多行\n"


@pytest.mark.parametrize("value", [None, 3, b"nlp", ["nlp"]], ids=str)
def test_what_is_no_text_is_refused_as_bad_input(value: object) -> None:
    for parse in (model_name, ref_name, file_path, request_id, revision):
        refused(parse, value)


@given(st.text())
def test_anything_is_parsed_or_refused_in_printable_words(text: str) -> None:
    for parse in PARSERS:
        try:
            parse(text)
        except InvalidInput:
            refused(parse, text)


MODELS = st.text(string.ascii_lowercase + string.digits + "._-", min_size=1, max_size=130)
REFS = st.text(string.ascii_letters + string.digits + "._-", min_size=1, max_size=130)


@given(MODELS)
def test_model_names_are_those_of_the_documented_form(text: str) -> None:
    legal = re.match(r"^[a-z0-9][a-z0-9._-]{0,127}\Z", text) is not None and ".." not in text
    if legal:
        assert revision(model_name(text)).model == text
    else:
        refused(model_name, text)


@given(REFS)
def test_every_legal_ref_selects_itself_in_a_revision(text: str) -> None:
    try:
        ref_name(text)
    except InvalidInput:
        return
    assert revision(f"nlp@{text}").selector == Ref(text)
    assert revision(f"nlp@{text}@{{2026-05-01T12:00Z}}").selector == AtTime(text, NOON)


@given(st.text())
def test_a_shown_text_is_short_printable_ascii_but_for_the_ellipsis(text: str) -> None:
    said = shown(text)
    assert len(said) < 100
    assert said.replace("…", "").isascii()
    assert not any(unicodedata.category(char).startswith("C") for char in said)
