"""Help: every page fits a screen and shows how it is done."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from modelhub.cli.app import app

LONG = {"modelhub": 34, "modelhub push": 36, "modelhub edit": 26}
"""Pages that cannot do with the 24 lines of the smallest terminal, and what they may take."""


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        for name, verb in command.commands.items():
            yield from commands(verb, (*path, name))


PAGES = list(commands(app))


def test_the_verbs_are_those_that_scripts_rely_on() -> None:
    verbs = "push pull ls show log search diff edit delete undelete verify admin"
    admin = {("admin", name) for name in ("init", "status", "sweep", "fsck")}
    assert set(PAGES) == {(), *((verb,) for verb in verbs.split()), *admin}


@pytest.mark.parametrize("path", PAGES, ids=" ".join)
def test_a_help_page_fits_a_screen_and_gives_an_example_that_parses(path: tuple[str, ...]) -> None:
    page = CliRunner().invoke(app, [*path, "--help"])
    assert page.exit_code == 0
    lines = page.stdout.splitlines()
    name = " ".join(("modelhub", *path))
    assert len(lines) <= LONG.get(name, 24)
    assert max(map(len, lines)) <= 80
    assert "..." not in page.stdout.replace("[ARGS]...", "").replace("WORDS...", "")
    examples = [line.split(maxsplit=1)[1] for line in lines if line.startswith("    modelhub ")]
    assert examples
    for example in examples:
        args = shlex.split(example)
        assert args[: len(path)] == list(path) or args[0] == "--hub"
        parse(app, args)


def parse(command: click.Command, args: list[str]) -> None:
    """Parse as click does before it calls anything; a usage error fails the test."""
    context = command.make_context("modelhub", args)
    if isinstance(command, click.Group):
        _, verb, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert verb is not None
        parse(verb, rest)


def test_no_verb_at_all_shows_the_help_and_counts_as_a_wrong_call() -> None:
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 2
    assert "Commands:" in result.stderr


def test_help_does_not_wait_for_arrow_or_rich() -> None:
    program = (
        "import json, sys\n"
        "from modelhub.cli import main\n"
        "sys.argv = ['modelhub', '--help']\n"
        "try:\n    main()\n"
        "except SystemExit:\n    json.dump(sorted(sys.modules), sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(done.stderr))
    assert not loaded & {"pyarrow", "numpy", "rich.console", "yaml", "safetensors"}
