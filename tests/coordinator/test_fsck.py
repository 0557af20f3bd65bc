"""Every kind of damage is named by a check; what can be put right is, and nothing else is touched.

Damage is done past the coordinator, through the raw stores. Whatever a repair says it did is looked
at by another route: rows as they were before, files' bytes by the log and the packs alone.

Tier: CI; on the real servers one damage of each mend.
"""

from __future__ import annotations

import itertools
import json
import random
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from blake3 import blake3
from msgspec.structs import replace

from modelhub.backends.memory import MemoryRows, MemorySearch
from modelhub.connect import embedded_stores
from modelhub.content.pack import PackWriter, new_pack_id, pack_path, read_trailer
from modelhub.coordinator import index, keys
from modelhub.coordinator.context import Stores
from modelhub.coordinator.log import Sealed, entries, read_head
from modelhub.coordinator.relatives import read_manifest
from modelhub.coordinator.versions import publication
from modelhub.errors import Conflict, ModelhubError
from modelhub.hub import Hub
from modelhub.records import (
    Entry,
    Intent,
    ModelHint,
    PackRow,
    Pin,
    Published,
    State,
    VersionHint,
    decode,
    encode,
    hex_digest,
    seal,
    unseal,
)
from modelhub.results import Health
from modelhub.rules import RetentionRule
from modelhub.stores import Document
from modelhub.testing.crashes import contents, open_process
from modelhub.testing.faults import Call, Outcome, ProcessDied
from modelhub.testing.populate import populate
from tests.coordinator.conftest import GARBAGE, written
from tests.coordinator.counted import CountedWeights
from tests.live.hubs import LiveHubs, close

A, B, LONG = "nlp.a", "nlp.b", "nlp.long"
COUNTS = {A: 3, B: 2, LONG: 1}
TWICE = f"{A}@2"
"""A version whose weights lie in another pack too."""
HINTS = (keys.VERSIONS, keys.LOOKUP, keys.METADATA)


def drawn(seed: object, count: int = 2000) -> bytes:
    return random.Random(str(seed)).randbytes(count)


def files_of(revision: str) -> dict[str, bytes]:
    own = f"{A}@2" if revision == f"{B}@2" else revision
    return {"weights.bin": drawn(own), "words.txt": drawn(revision.partition("@")[0])}


def opened(stores: Stores) -> Hub:
    """A hub of a process to which every lease is over."""
    return open_process(stores)[0]


def fill(stores: Stores, folder: Path) -> None:
    """Three models, one of them with a long log; one chunk is stored twice."""
    hub = opened(stores)
    hub.init()
    for name, count in COUNTS.items():
        for number in range(1, count + 1):
            revision = f"{name}@{number}"
            hints = dict(stores.rows.scan(keys.CHUNKS, b"\0", b"\xff"))
            if revision == f"{B}@2":
                stores.rows.delete_many(keys.CHUNKS, hints)
            source = folder / revision
            if not source.exists():
                written(source, files_of(revision))
            hub.push(name, source, title=revision, request_id=revision)
            stores.rows.put_many(keys.CHUNKS, hints)
    for at in range(39):
        hub.alias.set(LONG, f"alias{at % 3}-{at}", "1")


def rows_of(stores: Stores, *tables: str) -> dict[str, dict[bytes, bytes]]:
    return {table: dict(stores.rows.scan(table, b"\0", b"\xff")) for table in tables}


def files_in(stores: Stores, folder: str) -> dict[str, bytes]:
    return {
        info.path: stores.weights.read(info.path, 0, info.size_bytes)
        for info in stores.weights.list(folder)
    }


def documents_of(stores: Stores) -> dict[str, Document]:
    targets = index.read_targets(opened(stores)._ctx)
    return {document.id: document for document in stores.search.scan(targets.live)}


def in_trash(stores: Stores, pack: str) -> str:
    """Where the file of a pack goes that is collected now."""
    return f"{stores.rows.now():%Y-%m-%d/%H%M%S}-{pack}"


class Planted:
    """A hub to be hurt, and what it held before."""

    def __init__(self, stores: Stores) -> None:
        self.stores = stores
        self.rows = stores.rows
        self.before = rows_of(stores, *keys.TABLES)
        self.documents = documents_of(stores)
        self.packs = files_in(stores, "packs")

    # --- where things are ----------------------------------------------------------------------

    def sealed(self, revision: str) -> tuple[Sealed, Published]:
        name, _, number = revision.partition("@")
        found = publication(self.rows, read_head(self.rows, name), int(number))
        assert isinstance(found.entry.change, Published)
        return found, found.entry.change

    def pack(self, revision: str) -> str:
        """That with what was new in a version."""
        return self.sealed(revision)[1].version.manifest.pack

    def metadata(self, revision: str) -> bytes:
        name = revision.partition("@")[0]
        change = self.sealed(revision)[1]
        return keys.metadata(name, change.number, change.version.metadata)

    def offset(self, revision: str, path: str = "weights.bin") -> int:
        ctx = opened(self.stores)._ctx
        manifest = read_manifest(ctx, self.sealed(revision)[0])
        (ref,) = next(manifest.chunks(file) for file in manifest.files if file.path == path)
        return ref.offset

    # --- means to hurt -------------------------------------------------------------------------

    def write(self, path: str, data: bytes) -> None:
        """A file with these bytes, whatever was there."""
        self.stores.weights.remove(path)
        writer = self.stores.weights.create(path)
        writer.write(data)
        writer.commit()

    def change_pack(self, revision: str, change: Callable[[bytearray], object]) -> str:
        pack = self.pack(revision)
        data = bytearray(self.packs[pack_path(pack)])
        change(data)
        self.write(pack_path(pack), bytes(data))
        return f"pack {pack}"

    def flip(self, revision: str, at: int) -> str:
        def turn(data: bytearray) -> None:
            data[at] ^= 16

        return self.change_pack(revision, turn)

    def remove_pack(self, revision: str) -> str:
        self.stores.weights.remove(pack_path(self.pack(revision)))
        return f"pack {self.pack(revision)}"

    def put(self, table: str, key: bytes, value: bytes, subject: str) -> str:
        self.rows.put(table, key, value)
        return subject

    def delete(self, table: str, key: bytes, subject: str) -> str:
        assert self.rows.get(table, key) is not None
        self.rows.delete_many(table, [key])
        return subject

    def put_pack_row(self, revision: str, **changes: object) -> str:
        pack = self.pack(revision)
        row = decode(self.before[keys.PACKS][keys.pack(pack)], PackRow, "it")
        fresh = encode(replace(row, token=secrets.token_hex(8), **changes))
        return self.put(keys.PACKS, keys.pack(pack), fresh, f"pack {pack}")

    def to_trash(self, revision: str, state: str) -> str:
        """As if it had been collected."""
        pack = self.pack(revision)
        place = in_trash(self.stores, pack)
        self.stores.weights.move(pack_path(pack), f"trash/{place}")
        return self.put_pack_row(revision, state=state, trash=place)

    def reseal(self, name: str, seq: int, change: Callable[[Entry], Entry]) -> None:
        """Another entry in the place of one, and those above it as they must be then."""
        head = read_head(self.rows, name)
        previous = ""
        for sealed in reversed(list(entries(self.rows, name, newest=head.seq))):
            entry = replace(sealed.entry, previous=previous)
            if entry.seq == seq:
                entry = change(entry)
            data, digest = seal(entry)
            self.rows.put(keys.LOG, keys.log(name, entry.seq), data)
            previous = digest if entry.seq != -1 else previous

    def documents_but(self, change: Callable[[dict[str, Document]], object]) -> None:
        """A live target with other documents."""
        held = dict(self.documents)
        change(held)
        target = index.read_targets(opened(self.stores)._ctx).live
        self.stores.search.drop_target(target)
        self.stores.search.create_target(target)
        self.stores.search.write(target, list(held.values()))

    def copy(self, source: str) -> None:
        """The same pack once more, in the trash."""
        pack = self.pack(source)
        self.write(f"trash/{in_trash(self.stores, pack)}", self.packs[pack_path(pack)])


# --- the damages -------------------------------------------------------------------------------


class Damage(NamedTuple):
    """``plant`` hurts a hub, and says a part of the finding's subject."""

    name: str
    kind: str
    repairable: bool
    plant: Callable[[Planted], str]


def _log_flip(hub: Planted) -> str:
    key = keys.log(A, 2)
    data = bytearray(hub.before[keys.LOG][key])
    data[40] ^= 1
    return hub.put(keys.LOG, key, bytes(data), f"{A} entry 2")


def _log_cut(hub: Planted) -> str:
    hub.rows.delete_many(keys.LOG, [keys.log(A, 3)])
    return f"{A} entry 3"


def _log_gone(hub: Planted) -> str:
    hub.rows.delete_many(keys.LOG, [keys.log(A, seq) for seq in (1, 2, 3)])
    return f"{A} entry"


def _chain(hub: Planted) -> str:
    key = keys.log(A, 2)
    entry, _ = unseal(hub.before[keys.LOG][key], "it")
    return hub.put(keys.LOG, key, seal(replace(entry, previous="0" * 64))[0], f"{A} entry")


def _time(hub: Planted) -> str:
    hub.reseal(A, 2, lambda entry: replace(entry, time=entry.time + timedelta(days=400)))
    return f"{A} entry 3"


def _version(entry: Entry, **changes: object) -> Entry:
    assert isinstance(entry.change, Published)
    version = replace(entry.change.version, **changes)
    return replace(entry, change=replace(entry.change, version=version))


def _number(hub: Planted) -> str:
    def change(entry: Entry) -> Entry:
        assert isinstance(entry.change, Published)
        return replace(entry, change=replace(entry.change, number=7))

    hub.reseal(A, 2, change)
    return f"{A} entry"


def _snapshot(hub: Planted) -> str:
    hub.reseal(LONG, 32, lambda entry: replace(entry, state=State(next=2, branches={"main": 1})))
    return f"{LONG} entry 32"


def _content(hub: Planted) -> str:
    hub.reseal(A, 3, lambda entry: _version(entry, content="0" * 64))
    return f"{A}@3"


def _unlisted(hub: Planted) -> str:
    packs = tuple(
        pack for pack in hub.sealed(f"{A}@3")[1].version.packs if pack != hub.pack(f"{A}@1")
    )
    hub.reseal(A, 3, lambda entry: _version(entry, packs=packs))
    return f"{A}@3"


def _log_key(hub: Planted) -> str:
    return hub.put(keys.LOG, b"nlp.a-000", GARBAGE, "nlp.a-000")


def _metadata_nowhere(hub: Planted) -> str:
    hub.documents_but(lambda held: held.pop(f"{A}@3"))
    return hub.delete(keys.METADATA, hub.metadata(f"{A}@3"), f"{A}@3")


def _lookup(hub: Planted) -> str:
    return hub.delete(keys.LOOKUP, keys.lookup("request", TWICE, A, 2), TWICE)


def _other_models_row(hub: Planted) -> str:
    row = ModelHint(seq=9, head=1, versions=1)
    return hub.put(keys.MODELS, b"nlp.ghost", encode(row), "nlp.ghost")


def _stray_metadata(hub: Planted) -> str:
    data = hub.before[keys.METADATA][hub.metadata(f"{A}@3")]
    return hub.put(keys.METADATA, keys.metadata(A, 9, hex_digest(data)), data, f"{A} 000000000009")


def _stray_lookup(hub: Planted) -> str:
    key = keys.lookup("request", "r", "nlp.ghost", 1)
    return hub.put(keys.LOOKUP, key, encode(VersionHint(1, "t")), "nlp.ghost")


def _lost_pack(hub: Planted) -> str:
    """One of which every chunk is somewhere else."""
    hub.copy(f"{A}@2")
    return hub.remove_pack(f"{A}@2")


def _rot_of_two(hub: Planted) -> str:
    return hub.flip(TWICE, hub.offset(TWICE) + 5)


def _rotten_manifest(hub: Planted) -> str:
    address = hub.sealed(f"{A}@3")[1].version.manifest
    hub.flip(f"{A}@3", address.offset + 30)
    return f"{A}@3"


def _manifest_of_two(hub: Planted) -> str:
    hub.copy(f"{A}@3")
    return _rotten_manifest(hub)


def _still_deleting(hub: Planted) -> str:
    place = in_trash(hub.stores, hub.pack(f"{A}@3"))
    return hub.put_pack_row(f"{A}@3", state="deleting", trash=place)


def _moved(hub: Planted) -> str:
    """Moved, but only its last chunk, the manifest, went along."""
    pack, successor = hub.pack(f"{A}@2"), new_pack_id()
    writer = PackWriter(hub.stores.weights, successor)
    for record in read_trailer(hub.stores.weights, pack)[-1:]:
        stored = hub.stores.weights.read(pack_path(pack), record.offset, record.stored)
        writer.add(record.digest, stored, length=record.length, encoding=record.encoding)
    size = writer.finish()
    row = PackRow(state="live", size_bytes=size, token=secrets.token_hex(8))
    hub.rows.put(keys.PACKS, keys.pack(successor), encode(row))
    hub.stores.weights.move(pack_path(pack), f"trash/{in_trash(hub.stores, pack)}")
    return hub.put_pack_row(f"{A}@2", state="moved", successors=(successor,))


def _orphan(hub: Planted) -> str:
    pack = new_pack_id()
    writer = PackWriter(hub.stores.weights, pack)
    writer.add(b"x" * 32, b"left behind")
    writer.finish()
    return f"pack {pack}"


def _unused(hub: Planted) -> str:
    row = PackRow(state="live", size_bytes=99, token="t")
    pack = new_pack_id()
    return hub.put(keys.PACKS, keys.pack(pack), encode(row), f"pack {pack}")


def _chunk_key(hub: Planted) -> bytes:
    return keys.chunk(blake3(files_of(f"{A}@1")["weights.bin"]).digest())


def _chunk_to_nowhere(hub: Planted) -> str:
    key, pack = _chunk_key(hub), new_pack_id()
    hint = hub.before[keys.CHUNKS][key].replace(hub.pack(f"{A}@1").encode(), pack.encode())
    return hub.put(keys.CHUNKS, key, hint, pack)


def _chunk_misplaced(hub: Planted) -> str:
    key = _chunk_key(hub)
    offset = hub.offset(f"{A}@1")
    hint = hub.before[keys.CHUNKS][key].replace(
        b'"offset":%d' % offset, b'"offset":%d' % (offset + 1)
    )
    assert hint != hub.before[keys.CHUNKS][key]
    return hub.put(keys.CHUNKS, key, hint, key.decode())


def _overdue(hub: Planted, *, pinned: bool = False) -> str:
    lease = hub.stores.rows.now() - timedelta(days=9)
    if pinned:
        value, key = encode(Pin(1, lease)), keys.pin(A, "f" * 32, new_pack_id())
    else:
        value = encode(Intent(base=1, op="publish", actor="t", lease=lease))
        key = keys.intent(A, "f" * 32)
    return hub.put(keys.INTENTS, key, value, f"{A} {'f' * 32}")


def _surplus(hub: Planted) -> str:
    body = hub.documents[f"{A}@3"].body
    hub.documents_but(lambda held: held.update({"x": Document("nlp.ghost@1", 4, body)}))
    return "nlp.ghost@1"


def _other_text(hub: Planted) -> str:
    document = hub.documents[f"{A}@3"]
    changed = replace(document, body={**(document.body or {}), "title": "something else"})
    hub.documents_but(lambda held: held.update({document.id: changed}))
    return document.id


def _newer(hub: Planted) -> str:
    newer = replace(hub.documents[f"{A}@3"], version=9)
    hub.documents_but(lambda held: held.update({newer.id: newer}))
    return newer.id


def _no_document(hub: Planted) -> str:
    hub.documents_but(lambda held: held.pop(f"{A}@3"))
    return f"{A}@3"


def _no_target(hub: Planted) -> str:
    target = index.read_targets(opened(hub.stores)._ctx).live
    hub.stores.search.drop_target(target)
    return target


def _second_target(hub: Planted) -> str:
    targets = index.read_targets(opened(hub.stores)._ctx)
    other = f"{targets.live}-x"
    row = replace(targets, targets=(*targets.targets, other))
    return hub.put(keys.SYSTEM, keys.SEARCH, encode(row), other)


def _old_layout(hub: Planted) -> str:
    targets = index.read_targets(opened(hub.stores)._ctx)
    return hub.put(keys.SYSTEM, keys.SEARCH, encode(replace(targets, layout=1)), targets.live)


DAMAGES = [
    Damage("an entry whose digest is wrong", "log-damaged", False, _log_flip),
    Damage("a damaged key of the log", "log-damaged", False, _log_key),
    Damage(
        "an entry that is absent",
        "log-broken",
        False,
        lambda hub: hub.delete(keys.LOG, keys.log(A, 2), f"{A} entry 3"),
    ),
    Damage("a newest entry that is absent", "log-broken", False, _log_cut),
    Damage("a log that is absent", "log-broken", False, _log_gone),
    Damage("an entry that names another predecessor", "log-broken", False, _chain),
    Damage("a time that goes back", "log-broken", False, _time),
    Damage("a number that is not next", "log-broken", False, _number),
    Damage("a state that does not add up", "log-broken", False, _snapshot),
    Damage("files that are not those of the entry", "manifest-damaged", False, _content),
    Damage("a pack that the entry does not name", "manifest-damaged", False, _unlisted),
    Damage(
        "metadata that is absent",
        "metadata-damaged",
        True,
        lambda hub: hub.delete(keys.METADATA, hub.metadata(f"{A}@3"), f"{A}@3"),
    ),
    Damage(
        "metadata that is damaged",
        "metadata-damaged",
        True,
        lambda hub: hub.put(keys.METADATA, hub.metadata(f"{A}@2"), GARBAGE, f"{A}@2"),
    ),
    Damage("metadata that is nowhere", "metadata-damaged", False, _metadata_nowhere),
    Damage("a look-up row that is absent", "lookup-missing", True, _lookup),
    Damage(
        "a version's hint that is absent",
        "hint-stale",
        True,
        lambda hub: hub.delete(keys.VERSIONS, keys.version(A, 2), f"versions row of {A}@2"),
    ),
    Damage(
        "a version's hint that is damaged",
        "hint-stale",
        True,
        lambda hub: hub.put(keys.VERSIONS, keys.version(A, 2), GARBAGE, f"row of {A}@2"),
    ),
    Damage(
        "a model's hint that is absent",
        "hint-stale",
        True,
        lambda hub: hub.delete(keys.MODELS, keys.model(A), f"models row of {A}"),
    ),
    Damage(
        "a model's hint that is damaged",
        "hint-stale",
        True,
        lambda hub: hub.put(keys.MODELS, keys.model(A), GARBAGE, f"models row of {A}"),
    ),
    Damage("a model's hint without a log", "row-stray", True, _other_models_row),
    Damage("metadata of no version", "row-stray", False, _stray_metadata),
    Damage("a look-up row of no model", "row-stray", False, _stray_lookup),
    Damage(
        "a pack without a row",
        "pack-missing",
        True,
        lambda hub: hub.delete(keys.PACKS, keys.pack(hub.pack(f"{A}@1")), hub.pack(f"{A}@1")),
    ),
    Damage(
        "a pack with a damaged row",
        "pack-damaged",
        True,
        lambda hub: hub.put(keys.PACKS, keys.pack(hub.pack(f"{A}@1")), GARBAGE, hub.pack(f"{A}@1")),
    ),
    Damage("a lost pack whose chunks are elsewhere", "pack-missing", True, _lost_pack),
    Damage("a lost pack", "pack-missing", False, lambda hub: hub.remove_pack(f"{A}@3")),
    Damage(
        "a pack that was cut off",
        "pack-damaged",
        True,
        lambda hub: hub.change_pack(f"{A}@1", lambda data: data.__delitem__(slice(-9, None))),
    ),
    Damage(
        "a pack that was added to",
        "pack-damaged",
        True,
        lambda hub: hub.change_pack(f"{A}@1", lambda data: data.extend(b"more")),
    ),
    Damage("a rotten trailer", "pack-damaged", True, lambda hub: hub.flip(f"{A}@1", -60)),
    Damage("a rotten chunk that is stored twice", "chunk-damaged", True, _rot_of_two),
    Damage(
        "a rotten chunk",
        "chunk-damaged",
        False,
        lambda hub: hub.flip(f"{A}@3", hub.offset(f"{A}@3")),
    ),
    Damage("a rotten manifest", "manifest-damaged", False, _rotten_manifest),
    Damage(
        "a rotten manifest with a copy in the trash", "manifest-damaged", True, _manifest_of_two
    ),
    Damage(
        "a condemned pack in use",
        "pack-condemned",
        True,
        lambda hub: hub.put_pack_row(f"{A}@3", state="condemned"),
    ),
    Damage(
        "a pack in use that is gone",
        "pack-missing",
        True,
        lambda hub: hub.to_trash(f"{A}@3", "gone"),
    ),
    Damage(
        "a pack in use in the trash, its row not there yet",
        "pack-missing",
        True,
        lambda hub: hub.to_trash(f"{A}@3", "deleting"),
    ),
    Damage("a pack in use that is being deleted", "pack-missing", True, _still_deleting),
    Damage(
        "a pack that moved nowhere",
        "pack-missing",
        True,
        lambda hub: hub.put_pack_row(f"{A}@3", state="moved"),
    ),
    Damage("a pack that moved without all it has", "pack-damaged", True, _moved),
    Damage("a file without a row", "pack-orphan", False, _orphan),
    Damage("a row without a file", "pack-unused", False, _unused),
    Damage(
        "a chunk's row that is damaged",
        "chunk-row-stray",
        True,
        lambda hub: hub.put(keys.CHUNKS, _chunk_key(hub), GARBAGE, _chunk_key(hub).decode()),
    ),
    Damage("a chunk's row to no pack", "chunk-row-stray", True, _chunk_to_nowhere),
    Damage("a chunk's row to another place", "chunk-row-stray", True, _chunk_misplaced),
    Damage(
        "a damaged intent",
        "intent-damaged",
        True,
        lambda hub: hub.put(keys.INTENTS, keys.intent(A, "f" * 32), GARBAGE, A),
    ),
    Damage(
        "a damaged pin",
        "intent-damaged",
        True,
        lambda hub: hub.put(keys.INTENTS, keys.pin(A, "f" * 32, new_pack_id()), GARBAGE, A),
    ),
    Damage(
        "a damaged key of intents",
        "intent-damaged",
        False,
        lambda hub: hub.put(keys.INTENTS, b"7-junk", GARBAGE, "7-junk"),
    ),
    Damage("an intent that nobody swept", "intent-overdue", True, _overdue),
    Damage(
        "a pin that nobody swept", "intent-overdue", True, lambda hub: _overdue(hub, pinned=True)
    ),
    Damage(
        "the damaged row of collections",
        "system-damaged",
        True,
        lambda hub: hub.put(keys.SYSTEM, keys.COLLECTION, GARBAGE, "collection"),
    ),
    Damage(
        "the damaged row of re-indexes",
        "system-damaged",
        True,
        lambda hub: hub.put(keys.SYSTEM, keys.REINDEX, GARBAGE, "reindex"),
    ),
    Damage(
        "a damaged list of search targets",
        "search-missing",
        True,
        lambda hub: hub.put(keys.SYSTEM, keys.SEARCH, GARBAGE, "the search index"),
    ),
    Damage(
        "no list of search targets",
        "search-missing",
        True,
        lambda hub: hub.delete(keys.SYSTEM, keys.SEARCH, "the search index"),
    ),
    Damage("a search target that is not there", "search-missing", True, _no_target),
    Damage("a second search target that is not there", "search-missing", True, _second_target),
    Damage("documents of an old form", "search-stale", True, _old_layout),
    Damage("a document that is absent", "search-stale", True, _no_document),
    Damage("a document that says something else", "search-stale", True, _other_text),
    Damage("a document that is too new", "search-stale", True, _newer),
    Damage("a document of no version", "search-surplus", True, _surplus),
]
ON_SERVERS = {
    *("metadata that is absent", "a look-up row that is absent", "a pack without a row"),
    *("a rotten trailer", "a pack in use that is gone", "a chunk's row to another place"),
    *("a damaged intent", "a document that says something else", "a lost pack"),
}
CASES = [
    pytest.param(kind, damage, id=f"{kind}: {damage.name}")
    for damage in DAMAGES
    for kind in ("memory", "embedded", "live")
    if kind != "live" or damage.name in ON_SERVERS
]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sources")


Make = Callable[[str], Stores]


@pytest.fixture
def make(request: pytest.FixtureRequest, tmp_path: Path, sources: Path) -> Iterator[Make]:
    """Stores of any kind with a sound hub in them."""
    folder = itertools.count()
    made: list[Stores] = []

    def make_stores(kind: str) -> Stores:
        if kind == "live":
            hubs: LiveHubs = request.getfixturevalue("live")
            stores = hubs()
        elif kind == "memory":
            stores = Stores(CountedWeights(), MemoryRows(), MemorySearch())
        else:
            stores = embedded_stores(tmp_path / str(next(folder)))
            made.append(stores)
        fill(stores, sources)
        return stores

    yield make_stores
    for stores in made:
        close(stores)


def found(health: Health) -> list[tuple[str, str]]:
    return [(finding.kind, finding.subject) for finding in health.findings]


def everything(stores: Stores) -> object:
    return rows_of(stores, *keys.TABLES), files_in(stores, "")


def check_sound(hub: Planted) -> None:
    """Nothing is found, and everything is as it was, looked at by other ways."""
    assert not opened(hub.stores).fsck().findings
    for name, count in COUNTS.items():
        expected = {number: files_of(f"{name}@{number}") for number in range(1, count + 1)}
        assert contents(hub.stores, name) == expected
    # A sweep may have put a fence on top.
    assert hub.before[keys.LOG].items() <= rows_of(hub.stores, keys.LOG)[keys.LOG].items()
    assert rows_of(hub.stores, *HINTS) == {table: hub.before[table] for table in HINTS}
    listed = {model.name: model.title for model in opened(hub.stores).list()}
    assert listed == {name: f"{name}@{count}" for name, count in COUNTS.items()}
    assert documents_of(hub.stores) == hub.documents


@pytest.mark.parametrize(("kind", "damage"), CASES)
def test_damage_is_named_and_put_right(make: Make, kind: str, damage: Damage) -> None:
    hub = Planted(make(kind))
    subject = damage.plant(hub)
    hurt = everything(hub.stores)
    health = opened(hub.stores).fsck()
    named = [one for one in health.findings if one.kind == damage.kind and subject in one.subject]
    assert named, health.findings
    assert all(one.severity in {"error", "warning"} and one.cause and one.repair for one in named)
    dry = opened(hub.stores).fsck(repair=True, dry_run=True)
    assert found(dry) == found(health)
    assert dry.repaired == 0
    assert everything(hub.stores) == hurt, "a look changed something"

    done = opened(hub.stores).fsck(repair=True)
    assert found(done) == found(health)
    mended = [one for one in done.findings if one.kind == damage.kind and subject in one.subject]
    assert all(one.repaired == damage.repairable for one in mended), mended
    assert done.remaining == len(done.findings) - sum(one.repaired for one in done.findings)
    log = rows_of(hub.stores, keys.LOG)[keys.LOG]
    assert hurt_rows(hurt)[keys.LOG].items() <= log.items(), "the log was rewritten"
    kept = set(files_in(hub.stores, "").values())
    assert set(hurt_files(hurt).values()) <= kept, "the only copy of something is gone"
    again = opened(hub.stores).fsck(repair=True)
    if damage.repairable:
        assert not again.findings
        check_sound(hub)
    else:
        assert damage.kind in {one.kind for one in again.findings}
        assert again.repaired == 0
    settled = everything(hub.stores)
    assert found(opened(hub.stores).fsck(repair=True)) == found(again)
    assert everything(hub.stores) == settled or damage.kind.startswith("search")


def hurt_rows(hurt: object) -> dict[str, dict[bytes, bytes]]:
    return hurt[0]  # type: ignore[index,no-any-return]


def hurt_files(hurt: object) -> dict[str, bytes]:
    return hurt[1]  # type: ignore[index,no-any-return]


# --- healthy hubs ------------------------------------------------------------------------------


def test_nothing_is_found_on_a_hub_that_lives(
    any_stores: Stores, sources: Path, tmp_path: Path
) -> None:
    """Deleted, purged, erased, collected, re-indexed; branches, merges and a rewritten pack."""
    fill(any_stores, sources)
    hub = opened(any_stores)
    hub.branch.create(A, "fix", at="2")
    fixed = files_of(f"{A}@2") | {"fix.bin": drawn("fix")}
    hub.push(A, written(tmp_path / "fix", fixed), branch="fix")
    hub.merge(A, "fix")
    hub.rollback(A, to=1)
    hub.edit(f"{A}@2", title="edited")
    hub.delete(f"{A}@3", force=True)
    hub.purge(f"{B}@1", force=True)
    assert not hub.fsck().findings
    hub.gc([RetentionRule(deleted_days=0)])
    assert not hub.fsck().findings
    hub.gc(trash_hours=0)
    hub.reindex()
    planted = Planted(any_stores)
    planted.put_pack_row(f"{A}@1", state="condemned")
    done = hub.fsck(repair=True)
    assert done.repaired == len(done.findings) == 1
    planted.flip(f"{A}@1", -60)
    done = hub.fsck(repair=True)
    assert (done.repaired, done.remaining) == (1, 0)
    health = hub.fsck()
    assert not health.findings
    assert health.checked["packs"] > 3
    hub.gc(trash_hours=0)
    assert not hub.fsck().findings
    assert contents(any_stores, A)[1] == files_of(f"{A}@1")


# --- repair ------------------------------------------------------------------------------------


def hurt_all_over(stores: Stores) -> Planted:
    """Something for each mend, and all of it can be put right."""
    hub = Planted(stores)
    _rot_of_two(hub)
    hub.to_trash(f"{A}@3", "gone")
    hub.delete(keys.PACKS, keys.pack(hub.pack(f"{LONG}@1")), "")
    hub.put_pack_row(f"{A}@1", state="condemned")
    hub.delete(keys.METADATA, hub.metadata(f"{A}@1"), "")
    hub.delete(keys.VERSIONS, keys.version(A, 2), "")
    hub.put(keys.MODELS, keys.model(LONG), GARBAGE, "")
    hub.put(keys.SYSTEM, keys.COLLECTION, GARBAGE, "")
    hub.put(keys.CHUNKS, _chunk_key(hub), GARBAGE, "")
    _overdue(hub)
    _other_text(hub)
    return hub


def finish(hub: Planted) -> None:
    """Repair what is left, and what an intent kept from being looked at; packs begun are gc's."""
    for _ in range(2):
        opened(hub.stores).fsck(repair=True)
    opened(hub.stores).gc()
    check_sound(hub)


def test_a_repair_that_dies_anywhere_is_finished_by_the_next(
    make: Make, figure: Callable[[str], None]
) -> None:
    at = 0
    while True:
        hub = hurt_all_over(make("memory"))
        calls = itertools.count()

        def dies(_call: Call, calls: Iterator[int] = calls, at: int = at) -> Outcome:
            return Outcome.FAILS_AFTER if next(calls) == at else Outcome.OK

        dying, faults = open_process(hub.stores, dies)
        with suppress(ProcessDied):
            dying.fsck(repair=True)
        if at >= len(faults.calls):
            break
        # After a read nothing is another way than before: a few of them will do.
        if faults.calls[at].writes or at % 10 == 0:
            finish(hub)
        at += 1
    assert at > 100
    figure(f"killed at {at} calls")


def test_what_fails_in_a_repair_is_put_right_by_the_next(make: Make) -> None:
    """Every write, in every way that it can fail."""
    hub = hurt_all_over(make("memory"))
    repairing, faults = open_process(hub.stores)
    repairing.fsck(repair=True)
    sites: dict[tuple[str, str, str], int] = {}
    for index_, call in enumerate(faults.calls):
        if call.writes:
            where = call.where if call.store == "rows" else ""
            sites.setdefault((call.store, call.method, where), index_)
    assert len(sites) > 10
    for (site, at), outcome in itertools.product(sites.items(), Outcome):
        if outcome in {Outcome.OK, Outcome.FAILS_AFTER}:
            continue
        hub = hurt_all_over(make("memory"))
        calls = itertools.count()

        def fails(
            _call: Call, calls: Iterator[int] = calls, at: int = at, outcome: Outcome = outcome
        ) -> Outcome:
            return outcome if next(calls) == at else Outcome.OK

        failing, faults = open_process(hub.stores, fails)
        with suppress(ModelhubError):
            failing.fsck(repair=True)
        opened(hub.stores).fsck(repair=True)
        faults.land()
        try:
            finish(hub)
        except AssertionError as error:
            raise AssertionError(f"{site} {outcome}") from error


def test_a_collection_at_every_call_of_a_repair_takes_nothing_that_is_needed(make: Make) -> None:
    hub = hurt_all_over(make("memory"))
    other = opened(hub.stores)
    count = 0

    def collects(call: Call) -> Outcome:
        nonlocal count
        if call.store == "weights" or call.where == keys.PACKS:
            count += 1
            with suppress(ModelhubError):
                other.gc(trash_hours=24)
        return Outcome.OK

    repairing, _ = open_process(hub.stores, collects)
    repairing.fsck(repair=True)
    assert count > 50
    finish(hub)


def test_a_pack_that_a_push_relies_on_is_left_to_a_later_repair(make: Make) -> None:
    hub = Planted(make("memory"))
    subject = hub.flip(f"{A}@1", -60)
    lease = hub.rows.now() + timedelta(hours=1)
    pin = keys.pin(A, "f" * 32, hub.pack(f"{A}@1"))
    hub.rows.put(keys.INTENTS, pin, encode(Pin(3, lease)))
    done = opened(hub.stores).fsck(repair=True)
    assert [(one.repaired, subject in one.subject) for one in done.findings] == [(False, True)]
    assert "run this again" in done.findings[0].repair
    row = decode(hub.rows.get(keys.PACKS, keys.pack(hub.pack(f"{A}@1"))) or b"", PackRow, "it")
    assert (row.state, row.successors) == ("live", ())
    hub.rows.delete_many(keys.INTENTS, [pin])
    assert opened(hub.stores).fsck(repair=True).repaired == 1
    check_sound(hub)


def test_a_chunk_that_is_nowhere_else_comes_from_the_files_themselves(
    make: Make, sources: Path
) -> None:
    hub = Planted(make("embedded"))
    hub.flip(f"{A}@3", hub.offset(f"{A}@3"))
    lost = opened(hub.stores).fsck(repair=True)
    assert f"{A}@3 weights.bin" in lost.findings[0].repair
    assert "--from" in lost.findings[0].repair
    done = opened(hub.stores).fsck(repair=True, source=sources / f"{A}@3")
    assert done.repaired == 1
    check_sound(hub)
    assert len(files_in(hub.stores, "quarantine")) == 1


# --- reading less at a time --------------------------------------------------------------------


def counted(stores: Stores) -> CountedWeights:
    assert isinstance(stores.weights, CountedWeights)
    return stores.weights


def test_every_chunk_is_read_once_over_all_parts(make: Make) -> None:
    stores = make("memory")
    hub = opened(stores)
    whole = hub.fsck().checked["chunks"]
    read = [hub.fsck(sample=0.05, part=part).checked.get("chunks", 0) for part in range(20)]
    assert sum(read) == whole
    assert max(read) < whole
    flipped = Planted(stores)
    flipped.flip(f"{A}@3", flipped.offset(f"{A}@3"))
    named = [bool(hub.fsck(sample=0.05, part=part).findings) for part in range(20)]
    assert sum(named) == 1


def packs_read(hub: Hub, *, break_at: int = 0) -> tuple[int, Health | None]:
    """How many packs a check goes through that can be resumed, until it is broken off there."""
    count = 0

    def progress(phase: str, _done: int, _total: int) -> None:
        nonlocal count
        if phase == "fsck data":
            count += 1
            if count == break_at:
                raise KeyboardInterrupt

    try:
        health = hub.fsck(resume=True, progress=progress)
    except KeyboardInterrupt:
        return count, None
    return count, health


def test_a_check_that_was_broken_off_goes_on_where_it_was(make: Make) -> None:
    stores = make("memory")
    hub = Planted(stores)
    packs = sorted(path.rpartition("/")[2] for path in hub.packs)
    revisions = [f"{name}@{n}" for name, count in COUNTS.items() for n in range(1, count + 1)]
    first = next(revision for revision in revisions if hub.pack(revision) == packs[0])
    hub.flip(first, hub.offset(first))
    weights = stores.weights
    assert isinstance(weights, CountedWeights)
    everything_read = []
    for broken_at in range(1, len(packs)):
        assert packs_read(opened(stores), break_at=broken_at) == (broken_at, None)
        weights.read_bytes = 0
        count, health = packs_read(opened(stores))
        everything_read.append(weights.read_bytes)
        assert count == len(packs) - broken_at
        assert health is not None
        kinds = {one.kind for one in health.findings}
        assert "chunk-damaged" in kinds, "what was found before is forgotten"
    assert everything_read == sorted(everything_read, reverse=True)
    assert len(set(everything_read)) == len(everything_read)
    assert packs_read(opened(stores))[0] == len(packs), "one that ended is not gone on with"


def test_two_checks_that_can_be_resumed_do_not_run_at_once(memory_hub: Hub) -> None:
    memory_hub.init()

    def another(_phase: str, _done: int, _total: int) -> None:
        memory_hub.fsck(resume=True)

    memory_hub.push("nlp.x", Path(__file__))
    with pytest.raises(Conflict, match="a check by tester"):
        memory_hub.fsck(resume=True, progress=another)
    assert not memory_hub.fsck(resume=True).findings


def test_the_rate_is_kept(make: Make) -> None:
    hub = opened(make("memory"))
    waited: list[float] = []
    hub._ctx.pause = waited.append
    hub.fsck(rate=10_000)
    assert sum(waited) > 0


# --- size --------------------------------------------------------------------------------------

LOOKED_AFTER = Path(__file__).with_name("looked_after.py")
MOST_GROWTH = 1.2


def looked_after(folder: Path, verb: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, LOOKED_AFTER, folder, verb], capture_output=True, text=True, check=True
    )
    told: dict[str, float] = json.loads(done.stdout)
    assert told["findings"] == 0
    return told


def grown(
    folder: Path, counts: Sequence[int], verbs: Sequence[str], figure: Callable[[str], None]
) -> None:
    """Hubs of so many versions take the same memory, more or less."""
    peaks: dict[str, list[float]] = {verb: [] for verb in verbs}
    for versions in counts:
        stores = embedded_stores(folder / str(versions))
        populate(stores, versions=versions, models=versions // 50)
        close(stores)
        for verb in verbs:
            told = looked_after(folder / str(versions), verb)
            peaks[verb].append(told["peak_mib"])
            figure(
                f"{verb} of {versions:,} versions: {told['rows'] / told['took_s']:,.0f} rows/s, "
                f"{told['took_s']:.1f} s, {told['peak_mib']:.0f} MiB at most"
            )
    for verb, (first, *others) in peaks.items():
        assert max(others) < MOST_GROWTH * first, verb


def test_memory_does_not_grow_with_the_hub(tmp_path: Path, figure: Callable[[str], None]) -> None:
    grown(tmp_path, (5_000, 20_000), ("fsck", "data"), figure)


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_versions_take_no_more_memory(
    tmp_path: Path, figure: Callable[[str], None]
) -> None:
    grown(tmp_path, (20_000, 100_000), ("fsck", "data", "gc"), figure)
