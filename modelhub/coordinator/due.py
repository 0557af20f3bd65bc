"""The search documents that the whole log asks for, model after model, in one pass over it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from modelhub.coordinator import index, keys, versions
from modelhub.coordinator.context import Context
from modelhub.coordinator.log import Head, Sealed, models, walked
from modelhub.coordinator.state import is_deleted, touched
from modelhub.errors import CorruptData
from modelhub.records import Edited, Published
from modelhub.stores import Document, Row


class Due(NamedTuple):
    """A document that search is to hold, not rendered yet.

    ``seq`` is the newest entry that touches it, ``metadata`` the digest of the row that it shows.
    """

    head: Head
    published: Sealed
    number: int
    seq: int
    metadata: str

    @property
    def id(self) -> str:
        """As in every target."""
        return index.document_id(self.head.name, self.number)


def due(ctx: Context, unreadable: list[CorruptData], *, at: str = "") -> Iterator[Due]:
    """One for each version of every model from ``at`` on, deleted ones included.

    A model whose log is damaged keeps no other from search: why goes into ``unreadable``.

    Raises:
        CorruptData: the store could not read on; there may be more models.
    """
    cut_short: list[CorruptData] = []
    found = _until_cut_short(ctx.stores.rows.scan(keys.LOG, *keys.log_from(at)), cut_short)
    for name, rows in models(found, lambda _, exc: unreadable.append(exc)):
        try:
            yield from _of_model(name, rows)
        except CorruptData as exc:
            unreadable.append(exc)
    if cut_short:
        raise cut_short[0]


def render(ctx: Context, batch: Sequence[Due], unreadable: list[CorruptData]) -> list[Document]:
    """The documents of ``batch``, with external versions of epoch 0: one read for all metadata.

    Of a version whose row is damaged ``unreadable`` says why.
    """
    live = [of for of in batch if not is_deleted(of.head.state, of.number)]
    wanted = {of.id: keys.metadata(of.head.name, of.number, of.metadata) for of in live}
    held = ctx.stores.rows.get_many(keys.METADATA, list(wanted.values()))
    documents = []
    for of in batch:
        body = None
        if of.id in wanted:
            key = wanted[of.id]
            try:
                row = versions.open_metadata(key, held.get(key))
            except CorruptData as exc:
                unreadable.append(exc)
                continue
            body = index.render(of.head, of.published, row.metadata)
        documents.append(Document(of.id, of.seq, body))
    return documents


def _until_cut_short(scan: Iterable[Row], cut_short: list[CorruptData]) -> Iterator[Row]:
    """The rows of a scan; if it fails, it ends there and ``cut_short`` says why.

    It must not be taken for damage of the model that it fails in.
    """
    try:
        yield from scan
    except CorruptData as exc:
        cut_short.append(exc)


def _of_model(name: str, rows: Iterator[Row]) -> Iterator[Due]:
    """From its newest entry down: what touches a version is seen before its own entry is."""
    head, log = walked(name, rows)
    touching: dict[int, int] = {}
    edited: dict[int, str] = {}
    for sealed in log:
        change = sealed.entry.change
        for number in touched(change):
            touching.setdefault(number, sealed.entry.seq)
        if isinstance(change, Edited):
            edited.setdefault(change.number, change.metadata)
        elif isinstance(change, Published):
            number = change.number
            metadata = edited.pop(number, change.version.metadata)
            yield Due(head, sealed, number, touching.pop(number), metadata)
