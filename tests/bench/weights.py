"""Files of seeded bf16 weights, written block by block: any size in constant memory.

Weights are normal, which compress as published real ones do, and a block depends on nothing but its
tensor's seed and its place: so a tensor that got longer begins as it did before.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SPREAD = 0.02
BLOCK_VALUES = 4 << 20


@dataclass(frozen=True)
class Tensor:
    """Weights of a layer, rounded to bf16.

    ``drift`` is how far a fine-tune took each of them, as a part of the weights' spread.
    """

    name: str
    shape: tuple[int, ...]
    seed: int
    drift: float = 0.0

    @property
    def size_bytes(self) -> int:
        return 2 * math.prod(self.shape)


def blocks(tensor: Tensor) -> Iterator[NDArray[np.uint16]]:
    """The tensor's bits, a block at a time."""
    left = math.prod(tensor.shape)
    for number in count():
        size = min(left, BLOCK_VALUES)
        values = _rounded(_drawn(tensor.seed, number, 0, size))
        if tensor.drift:
            # A training run begins with the weights as they were published, rounded.
            moved = _widened(values) + tensor.drift * _drawn(tensor.seed, number, 1, size)
            values = _rounded(moved.astype(np.float32, copy=False))
        yield values
        left -= size
        if not left:
            return


def _drawn(seed: int, block: int, stream: int, size: int) -> NDArray[np.float32]:
    generator = np.random.Generator(np.random.SFC64([seed, block, stream]))
    values = generator.standard_normal(size, dtype=np.float32)
    values *= np.float32(SPREAD)
    return values


def _rounded(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """To the nearest bf16, ties to even."""
    bits = values.view(np.uint32)
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)


def _widened(values: NDArray[np.uint16]) -> NDArray[np.float32]:
    return (values.astype(np.uint32) << 16).view(np.float32)


def write_safetensors(
    path: Path, tensors: Sequence[Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file; ``metadata`` are the free texts of its header."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"} | dict(metadata or {})}
    end = 0
    for tensor in tensors:
        begin, end = end, end + tensor.size_bytes
        header[tensor.name] = {
            "dtype": "BF16",
            "shape": tensor.shape,
            "data_offsets": [begin, end],
        }
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for tensor in tensors:
            for block in blocks(tensor):
                file.write(block.data)


def write_opaque(
    path: Path, tensors: Sequence[Tensor], insert: bytes = b"", insert_at: int = 0
) -> None:
    """Write the same bytes without a header, with ``insert`` from byte ``insert_at`` on."""
    written = 0
    with path.open("wb") as file:
        for tensor in tensors:
            for block in blocks(tensor):
                data = block.tobytes()
                if insert and written <= insert_at < written + len(data):
                    cut = insert_at - written
                    data = data[:cut] + insert + data[cut:]
                    insert = b""
                written += file.write(data)
