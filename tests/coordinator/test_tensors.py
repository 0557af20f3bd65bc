"""Tensors of a version by name, each read from its own ranges alone."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from modelhub.backends.memory import MemoryRows, MemorySearch
from modelhub.content.encoder import StoragePolicy
from modelhub.coordinator.context import Context, Stores
from modelhub.coordinator.tensors import Tensors
from modelhub.errors import CorruptData, InvalidInput, NotFound
from modelhub.hub import Hub
from tests.coordinator.counted import CountedWeights

MIB = 1 << 20
NAME = "nlp.x"


@pytest.fixture
def weights() -> CountedWeights:
    return CountedWeights()


@pytest.fixture
def hub(weights: CountedWeights, tmp_path: Path) -> Iterator[Hub]:
    stores = Stores(weights, MemoryRows(), MemorySearch())
    with Hub(Context(stores, "tester"), address="test", cache=tmp_path / "cache") as hub:
        yield hub


def model(folder: Path, files: Mapping[str, Mapping[str, Any]], **texts: str) -> Path:
    for path, arrays in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        save_file(dict(arrays), folder / path, metadata=texts)
    return folder


def bf16(shape: tuple[int, ...], seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(0, 0.02, shape).astype(ml_dtypes.bfloat16)


SHARDS = {
    "model-00001-of-00002.safetensors": {
        "embed": np.arange(3000.0, dtype=np.float32).reshape(100, 30),
        "norm": bf16((64,)),
        "scale": np.array(0.5, np.float16),
    },
    "model-00002-of-00002.safetensors": {
        "head": np.arange(600).reshape(3, 20, 10),
        "mask": np.array([[True, False]]),
        "nothing": np.zeros((0, 7), np.int8),
    },
}


@pytest.fixture
def shards(hub: Hub, tmp_path: Path) -> Path:
    folder = model(tmp_path / "model", SHARDS, format="pt")
    (folder / "config.json").write_text("{}")
    hub.push(NAME, folder)
    return folder


def test_the_tensors_of_all_shards_are_read_by_name(hub: Hub, shards: Path) -> None:
    with hub.tensors(NAME) as tensors:
        assert sorted(tensors.keys()) == sorted(name for file in SHARDS.values() for name in file)
        assert tensors.metadata() == {"format": "pt"}
        for file, arrays in SHARDS.items():
            for name, array in arrays.items():
                read = tensors.get_tensor(name)
                assert (read.dtype, read.shape) == (array.dtype, array.shape)
                assert read.tobytes() == array.tobytes()
                assert read.flags.writeable
                assert tensors.info(name).file == file


def test_it_answers_as_safe_open_does(hub: Hub, shards: Path) -> None:
    path = "model-00002-of-00002.safetensors"
    keys: list[Any] = [1, slice(1, 3), (..., 4), (slice(None), slice(3, 9)), (2, 5), slice(None)]
    with (
        safe_open(shards / path, framework="numpy") as theirs,
        hub.tensors(NAME, include=[path]) as ours,
    ):
        assert sorted(ours.keys()) == sorted(theirs.keys())
        assert ours.metadata() == theirs.metadata()
        for name in theirs.keys():  # noqa: SIM118 - no mapping
            np.testing.assert_array_equal(ours.get_tensor(name), theirs.get_tensor(name))
            mine, other = ours.get_slice(name), theirs.get_slice(name)
            assert mine.get_shape() == other.get_shape()
            assert mine.get_dtype() == other.get_dtype()
        for key in keys:
            mine, other = ours.get_slice("head")[key], theirs.get_slice("head")[key]
            np.testing.assert_array_equal(mine, other)


def test_a_listing_says_what_is_where_and_becomes_a_table(hub: Hub, shards: Path) -> None:
    listing = hub.tensors(NAME).listing()
    told = {
        (entry.file, entry.name, entry.dtype, entry.shape, entry.size_bytes) for entry in listing
    }
    dtypes = {"embed": "F32", "norm": "BF16", "scale": "F16"}
    dtypes |= {"head": "I64", "mask": "BOOL", "nothing": "I8"}
    assert told == {
        (file, name, dtypes[name], array.shape, array.nbytes)
        for file, arrays in SHARDS.items()
        for name, array in arrays.items()
    }
    assert listing.to_arrow().column("shape").to_pylist()[0] == [*listing[0].shape]


def test_a_name_in_two_files_is_refused_until_one_is_named(hub: Hub, tmp_path: Path) -> None:
    one, other = np.zeros(3), np.ones(3)
    files = {"unet/model.safetensors": {"w": one}, "vae/model.safetensors": {"w": other}}
    hub.push(NAME, model(tmp_path / "model", files))
    with pytest.raises(InvalidInput) as refused:
        hub.tensors(NAME)
    assert all(path in refused.value.message for path in files)
    assert "include" in refused.value.remedy
    assert hub.tensors(NAME, include=["vae/"]).get_tensor("w").tolist() == [1.0] * 3


def test_what_is_not_there_is_named(hub: Hub, shards: Path) -> None:
    tensors = hub.tensors(NAME)
    for act in (tensors.get_tensor, tensors.get_slice, tensors.info):
        with pytest.raises(NotFound, match="absent"):
            act("absent")
    with pytest.raises(NotFound, match="safetensors"):
        hub.tensors(NAME, include=["*.json"])
    with pytest.raises(NotFound):
        hub.tensors(f"{NAME}@2")
    with pytest.raises(InvalidInput, match="jax"):
        hub.tensors(NAME, framework="jax")  # type: ignore[arg-type]
    with pytest.raises(NotFound, match=r"absent\.json"):
        hub.open(NAME, "absent.json")


def test_a_file_that_is_not_what_its_name_says_is_refused(hub: Hub, tmp_path: Path) -> None:
    folder = model(tmp_path / "model", {"good.safetensors": {"w": np.zeros(3)}})
    (folder / "bad.safetensors").write_bytes(b"\xff" * 100)
    (folder / "bad.gguf").write_bytes(b"GGUF")
    hub.push(NAME, folder)
    for path in ("bad.safetensors", "bad.gguf"):
        with pytest.raises(InvalidInput, match=path):
            hub.tensors(NAME, include=[path])
    assert hub.tensors(NAME, include=["good.*"]).keys() == ["w"]


def gguf(array: Any) -> bytes:
    """A GGUF file of one F32 matrix and one of 32 quantised numbers (``Q8_0``)."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    rows, columns = array.shape
    header = b"GGUF" + struct.pack("<IQQ", 3, 2, 0)
    header += text("w") + struct.pack("<IQQIQ", 2, columns, rows, 0, 0)
    header += text("q") + struct.pack("<IQIQ", 1, 32, 8, -(-array.nbytes // 32) * 32)
    return b"".join(
        part + bytes(-len(part) % 32) for part in (header, array.tobytes(), bytes(range(34)))
    )


def test_plain_tensors_of_gguf_are_read_and_quantised_ones_are_listed(
    hub: Hub, tmp_path: Path
) -> None:
    array = np.arange(35, dtype=np.float32).reshape(5, 7)
    (tmp_path / "model.gguf").write_bytes(gguf(array))
    hub.push(NAME, tmp_path / "model.gguf")
    tensors = hub.tensors(NAME)
    np.testing.assert_array_equal(tensors.get_tensor("w"), array)
    np.testing.assert_array_equal(tensors.get_slice("w")[2:4, 1], array[2:4, 1])
    assert (tensors.info("q").dtype, tensors.info("q").size_bytes) == ("Q8_0", 34)
    with pytest.raises(InvalidInput, match="Q8_0") as refused:
        tensors.get_tensor("q")
    at = int(refused.value.remedy.split("from ")[1].split()[0])
    with hub.open(NAME, "model.gguf") as file:
        file.seek(at)
        assert file.read(34) == bytes(range(34))


def test_arrays_of_numpy_are_read_where_no_model_is(hub: Hub, tmp_path: Path) -> None:
    rows = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    held = {"a/rows": rows, "b/rows": rows + 1, "columns": np.asfortranarray(rows + 2)}
    for name, array in held.items():
        (tmp_path / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "model" / name, array)
    many = {"one": np.asfortranarray(bf16((5, 6)).astype(np.float32)), "flag": np.array(True)}
    np.savez(tmp_path / "model" / "many.npz", allow_pickle=False, **many)
    hub.push(NAME, tmp_path / "model")
    tensors = hub.tensors(NAME)
    assert sorted(tensors.keys()) == sorted([*held, *many])
    for name, array in (held | many).items():
        read = tensors.get_tensor(name)
        assert (read.dtype, read.shape, read.flags.c_contiguous) == (array.dtype, array.shape, True)
        np.testing.assert_array_equal(read, array)
    keys: list[Any] = [1, (..., 2), (0, slice(1, 3)), (slice(None), 2, slice(3, 0, -2)), (1, 2, 3)]
    for name in held:
        for key in keys:
            np.testing.assert_array_equal(tensors.get_slice(name)[key], held[name][key])

    save_file({"w": rows}, tmp_path / "model" / "model.safetensors")
    np.savez_compressed(tmp_path / "model" / "small.npz", w=rows)
    hub.push(NAME, tmp_path / "model")
    assert hub.tensors(NAME).keys() == ["w"]
    assert hub.tensors(NAME, include=["many.npz"]).keys() == list(many)
    with pytest.raises(InvalidInput, match=r"small\.npz.*compressed"):
        hub.tensors(NAME, include=["small.npz"])


def test_the_last_dimension_of_columns_costs_its_own_bytes(
    hub: Hub, weights: CountedWeights, tmp_path: Path
) -> None:
    array = np.asfortranarray(np.random.default_rng(0).integers(0, 2**32, (4096, 1024), np.uint32))
    np.save(tmp_path / "w.npy", array)
    hub.push(NAME, tmp_path / "w.npy", policy="fast")
    part = hub.tensors(NAME).get_slice("w")
    weights.read_bytes = 0
    np.testing.assert_array_equal(part[:, 300], array[:, 300])
    assert weights.read_bytes <= 4 * MIB


BIG = 32 * MIB


@pytest.mark.parametrize("policy", ["fast", "auto"])
def test_one_tensor_costs_its_own_stored_bytes(
    hub: Hub, weights: CountedWeights, tmp_path: Path, policy: StoragePolicy, figure: Any
) -> None:
    arrays = {f"layer.{index}": bf16((4096, 4096), index) for index in range(4)}
    whole = model(tmp_path / "model", {"model.safetensors": arrays}) / "model.safetensors"
    stored = hub.push(NAME, whole, policy=policy).new_bytes / 4
    weights.read_bytes = 0
    with hub.tensors(NAME) as tensors:
        opening = weights.read_bytes
        read = tensors.get_tensor("layer.2")
    assert read.nbytes == BIG
    assert read.tobytes() == arrays["layer.2"].tobytes()
    assert weights.read_bytes <= 1.05 * stored
    figure(
        f"{policy}: 32 MiB of a tensor, stored in {stored / MIB:.2f} MiB, took reads of "
        f"{weights.read_bytes / MIB:.2f} MiB, {opening} bytes of them for header and manifest"
    )


def test_a_slice_costs_the_chunks_of_its_rows(
    hub: Hub, weights: CountedWeights, tmp_path: Path
) -> None:
    array = np.random.default_rng(0).integers(0, 2**32, (1024, 4096), np.uint32)
    hub.push(NAME, model(tmp_path / "model", {"model.safetensors": {"w": array}}), policy="fast")
    part = hub.tensors(NAME).get_slice("w")
    asked: list[tuple[Any, int]] = [
        (300, 4 * MIB),
        (slice(0, 256), 4 * MIB),
        ((slice(700, 720), slice(5, 9)), 4 * MIB),
        ((1000, 7), 4 * MIB),
        (slice(5, 5), 0),
        (slice(200, 300), 8 * MIB),
    ]
    for key, most_bytes in asked:
        weights.read_bytes = 0
        np.testing.assert_array_equal(part[key], array[key])
        assert weights.read_bytes <= most_bytes


def test_several_threads_read_at_once(hub: Hub, shards: Path) -> None:
    tensors: Tensors = hub.tensors(NAME)
    read: dict[str, bytes] = {}

    def work(name: str) -> None:
        read[name] = tensors.get_tensor(name).tobytes()

    threads = [threading.Thread(target=work, args=(name,)) for name in tensors.keys()]  # noqa: SIM118
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read == {
        name: array.tobytes() for file in SHARDS.values() for name, array in file.items()
    }


def test_damage_in_one_tensor_is_an_error_there_alone(
    hub: Hub, weights: CountedWeights, tmp_path: Path
) -> None:
    arrays = {"a": np.full(MIB, 65, np.uint8), "b": np.full(MIB, 66, np.uint8)}
    hub.push(NAME, model(tmp_path / "model", {"m.safetensors": arrays}), policy="fast")
    for pack in weights._files.values():
        pack.data[:] = pack.data.replace(b"B" * 1000, b"C" * 1000, 1)
    tensors = hub.tensors(NAME)
    assert tensors.get_tensor("a").tobytes() == b"A" * MIB
    with pytest.raises(CorruptData):
        tensors.get_tensor("b")


def test_a_file_of_a_version_is_opened_by_its_path(hub: Hub, shards: Path) -> None:
    for path in [*SHARDS, "config.json"]:
        with hub.open(NAME, path) as file:
            assert file.read() == (shards / path).read_bytes()
    with hub.open(NAME, "config.json") as file:
        assert json.load(file) == {}
