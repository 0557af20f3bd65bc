"""Comparing versions: their tensors by name and distance, and what is read for it.

Tier: CI runs all of it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from modelhub.backends.memory import MemoryRows, MemorySearch
from modelhub.connect import embedded_stores
from modelhub.content.encoder import StoragePolicy
from modelhub.coordinator.context import Context, Stores
from modelhub.hub import Hub
from modelhub.results import TensorChange
from tests.bench.series import MIB, series_tensors
from tests.bench.weights import Tensor, write_safetensors
from tests.coordinator.counted import CountedWeights
from tests.coordinator.tensor_files import onnx

NAME = "nlp.x"
Arrays = Mapping[str, Any]


@pytest.fixture
def hub(memory_hub: Hub) -> Hub:
    return memory_hub


Push = Callable[..., str]


@pytest.fixture
def push(hub: Hub, tmp_path: Path) -> Push:
    """Pushes files of arrays; returned is the revision."""

    def push(
        files: Mapping[str, Arrays], *, name: str = NAME, policy: StoragePolicy = "auto"
    ) -> str:
        folder = tmp_path / os.urandom(4).hex()
        for path, arrays in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            if path.endswith(".npz"):
                np.savez(folder / path, allow_pickle=False, **arrays)
            else:
                save_file(dict(arrays), folder / path)
        version = hub.push(name, folder, policy=policy)
        return f"{name}@{version.number}"

    return push


def drawn(shape: tuple[int, ...], seed: int, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(seed).normal(0, 0.02, shape).astype(dtype)


def told(hub: Hub, a: str, b: str) -> dict[str, TensorChange]:
    tensors = hub.diff(a, b).tensors
    assert tensors is not None
    return {change.name: change for change in tensors}


OLD = {
    "same": drawn((300, 500), 0),
    "moved": drawn((700, 900), 1),
    "grown": drawn((10, 500), 2),
    "narrowed": drawn((400, 400), 3),
    "gone": drawn((4,), 4),
    "small": drawn((8,), 5),
}
NEW = {
    "same": OLD["same"],
    "moved": OLD["moved"] + drawn((700, 900), 10) / 100,
    "grown": drawn((11, 500), 2),
    "narrowed": OLD["narrowed"].astype(ml_dtypes.bfloat16),
    "new": drawn((5,), 6),
    "small": OLD["small"].copy(),
}


@pytest.mark.parametrize("policy", ["fast", "auto"])
def test_every_tensor_that_differs_is_named_with_its_distance(
    hub: Hub, push: Push, policy: StoragePolicy
) -> None:
    a = push({"model.safetensors": OLD}, policy=policy)
    b = push({"model.safetensors": NEW}, policy=policy)
    found = told(hub, a, b)
    assert {name: change.status for name, change in found.items()} == {
        "gone": "removed",
        "grown": "reshaped",
        "moved": "changed",
        "narrowed": "retyped",
        "new": "added",
    }
    x, y = (held["moved"].astype(np.float64) for held in (OLD, NEW))
    moved = found["moved"]
    assert moved.l2 == pytest.approx(np.linalg.norm(y - x), rel=1e-6)
    assert moved.relative_l2 == pytest.approx(np.linalg.norm(y - x) / np.linalg.norm(x), rel=1e-6)
    assert moved.cosine == pytest.approx(
        np.vdot(x, y) / (np.linalg.norm(x) * np.linalg.norm(y)), rel=1e-6
    )
    assert moved.max_abs == np.abs(y - x).max()
    assert moved.fraction_changed == np.mean(OLD["moved"] != NEW["moved"])
    assert moved.not_finite == 0
    narrowed = found["narrowed"]
    assert (narrowed.old_dtype, narrowed.new_dtype) == ("F32", "BF16")
    assert 0 < (narrowed.relative_l2 or 0) < 0.01
    assert (found["grown"].old_shape, found["grown"].new_shape) == ((10, 500), (11, 500))
    assert found["grown"].l2 is None
    assert found["gone"].new_shape is None
    overall = hub.diff(a, b).overall
    assert overall is not None
    assert moved.l2 is not None
    assert narrowed.l2 is not None
    assert overall.l2 == pytest.approx(math.hypot(moved.l2, narrowed.l2))
    assert overall.elements == 700 * 900 + 400 * 400


def test_weights_can_be_left_out_and_equal_ones_cost_nothing(hub: Hub, push: Push) -> None:
    a, b = (push({"model.safetensors": held}) for held in (OLD, NEW))
    without = hub.diff(a, b, weights=False)
    assert (without.tensors, without.overall, without.bytes_read) == (None, None, 0)
    assert [change.path for change in without.files] == ["model.safetensors"]
    same = hub.diff(a, a)
    assert (len(same.tensors or ()), same.overall, same.bytes_read) == (0, None, 0)


def test_how_tensors_are_divided_into_files_makes_no_difference(hub: Hub, push: Push) -> None:
    whole = push({"model.safetensors": {name: OLD[name] for name in ("same", "moved", "small")}})
    shards = push(
        {
            "model-00001-of-00002.safetensors": {"moved": NEW["moved"], "small": OLD["small"]},
            "model-00002-of-00002.safetensors": {"same": OLD["same"]},
        },
        name="nlp.sharded",
    )
    assert [*told(hub, whole, shards)] == ["moved"]
    assert [*told(hub, shards, whole)] == ["moved"]


def test_a_name_in_several_files_stands_with_its_file(hub: Hub, push: Push) -> None:
    a = push({"unet/m.safetensors": {"w": OLD["same"]}, "vae/m.safetensors": {"w": OLD["moved"]}})
    b = push({"unet/m.safetensors": {"w": OLD["grown"]}, "vae/m.safetensors": {"w": NEW["moved"]}})
    found = told(hub, a, b)
    assert {name: change.status for name, change in found.items()} == {
        "unet/m.safetensors: w": "reshaped",
        "vae/m.safetensors: w": "changed",
    }


def test_arrays_of_numpy_are_compared_in_either_order(hub: Hub, push: Push) -> None:
    array = drawn((300, 200), 0)
    a = push({"m.npz": {"w": array, "same": array[:5]}})
    b = push({"m.npz": {"w": np.asfortranarray(array + 1), "same": array[:5]}})
    found = told(hub, a, b)
    assert [*found] == ["w"]
    assert found["w"].l2 == pytest.approx(math.sqrt(300 * 200), rel=1e-5)
    c = push({"m.npz": {"w": np.asfortranarray(array), "same": array[:5]}})
    assert not told(hub, a, c)


@pytest.mark.parametrize("dtype", ["<c16", "<f4"])
def test_types_that_have_no_distance_are_compared_in_either_order(
    hub: Hub, push: Push, dtype: str
) -> None:
    array = drawn((30, 20), 0).astype(dtype)
    a = push({"m.npz": {"w": array}})
    b = push({"m.npz": {"w": np.asfortranarray(array)}})
    c = push({"m.npz": {"w": np.asfortranarray(array + 1)}})
    assert not told(hub, a, b)
    assert {name: change.status for name, change in told(hub, a, c).items()} == {"w": "changed"}
    assert [*told(hub, b, c)] == ["w"]


def test_complex_and_real_numbers_have_no_distance(hub: Hub, push: Push) -> None:
    real = drawn((30, 20), 0)
    a = push({"m.npz": {"w": real, "s": real[0, 0]}})
    b = push({"m.npz": {"w": real.astype(np.complex64), "s": np.complex64(real[0, 0] + 5j)}})
    for one, other in ((a, b), (b, a)):
        found = told(hub, one, other)
        assert {(change.status, change.l2) for change in found.values()} == {("retyped", None)}


def test_weights_beside_an_onnx_model_are_compared(hub: Hub, tmp_path: Path) -> None:
    weights = drawn((64, 64), 0)
    (tmp_path / "m").mkdir()
    model = {"w": (1, (64, 64), "model.onnx_data"), "inside": (1, (2,), weights[0, :2].tobytes())}
    (tmp_path / "m" / "model.onnx").write_bytes(onnx(model))
    for array in (weights, weights * 2):
        (tmp_path / "m" / "model.onnx_data").write_bytes(array.tobytes())
        hub.push(NAME, tmp_path / "m")
    tensors = hub.tensors(NAME)
    np.testing.assert_array_equal(tensors.get_tensor("w"), weights * 2)
    np.testing.assert_array_equal(tensors.get_tensor("inside"), weights[0, :2])
    found = told(hub, f"{NAME}@1", f"{NAME}@2")
    assert [*found] == ["w"]
    change = found["w"]
    assert change.status == "changed"
    assert change.relative_l2 == pytest.approx(1.0)


def test_what_is_not_finite_is_reported(hub: Hub, push: Push) -> None:
    broken = NEW["moved"].copy()
    broken[3, 4], broken[5, 6] = np.nan, np.inf
    a, b = push({"m.safetensors": {"w": OLD["moved"]}}), push({"m.safetensors": {"w": broken}})
    change = told(hub, a, b)["w"]
    assert change.not_finite == 2
    assert math.isfinite(change.l2 or math.nan)
    overall = hub.diff(a, b).overall
    assert overall is not None
    assert overall.not_finite == 2


def test_a_file_that_is_not_what_its_name_says_differs_as_a_file(
    hub: Hub, push: Push, tmp_path: Path
) -> None:
    a = push({"m.safetensors": {"w": OLD["same"]}})
    (tmp_path / "m.safetensors").write_bytes(b"\xff" * 999)
    b = f"{NAME}@{hub.push(NAME, tmp_path / 'm.safetensors').number}"
    assert {name: change.status for name, change in told(hub, a, b).items()} == {"w": "removed"}
    assert [change.status for change in hub.diff(a, b).files] == ["changed"]


def test_progress_goes_from_nothing_to_all(hub: Hub, push: Push) -> None:
    a, b = (push({"model.safetensors": held}) for held in (OLD, NEW))
    seen: list[tuple[str, int, int]] = []
    hub.diff(a, b, progress=lambda *step: seen.append(step))
    assert {phase for phase, *_ in seen} == {"diff"}
    assert seen[-1][1] == seen[-1][2] > 0


# --- what it costs -------------------------------------------------------------------------------

SIZE = 256 * MIB


@pytest.mark.parametrize("policy", ["fast", "auto"])
def test_one_tensor_of_many_costs_its_own_bytes(
    tmp_path: Path, policy: StoragePolicy, figure: Callable[[str], None]
) -> None:
    weights = CountedWeights()
    stores = Stores(weights, MemoryRows(), MemorySearch())
    first = series_tensors(SIZE)
    changed = [
        Tensor(one.name, one.shape, one.seed + 999_999) if index == 7 else one
        for index, one in enumerate(first)
    ]
    with Hub(Context(stores, "tester"), address="test", cache=tmp_path / "cache") as hub:
        for tensors in (first, changed):
            (tmp_path / "m").mkdir(exist_ok=True)
            write_safetensors(tmp_path / "m" / "model.safetensors", tensors, {})
            hub.push(NAME, tmp_path / "m", policy=policy)
        weights.read_bytes = 0
        found = hub.diff(f"{NAME}@1", f"{NAME}@2")
    assert found.tensors is not None
    assert [change.name for change in found.tensors] == [first[7].name]
    stored = sum(len(file.data) for file in weights._files.values())
    assert found.bytes_read <= weights.read_bytes < 0.05 * 2 * stored
    assert weights.read_bytes - found.bytes_read < 64 << 10, "manifests"
    figure(
        f"{policy}: two versions of {SIZE >> 20} MiB that differ in one tensor of "
        f"{first[7].size_bytes >> 20} MiB took reads of {weights.read_bytes / MIB:.1f} MiB"
    )


def test_embedded_hubs_compare_across_models(tmp_path: Path) -> None:
    stores = embedded_stores(tmp_path / "hub")
    with Hub(Context(stores, "tester"), address="test", cache=tmp_path / "cache") as hub:
        hub.push("nlp.a", {"w": OLD["moved"]})
        hub.push("nlp.b", {"w": NEW["moved"]})
        found = hub.diff("nlp.a", "nlp.b")
        assert found.tensors is not None
        assert [change.status for change in found.tensors] == ["changed"]
        assert found.tensors.to_arrow().column("l2").to_pylist()[0] > 0
