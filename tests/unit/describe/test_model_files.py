"""``config.json``, safetensors headers, and all files of a model together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from modelhub.describe import describe
from modelhub.describe.facts import Facts, apply
from modelhub.records import ROW_LIMIT_BYTES, Metadata, MetadataRow, decode, encode

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "torch_dtype": "bfloat16",
    "transformers_version": "4.40.0",
    "hidden_size": 4096,
    "vocab_size": 128256,
    "time_step_limit": [0.0, float("inf")],
    "rope_scaling": {"type": "linear"},
}


def read(folder: Path, **files: bytes) -> Metadata:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return describe([(name, folder / name) for name in files])


def config(folder: Path, data: bytes) -> Metadata:
    return read(folder, **{"config.json": data})


def test_a_transformers_config_gives_the_framework_and_the_architecture(tmp_path: Path) -> None:
    assert config(tmp_path, json.dumps(CONFIG).encode()) == Metadata(
        framework="transformers",
        extra={
            "config.model_type": "llama",
            "config.architectures": "LlamaForCausalLM",
            "config.transformers_version": "4.40.0",
            "config.hidden_size": 4096,
            "config.vocab_size": 128256,
            "config.dtype": "bfloat16",
        },
    )


def test_some_other_programs_config_says_nothing(tmp_path: Path) -> None:
    assert config(tmp_path, b'{"steps": 3}') == Metadata()


@pytest.mark.parametrize(
    ("data", "note"),
    [
        (b"", "config.json: not JSON"),
        (b"\xff", "config.json: not JSON"),
        (b"[" * 100_000, "config.json: not JSON"),
        (b'{"hidden_size": ' + b"9" * 5000 + b"}", "config.json: not JSON"),
        (b"[1]", "config.json: not a JSON object"),
        (b" " * (1 << 20) + b"{}", "config.json: over 1,024 KiB"),
        (b'{"hidden_size": 1e999, "model_type": {}}', "left out: config.model_type, config.hidden"),
        (b'{"model_type": "\\ud800\\u0000"}', "left out: config.model_type"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_config_that_cannot_be_used_is_noted(tmp_path: Path, data: bytes, note: str) -> None:
    extra = config(tmp_path, data).extra
    assert [*extra] == ["describe.skipped"]
    assert str(extra["describe.skipped"]).startswith(note)


def test_shards_of_safetensors_are_counted_together(tmp_path: Path) -> None:
    shards: dict[str, dict[str, np.ndarray[Any, Any]]] = {
        "model-1.safetensors": {"a": np.zeros((3, 4), np.float32)},
        "model-2.safetensors": {"b": np.zeros(5, np.float16), "c": np.zeros((), np.int8)},
    }
    for name, tensors in shards.items():
        save_file(tensors, tmp_path / name, {"format": "pt", "run": name, "tensors": "mine"})
    assert describe([(name, tmp_path / name) for name in reversed(shards)]) == Metadata(
        framework="pytorch",
        extra={
            "safetensors.format": "pt",
            "safetensors.run": "model-1.safetensors",
            "safetensors.tensors": "mine",
            "weights.tensors": 3,
            "weights.parameters": 18,
            "weights.dtypes": "F16, F32, I8",
        },
    )


def test_the_card_goes_before_the_config_and_the_config_before_the_weights(tmp_path: Path) -> None:
    save_file({"a": np.zeros(1)}, tmp_path / "m.safetensors", {"format": "np"})
    weights = (tmp_path / "m.safetensors").read_bytes()
    files = {"m.safetensors": weights}
    assert read(tmp_path, **files).framework == "numpy"
    files["config.json"] = b'{"transformers_version": "4"}'
    assert read(tmp_path, **files).framework == "transformers"
    files["README.md"] = b"---\nlibrary_name: peft\n---\n"
    assert read(tmp_path, **files).framework == "peft"


def test_long_texts_in_weights_are_cut(tmp_path: Path) -> None:
    save_file({}, tmp_path / "m.safetensors", {"tags": "x" * 100_000})
    metadata = describe([("m.safetensors", tmp_path / "m.safetensors")])
    assert metadata.extra == {"safetensors.tags": "x" * 4096}


def test_weights_that_cannot_be_read_are_noted_and_the_others_counted(tmp_path: Path) -> None:
    save_file({"a": np.zeros(2)}, tmp_path / "b.safetensors")
    (tmp_path / "a.safetensors").write_bytes(b"no header")
    names = ["a.safetensors", "b.safetensors", "gone.safetensors"]
    extra = describe([(name, tmp_path / name) for name in names]).extra
    assert extra["weights.parameters"] == 2
    assert extra["describe.skipped"] == (
        "a.safetensors: not a safetensors file; gone.safetensors: No such file or directory"
    )


def test_pickles_are_warned_of_and_left_alone(tmp_path: Path) -> None:
    files = {"pytorch_model.bin": b"cos\nsystem\n(S'exit 1'\ntR.", "model.pkl": b"cos\nsystem\n."}
    dangerous = "model.pkl: os.system; pytorch_model.bin: os.system"
    extra = read(tmp_path, **files).extra
    assert extra == {"pickle.dangerous": dangerous, "pickle.imports": "os.system"}


def test_a_file_that_is_gone_is_noted(tmp_path: Path) -> None:
    extra = describe([("README.md", tmp_path / "README.md")]).extra
    assert extra == {"describe.skipped": "README.md: No such file or directory"}


def test_what_was_read_leaves_half_a_row_for_people(tmp_path: Path) -> None:
    for number in range(4):
        texts = {f"{number} {key}": "\x01" * 4096 for key in range(60)}
        save_file({}, tmp_path / f"{number}.safetensors", texts)
    (tmp_path / "README.md").write_text(
        f"---\ndescription: {'d' * 65_000}\n---\n" + "\x01" * 65_536, encoding="utf-8"
    )
    found = describe([(path.name, path) for path in tmp_path.iterdir()])
    said = {"card": "語" * 21_845, "extra": {str(key): "x" * 50 for key in range(100)}}
    row = encode(MetadataRow(1, "t", apply(found, said)))
    assert len(row) <= ROW_LIMIT_BYTES
    assert found.description == "d" * 65_000
    assert found.extra == {"describe.skipped": "left out: extra, card"}


@given(st.dictionaries(st.sampled_from(["README.md", "config.json", "a.safetensors"]), st.binary()))
def test_any_bytes_make_metadata_that_a_row_holds_and_apply_accepts(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    check(read(tmp_path_factory.mktemp("model"), **files))


SOME_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*CONFIG, "dtype", "num_layers"]), SOME_JSON))
def test_any_config_makes_metadata_that_a_row_holds_and_apply_accepts(
    tmp_path_factory: pytest.TempPathFactory, said: dict[str, object]
) -> None:
    check(config(tmp_path_factory.mktemp("model"), json.dumps(said).encode()))


def check(metadata: Metadata) -> None:
    assert decode(encode(MetadataRow(1, "t", metadata)), MetadataRow, "row").metadata == metadata
    facts = {field: getattr(metadata, field) for field in Facts.__annotations__}
    assert apply(Metadata(bases=metadata.bases), facts) == metadata
