"""A hub in a folder of its own, the command line on it, and a terminal to run it on."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import modelhub
from modelhub.cli.app import app

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's folder, which is not there yet; nothing outside ``tmp_path`` is touched."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MODELHUB_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("MODELHUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MODELHUB_USER", "li")
    for name in ("COLUMNS", "TERM", "NO_COLOR", "FORCE_COLOR", "MODELHUB_TRACEBACK"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "hub"


@pytest.fixture
def hub(home: Path) -> Iterator[modelhub.Hub]:
    """The second route to what the command line does."""
    with modelhub.connect(home) as hub:
        yield hub


@pytest.fixture
def run() -> Run:
    """The command line, in this process."""

    def invoke(*args: str | os.PathLike[str], stdin: str | None = None) -> Result:
        return CliRunner().invoke(app, [os.fspath(arg) for arg in args], input=stdin)

    return invoke


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model of three files in a folder."""
    folder = tmp_path / "model"
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "weights.bin").write_bytes(bytes(range(256)) * 8192)
    (folder / "tokenizer/词表.txt").write_text("你好\n", encoding="utf-8")
    return folder


class Terminal:
    """A process whose three streams are a terminal of 80 columns."""

    def __init__(self, *command: str) -> None:
        self._screen, slave = pty.openpty()
        self.process = subprocess.Popen(
            # What a shell started in the background, and its children, ignore Ctrl-C otherwise.
            ["env", "--default-signal=INT", *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={"TERM": "xterm", "COLUMNS": "80", **os.environ},
        )
        os.close(slave)

    def read_until(self, text: str) -> str:
        """What is printed up to and including ``text``, or up to the end."""
        printed = b""
        with contextlib.suppress(OSError):  # EIO is how a terminal says that all have left
            while text.encode() not in printed and (block := os.read(self._screen, 65536)):
                printed += block
        return printed.decode()

    def type(self, text: str) -> None:
        os.write(self._screen, text.encode())

    def end(self) -> tuple[str, int]:
        """The rest of what is printed, and the exit code."""
        printed = self.read_until("\0")
        os.close(self._screen)
        return printed, self.process.wait()


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    """Python on a terminal: ``modelhub`` with some arguments, or a program."""

    started: list[Terminal] = []

    def start(*args: str | os.PathLike[str], module: bool = True) -> Terminal:
        given = [os.fspath(arg) for arg in args]
        started.append(Terminal(sys.executable, *(["-m", "modelhub"] if module else []), *given))
        return started[-1]

    yield start
    for terminal in started:
        terminal.process.kill()
        terminal.process.wait()
