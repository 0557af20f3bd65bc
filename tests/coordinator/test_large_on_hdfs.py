"""A model of 1 GiB goes to HDFS and comes back, and how long that takes beside Hadoop's own shell.

Tier: CI takes it there and back once; ``--full`` measures five rounds, each beside ``-put`` and
``-get`` of the same bytes.
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import msgspec
import pytest

from modelhub.connect import open_stores
from tests.live.hubs import LiveHubs, as_toml, close
from tests.live.stack import DEPLOY, OWN

pytestmark = pytest.mark.timeout(1800)

MIB = 1 << 20
TENSORS, TENSOR_BYTES = 40, 1024 * MIB // 40 // 8 * 8
ROUNDS = 5


def write_model(path: Path, seeds: list[int]) -> Path:
    """A safetensors file of 1 GiB with one tensor for each seed."""
    entries = ",".join(
        f'"layer.{index}.weight":{{"dtype":"F64","shape":[{TENSOR_BYTES // 8}],'
        f'"data_offsets":[{index * TENSOR_BYTES},{(index + 1) * TENSOR_BYTES}]}}'
        for index in range(len(seeds))
    )
    header = f"{{{entries}}}".encode()
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for seed in seeds:
            file.write(random.Random(seed).randbytes(TENSOR_BYTES))
    return path


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def timed(*command: str | Path) -> float:
    """Run a command to its good end; in seconds."""
    began_s = time.perf_counter()
    done = subprocess.run(
        command, env=OWN | dict(os.environ), capture_output=True, text=True, check=False
    )
    took_s = time.perf_counter() - began_s
    assert done.returncode == 0, done.stderr
    return took_s


@pytest.fixture
def replication() -> int:
    """How many copies are kept of each block."""
    return 3


@pytest.fixture
def modelhub(
    live: LiveHubs, replication: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., float]:
    """The command line on a new hub of the real servers; how long it took in seconds."""
    close(live())
    stores = msgspec.structs.replace(live.profile, weights_replication=replication)
    (tmp_path / "modelhub.toml").write_text(as_toml(stores, "live"))
    monkeypatch.setenv("MODELHUB_CONFIG", str(tmp_path / "modelhub.toml"))
    return lambda *arguments: timed(sys.executable, "-m", "modelhub", "--hub", "live", *arguments)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder whose large files are gone afterwards, whatever happens."""
    yield tmp_path
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.stat().st_size > MIB:
            path.unlink()


def test_a_gibibyte_goes_there_and_back(
    modelhub: Callable[..., float], folder: Path, figure: Callable[[str], None]
) -> None:
    model = write_model(folder / "model" / "model.safetensors", list(range(TENSORS)))
    push_s = modelhub("push", "large", model.parent)
    pull_s = modelhub("pull", "large", folder / "pulled")
    assert sha256(folder / "pulled" / model.name) == sha256(model)
    size = model.stat().st_size / 1e6
    figure(f"1 GiB on HDFS: push {size / push_s:.0f} MB/s, pull {size / pull_s:.0f} MB/s")


class Round(NamedTuple):
    """Seconds."""

    put: float
    push: float
    get: float
    pull: float
    next_push: float


@pytest.mark.full
@pytest.mark.parametrize("replication", [1, 3])
def test_against_the_shell_of_hadoop(
    live: LiveHubs,
    replication: int,
    modelhub: Callable[..., float],
    folder: Path,
    figure: Callable[[str], None],
) -> None:
    there = f"/tests/{live.name}-shell"

    def shell(*arguments: str | Path) -> float:
        copies = f"dfs.replication={replication}"
        return timed(DEPLOY / "stack/hdfs", "dfs", "-D", copies, *arguments)

    shell("-mkdir", "-p", there)
    rounds = [run_round(number, modelhub, shell, there, folder) for number in range(ROUNDS)]
    shell("-rm", "-r", "-skipTrash", there)
    stores = open_stores(live.profile)
    files = [info.size_bytes for info in stores.weights.list("packs")]
    close(stores)
    middle = Round(*(median(column) for column in zip(*rounds, strict=True)))
    ratios = {
        "push": median(one.push / one.put for one in rounds),
        "pull": median(one.pull / one.get for one in rounds),
        "next push": median(one.next_push / one.put for one in rounds),
    }
    seconds = ", ".join(f"{name} {value:.1f} s" for name, value in middle._asdict().items())
    shown = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
    figure(
        f"1 GiB, {replication} copies, medians of {ROUNDS}: {seconds}; to the shell's: {shown};"
        f" {len(files)} packs"
    )


def run_round(
    number: int,
    modelhub: Callable[..., float],
    shell: Callable[..., float],
    there: str,
    folder: Path,
) -> Round:
    """New bytes each time, so that nothing of them is stored already."""
    seeds = [number * 1000 + index for index in range(TENSORS)]
    model = write_model(folder / f"model-{number}" / "model.safetensors", seeds)
    name = f"large.{number}"
    put_s = shell("-put", model, f"{there}/{number}")
    push_s = modelhub("push", name, model.parent)
    get_s = shell("-get", f"{there}/{number}", folder / "got")
    pull_s = modelhub("pull", name, folder / "pulled")
    assert sha256(folder / "pulled" / model.name) == sha256(folder / "got") == sha256(model)
    (folder / "got").unlink()
    (folder / "pulled" / model.name).unlink()
    changed = [seed + 500 if index % 10 == 0 else seed for index, seed in enumerate(seeds)]
    write_model(model, changed)
    next_s = modelhub("push", name, model.parent)
    model.unlink()
    return Round(put_s, push_s, get_s, pull_s, next_s)
