"""What every format has in common: sound or not, a file is cut and joined again."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any, BinaryIO

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelhub.content.cut import CONTENT_CUTTER, TENSOR_CUTTER, cut, parts
from modelhub.content.layout import layout
from modelhub.content.layout.spans import Span, Unsound, filled, padded
from modelhub.content.tree import SourceFile, survey
from modelhub.content.windows import windows
from modelhub.errors import Conflict

KIB = 1 << 10

Files = dict[str, bytes]
Builder = Callable[..., bytes]


@pytest.fixture
def formats(safetensors_bytes: Builder, gguf_bytes: Builder, onnx_bytes: Builder) -> Files:
    """A sound file of each format, and the model that speaks of one of them."""
    big, small = Random(0).randbytes(600 * KIB), Random(1).randbytes(KIB)
    arrays: dict[str, Any] = {
        "big": np.frombuffer(big, np.float32),
        "small": np.frombuffer(small, np.uint8),
    }
    array, archive = io.BytesIO(), io.BytesIO()
    np.save(array, arrays["big"])
    np.savez(archive, **arrays)
    where = [{"location": "d.onnx.data", "offset": str(at)} for at in (0, 601 * KIB)]
    return {
        "a.safetensors": safetensors_bytes([("big", big), ("small", small)]),
        "b.gguf": gguf_bytes({"big": (0, (150 * KIB,), big), "small": (24, (KIB,), small)}),
        "c.npy": array.getvalue(),
        "c.npz": archive.getvalue(),
        "d.onnx": onnx_bytes([("big", 1, (150 * KIB,), where[0]), ("small", 2, (9,), where[1])]),
        "d.onnx.data": big + bytes(KIB) + small,
    }


NAMES = ["a.safetensors", "b.gguf", "c.npy", "c.npz", "d.onnx.data"]


def cut_among(files: Mapping[str, bytes], name: str) -> tuple[str, list[tuple[int, Any]], bytes]:
    """How it is cut, each piece's size and part, and all bytes again."""

    def beside(path: str) -> BinaryIO | None:
        return io.BytesIO(files[path]) if path in files else None

    data = files[name]
    source = SourceFile(name, Path(name), len(data), 0o644, (0, 0, len(data), 0, 0))
    cutter, pieces = cut(io.BytesIO(data), source, beside)
    found = list(pieces)
    made = [(len(piece.data), piece.part) for piece in found]
    known = parts(io.BufferedReader(io.BytesIO(data)), len(data), name, beside)
    assert known == (made if cutter == TENSOR_CUTTER else None)
    return cutter, made, b"".join(piece.data for piece in found)


@pytest.mark.parametrize("name", NAMES)
def test_a_sound_file_is_cut_along_its_tensors(formats: Files, name: str) -> None:
    cutter, made, joined = cut_among(formats, name)
    assert cutter == TENSOR_CUTTER
    assert "big" in {part.tensor for _, part in made if part} or name == "c.npy"
    assert joined == formats[name]


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(NAMES),
    damaged=st.sampled_from(["", "d.onnx"]),
    flip=st.tuples(st.integers(0, 4000) | st.integers(-1000, -1), st.integers(0, 255)),
    keep=st.none() | st.integers(-2000, -1) | st.integers(0, 700 * KIB),
)
def test_a_damaged_file_is_cut_without_an_error(
    formats: Files, name: str, damaged: str, flip: tuple[int, int], keep: int | None
) -> None:
    data = bytearray(formats[damaged or name])
    data[flip[0] % len(data)] ^= flip[1]
    files = {**formats, damaged or name: bytes(data[:keep])}
    _, _, joined = cut_among(files, name)
    assert joined == files[name]


@given(
    st.sampled_from([*NAMES, "x.pt"]),
    st.sampled_from([b"", b"GGUF\3\0\0\0", b"\x93NUMPY\1\0", b"PK\3\4"]),
    st.binary(max_size=300),
    st.binary(max_size=300),
)
def test_any_bytes_are_taken(name: str, magic: bytes, head: bytes, tail: bytes) -> None:
    data = magic + head + bytes(520 * KIB) + tail
    files = {name: data, "d.onnx": head}
    assert cut_among(files, name)[2] == data


@given(st.sampled_from(NAMES), st.binary(max_size=300), st.integers(0, 2**63))
def test_spans_fill_the_file_whatever_it_holds(name: str, data: bytes, size_bytes: int) -> None:
    found = layout(io.BytesIO(data), size_bytes, name, lambda _: io.BytesIO(data))
    assert found is None or sum(span.size_bytes for span in found) == size_bytes


def test_one_look_at_a_hostile_file_takes_little_memory(gguf_bytes: Builder) -> None:
    def number(value: int, size_bytes: int) -> bytes:
        return value.to_bytes(size_bytes, "little")

    def text(size_bytes: int) -> bytes:
        return number(size_bytes, 8) + bytes(size_bytes)

    vocabulary = text(3) + number(9, 4) + number(8, 4) + number(2**60, 8) + text(1000) * 40_000
    entry = text(1) + number(0, 12) + number(0, 8)
    hostile = {
        "a.gguf": gguf_bytes({}, [vocabulary], counts=(1, 1)),
        "b.gguf": gguf_bytes({}, [], counts=(1 << 17, 0)) + entry * (1 << 17),
        "c.npz": b"PK\3\4" + b"PK\5\6" * 20_000,
        "d.safetensors": (16 << 20).to_bytes(8, "little") + bytes(17 << 20),
    }
    for name, data in hostile.items():
        file = io.BytesIO(data)
        tracemalloc.start()
        try:
            assert layout(file, len(data), name, lambda _: None) is None
            assert tracemalloc.get_traced_memory()[1] < 64 << 20
        finally:
            tracemalloc.stop()


def test_a_push_finds_the_model_beside_its_data(formats: Files, tmp_path: Path) -> None:
    for name, data in formats.items():
        (tmp_path / name).write_bytes(data)
    sources = survey(tmp_path)
    cutters: list[str] = []
    pieces = [piece for window in windows(sources, cutters, sources) for piece in window]
    by_path = dict(zip((source.path for source in sources), cutters, strict=True))
    assert by_path == {**dict.fromkeys(NAMES, TENSOR_CUTTER), "d.onnx": CONTENT_CUTTER}
    for index, source in enumerate(sources):
        found = b"".join(piece.data for piece in pieces if piece.index == index)
        assert found == formats[source.path]


def test_a_model_that_changes_beside_its_data_conflicts(formats: Files, tmp_path: Path) -> None:
    for name in ("d.onnx", "d.onnx.data"):
        (tmp_path / name).write_bytes(formats[name])
    sources = survey(tmp_path)
    (tmp_path / "d.onnx").write_bytes(formats["d.onnx"] + b"\0")
    with pytest.raises(Conflict, match=r"'d\.onnx' changed"):
        list(windows(sources[1:] + sources[:1], [], sources))


def test_gaps_are_nameless_or_padding() -> None:
    placed = [(30, Span(5, "b")), (10, Span(10, "a"))]
    assert filled(placed, 40) == [Span(10), Span(10, "a"), Span(10), Span(5, "b"), Span(5)]
    assert padded(placed, 40) == [
        Span(10),
        Span(20, "a", padding_bytes=10),
        Span(10, "b", padding_bytes=5),
    ]


@pytest.mark.parametrize(
    "placed",
    [
        [(0, Span(5, "a")), (4, Span(5, "b"))],
        [(0, Span(5, "a")), (5, Span(5, "a"))],
        [(0, Span(11, "a"))],
        [(-1, Span(5, "a"))],
    ],
    ids=["overlap", "one name", "too long", "too early"],
)
def test_tensors_that_cannot_be_are_unsound(placed: list[tuple[int, Span]]) -> None:
    with pytest.raises(Unsound):
        filled(placed, 10)
