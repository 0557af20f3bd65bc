"""A file of 2 GiB goes through a push and a pull in constant memory, through diff and merge too.

Tier: CI pushes and pulls an opaque file and safetensors (about a minute, and 6 GiB of disk at a
time); ``--full`` also compares and merges versions that differ in all of their tensors, the former
beside a plain reference in numpy.
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
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from safetensors import safe_open

from tests.bench.series import fine_tuned, series_tensors
from tests.bench.weights import write_safetensors

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


REFERENCE = """
import sys
import ml_dtypes
import numpy as np
from safetensors import safe_open

squares = 0.0
with safe_open(sys.argv[1], "numpy") as old, safe_open(sys.argv[2], "numpy") as new:
    for name in old.keys():
        a, b = old.get_tensor(name), new.get_tensor(name)
        x, y = a.astype(np.float64), b.astype(np.float64)
        d = y - x
        l2, length = np.linalg.norm(d), np.linalg.norm(x)
        cosine = np.sum(x * y) / (length * np.linalg.norm(y))
        largest, changed = np.abs(d).max(), np.mean(a != b)
        squares += l2 * l2
print(np.sqrt(squares))
"""
"""What somebody would write, element by element in float64 and tensor by tensor."""

MOST_OF_REFERENCE, MOST_READ = 0.3, 0.05


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_versions_that_differ_everywhere_are_compared_and_merged_in_little_memory(
    folder: Path, figure: Callable[[str], None]
) -> None:
    first = series_tensors(2 * GIB)
    theirs = [replace(tensor, seed=tensor.seed + 500_000) for tensor in first]
    ours = fine_tuned(first)
    drawn = replace(ours[7], drift=0.0, seed=1_000_000)
    one = [*ours[:7], drawn, *ours[8:]]
    versions = {"base": first, "ours": ours, "theirs": theirs, "one": one}
    hub = ("--hub", folder / "hub", "--format", "json")
    for name, tensors in versions.items():
        (folder / name).mkdir()
        write_safetensors(folder / name / "model.safetensors", tensors, {})
        branch = "fix" if name == "theirs" else "main"
        run(*hub, "push", "large", folder / name, "--branch", branch)
    paths = [str(folder / name / "model.safetensors") for name in ("base", "ours")]
    ratios = []
    for _ in range(3):
        printed, diff_mib, diff_s = run(*hub, "diff", "large@1", "large@2")
        began_s = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", REFERENCE, *paths], capture_output=True, text=True, check=True
        )
        ratios.append((diff_s / (time.perf_counter() - began_s), diff_s))
        told = json.loads(printed)
        assert len(told["tensors"]) == len(first)
        assert told["overall"]["l2"] == pytest.approx(float(done.stdout), rel=1e-6)
    ratio, diff_s = sorted(ratios)[1]
    printed, *_ = run(*hub, "diff", "large@2", "large@4")
    told = json.loads(printed)
    assert [change["name"] for change in told["tensors"]] == [ours[7].name]
    share = told["bytes_read"] / sum(path.stat().st_size for path in folder.glob("o*/model.*"))
    merge = ("merge", "large", "fix", "--strategy", "average", "--ours")
    _, merge_mib, merge_s = run(*hub, *merge)
    figure(
        f"2 GiB that differ everywhere: diff {diff_mib:.0f} MiB, {diff_s:.1f} s, {ratio:.2f} × the "
        f"reference's time; merge {merge_mib:.0f} MiB, {merge_s:.1f} s; a diff where one tensor "
        f"differs reads {100 * share:.1f} % of both"
    )
    assert share < MOST_READ
    assert max(diff_mib, merge_mib) < PEAK_MIB
    assert ratio <= MOST_OF_REFERENCE
