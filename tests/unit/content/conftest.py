"""What several of these tests start from."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from modelhub.content.cut import cut
from modelhub.content.tree import open_unchanged, survey

Pieces = Callable[..., tuple[str, list[bytes]]]
Safetensors = Callable[..., bytes]


@pytest.fixture
def pieces_of(tmp_path: Path) -> Pieces:
    """Writes bytes to a file and cuts it: the cutter's id and the pieces."""

    def cut_bytes(data: bytes, name: str = "model.bin") -> tuple[str, list[bytes]]:
        location = tmp_path / name
        location.write_bytes(data)
        [source] = survey(location)
        with open_unchanged(source) as file:
            cutter, pieces = cut(file, source)
            return cutter, list(pieces)

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
