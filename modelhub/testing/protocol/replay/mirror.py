"""A real hub that stands where a model begins, and its stores as the model sees them."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path

from blake3 import blake3

from modelhub.backends.memory import MemoryRows, MemorySearch, MemoryWeights
from modelhub.content.manifest import ChunkRef
from modelhub.content.pack import PackWriter, pack_path, read_trailer
from modelhub.coordinator import context, keys
from modelhub.coordinator.index import document_id
from modelhub.coordinator.storing import chunk_hint
from modelhub.errors import CorruptData
from modelhub.hub import Hub
from modelhub.records import (
    Deleted,
    Entry,
    Fence,
    Intent,
    PackRow,
    Pin,
    Published,
    Targets,
    Undeleted,
    VersionHint,
    decode,
    encode,
    unseal,
)
from modelhub.testing.protocol import world
from modelhub.testing.protocol.client import Task
from modelhub.testing.protocol.model import Configuration
from modelhub.testing.protocol.replay.calls import MODEL, pack_id
from modelhub.testing.protocol.replay.processes import Process, open_hub

REQUEST = "r"
_PIECE_BYTES = 300_000
_EVERYTHING = (b"\0", b"\xff")


def memory_stores() -> context.Stores:
    """Empty stores."""
    return context.Stores(MemoryWeights(), MemoryRows(), MemorySearch())


def verb(task: Task, source: Path) -> Callable[[Hub], object]:
    """What a client does that was given ``task``; what it publishes lies at ``source``."""
    match task.op:
        case "delete":
            return lambda hub: hub.delete(f"{MODEL}@{task.number}")
        case "undelete":
            return lambda hub: hub.undelete(f"{MODEL}@{task.number}")
    expect = None if task.expected is None else str(task.expected)
    request = REQUEST if task.request else None
    return lambda hub: hub.push(MODEL, source, expect=expect, request_id=request)


def write_source(folder: Path, name: str, *, reuses: bool = False) -> Path:
    """A file for ``name`` to publish, unlike any other's; a piece of it may be stored already."""
    path = folder / name / ("model.safetensors" if reuses else "model.bin")
    if not path.exists():
        path.parent.mkdir()
        path.write_bytes(_two_pieces(name) if reuses else name.encode())
    return path.parent


def _piece(name: str) -> bytes:
    return (name.encode() * _PIECE_BYTES)[:_PIECE_BYTES]


def shared_piece(name: str) -> bytes:
    """What the source of ``name`` has in common with a pack that it reuses."""
    return _piece(f"shared with {name}")


def _two_pieces(name: str) -> bytes:
    """Tensors are cut from each other: one that is shared, and one that is new."""
    tensors = {
        f"{name}.{which}": {
            "dtype": "U8",
            "shape": [_PIECE_BYTES],
            "data_offsets": [place * _PIECE_BYTES, (place + 1) * _PIECE_BYTES],
        }
        for place, which in enumerate(("shared", "new"))
    }
    header = json.dumps(tensors).encode()
    return struct.pack("<Q", len(header)) + header + shared_piece(name) + _piece(name)


def store_pack(stores: context.Stores, name: str, pieces: list[bytes]) -> None:
    """Store a live pack that no version needs, and say in ``chunks`` what it holds."""
    pack = pack_id(name)
    writer = PackWriter(stores.weights, pack)
    hints = {}
    for piece in pieces:
        digest, size = blake3(piece).digest(), len(piece)
        place = ChunkRef(digest, size, pack, writer.add(digest, piece), size)
        hints[keys.chunk(digest)] = chunk_hint(place)
    row = PackRow(state="live", size_bytes=writer.finish(), token="first")
    stores.rows.put(keys.PACKS, keys.pack(pack), encode(row))
    if hints:
        stores.rows.put_many(keys.CHUNKS, hints)


class Mirror:
    """The stores of a hub, read past the coordinator, as the ``Stores`` of a model."""

    def __init__(self, stores: context.Stores, configuration: Configuration) -> None:
        self._stores = stores
        self._names = {pack_id(name): name for name in _pack_names(configuration)}
        self._tokens: dict[str, list[str]] = {name: [] for name in self._names.values()}
        targets = stores.rows.get(keys.SYSTEM, keys.SEARCH)
        assert targets is not None
        self._target = decode(targets, Targets, "the search targets").live

    def look(self) -> world.Stores:
        """Everything as it is now. Packs that the model does not know of are left out."""
        return world.Stores(
            log=tuple(self._log()),
            documents=self._documents(),
            intents=tuple(sorted(self._intents())),
            packs=tuple(sorted(self._packs())),
            lookup=tuple(sorted(self._lookup())),
        )

    def _log(self) -> Iterator[world.Entry]:
        chain = {"": ""}
        rows = self._stores.rows.scan(keys.LOG, *keys.prefix(MODEL))
        for seq, (key, value) in enumerate(reversed(list(rows)), 1):
            entry, digest = _entry(value)
            assert (entry.seq, keys.parse_log(key)) == (seq, (MODEL, seq)), "a gap in the log"
            previous = chain.get(entry.previous, "an unknown entry")
            made = self._made(entry, previous)
            chain = {digest: made.txid}
            yield made

    def _made(self, entry: Entry, previous: str) -> world.Entry:
        match entry.change:
            case Published(number=number, parents=parents, version=version):
                packs = [self._names[pack] for pack in version.packs if pack in self._names]
                return world.Entry(
                    entry.txid,
                    "publish",
                    previous,
                    number,
                    parents[0] if parents else 0,
                    request=bool(version.request),
                    packs=tuple(sorted(packs)),
                )
            case Deleted(numbers=(number,)):
                return world.Entry(entry.txid, "delete", previous, number)
            case Undeleted(numbers=(number,)):
                return world.Entry(entry.txid, "undelete", previous, number)
            case Fence():
                return world.Entry(world.FENCE, world.FENCE, previous)
        raise AssertionError(f"an entry that no model has: {entry}")

    def _documents(self) -> tuple[int, ...]:
        shown = {one.id: one.version for one in self._stores.search.scan(self._target)}
        found = [shown.pop(document_id(MODEL, number), 0) for number in range(1, len(shown) + 9)]
        assert not shown, f"documents of no version: {sorted(shown)}"
        while found and not found[-1]:
            found.pop()
        return tuple(found)

    def _intents(self) -> Iterator[world.Row]:
        for key, value in self._stores.rows.scan(keys.INTENTS, *keys.intents_range()):
            name, txid, pack = keys.parse_intent(key)
            assert name == MODEL
            row = decode(value, Intent, txid) if pack is None else decode(value, Pin, txid)
            yield world.Row(txid, world.INTENT if pack is None else self._names[pack], row.base)

    def _packs(self) -> Iterator[world.Pack]:
        for pack, name in self._names.items():
            value = self._stores.rows.get(keys.PACKS, keys.pack(pack))
            file = self._file(pack)
            tokens = self._tokens[name]
            row = None if value is None else decode(value, PackRow, name)
            if row is not None and row.token not in tokens:
                tokens.append(row.token)
            if row is not None or file:
                yield world.Pack(name, row.state if row else "", len(tokens), file)

    def _file(self, pack: str) -> str:
        if self._stores.weights.size(pack_path(pack)) is None:
            return ""
        try:
            read_trailer(self._stores.weights, pack)
        except CorruptData:
            return "torn"
        return "whole"

    def _lookup(self) -> Iterator[tuple[int, int]]:
        rows = self._stores.rows.scan(keys.LOOKUP, *keys.lookup_range("request", REQUEST, MODEL))
        for key, value in rows:
            *_, number = keys.parse_lookup(key)
            yield number, decode(value, VersionHint, "a lookup row").seq


@lru_cache(maxsize=10_000)
def _entry(value: bytes) -> tuple[Entry, str]:
    return unseal(value, "a log row")


def _pack_names(configuration: Configuration) -> Iterator[str]:
    yield from configuration.packs
    for number, task in enumerate(configuration.tasks, 1):
        for count in range(1, task.names + 1):
            yield f"p{number}-{count}"


def begin(configuration: Configuration, folder: Path) -> context.Stores:
    """Stores where the model begins: its first versions, and its old packs."""
    stores = memory_stores()
    hub = open_hub(stores)
    hub.init()
    for number in range(1, configuration.versions + 1):
        source = write_source(folder, f"old-{number}")
        Process("old", partial(Hub.push, name=MODEL, path=source), stores).finish()
    for pack in configuration.packs:
        store_pack(
            stores,
            pack,
            [
                shared_piece(f"p{number}")
                for number, task in enumerate(configuration.tasks, 1)
                if task.reuses == pack
            ],
        )
    return stores
