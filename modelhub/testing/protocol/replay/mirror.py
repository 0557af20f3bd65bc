"""A hub's stores as a model sees them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from modelhub.content.pack import pack_path, read_trailer
from modelhub.coordinator import context, keys
from modelhub.coordinator.index import document_id
from modelhub.errors import CorruptData
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
    unseal,
)
from modelhub.testing.protocol import world
from modelhub.testing.protocol.model import Configuration
from modelhub.testing.protocol.replay.calls import MODEL, REQUEST, pack_id


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
        """Everything as it is now.

        Packs that the model does not know, those of its first versions and of the stranger, are
        left out. To count a row's tokens, look after every change.
        """
        return world.Stores(
            log=tuple(self._log()),
            documents=self._documents(),
            intents=tuple(sorted(self._intents())),
            packs=tuple(sorted(self._packs())),
            lookup=tuple(sorted(self._lookup())),
        )

    def _log(self) -> Iterator[world.Entry]:
        chain = {"": ""}
        rows = list(self._stores.rows.scan(keys.LOG, *keys.prefix(MODEL)))
        for seq, (key, value) in enumerate(reversed(rows), 1):
            entry, digest = _entry(value)
            assert keys.parse_log(key) == (entry.model, entry.seq) == (MODEL, seq), "a broken log"
            seen = self._seen(entry, chain.get(entry.previous, "an unknown entry"))
            chain = {digest: seen.txid}
            yield seen

    def _seen(self, entry: Entry, previous: str) -> world.Entry:
        match entry.change:
            case Published(number=number, parents=parents, version=version):
                packs = [self._names[pack] for pack in version.packs if pack in self._names]
                return world.Entry(
                    txid=entry.txid,
                    op="publish",
                    previous=previous,
                    number=number,
                    parent=parents[0] if parents else 0,
                    request=version.request == REQUEST,
                    packs=tuple(sorted(packs)),
                )
            case Deleted(numbers=(number,)):
                return world.Entry(entry.txid, "delete", previous, number)
            case Undeleted(numbers=(number,)):
                return world.Entry(entry.txid, "undelete", previous, number)
            case Fence():
                return world.Entry(world.FENCE, world.FENCE, previous)
        raise AssertionError(f"no model has an entry like {entry}")

    def _documents(self) -> tuple[int, ...]:
        start = len(document_id(MODEL, 0)) - 1
        shown = {int(one.id[start:]): one.version for one in self._stores.search.scan(self._target)}
        return tuple(shown.get(number, 0) for number in range(1, max(shown, default=0) + 1))

    def _intents(self) -> Iterator[world.Row]:
        for key, value in self._stores.rows.scan(keys.INTENTS, *keys.intents_range()):
            _, txid, pack = keys.parse_intent(key)
            row = decode(value, Intent, txid) if pack is None else decode(value, Pin, txid)
            name = world.INTENT if pack is None else self._names.get(pack, "an unknown pack")
            yield world.Row(txid, name, row.base)

    def _packs(self) -> Iterator[world.Pack]:
        for pack, name in self._names.items():
            state, tokens = "", self._tokens[name]
            value = self._stores.rows.get(keys.PACKS, keys.pack(pack))
            if value is not None:
                row = decode(value, PackRow, name)
                state = row.state
                if row.token not in tokens:
                    tokens.append(row.token)
            file = self._file(pack)
            if state or file:
                yield world.Pack(name, state, len(tokens), file)

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
    # The same rows are looked at after every step.
    return unseal(value, "a log row")


def _pack_names(configuration: Configuration) -> Iterator[str]:
    yield from configuration.packs
    for number, task in enumerate(configuration.tasks, 1):
        for count in range(1, task.names + 1):
            yield f"p{number}-{count}"
