"""The README is true: its blocks run in order, print what it says they print, and its tables are
the program's own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from modelhub.cli.exits import EXIT_CODES

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")

FENCE = re.compile(
    r"(?P<why><!-- not run: [^>]+ -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S
)
RUNS = {
    "bash": ["bash", "-euo", "pipefail", "-c"],
    "python": [sys.executable, "-W", "error", "-c"],
}


class Block(NamedTuple):
    """A fenced block that runs, and what it is said to print (None: the README is silent)."""

    line: int
    language: str
    text: str
    printed: str | None


def blocks() -> Iterator[Block]:
    """Those that run; a ``text`` block tells what the one before it prints."""
    found = [match for match in FENCE.finditer(README) if not match["why"]]
    for position, match in enumerate(found):
        line = README.count("\n", 0, match.start()) + 1
        if match["language"] == "text":
            continue
        assert match["language"] in RUNS, f"README.md, line {line}: neither runs nor says why not"
        told = [
            follows["text"]
            for follows in found[position + 1 : position + 2]
            if follows["language"] == "text"
        ]
        yield Block(line, match["language"], match["text"], told[0] if told else None)


def stable(text: str) -> str:
    """``text`` without what differs from run to run: times, digests, and the columns they shift."""
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?(\.\d+)?Z", "TIME", text)
    text = re.sub(r"\b[0-9a-f]{8,64}\b", "DIGEST", text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def test_every_block_runs_in_order_and_prints_what_the_readme_says(tmp_path: Path) -> None:
    environment = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "HOME": str(tmp_path / "home"),
        "MODELHUB_HOME": str(tmp_path / "work/hub"),
        "MODELHUB_USER": "ops",
    }
    (tmp_path / "work").mkdir()
    for block in blocks():
        done = subprocess.run(
            [*RUNS[block.language], block.text],
            cwd=tmp_path / "work",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        where = f"README.md, line {block.line}"
        assert done.returncode == 0, f"{where}: {done.stdout}"
        if block.printed is not None:
            assert stable(done.stdout) == stable(block.printed), where


def test_the_table_of_exit_codes_is_the_programs_own() -> None:
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", README, re.M)
    assert {(int(code), kind) for code, kind in rows} == {
        (code, error.kind) for error, code in EXIT_CODES.items()
    }


def test_the_two_commands_of_the_readme_are_scripts_that_can_be_run() -> None:
    for command in ("deploy/quickstart.sh", "tests/run.sh"):
        assert re.search(rf"^(\./)?{re.escape(command)}$", README, re.M)
        assert os.access(Path(__file__).parents[2] / command, os.X_OK)
