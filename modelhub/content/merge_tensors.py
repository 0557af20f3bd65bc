"""Merging two safetensors files by tensor, against the file that both were made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np

from modelhub.content.blend import Blend, added, averaged, can_blend, coefficients, combined
from modelhub.content.built_file import PIECE_BYTES, BuiltSource, BuiltTensor, built_source
from modelhub.content.distance import Distance, distance
from modelhub.content.stored_file import StoredSource
from modelhub.content.tensors import Bytes, Contents, Tensor, contents
from modelhub.errors import InvalidInput

T = TypeVar("T")

Side = Literal["ours", "theirs"]


@dataclass(frozen=True)
class _Held:
    """A tensor of a stored file."""

    source: StoredSource
    tensor: Tensor

    def piece(self, offset: int, size_bytes: int) -> Bytes:
        """Some of its bytes."""
        source = self.source
        at = self.tensor.offset + offset
        data = source.reader.range(source.manifest, self.tensor.file, at, size_bytes)
        return np.frombuffer(data, np.uint8)

    def is_like(self, other: _Held) -> bool:
        """Whether both are the same tensor; read where chunks do not say so."""
        mine, theirs = self.tensor, other.tensor
        if (mine.dtype, mine.shape) != (theirs.dtype, theirs.shape):
            return False
        if not mine.size_bytes or self._chunks() == other._chunks():
            return True
        return all(
            np.array_equal(self.piece(at, size), other.piece(at, size))
            for at, size in _pieces(mine.size_bytes)
        )

    def _chunks(self) -> tuple[list[bytes], int]:
        tensor = self.tensor
        refs, skipped = self.source.manifest.spanning(tensor.file, tensor.offset, tensor.size_bytes)
        return [ref.digest for ref in refs], skipped

    def built(self) -> BuiltTensor:
        """The tensor as it is."""
        tensor = self.tensor
        return BuiltTensor(tensor.name, tensor.dtype, tensor.shape, tensor.size_bytes, self.piece)


@dataclass
class Merged:
    """The merged file, and the names of the tensors that both sides changed and nothing settles."""

    source: BuiltSource
    conflicts: list[str] = field(default_factory=list)


def merge_tensors(
    base: StoredSource | None,
    ours: StoredSource,
    theirs: StoredSource,
    *,
    blend: Blend | None,
    prefer: Side | None,
) -> Merged | None:
    """Each tensor as the side has it that changed it; None where one is no safetensors file.

    What both changed is blended, or else taken from the preferred side. The order is ours, then
    what only theirs has; so is that of the header's texts.
    """
    old, mine, other = (None if each is None else _contents(each) for each in (base, ours, theirs))
    if mine is None or other is None:
        return None
    sides = [
        _by_name(source, found) for source, found in ((base, old), (ours, mine), (theirs, other))
    ]
    before, here, there = sides
    chosen: list[BuiltTensor] = []
    conflicts: list[str] = []
    for name in [*here, *(name for name in there if name not in here)]:
        was, x, y = before.get(name), here.get(name), there.get(name)
        if _alike(x, y) or _alike(y, was):
            found: _Held | None = x
        elif _alike(x, was):
            found = y
        elif (blended := _blended(blend, was, x, y)) is not None:
            chosen.append(blended)
            continue
        elif prefer is not None:
            found = x if prefer == "ours" else y
        else:
            conflicts.append(name)
            continue
        if found is not None:
            chosen.append(found.built())
    texts = {} if old is None else old.metadata
    metadata = merged_texts(texts, mine.metadata, other.metadata)
    mode = theirs.mode if base is not None and ours.mode == base.mode else ours.mode
    return Merged(built_source(ours.path, mode, chosen, metadata), conflicts)


def merged_texts(
    base: Mapping[str, T], ours: Mapping[str, T], theirs: Mapping[str, T]
) -> dict[str, T]:
    """Key by key what the side has that changed it; ours, where both did."""
    merged: dict[str, T] = {}
    for key in dict.fromkeys([*ours, *theirs]):
        was, x, y = base.get(key), ours.get(key), theirs.get(key)
        found = y if x == was and type(x) is type(was) else x
        if found is not None:
            merged[key] = found
    return merged


def _contents(source: StoredSource) -> Contents | None:
    try:
        return contents(source.reader, source.manifest, source.file)
    except InvalidInput:
        return None


def _by_name(source: StoredSource | None, found: Contents | None) -> dict[str, _Held]:
    if source is None or found is None:
        return {}
    return {tensor.name: _Held(source, tensor) for tensor in found.tensors}


def _alike(one: _Held | None, other: _Held | None) -> bool:
    """Whether both have the tensor alike, or neither has it."""
    if one is None or other is None:
        return one is other
    return one.is_like(other)


def _blended(
    blend: Blend | None, base: _Held | None, x: _Held | None, y: _Held | None
) -> BuiltTensor | None:
    """The tensor made of both; None where it cannot be."""
    if blend is None or x is None or y is None:
        return None
    kinds = {(held.tensor.dtype, held.tensor.shape) for held in (x, y)}
    if len(kinds) > 1 or not can_blend(x.tensor.dtype):
        return None
    dtype = x.tensor.dtype
    if blend.strategy == "task-arithmetic":
        if base is None or (base.tensor.dtype, base.tensor.shape) not in kinds:
            return None
        before = base

        def piece(at: int, size: int) -> Bytes:
            sides = before.piece(at, size), x.piece(at, size), y.piece(at, size)
            return added(blend.scale, *sides, dtype)
    elif blend.strategy == "average":

        def piece(at: int, size: int) -> Bytes:
            return averaged(x.piece(at, size), y.piece(at, size), dtype)
    else:
        total = _compared(x, y) if blend.strategy == "slerp" else Distance()
        shares = coefficients(blend, total.product, total.old, total.new)

        def piece(at: int, size: int) -> Bytes:
            return combined(shares, x.piece(at, size), y.piece(at, size), dtype)

    return x.built()._replace(piece=piece)


def _compared(x: _Held, y: _Held) -> Distance:
    total, dtype = Distance(), x.tensor.dtype
    for at, size in _pieces(x.tensor.size_bytes):
        total += distance(x.piece(at, size), dtype, y.piece(at, size), dtype)
    return total


def _pieces(size_bytes: int) -> Iterator[tuple[int, int]]:
    for at in range(0, size_bytes, PIECE_BYTES):
        yield at, min(PIECE_BYTES, size_bytes - at)
