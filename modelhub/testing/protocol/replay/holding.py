"""A real hub that stands where a collection model begins, and its stores as that model sees them.

A model's chunk is a tensor here. What else a pack holds, manifests and headers, is left out of
what a model knows of old packs; a publisher's own pack holds what is new of its version.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path

from blake3 import blake3

from modelhub import records
from modelhub.backends.memory import MemoryRows, MemorySearch, MemoryWeights
from modelhub.content.manifest import ChunkRef
from modelhub.content.pack import PackWriter, TrailerRecord, pack_path, read_pack, read_trailer
from modelhub.coordinator import context, keys
from modelhub.coordinator.log import read_head
from modelhub.coordinator.packs import chunk_hint
from modelhub.coordinator.relatives import manifest_at
from modelhub.coordinator.retention import Purge
from modelhub.coordinator.transaction import commit
from modelhub.errors import CorruptData
from modelhub.hub import Hub
from modelhub.records import (
    Deleted,
    Fence,
    PackRow,
    Pin,
    Published,
    Purged,
    Undeleted,
    VersionRecord,
    decode,
    encode,
    unseal,
)
from modelhub.testing.crashes import no_pause
from modelhub.testing.protocol import collected
from modelhub.testing.protocol.collected import PACKS, TRASH, Entry, Pack
from modelhub.testing.protocol.collection import Collection
from modelhub.testing.protocol.replay.calls import MODEL
from modelhub.testing.protocol.replay.processes import Process
from modelhub.testing.protocol.reusers import Reuse

OTHER = "nlp.other"
"""The model that ``models`` does not name."""

_PIECE_BYTES = 300_000
_CHUNKS = "abc"


def pack_id(name: str) -> str:
    """The id of what is pack ``name`` in a model; ids are in the order of names."""
    return name.encode().hex().ljust(32, "0")


def pack_name(pack: str) -> str:
    """What a pack is called in the model."""
    return bytes.fromhex(pack).rstrip(b"\0").decode()


def open_hub(stores: context.Stores) -> Hub:
    """A hub of a process of its own, which waits for nothing and makes no differences."""
    ctx = context.Context(
        stores, "tester", context.Patience(grace_s=0.0), pause=no_pause, storage_policy="fast"
    )
    return Hub(ctx, address="replayed", cache=Path("unused"))


@lru_cache
def piece(chunk: str) -> bytes:
    """The bytes of a chunk."""
    return (f"chunk {chunk} ".encode() * _PIECE_BYTES)[:_PIECE_BYTES]


@lru_cache
def digest(chunk: str) -> bytes:
    """Its digest."""
    return blake3(piece(chunk)).digest()


def source(folder: Path, name: str, chunks: Sequence[str]) -> Path:
    """A folder to publish: a file that is cut into these chunks, and a header of its own."""
    path = folder / name / "model.safetensors"
    if not path.exists():
        path.parent.mkdir()
        header = {
            f"{name}.{chunk}": {
                "dtype": "U8",
                "shape": [_PIECE_BYTES],
                "data_offsets": [number * _PIECE_BYTES, (number + 1) * _PIECE_BYTES],
            }
            for number, chunk in enumerate(chunks)
        }
        data = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(data)) + data + b"".join(map(piece, chunks)))
    return path.parent


def begin(configuration: Collection, folder: Path) -> context.Stores:
    """Stores as a model begins; ``folder`` is for files, which may be there already."""
    stores = context.Stores(MemoryWeights(), MemoryRows(), MemorySearch())
    hub = open_hub(stores)
    hub.init()
    if configuration.other:
        _publish(stores, OTHER, configuration.other[0], folder)
        stores.rows.delete_many(keys.MODELS, [keys.model(OTHER)])
    for entry in configuration.log:
        if entry.op == "publish":
            _publish(stores, MODEL, entry, folder)
        elif entry.op == "delete":
            verb = partial(Hub.delete, revision=f"{MODEL}@{entry.number}")
            Process("old", verb, stores, opened=open_hub).finish()
        else:
            Process("old", _purge, stores, opened=open_hub).finish()
    for pack in configuration.packs:
        _complete(stores, pack)
    return stores


def _publish(stores: context.Stores, model: str, entry: Entry, folder: Path) -> None:
    """Version 1, all of it in its first pack but the chunks that lie in others."""
    home, *others = sorted({pack for _, pack in entry.places}, reverse=True)
    for other in others:
        writer = PackWriter(stores.weights, pack_id(other))
        for chunk in [chunk for chunk, pack in entry.places if pack == other]:
            offset = writer.add(digest(chunk), piece(chunk))
            ref = ChunkRef(digest(chunk), _PIECE_BYTES, pack_id(other), offset, _PIECE_BYTES)
            stores.rows.put(keys.CHUNKS, keys.chunk(digest(chunk)), chunk_hint(ref))
        _put_row(stores, PackRow(state="live", size_bytes=writer.finish(), token=other), other)
    name = entry.txid.partition(".")[0]
    chunks = [*(chunk for chunk, _ in entry.places), f"only in {name}"]
    path = source(folder, name, chunks)
    verb = partial(Hub.push, name=model, path=path)
    Process(f"{name}:{home}", verb, stores, opened=open_hub).finish()


def _purge(hub: Hub) -> None:
    ctx = hub._ctx
    seen = read_head(ctx.stores.rows, MODEL).seq
    commit(ctx, MODEL, Purge(ctx, [1], seen, "its retention is over"))


def _complete(stores: context.Stores, pack: Pack) -> None:
    """Give a pack the chunks that no version uses, and its row."""
    size = _store_all(stores, pack.name, pack.name, pack.holds)
    successors = tuple(map(pack_id, pack.row.successors))
    for successor in pack.row.successors:
        _store_all(stores, pack.name, successor, ())
    row = PackRow(
        state="moved" if successors else "live",
        size_bytes=size,
        token=pack.name,
        successors=successors,
    )
    _put_row(stores, row, pack.name)


def _put_row(stores: context.Stores, row: PackRow, name: str) -> None:
    stores.rows.put(keys.PACKS, keys.pack(pack_id(name)), encode(row))


def _store_all(stores: context.Stores, of: str, name: str, chunks: Iterable[str]) -> int:
    """A pack of these chunks, of a, and of what else ``of`` holds that no model knows of."""
    weights, path = stores.weights, pack_path(pack_id(name))
    held: list[tuple[TrailerRecord, bytes]] = []
    with suppress(CorruptData):
        for record in read_trailer(weights, pack_id(of)):
            held.append((record, read_pack(weights, pack_id(of), record.offset, record.stored)))
    known = {digest(chunk): chunk for chunk in _CHUNKS}
    held = [(one, data) for one, data in held if known.get(one.digest, "a") in {*chunks, "a"}]
    weights.remove(path)
    writer = PackWriter(weights, pack_id(name))
    for record, data in held:
        writer.add(record.digest, data, length=record.length, encoding=record.encoding)
    there = {record.digest for record, _ in held}
    for chunk in chunks:
        if digest(chunk) not in there:
            writer.add(digest(chunk), piece(chunk))
    return writer.finish()


def hints(stores: context.Stores, task: Reuse) -> dict[bytes, bytes]:
    """What ``chunks`` says where a publisher's chunk is, as the model has it: for ever the same."""
    if not task.hint:
        return {}
    name = digest(task.chunk)
    for record in read_trailer(stores.weights, pack_id(task.hint)):
        if record.digest == name:
            ref = ChunkRef(name, record.length, pack_id(task.hint), record.offset, record.stored)
            return {keys.chunk(name): chunk_hint(ref)}
    raise AssertionError(f"{task.hint} does not hold {task.chunk}")


class Mirror:
    """The stores of a hub, read past the coordinator, as the ``Stores`` of a collection model.

    To count the changes of rows, look after every change.
    """

    def __init__(self, stores: context.Stores, configuration: Collection) -> None:
        self._stores = stores
        self._ctx = context.Context(stores, "tester")
        self._fresh = {
            f"p{number}": task.chunk + ("'" if task.hint else "")
            for number, task in enumerate(configuration.publishes, 1)
        }
        self._counts = {pack.name: pack.row.token - 1 for pack in configuration.packs}
        self._last: dict[str, tuple[str, str]] = {}
        self._places: dict[tuple[str, int], tuple[collected.Place, ...]] = {}
        self._known = {digest(chunk): chunk for chunk in _CHUNKS}

    def look(self) -> collected.Stores:
        """Everything as it is now."""
        return collected.Stores(
            log=tuple(self._log(MODEL)),
            other=tuple(self._log(OTHER)),
            pins=tuple(sorted(self._pins())),
            packs=tuple(sorted(self._packs())),
        )

    def _log(self, model: str) -> Iterator[Entry]:
        rows = list(self._stores.rows.scan(keys.LOG, *keys.prefix(model)))
        for _, value in reversed(rows):
            entry, _ = _entry(value)
            match entry.change:
                case Published(number=number, version=version):
                    at = model, entry.seq
                    if at not in self._places:
                        self._places[at] = self._placed(version)
                    packs = tuple(sorted(map(pack_name, version.packs)))
                    yield Entry(entry.txid, "publish", number, self._places[at], packs)
                case Deleted(numbers=(number,)):
                    yield Entry(entry.txid, "delete", number)
                case Undeleted(numbers=(number,)):
                    yield Entry(entry.txid, "undelete", number)
                case Purged(numbers=(number,)):
                    yield Entry(entry.txid, "purge", number)
                case Fence():
                    yield Entry(collected.FENCE, collected.FENCE)
                case _:
                    raise AssertionError(f"no model has an entry like {entry}")

    def _placed(self, version: VersionRecord) -> tuple[collected.Place, ...]:
        manifest = manifest_at(self._ctx, version.manifest)
        places = set()
        for ref in manifest.every_chunk():
            name = pack_name(ref.pack)
            chunk = self._own(name) or self._known.get(ref.digest, "")
            if chunk:
                places.add((chunk, name))
        return tuple(sorted(places))

    def _own(self, pack: str) -> str:
        """What the pack of a publisher holds."""
        return self._fresh.get(pack.partition("-")[0], "")

    def _pins(self) -> Iterator[collected.Pin]:
        for key, value in self._stores.rows.scan(keys.INTENTS, *keys.intents_range()):
            _, txid, pack = keys.parse_intent(key)
            if pack is not None:
                yield collected.Pin(txid, pack_name(pack), decode(value, Pin, txid).base)

    def _packs(self) -> Iterator[Pack]:
        rows = {}
        for key, value in self._stores.rows.scan(keys.PACKS, b"\0", b"\xff"):
            name = pack_name(key.decode())
            rows[name] = self._row(name, decode(value, PackRow, name))
        files = {}
        for folder in (TRASH, PACKS):
            for info in self._stores.weights.list(folder):
                files[pack_name(info.path[-32:])] = folder, info.path
        for name in rows.keys() | files.keys():
            row = rows.get(name, collected.ABSENT)
            where, path = files.get(name, ("", ""))
            yield Pack(name, row, where, self._holds(name, path) if path else ())

    def _row(self, name: str, row: PackRow) -> collected.PackRow:
        """A moved pack's row is changed once more, when its file goes; no model knows of that."""
        state, token = self._last.get(name, ("", ""))
        if row.token != token and (row.state, state) != ("moved", "moved"):
            self._counts[name] = self._counts.get(name, 0) + 1
        self._last[name] = row.state, row.token
        leads = row.state in {"condemned", "moved"}
        successors = tuple(map(pack_name, row.successors)) if leads else ()
        return collected.PackRow(row.state, self._counts[name], successors)

    def _holds(self, name: str, path: str) -> tuple[str, ...]:
        try:
            records = _trailer(self._stores.weights, name, path)
        except CorruptData:
            return ()
        if self._own(name):
            return (self._own(name),)
        found = {self._known.get(record.digest, "") for record in records}
        return tuple(sorted(found - {""}))


def _trailer(weights: object, name: str, path: str) -> list[TrailerRecord]:
    return read_trailer(weights, pack_id(name), path=path)  # type: ignore[arg-type]


@lru_cache(maxsize=10_000)
def _entry(value: bytes) -> tuple[records.Entry, str]:
    # The same rows are looked at after every step.
    return unseal(value, "a log row")
