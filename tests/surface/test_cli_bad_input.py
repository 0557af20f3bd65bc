"""Bad input at the command line: a named error, its exit code, and nothing written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result

Run = Callable[..., Result]

BAD_NAMES = {
    "empty": "",
    "dots": "..",
    "dots inside": "a..b",
    "leading dot": ".hidden",
    "parent": "../x",
    "slash": "a/b",
    "absolute": "/etc/passwd",
    "percent": "%2e%2e%2fx",
    "backslash": "a\\b",
    "NUL": "a\0b",
    "newline": "a\nb",
    "trailing newline": "a\n",
    "upper case": "Nlp.x",
    "space": "a b",
    "right to left": "a\u202eb",
    "zero width": "a\u200bb",
    "cyrillic a": "n\u0430me",
    "full width": "ｎlp",
    "long s": "\u017fentiment",
    "129 letters": "a" * 129,
    "40 KB": "a" * 40_960,
    "undecodable": "a\udcff",
    "option-like": "-x",
}

VERBS: dict[str, list[str]] = {
    "push": ["push", "--", "{}", "."],
    "pull": ["pull", "--", "{}@1", "copy"],
    "snapshot": ["pull", "--", "{}"],
    "show": ["show", "--", "{}@1"],
    "files": ["show", "--files", "--", "{}@main"],
    "log": ["log", "--", "{}"],
    "diff": ["diff", "--", "nlp.x@1", "{}@1"],
    "edit": ["edit", "--title", "t", "--", "{}@1"],
    "delete": ["delete", "--yes", "--", "{}@1"],
    "undelete": ["undelete", "--", "{}@1"],
    "verify": ["verify", "--", "{}@1"],
}


def everything(folder: Path) -> dict[str, bytes]:
    """Every path below ``folder`` and what it holds."""
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def error(result: Result, code: int) -> str:
    """The message of a failure with this exit code, told as JSON and nothing else."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    told = json.loads(result.stderr)
    assert set(told) == {"error"}
    assert set(told["error"]) == {"kind", "message", "remedy"}
    message = told["error"]["message"]
    assert isinstance(message, str)
    assert message.isprintable()
    assert 0 < len(message) < 500
    return message


@pytest.fixture
def held(run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub with one version, and the folder that is worked in; returns what must stay as it is."""
    assert run("push", "nlp.x", model).exit_code == 0
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES)
def test_a_name_that_is_none_is_refused_by_every_verb_and_nothing_is_written(
    name: str, run: Run, held: Path
) -> None:
    before = everything(held)
    for verb in VERBS.values():
        error(run("--format", "json", *(part.format(name) for part in verb)), 2)
    assert everything(held) == before


@pytest.mark.parametrize("verb", VERBS)
def test_on_a_hub_that_is_not_there_nothing_is_made_by_a_verb_that_fails(
    verb: str, run: Run, home: Path
) -> None:
    args = [part.format("nlp.x") for part in VERBS[verb]]
    if verb == "push":
        args[-1] = "nosuchfolder"
    error(run("--format", "json", *args), 3)
    assert not home.exists()


@pytest.mark.parametrize("selector", ["", "@9", "@nosuch", "@deadbeef", "@{1999-01-01}"])
def test_a_revision_that_does_not_exist_is_not_found_by_any_verb(
    selector: str, run: Run, held: Path
) -> None:
    revision = f"nlp.x{selector}" if selector else "nlp.nosuch"
    for verb in ["pull", "snapshot", "show", "files", "diff", "edit", "verify", "undelete"]:
        args = [part.replace("{}@1", revision).replace("{}@main", revision) for part in VERBS[verb]]
        found = run("--format", "json", *(part.replace("{}", revision) for part in args))
        assert revision.partition("@")[0] in error(found, 3)
    error(run("--format", "json", "delete", "--yes", f"nlp.nosuch{selector or '@main'}"), 3)
    assert not (held / "copy").exists()


def test_a_revision_that_is_none_is_refused(run: Run, held: Path) -> None:
    for text in ("@", "@0", "@a/b", "@{soon}", "@{2026-13-01}", "@..", "@1@2", "@main@{", "@\n1"):
        error(run("--format", "json", "show", f"nlp.x{text}"), 2)


def test_a_path_that_is_not_there_is_not_found_and_makes_no_version(run: Run, held: Path) -> None:
    assert "nosuch" in error(run("--format", "json", "push", "nlp.y", "nosuch"), 3)
    error(run("--format", "json", "log", "nlp.y"), 3)


@pytest.mark.parametrize(
    "args",
    [
        ["push", "nlp.x", ""],
        ["pull", "nlp.x", ""],
        ["push", "nlp.x", "fifo"],
        ["push", "nlp.x", "empty"],
        ["push", "nlp.x", "model", "--branch", "12"],
        ["push", "nlp.x", "model", "--branch", "../main"],
        ["push", "nlp.x", "model", "--request-id", "a\nb"],
        ["push", "nlp.x", "model", "--request-id", ""],
        ["push", "nlp.x", "model", "--base", "Nlp.x@1"],
        ["push", "nlp.x", "model", "--expect", "a/b"],
        ["push", "nlp.x", "model", "--label", ""],
        ["push", "nlp.x", "model", "--title", "two\nlines"],
        ["push", "nlp.x", "model", "--title", "\udcff"],
        ["push", "nlp.x", "model", "-m", "\udcff"],
        ["push", "nlp.x", "model", "--description", "x" * 300_000],
        ["push", "nlp.x", "model", "--param", f"lr={'1' * 5000}"],
        ["search", "\udcff"],
        ["log", "nlp.x@1"],
        ["edit", "nlp.x@1"],
        ["--hub", "", "ls"],
        ["--hub", "https://hub.example/x", "ls"],
        ["--hub", "a\0b", "ls"],
    ],
    ids=lambda args: " ".join(args)[:40].encode("ascii", "backslashreplace").decode(),
)
def test_an_argument_that_cannot_be_is_refused_and_nothing_is_written(
    args: list[str], run: Run, held: Path
) -> None:
    os.mkfifo(held / "fifo")
    (held / "empty").mkdir()
    before = {path for path in held.rglob("*") if path.suffix not in {".sqlite-wal", ".sqlite-shm"}}
    log = run("log", "nlp.x").stdout
    error(run("--format", "json", *args), 2)
    after = {path for path in held.rglob("*") if path.suffix not in {".sqlite-wal", ".sqlite-shm"}}
    assert after == before
    assert run("log", "nlp.x").stdout == log


def test_a_principal_that_is_none_is_refused(
    run: Run, held: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELHUB_USER", "li\n")
    error(run("--format", "json", "ls"), 2)


def test_arguments_that_are_no_utf_8_are_refused_like_any_other(held: Path) -> None:
    command = [sys.executable.encode(), b"-m", b"modelhub", b"--format=json", b"show", b"nlp.\xff"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 2
    assert json.loads(done.stderr)["error"]["kind"] == "invalid_input"


@pytest.fixture
def as_nobody(run: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to work in for somebody who is not root, since root may read anything."""
    assert run("push", "warm.up", model).exit_code == 0  # what is imported late may be root's
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        monkeypatch.setenv("MODELHUB_HOME", str(work / "hub"))
        root = os.geteuid() == 0
        if root:
            os.chown(work, 65534, -1)
            os.seteuid(65534)
        try:
            yield work
        finally:
            if root:
                os.seteuid(0)


@pytest.mark.parametrize("name", ["secret.bin", "model"])
def test_a_path_that_may_not_be_read_is_forbidden_and_makes_no_version(
    name: str, run: Run, as_nobody: Path
) -> None:
    (as_nobody / "model").mkdir()
    (as_nobody / "model/config.json").write_text("{}")
    (as_nobody / "model/secret.bin").write_text("secret")
    assert run("push", "nlp.x", as_nobody / "model").exit_code == 0
    unreadable = as_nobody / "model" / name if name != "model" else as_nobody / "model"
    unreadable.chmod(0)
    try:
        message = error(run("--format", "json", "push", "nlp.x", as_nobody / "model"), 9)
    finally:
        unreadable.chmod(0o700)
    assert name in message
    assert len(json.loads(run("log", "nlp.x", "--format", "json").stdout)) == 1


def test_a_destination_that_may_not_be_written_is_forbidden(run: Run, as_nobody: Path) -> None:
    (as_nobody / "weights.bin").write_text("w")
    assert run("push", "nlp.x", as_nobody / "weights.bin").exit_code == 0
    (as_nobody / "locked").mkdir(mode=0o500)
    error(run("--format", "json", "pull", "nlp.x", as_nobody / "locked"), 9)
    assert not list((as_nobody / "locked").iterdir())
