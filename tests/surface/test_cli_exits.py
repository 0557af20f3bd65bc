"""How a command ends: codes, messages in both formats, and ends that nobody planned."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import modelhub
from modelhub.cli.exits import EXIT_CODES, Bug, exit_code
from modelhub.errors import Conflict, ModelhubError

Run = Callable[..., Result]

MODELHUB = [sys.executable, "-m", "modelhub"]

CONTROLS = "\x1b[31mred\u202egnp.exe\x07\nmodelhub: all is well"


def classes(root: type[ModelhubError]) -> Iterator[type[ModelhubError]]:
    for cls in root.__subclasses__():
        yield cls
        yield from classes(cls)


def test_every_error_has_an_exit_code_and_every_public_one_its_own() -> None:
    public = {cls for cls in classes(ModelhubError) if cls.__module__ == "modelhub.errors"}
    assert set(EXIT_CODES) == public | {Bug}
    assert len(set(EXIT_CODES.values())) == len(EXIT_CODES)
    assert not set(EXIT_CODES.values()) & {0, 1}
    assert all(issubclass(cls, tuple(EXIT_CODES)) for cls in classes(ModelhubError))


def test_an_error_of_somebody_elses_backend_counts_as_what_it_is_derived_from() -> None:
    class Busy(Conflict):
        """A backend's own."""

    assert exit_code(Busy("busy")) == EXIT_CODES[Conflict]
    assert exit_code(ModelhubError("?")) == 70


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Makes every verb fail with what it is given."""

    def install(error: BaseException) -> None:
        def connect(url: str | None = None) -> modelhub.Hub:
            raise error

        monkeypatch.setattr(importlib.import_module("modelhub.connect"), "connect", connect)

    return install


@pytest.mark.parametrize("cls", EXIT_CODES, ids=lambda cls: cls.kind)
def test_each_error_ends_with_its_code_and_says_message_and_remedy(
    cls: type[ModelhubError], failing: Callable[[BaseException], None], run: Run
) -> None:
    failing(cls("the thing is [bold]wrong[/]", remedy="Mend it."))
    text = run("ls")
    assert text.exit_code == EXIT_CODES[cls]
    assert text.stdout == ""
    assert text.stderr == "modelhub: the thing is [bold]wrong[/]\n  Mend it.\n"
    for args in (["--format", "json", "ls"], ["ls", "--format", "json"]):
        result = run(*args)
        assert result.exit_code == EXIT_CODES[cls]
        assert result.stdout == ""
        assert json.loads(result.stderr) == {
            "error": {
                "kind": cls.kind,
                "message": "the thing is [bold]wrong[/]",
                "remedy": "Mend it.",
            }
        }


def test_an_error_text_cannot_move_the_cursor_reorder_letters_or_forge_a_line(
    failing: Callable[[BaseException], None], run: Run
) -> None:
    failing(Conflict(CONTROLS, remedy=CONTROLS))
    for args in (["ls"], ["ls", "--format", "json"]):
        result = run(*args)
        assert "\x1b" not in result.stderr
        assert "\u202e" not in result.stderr
        assert "\nmodelhub: all" not in result.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["nosuchverb"],
        ["ls", "--nosuchflag"],
        ["push", "nlp.x"],
        ["log", "nlp.x", "--limit", "many"],
        ["log", "nlp.x", "--limit", "0"],
        ["admin", "nosuchverb"],
        ["ls", "a", "b"],
        ["ls", f"--{CONTROLS}"],
        ["--format", "yaml", "ls"],
        ["push", "nlp.x", ".", "--param", "lr"],
        ["push", "nlp.x", ".", "--param", "=1"],
        ["push", "nlp.x", ".", "--created", "yesterday"],
        ["edit", "nlp.x@1", "--unset", "message"],
        ["edit", "nlp.x@1", "--unset", "title", "--title", "x"],
        ["edit", "nlp.x@1", "--unset", "params", "--param", "lr=1"],
        ["delete", "nlp.x@1"],
        ["delete", "nlp.x", "--yes"],
    ],
    ids=" ".join,
)
def test_a_wrong_call_is_invalid_input_in_both_formats_and_touches_nothing(
    args: list[str], run: Run, home: Path
) -> None:
    text = run(*args)
    assert text.exit_code == 2
    assert text.stderr.startswith("modelhub: ")
    assert text.stderr.count("\n") == 2
    result = run(*args, "--format=json")
    assert result.exit_code == 2
    error = json.loads(result.stderr)["error"]
    assert error["kind"] == "invalid_input"
    assert error["message"]
    assert error["remedy"]
    assert result.stdout == ""
    assert not home.exists()


def test_an_error_nobody_foresaw_is_called_a_bug_and_shows_its_place_when_asked(
    failing: Callable[[BaseException], None], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(ZeroDivisionError("by [zero]"))
    result = run("ls")
    assert result.exit_code == 70
    assert "this is a bug in modelhub: ZeroDivisionError: by [zero]" in result.stderr
    assert "Traceback" not in result.stderr
    monkeypatch.setenv("MODELHUB_TRACEBACK", "1")
    assert "Traceback" in run("ls").stderr


def test_an_interrupt_ends_with_130_on_a_line_of_its_own(
    failing: Callable[[BaseException], None], run: Run
) -> None:
    failing(KeyboardInterrupt())
    result = run("ls")
    assert result.exit_code == 130
    assert result.stderr == "\nmodelhub: interrupted\n"


def test_a_reader_who_has_seen_enough_ends_it_quietly(
    tmp_path: Path, model: Path, run: Run
) -> None:
    assert run("push", "nlp.x", model).exit_code == 0
    with subprocess.Popen(
        [*MODELHUB, "ls"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 128 + signal.SIGPIPE


def test_a_full_disk_behind_stdout_is_told_and_does_not_look_like_success(
    model: Path, run: Run
) -> None:
    assert run("push", "nlp.x", model).exit_code == 0
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - a device
        done = subprocess.run(
            [*MODELHUB, "ls"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 7
    assert "standard output" in done.stderr
    assert done.stderr.count("\n") == 2


def test_a_terminal_is_left_clean_by_ctrl_c(tmp_path: Path, terminal: Callable[..., Any]) -> None:
    (tmp_path / "endless.py").write_text(
        "import contextlib, importlib\n"
        "from modelhub.cli import main\n"
        "class Endless:\n"
        "    def push(self, name, path, *, progress, **options):\n"
        "        while True:\n"
        "            progress('push', 3 * 2**20, 10 * 2**20)\n"
        "connect = lambda url: contextlib.nullcontext(Endless())\n"
        "importlib.import_module('modelhub.connect').connect = connect\n"
        "main()\n"
    )
    started = terminal(tmp_path / "endless.py", "push", "nlp.x", tmp_path, module=False)
    assert "3.0 MiB of 10.0 MiB" in started.read_until("10.0 MiB")
    os.kill(started.process.pid, signal.SIGINT)
    printed, code = started.end()
    assert code == 130
    assert "\x1b[?25h" in printed
    assert printed.rstrip().splitlines()[-1] == "modelhub: interrupted"
