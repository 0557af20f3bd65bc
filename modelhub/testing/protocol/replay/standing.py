"""A real hub that stands where a model begins, and what its clients do."""

from __future__ import annotations

import json
import secrets
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

from blake3 import blake3

from modelhub.backends.memory import MemoryRows, MemorySearch, MemoryWeights
from modelhub.content.manifest import ChunkRef
from modelhub.content.pack import PackWriter
from modelhub.coordinator import keys
from modelhub.coordinator.context import Stores
from modelhub.coordinator.packs import chunk_hint
from modelhub.hub import Hub
from modelhub.records import PackRow, encode
from modelhub.testing.protocol.client import Task
from modelhub.testing.protocol.model import Configuration
from modelhub.testing.protocol.replay.calls import MODEL, REQUEST, pack_id
from modelhub.testing.protocol.replay.processes import Process, open_hub

_PIECE_BYTES = 300_000
"""Two of them are more than the longest file that is one piece, whatever its format."""


def begin(configuration: Configuration, folder: Path) -> Stores:
    """Stores as a model begins: its first versions, and its old packs.

    ``folder`` is for the files of versions; what is there already is used again.
    """
    stores = Stores(MemoryWeights(), MemoryRows(), MemorySearch())
    open_hub(stores).init()
    for number in range(1, configuration.versions + 1):
        source = _source(folder, f"old-{number}")
        Process("old", partial(Hub.push, name=MODEL, path=source), stores).finish()
    for pack in configuration.packs:
        tasks = enumerate(configuration.tasks, 1)
        _store_pack(stores, pack, [_shared(f"p{number}") for number, task in tasks if task.reuses])
    return stores


def verb(name: str, task: Task, folder: Path) -> Callable[[Hub], object]:
    """What client ``name`` does to fulfil its task."""
    if task.op != "publish":
        return partial(getattr(Hub, task.op), revision=f"{MODEL}@{task.number}")
    return partial(
        Hub.push,
        name=MODEL,
        path=_source(folder, name, reuses=bool(task.reuses)),
        expect=None if task.expected is None else str(task.expected),
        request_id=REQUEST if task.request else None,
    )


def _source(folder: Path, name: str, *, reuses: bool = False) -> Path:
    """A folder to publish that is unlike all others; some of it may lie in a pack already."""
    path = folder / name / ("model.safetensors" if reuses else "model.bin")
    if not path.exists():
        path.parent.mkdir()
        path.write_bytes(_two_tensors(name) if reuses else name.encode())
    return path.parent


def _two_tensors(name: str) -> bytes:
    """A safetensors file, which is cut between its tensors: one is stored already, one is not."""
    header = {
        f"{name}.{number}": {
            "dtype": "U8",
            "shape": [_PIECE_BYTES],
            "data_offsets": [number * _PIECE_BYTES, (number + 1) * _PIECE_BYTES],
        }
        for number in (0, 1)
    }
    data = json.dumps(header).encode()
    return struct.pack("<Q", len(data)) + data + _shared(name) + _piece(f"only in {name}")


def _shared(name: str) -> bytes:
    """What the source of ``name`` has in common with a pack that it reuses."""
    return _piece(f"shared with {name}")


def _piece(text: str) -> bytes:
    return (text.encode() * _PIECE_BYTES)[:_PIECE_BYTES]


def _store_pack(stores: Stores, name: str, pieces: list[bytes]) -> None:
    """Store a live pack that no version needs, and say in ``chunks`` what it holds."""
    pack = pack_id(name)
    writer = PackWriter(stores.weights, pack)
    for piece in pieces:
        digest, size = blake3(piece).digest(), len(piece)
        place = ChunkRef(digest, size, pack, writer.add(digest, piece), size)
        stores.rows.put(keys.CHUNKS, keys.chunk(digest), chunk_hint(place))
    row = PackRow(state="live", size_bytes=writer.finish(), token=secrets.token_hex(8))
    stores.rows.put(keys.PACKS, keys.pack(pack), encode(row))
