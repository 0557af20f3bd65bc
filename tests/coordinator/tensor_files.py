"""Small models that change as models do: drawn anew, or fine-tuned."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

ROWS, COLUMNS = 512, 1024
Tensors = dict[str, "np.ndarray[tuple[int, int], np.dtype[np.float16]]"]


def drawn(seed: int, count: int = 8) -> Tensors:
    random = np.random.default_rng(seed)
    return {
        f"layer.{number}": random.standard_normal((ROWS, COLUMNS)).astype(np.float16)
        for number in range(count)
    }


def tuned(tensors: Tensors, seed: int, scale: float = 0.01) -> Tensors:
    random = np.random.default_rng(seed)
    return {
        name: (tensor + random.standard_normal(tensor.shape) * scale).astype(np.float16)
        for name, tensor in tensors.items()
    }


def safetensors(tensors: Tensors) -> bytes:
    header, end = {}, 0
    for name, tensor in tensors.items():
        offsets = [end, end + tensor.nbytes]
        header[name] = {"dtype": "F16", "shape": list(tensor.shape), "data_offsets": offsets}
        end += tensor.nbytes
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + b"".join(t.tobytes() for t in tensors.values())


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def onnx(tensors: Mapping[str, tuple[int, tuple[int, ...], bytes | str]]) -> bytes:
    """An ONNX model of initialisers: data type, shape, and their bytes or the file of these."""

    def varint(value: int) -> bytes:
        more, low = value >> 7, value & 0x7F
        return bytes([low | 0x80]) + varint(more) if more else bytes([low])

    def field(number: int, data: bytes) -> bytes:
        return varint(number << 3 | 2) + varint(len(data)) + data

    def initializer(name: str, kind: int, shape: tuple[int, ...], held: bytes | str) -> bytes:
        found = b"".join(varint(1 << 3) + varint(size) for size in shape)
        found += varint(2 << 3) + varint(kind) + field(8, name.encode())
        if isinstance(held, bytes):
            return found + field(9, held)
        entry = field(1, b"location") + field(2, held.encode())
        return found + field(13, entry) + varint(14 << 3) + varint(1)

    graph = b"".join(field(5, initializer(name, *tensor)) for name, tensor in tensors.items())
    return field(7, graph)
