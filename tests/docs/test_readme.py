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
from urllib.request import urlopen

from modelhub.cli.exits import EXIT_CODES
from tests.live.hubs import LiveHubs, as_toml, close
from tests.live.stack import LiveStack

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")

FENCE = re.compile(
    r"(?P<why><!-- not run: [^>]+ -->\n)?(?P<live><!-- on a cluster -->\n)?"
    r"^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.M | re.S,
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


def blocks(*, live: bool = False) -> Iterator[Block]:
    """Those that run, here or on a cluster; a ``text`` block tells what its predecessor prints."""
    found = [
        match
        for match in FENCE.finditer(README)
        if not match["why"] and bool(match["live"]) == live
    ]
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


def run(block: Block, folder: Path, home: Path) -> None:
    """Run a block in ``folder``, and see that it prints what it is said to."""
    done = subprocess.run(
        [*RUNS[block.language], block.text],
        cwd=folder,
        env={
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "HOME": str(home),
            "MODELHUB_HOME": str(folder / "hub"),
            "MODELHUB_USER": "ops",
        },
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


def test_every_block_runs_in_order_and_prints_what_the_readme_says(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    for block in blocks():
        run(block, tmp_path / "work", tmp_path / "home")


def test_the_blocks_on_a_cluster_run_too(tmp_path: Path, live: LiveHubs, stack: LiveStack) -> None:
    """On the servers of the tests, which stand there as those of ``deploy/stack/up`` would."""
    close(live())
    config, up = tmp_path / "modelhub.toml", tmp_path / "deploy/stack/up"
    config.write_text(as_toml(live.profile, "stack"))
    up.parent.mkdir(parents=True)
    up.write_text(f"#!/bin/sh\necho {config}\n")
    up.chmod(0o755)
    folder = tmp_path / "tour"
    (folder / "sentiment").mkdir(parents=True)
    (folder / "sentiment/weights.bin").write_bytes(b"weights")
    exported = f"{stack.hdfs_url}/tests/{live.name}/models"
    found = list(blocks(live=True))
    for block in found:
        text = block.text.replace("hdfs://127.0.0.1:28000/models", exported)
        run(block._replace(text=text), folder, tmp_path / "home")
    assert found
    assert (folder / "from-hdfs/weights.bin").read_bytes() == b"weights"
    where = exported.removeprefix(stack.hdfs_url)
    url = f"{stack.webhdfs_url}/webhdfs/v1{where}/nlp.sentiment/1/weights.bin?op=OPEN"
    with urlopen(url) as answer:
        assert answer.read() == b"weights"


def test_the_table_of_exit_codes_is_the_programs_own() -> None:
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", README, re.M)
    assert {(int(code), kind) for code, kind in rows} == {
        (code, error.kind) for error, code in EXIT_CODES.items()
    }


def test_the_two_commands_of_the_readme_are_scripts_that_can_be_run() -> None:
    for command in ("deploy/quickstart.sh", "tests/run.sh"):
        assert re.search(rf"^(\./)?{re.escape(command)}$", README, re.M)
        assert os.access(Path(__file__).parents[2] / command, os.X_OK)
