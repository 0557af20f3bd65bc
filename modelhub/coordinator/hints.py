"""Rows that make listings and look-ups fast, and that nothing depends on."""

from __future__ import annotations

from collections.abc import Mapping

from modelhub.coordinator import keys, versions
from modelhub.coordinator.context import Context
from modelhub.coordinator.log import Head, since_entry
from modelhub.coordinator.state import exists, head_number, live_count
from modelhub.records import Metadata, ModelHint, Published, VersionHint, encode


def model_hint(ctx: Context, head: Head, known: Mapping[int, Metadata]) -> ModelHint:
    """The summary of a model as of ``head``; ``known`` is metadata at hand, by version."""
    state = head.state
    number = head_number(state)
    if number == 0:
        return ModelHint(seq=head.seq, versions=live_count(state), updated=head.time)
    rows = ctx.stores.rows
    published = versions.publication(rows, head, number)
    assert isinstance(published.entry.change, Published)
    metadata = known.get(number)
    if metadata is None:
        metadata = versions.metadata_row(rows, head, published).metadata
    return ModelHint(
        seq=head.seq,
        head=number,
        versions=live_count(state),
        title=metadata.title,
        updated=head.time,
        size_bytes=published.entry.change.version.size_bytes,
    )


def refresh(ctx: Context, head: Head, since: int, known: Mapping[int, Metadata]) -> None:
    """Put the hints that the entries after ``since`` made stale.

    Raises:
        Unavailable, OutcomeUnknown: some are not there.
    """
    if not exists(head.state):
        return
    rows = ctx.stores.rows
    places = {
        keys.version(head.name, sealed.entry.change.number): encode(
            VersionHint(sealed.entry.seq, sealed.entry.txid)
        )
        for sealed in since_entry(rows, head, since)
        if isinstance(sealed.entry.change, Published)
    }
    if places:
        rows.put_many(keys.VERSIONS, places)
    rows.put(keys.MODELS, keys.model(head.name), encode(model_hint(ctx, head, known)))
