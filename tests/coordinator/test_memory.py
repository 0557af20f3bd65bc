"""A file of 2 GiB goes through a push and a pull in constant memory.

Tier: CI runs all of it, with an opaque file and with safetensors (about a minute, and 6 GiB of disk
at a time).
"""

from __future__ import annotations

import json
import math
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from safetensors import safe_open

GIB = 1 << 30
MIB = 1 << 20
BLOCK_BYTES = 64 * MIB
STAMP_BYTES = 256 << 10
"""No chunk is as short as this, so each holds a number that occurs once."""

PEAK_MIB = 600
MEASURED = Path(__file__).with_name("measured.py")


def write_unique(file: BinaryIO, size_bytes: int) -> None:
    """Bytes in which nothing repeats that could be stored once: a random block, stamped anew."""
    block = bytearray(random.Random(0).randbytes(BLOCK_BYTES))
    stamp, left = 0, size_bytes
    while left:
        for at in range(0, BLOCK_BYTES, STAMP_BYTES):
            block[at : at + 8] = stamp.to_bytes(8, "little")
            stamp += 1
        left -= file.write(memoryview(block)[:left])


def opaque(path: Path) -> Path:
    with (path / "model.bin").open("wb", buffering=0) as file:
        write_unique(file, 2 * GIB)
    return path / "model.bin"


def layers() -> Iterator[tuple[str, list[int]]]:
    """The tensors of a transformer of about a thousand million parameters, as BF16."""
    yield "model.embed_tokens.weight", [32_000, 2048]
    for layer in range(19):
        at = f"model.layers.{layer}"
        for part in "qkvo":
            yield f"{at}.self_attn.{part}_proj.weight", [2048, 2048]
        for part, shape in (("gate", [5632, 2048]), ("up", [5632, 2048]), ("down", [2048, 5632])):
            yield f"{at}.mlp.{part}_proj.weight", shape
        yield f"{at}.input_layernorm.weight", [2048]
    yield "lm_head.weight", [32_000, 2048]


def safetensors(path: Path) -> Path:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in layers():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    encoded = json.dumps(header).encode()
    with (path / "model.safetensors").open("wb", buffering=0) as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        write_unique(file, end)
    with safe_open(path / "model.safetensors", "numpy") as opened:
        assert len(opened.keys()) == len(header) - 1
    return path / "model.safetensors"


def run(*arguments: str | Path) -> tuple[str, float, float]:
    """Run the command line: what it printed, its peak of resident memory in MiB, and seconds."""
    began_s = time.perf_counter()
    done = subprocess.run(
        [sys.executable, MEASURED, *arguments], capture_output=True, text=True, check=False
    )
    took_s = time.perf_counter() - began_s
    assert done.returncode == 0, done.stderr
    return done.stdout, int(done.stderr.split()[-1]) / 1024, took_s


def equal(a: Path, b: Path) -> bool:
    with a.open("rb") as one, b.open("rb") as other:
        while piece := one.read(16 * MIB):
            if piece != other.read(len(piece)):
                return False
        return not other.read(1)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that is gone afterwards: pytest keeps those of several runs."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("make", [opaque, safetensors])
def test_two_gibibytes_take_less_than_600_mib(
    make: Callable[[Path], Path], folder: Path, figure: Callable[[str], None]
) -> None:
    source, dest = make(folder), folder / "dest"
    size_bytes = source.stat().st_size
    hub = ("--hub", folder / "hub", "--format", "json")
    printed, push_mib, push_s = run(*hub, "push", "large", source)
    assert json.loads(printed)["new_bytes"] >= size_bytes >= 2 * GIB
    _, pull_mib, pull_s = run(*hub, "pull", "large", dest)
    assert equal(source, dest / source.name)
    figure(
        f"{source.name}: push {push_mib:.0f} MiB, {size_bytes / 1e6 / push_s:.0f} MB/s;"
        f" pull {pull_mib:.0f} MiB, {size_bytes / 1e6 / pull_s:.0f} MB/s"
    )
    assert max(push_mib, pull_mib) < PEAK_MIB
