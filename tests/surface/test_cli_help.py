"""Help: every page fits a screen and shows how it is done."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

import modelhub
from modelhub.cli.app import app
from modelhub.errors import Conflict

LONG = {"": 47, "push": 36, "edit": 26}
"""Pages that cannot do with the 24 lines of the smallest terminal, and what they may take."""


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        for name, verb in command.commands.items():
            yield from commands(verb, (*path, name))


PAGES = list(commands(app))


def test_the_verbs_are_those_that_scripts_rely_on() -> None:
    verbs = (
        "push pull export ls show cat tensors log search diff lineage edit delete undelete "
        "merge rollback restore branch tag alias protect unprotect verify admin"
    )
    groups = {
        "admin": "init status sweep fsck reindex gc purge backup restore",
        "branch": "create move list history delete",
        "tag": "create list history delete",
        "alias": "set list history delete",
    }
    below = {(group, name) for group, named in groups.items() for name in named.split()}
    assert set(PAGES) == {(), *((verb,) for verb in verbs.split()), *below}


@pytest.mark.parametrize("path", PAGES, ids=" ".join)
def test_a_help_page_fits_a_screen_and_gives_an_example_that_runs(
    path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = CliRunner().invoke(app, [*path, "--help"])
    assert page.exit_code == 0
    lines = page.stdout.splitlines()
    assert len(lines) <= LONG.get(" ".join(path), 24)
    assert max(map(len, lines)) <= 80
    assert "..." not in re.sub(r"(\[(ARGS|WORDS)\]|FILES)\.\.\.", "", page.stdout)

    def connect(url: str | None = None) -> modelhub.Hub:
        raise Conflict("this far")

    monkeypatch.setattr(importlib.import_module("modelhub.connect"), "connect", connect)
    examples = [shlex.split(line)[1:] for line in lines if line.startswith("    modelhub ")]
    assert examples
    for example in examples:
        assert set(path) <= set(example)
        assert "this far" in CliRunner().invoke(app, example).stderr


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
