"""Text for people: whole values in a pipe, a drawn table on a terminal, nothing that misleads."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st

from modelhub.cli.output import clean, columns, size, time

Run = Callable[..., Result]

RTL = "invoice\u202efdp.exe"
TITLE = "a title of more than eighty columns, " * 10


@given(st.text(st.characters(exclude_categories=[])))
def test_cleaned_text_holds_nothing_without_a_shape_and_keeps_every_script(text: str) -> None:
    cleaned = clean(text)
    for char in cleaned:
        assert unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert clean(cleaned) == cleaned
    if text.isprintable():
        assert cleaned == text


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("情感　テスト é", "情感　テスト é"),
        (RTL, "invoice\\u202efdp.exe"),
        ("a\nb\tc\x1b[0m\0", "a\\nb\\tc\\x1b[0m\\x00"),
        ("\udcff", "\\udcff"),
        ("back\\slash", "back\\slash"),
    ],
)
def test_cleaning_escapes_what_could_mislead(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (int(4.2 * 1024**2), "4.2 MiB"),
        (2 * 1024**3, "2.0 GiB"),
        (1024**5, "1.0 PiB"),
        (5000 * 1024**5, "5000.0 PiB"),
    ],
)
def test_a_size_is_shown_in_binary_units(size_bytes: int, text: str) -> None:
    assert size(size_bytes) == text


def test_a_time_is_shown_in_utc_wherever_it_was_taken() -> None:
    taken = datetime(2026, 5, 1, 14, 0, 0, 999, tzinfo=timezone(timedelta(hours=2)))
    assert time(taken) == "2026-05-01T12:00:00Z"
    assert time(datetime(2026, 5, 1, 12, tzinfo=UTC)) == "2026-05-01T12:00:00Z"
    assert time(None) == ""


def test_columns_line_up_also_where_letters_are_wide() -> None:
    assert columns([["NAME", "TITLE"], ["情感", "x"], ["a", ""]]) == "NAME  TITLE\n情感  x\na"


def test_a_piped_table_cuts_nothing(run: Run, model: Path) -> None:
    assert run("push", "nlp.x", model, "--title", TITLE[:-1]).exit_code == 0
    assert run("ls").stdout.splitlines()[1].endswith(TITLE[:-1])


def test_a_table_on_a_terminal_fits_it_and_takes_brackets_as_they_are(
    run: Run, model: Path, terminal: Callable[..., Any]
) -> None:
    assert run("push", "nlp.x", model, "--title", f"[bold]{TITLE}").exit_code == 0
    printed, code = terminal("ls").end()
    assert code == 0
    assert "[bold]a" in printed
    plain = re.sub(r"\x1b\[[0-9;]*m", "", printed)
    assert max(map(len, plain.splitlines())) == 80
    assert " ".join(plain.split()).count("more") == 10


def test_a_terminal_too_narrow_for_a_table_still_gets_every_value(
    run: Run, model: Path, terminal: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    assert run("push", "nlp.x", model, "-m", "a long message").exit_code == 0
    printed, _ = terminal("log", "nlp.x").end()
    assert printed.replace("\r", "") == run("log", "nlp.x").stdout


@pytest.mark.parametrize(
    "verb", [["show", "nlp.x"], ["show", "nlp.x", "--files"], ["log", "nlp.x"], ["ls"]]
)
def test_what_others_wrote_cannot_disguise_itself(
    verb: list[str], run: Run, model: Path, terminal: Callable[..., Any]
) -> None:
    (model / f"{RTL}\n\x1b[2J").write_text("x")
    pushed = run(
        "push", "nlp.x", model, "-m", RTL, "--title", RTL, "--description", f"{RTL}\x1b[2J"
    )
    assert pushed.exit_code == 0, pushed.stderr
    for printed in (run(*verb).stdout, terminal(*verb).end()[0]):
        assert "\u202e" not in printed
        assert "\x1b[2J" not in printed
        assert "u202e" in printed
