"""What several of these tests start from: files of each format, built by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from modelhub.content.cut import cut
from modelhub.content.tree import open_unchanged, survey

Pieces = Callable[..., tuple[str, list[bytes]]]
Safetensors = Callable[..., bytes]
Gguf = Callable[..., bytes]
Onnx = Callable[..., bytes]


@pytest.fixture
def pieces_of(tmp_path: Path) -> Pieces:
    """Writes bytes to a file and cuts it: the cutter's id and the pieces' bytes."""

    def cut_bytes(data: bytes, name: str = "model.bin") -> tuple[str, list[bytes]]:
        location = tmp_path / name
        location.write_bytes(data)
        [source] = survey(location)
        with open_unchanged(source) as file:
            cutter, pieces = cut(file, source)
            return cutter, [piece.data for piece in pieces]

    return cut_bytes


@pytest.fixture
def safetensors_bytes() -> Safetensors:
    """A safetensors file of named U8 tensors, with free texts in its header."""

    def build(tensors: Sequence[tuple[str, bytes]], **texts: str) -> bytes:
        header: dict[str, object] = {"__metadata__": texts} if texts else {}
        end = 0
        for name, data in tensors:
            offsets = [end, end + len(data)]
            header[name] = {"dtype": "U8", "shape": [len(data)], "data_offsets": offsets}
            end += len(data)
        raw = json.dumps(header).encode()
        return len(raw).to_bytes(8, "little") + raw + b"".join(data for _, data in tensors)

    return build


def number(value: int, size_bytes: int) -> bytes:
    return value.to_bytes(size_bytes, "little")


def text(value: str) -> bytes:
    return number(len(value.encode()), 8) + value.encode()


@pytest.fixture
def gguf_bytes() -> Gguf:
    """A GGUF file of tensors by name (type, shape innermost first, bytes), with encoded facts.

    ``counts`` and ``offsets`` replace the numbers that tell the truth.
    """

    def build(
        tensors: Mapping[str, tuple[int, Sequence[int], bytes]],
        facts: Sequence[bytes] = (),
        *,
        version: int = 3,
        alignment: int = 32,
        counts: tuple[int, int] | None = None,
        offsets: Sequence[int] | None = None,
        names: Sequence[str] | None = None,
    ) -> bytes:
        held, entries, data = list(facts), b"", b""
        if alignment != 32:
            held.append(text("general.alignment") + number(4, 4) + number(alignment, 4))
        for index, (name, (kind, shape, stored)) in enumerate(tensors.items()):
            at = offsets[index] if offsets else len(data)
            entries += text(names[index] if names else name) + number(len(shape), 4)
            entries += b"".join(number(size, 8) for size in shape)
            entries += number(kind, 4) + number(at, 8)
            data += stored + bytes(-len(stored) % max(alignment, 1))
        found = counts or (len(tensors), len(held))
        header = b"GGUF" + number(version, 4) + number(found[0], 8) + number(found[1], 8)
        header += b"".join(held) + entries
        return header + bytes(-len(header) % max(alignment, 1)) + data

    return build


def varint(value: int) -> bytes:
    data = b""
    while value > 0x7F:
        data, value = data + bytes([value & 0x7F | 0x80]), value >> 7
    return data + bytes([value])


def field(tag: int, value: int | bytes | str) -> bytes:
    """A field of a Protocol Buffers message."""
    if isinstance(value, int):
        return varint(tag << 3) + varint(value)
    raw = value.encode() if isinstance(value, str) else value
    return varint(tag << 3 | 2) + varint(len(raw)) + raw


@pytest.fixture
def onnx_bytes() -> Onnx:
    """A ``.onnx`` whose tensors (name, type, shape, where) lie elsewhere, but for the last."""

    def build(tensors: Sequence[tuple[str, int, Sequence[int], Mapping[str, str]]]) -> bytes:
        graph = field(1, field(4, "Identity")) + field(2, "graph")
        for name, kind, shape, where in tensors:
            dims = field(1, b"".join(map(varint, shape)))  # packed
            pairs = b"".join(field(13, field(1, k) + field(2, v)) for k, v in where.items())
            graph += field(5, dims + field(2, kind) + field(8, name) + pairs + field(14, 1))
        inside = b"".join(field(1, size) for size in (2, 3)) + field(2, 1) + field(8, "inside")
        graph += field(5, inside + field(9, bytes(24)))
        return field(1, 8) + field(2, "modelhub") + field(7, graph) + field(8, field(2, 17))

    return build
