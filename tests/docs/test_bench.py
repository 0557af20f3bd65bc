"""The programs of ``tests/bench`` run, at a size that takes seconds, with the peers that need no
installation.

Tier: CI runs all of it. Of what they measure it judges only what is the same on every machine.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.bench import hdfs, local, patterns, peers, search, series, tensor
from tests.bench.rounds import STEPS
from tests.live.stack import LiveStack

TINY = ("--size", "1MiB")
ONCE = (*TINY, "--rounds", "1", "--policies", "fast")


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, ...]:
    return ("--data", str(tmp_path / "data"), "--json", str(tmp_path / "figures.json"))


def written(files: tuple[str, ...]) -> Any:
    return json.loads(Path(files[-1]).read_text())


def holds(told: Any) -> dict[str, bool]:
    return {row["what"]: row["holds"] for row in told["rows"]}


def test_the_local_series_prints_every_goal(
    files: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    local.main([*files, *ONCE, "--peers", "dd,cp,cp+fsync", "--small-files", "120"])
    told = written(files)
    verdicts = holds(told)
    assert verdicts["bytes stored by push unchanged, modelhub fast"]
    assert verdicts["push unchanged: calls for rows"]
    assert verdicts["small files: files on the store"]
    assert "push first, modelhub fast : dd" in verdicts
    assert tuple(told["rounds"]["series"][0]["modelhub fast"]) == STEPS
    assert "push first, modelhub fast : dd" in capsys.readouterr().out


def test_every_change_costs_no_more_than_its_cuts(files: tuple[str, ...]) -> None:
    patterns.main([*files, "--shrink", "8", "--policies", "fast"])
    *aligned, opaque = written(files)["rows"]
    assert len(aligned) == 4
    assert all(row["holds"] for row in aligned), aligned
    # What an insertion costs depends on its place: the piece that it falls into, or the next too.
    assert opaque["what"] == "opaque file, 1 KB inserted, fast"
    assert 0.5 < opaque["figure"] < 2 * 2 + 0.2


def test_one_tensor_takes_its_own_bytes(files: tuple[str, ...]) -> None:
    tensor.main([*files, "--size", "64MiB", "--rounds", "2"])
    verdicts = holds(written(files))
    assert verdicts["bytes read : bytes stored, fast"]
    assert verdicts["bytes read : bytes stored, auto"]
    assert "get_tensor : raw read, auto" in verdicts


def test_the_series_on_hdfs_runs_beside_the_shell(stack: LiveStack, files: tuple[str, ...]) -> None:
    hdfs.main([*files, *ONCE, "--replication", "1"])
    (figures,) = written(files)["rounds"]
    assert set(figures) == {"modelhub fast", "FsShell"}
    assert figures["FsShell"]["push first"]["stored_bytes"] >= 1 << 20
    assert figures["modelhub fast"]["push first"]["stored_bytes"] >= 1 << 20


@pytest.mark.parametrize("where", [(), ("--live",)], ids=["embedded", "live"])
def test_search_is_filled_and_asked(
    stack: LiveStack, files: tuple[str, ...], where: tuple[str, ...]
) -> None:
    assert stack
    search.main([*files, *where, "--versions", "600"])
    figures = {row["what"]: row["figure"] for row in written(files)["rows"]}
    for mode in ("whole", "incremental"):
        assert figures[f"{mode}: documents a second"] > 0
        assert figures[f"{mode}: memory at most"] > 0
    assert figures["whole: rendering"] < 50
    assert figures["search: 95 of 100 take at most"] > 0


def test_the_data_is_made_and_named(
    files: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    series.main([*files[:2], *TINY, "--shrink", "32", "--small-files", "5"])
    named = capsys.readouterr().out.splitlines()
    assert len(named) == 10
    assert all(any(Path(folder).iterdir()) for folder in named)


def test_an_unknown_peer_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"git: known are dd, cp, .*borg"):
        peers.installed(["git"])


def test_the_script_that_installs_peers_parses() -> None:
    script = Path(peers.__file__).with_name("install_peers.sh")
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
