"""The benchmarks' data: what each version holds, and how it differs from the one before.

Tier: CI runs all of it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open

from tests.bench import series
from tests.bench.measure import check_equal
from tests.bench.report import in_bytes
from tests.bench.series import MIB, MODEL, Data, change_goals, series_tensors, transformer
from tests.bench.weights import BLOCK_VALUES, SPREAD, Tensor, blocks, write_safetensors

SIZE = 2 * MIB
SHRINK = 16


@pytest.fixture
def versions(tmp_path: Path) -> dict[str, NDArray[np.uint8]]:
    """The bytes of each version's file."""
    made = Data(tmp_path).series(SIZE)
    return {name: np.fromfile(folder / MODEL, np.uint8) for name, folder in made.items()}


def weights(data: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The weights of a safetensors file with bf16 alone."""
    start = 8 + int(data[:8].view("<u8")[0])
    return (data[start:].view("<u2").astype(np.uint32) << 16).view(np.float32)


def test_the_series_is_what_the_format_was_measured_on() -> None:
    sizes = [tensor.size_bytes for tensor in series_tensors(1 << 30)]
    assert [size for size in sizes if size > MIB] == [32 * MIB] * 32
    assert sum(tensor.size_bytes for tensor in series_tensors(8 << 30)) // (32 * MIB) == 256
    assert sum(tensor.size_bytes for tensor in transformer()) == 1132 * MIB


def test_the_goals_of_the_whole_model_are_those_of_the_format() -> None:
    better = [round(goal - series.SLACK_MIB, 1) for goal in change_goals(1).values()]
    assert better == [0, 321, 144, 2.1, 0.6]


def test_versions_differ_where_they_say(versions: dict[str, NDArray[np.uint8]]) -> None:
    first, unchanged, part, full = versions.values()
    assert np.array_equal(first, unchanged)
    drawn_anew = weights(part) != weights(first)
    # A little less than 3 of 32: there are the norms, and some weights are drawn equal.
    assert 3 / 32 * 0.96 < drawn_anew.mean() < 3 / 32
    moved = weights(full) - weights(part)
    # Rounding takes away some of what moved weights a little, and adds to the rest.
    assert 0.009 < moved.std() / SPREAD < 0.011
    assert abs(weights(first).std() / SPREAD - 1) < 0.01


def test_data_made_twice_is_equal_and_data_made_once_is_kept(tmp_path: Path) -> None:
    made = [Data(tmp_path / name).series(SIZE)["full"] for name in "ab"]
    assert (made[0] / MODEL).read_bytes() == (made[1] / MODEL).read_bytes()
    before = (made[0] / MODEL).stat()
    assert (Data(tmp_path / "a").series(SIZE)["full"] / MODEL).stat() == before


def test_the_unchanged_version_is_a_file_of_its_own(tmp_path: Path) -> None:
    made = Data(tmp_path).series(SIZE)
    assert not (made["first"] / MODEL).samefile(made["unchanged"] / MODEL)


def test_safetensors_opens_what_was_written(tmp_path: Path) -> None:
    tensors = [Tensor("a", (3, 5), 0), Tensor("b", (7,), 1)]
    write_safetensors(tmp_path / MODEL, tensors, {"note": "more"})
    with safe_open(tmp_path / MODEL, "numpy") as opened:
        assert opened.metadata() == {"format": "pt", "note": "more"}
        shapes = {name: opened.get_slice(name).get_shape() for name in opened.keys()}  # noqa: SIM118
        kinds = {opened.get_slice(name).get_dtype() for name in shapes}
    assert shapes == {"a": [3, 5], "b": [7]}
    assert kinds == {"BF16"}


def test_a_longer_tensor_begins_as_before() -> None:
    (short,) = blocks(Tensor("a", (1000,), 4))
    first, second = blocks(Tensor("a", (BLOCK_VALUES + 9,), 4))
    assert np.array_equal(first[:1000], short)
    assert len(second) == 9


def test_every_change_has_its_size(tmp_path: Path) -> None:
    changes = {change.name: change for change in Data(tmp_path).changes(SHRINK)}
    sizes = {
        name: [
            sum(file.stat().st_size for file in side.iterdir()) for side in (one.before, one.after)
        ]
        for name, one in changes.items()
    }
    grown = {name: after - before for name, (before, after) in sizes.items()}
    assert grown["opaque file, 1 KB inserted"] == 1024
    assert 1024 <= grown["header +1 KB"] < 1100
    assert grown["part fine-tuned"] == grown["LoRA on q, v"] == 0
    row_bytes = 2 * series.HIDDEN // SHRINK
    assert 0 <= grown["8 rows more vocabulary"] - 2 * series.NEW_ROWS * row_bytes < 64


def test_an_insertion_moves_the_rest(tmp_path: Path) -> None:
    change = Data(tmp_path).changes(SHRINK)[-1]
    before, after = ((side / "model.bin").read_bytes() for side in (change.before, change.after))
    middle = len(before) // 2
    assert after[:middle] == before[:middle]
    assert after[middle + 1024 :] == before[middle:]


def test_small_files_are_as_many_as_asked_for(tmp_path: Path) -> None:
    folder = Data(tmp_path).small_files(250)
    sizes = [path.stat().st_size for path in folder.rglob("*.bin")]
    assert len(sizes) == 250
    assert min(sizes) >= 200
    assert max(sizes) <= 16 << 10


def test_a_restored_byte_that_differs_ends_the_program(tmp_path: Path) -> None:
    for name, data in (("source", b"abc"), ("dest/below/source", b"abc")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_bytes(data)
    check_equal(tmp_path / "source", tmp_path / "dest")
    (tmp_path / "dest/below/source/file").write_bytes(b"abd")
    with pytest.raises(SystemExit, match="file did not come back"):
        check_equal(tmp_path / "source", tmp_path / "dest")


def test_sizes_are_read_and_others_refused() -> None:
    assert [in_bytes(text) for text in ("64MiB", "8GiB", "5")] == [64 * MIB, 8 << 30, 5]
    with pytest.raises(argparse.ArgumentTypeError, match="64MB is no size"):
        in_bytes("64MB")
