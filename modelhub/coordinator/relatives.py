"""Versions whose chunks a push may build on: what a model was derived from, or is most like."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

from modelhub.content.manifest import Manifest
from modelhub.coordinator import keys, versions
from modelhub.coordinator.context import Context
from modelhub.coordinator.log import Sealed, read_head
from modelhub.coordinator.state import is_live
from modelhub.errors import CorruptData, NotFound
from modelhub.records import Address, Published

_LOOKED_AT = 3


def manifest_at(ctx: Context, address: Address) -> Manifest:
    """The manifest at ``address``.

    Raises:
        CorruptData: it is missing, damaged, or none.
    """
    return Manifest.decode(ctx.reader.blob(address), f"the manifest in pack {address.pack}")


def read_manifest(ctx: Context, published: Sealed) -> Manifest:
    """A version's manifest.

    Raises:
        CorruptData: it is missing, damaged, or none.
    """
    assert isinstance(published.entry.change, Published)
    return manifest_at(ctx, published.entry.change.version.manifest)


def relatives(ctx: Context, bases: Sequence[str], architecture: str) -> list[Manifest]:
    """Manifests of versions that a model's first one is likely to have much in common with.

    Those that it names as ``bases`` (``NAME@NUMBER``); where it names none, one of the hub with the
    same ``architecture``, if that is known. A damaged one stops nobody.
    """
    found = [_manifest(ctx, base) for base in bases]
    if not bases and architecture:
        found = [next(_alike(ctx, architecture), None)]
    return [manifest for manifest in found if manifest is not None]


def _alike(ctx: Context, architecture: str) -> Iterator[Manifest]:
    rows = ctx.stores.rows
    candidates = keys.lookup_range("architecture", architecture)
    for key, _ in list(rows.scan(keys.LOOKUP, *candidates, limit=_LOOKED_AT)):
        manifest = None
        with suppress(CorruptData):  # a damaged key leads nowhere
            *_, name, number = keys.parse_lookup(key)
            manifest = _manifest(ctx, f"{name}@{number}", architecture)
        if manifest is not None:
            yield manifest


def _manifest(ctx: Context, version: str, architecture: str = "") -> Manifest | None:
    """A live version's manifest; None where it cannot be had, or has another architecture."""
    name, _, number = version.rpartition("@")
    rows = ctx.stores.rows
    with suppress(CorruptData, NotFound):
        head = read_head(rows, name)
        if not is_live(head.state, int(number)):
            return None
        published = versions.publication(rows, head, int(number))
        assert isinstance(published.entry.change, Published)
        # A lookup row is put before its entry: it says no more than which version to look at.
        if architecture in {"", published.entry.change.version.architecture}:
            return read_manifest(ctx, published)
    return None
