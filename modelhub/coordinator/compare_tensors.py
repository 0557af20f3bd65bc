"""What differs between the tensors of two versions: which, and how far they are apart.

Tensors whose chunks have equal digests are equal and are not read; of the others, pieces are read
and compared by several threads, a few at a time.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from math import prod
from typing import Any, NamedTuple

import numpy as np

from modelhub.content.ahead import mapped
from modelhub.content.distance import Distance, distance, is_comparable
from modelhub.content.layout.onnx import SUFFIX as ONNX
from modelhub.content.manifest import ChunkRef, Manifest, ManifestFile
from modelhub.content.read import NOTHING, Chunk, Reader
from modelhub.content.tensors import Bytes, Tensor, contents, read_region
from modelhub.coordinator.context import Context, Progress
from modelhub.coordinator.packs import elsewhere
from modelhub.coordinator.tensors import looked_into
from modelhub.errors import InvalidInput, NotFound
from modelhub.results import Listing, TensorChange, WeightDistance
from modelhub.stores import WeightStore

_PIECE_BYTES = 4 << 20
"""As tensors are cut: a piece is one chunk where both are cut like that."""

_THREADS = 4
_CHUNKS_AT_HAND = 16
"""Small tensors share chunks."""


class TensorChanges(NamedTuple):
    """The tensors that differ, all of them together, and the bytes that were read to find out."""

    tensors: Listing[TensorChange]
    overall: WeightDistance
    bytes_read: int


def compare_tensors(ctx: Context, a: Manifest, b: Manifest, progress: Progress) -> TensorChanges:
    """Compare the tensors of two versions by name, whichever files they are in.

    Only files that differ are looked into. What is no number that is understood here (quantised
    blocks) differs or not, without a distance.

    Raises:
        NotInstalled: numpy needs ml_dtypes for a dtype.
    """
    weights = _Counted(ctx.stores.weights)
    comparison = _Comparison(Reader(weights, partial(elsewhere, ctx.stores)), a, b)
    changes = comparison.run(progress)
    return TensorChanges(
        Listing(TensorChange, [change for change in changes if change.status]),
        _overall(comparison.total),
        weights.read_bytes,
    )


class _Pair(NamedTuple):
    """A tensor that both versions have, with the same shape."""

    name: str
    old: Tensor
    new: Tensor


class _Comparison:
    def __init__(self, reader: Reader, a: Manifest, b: Manifest) -> None:
        self._reader = reader
        self._sides = (a, b)
        self._chunk = lru_cache(_CHUNKS_AT_HAND)(self._read_chunk)
        self._whole = threading.Lock()
        self.total = Distance()

    def run(self, progress: Progress) -> list[TensorChange]:
        """Every tensor of the files that differ, by name; without a status where it is equal."""
        old, new = self._tensors()
        changes: dict[str, TensorChange] = {}
        pairs = []
        for name in sorted(old.keys() | new.keys()):
            before, after = old.get(name), new.get(name)
            if before is None or after is None or before.shape != after.shape:
                changes[name] = _change(name, before, after)
            elif before.dtype != after.dtype or not self._is_equal(before, after):
                pairs.append(_Pair(name, before, after))
        for pair, found in zip(pairs, self._distances(pairs, progress), strict=True):
            changes[pair.name] = _change(pair.name, pair.old, pair.new, found)
            if isinstance(found, Distance):
                self.total += found
        return [changes[name] for name in sorted(changes)]

    def _tensors(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Both sides' tensors; a name that is in two files of a side stands with its file."""
        listed = [[(manifest, file) for file in _files(manifest)] for manifest in self._sides]
        shared = set.intersection(*({_identity(file) for _, file in side} for side in listed))
        found = [
            [
                tensor
                for manifest, file in side
                # A model may keep its tensors in files beside it, which this says nothing of.
                if _identity(file) not in shared or file.path.endswith(ONNX)
                for tensor in _contents(self._reader, manifest, file)
            ]
            for side in listed
        ]
        doubled = {
            name
            for side in found
            for name, count in Counter(tensor.name for tensor in side).items()
            if count > 1
        }

        def name(tensor: Tensor) -> str:
            doubles = tensor.name in doubled
            return f"{tensor.file.path}: {tensor.name}" if doubles else tensor.name

        old, new = ({name(tensor): tensor for tensor in side} for side in found)
        return old, new

    def _is_equal(self, old: Tensor, new: Tensor) -> bool:
        """Whether their chunks say so; False where that has to be read."""
        if not old.size_bytes:
            return True
        (mine, skipped), (other, also_skipped) = (
            manifest.spanning(tensor.file, tensor.offset, tensor.size_bytes)
            for manifest, tensor in zip(self._sides, (old, new), strict=True)
        )
        order = old.in_columns == new.in_columns
        return order and skipped == also_skipped and _digests(mine) == _digests(other)

    def _distances(self, pairs: Sequence[_Pair], progress: Progress) -> Iterator[Distance | bool]:
        """For each pair its distance; of what has none, whether it is equal."""
        pieces = [(number, piece) for number, pair in enumerate(pairs) for piece in _pieces(pair)]
        done, total = 0, sum(pair.old.size_bytes + pair.new.size_bytes for pair in pairs)
        found: list[Distance | bool] = [
            Distance() if _has_distance(pair) else True for pair in pairs
        ]

        def compared(numbered: tuple[int, _Piece]) -> Distance | bool:
            number, piece = numbered
            return self._compared(pairs[number], piece)

        for (number, piece), result in zip(
            pieces, mapped(compared, pieces, threads=_THREADS), strict=True
        ):
            so_far = found[number]
            if isinstance(so_far, Distance) and isinstance(result, Distance):
                found[number] = so_far + result
            else:
                found[number] = bool(so_far and result)
            done += piece.old_bytes + piece.new_bytes
            progress("diff", done, total)
        return iter(found)

    def _compared(self, pair: _Pair, piece: _Piece) -> Distance | bool:
        if pair.old.in_columns != pair.new.in_columns:
            with self._whole:
                return self._compared_whole(pair)
        old = self._span(0, pair.old, piece.old_begin, piece.old_bytes)
        new = self._span(1, pair.new, piece.new_begin, piece.new_bytes)
        alike = pair.old.dtype == pair.new.dtype and old.is_like(new)
        if not _has_distance(pair):
            return alike or bool(np.array_equal(self._read(old), self._read(new)))
        before = self._read(old)
        after = before if alike else self._read(new)
        return distance(before, pair.old.dtype, after, pair.new.dtype)

    def _compared_whole(self, pair: _Pair) -> Distance | bool:
        """Of tensors whose bytes lie in different orders."""
        old, new = (
            read_region(self._reader, manifest, tensor, ...)[0]
            for manifest, tensor in zip(self._sides, (pair.old, pair.new), strict=True)
        )
        if not _has_distance(pair):
            return bool(np.array_equal(old, new))
        return distance(old, pair.old.dtype, new, pair.new.dtype)

    def _span(self, side: int, tensor: Tensor, begin: int, size_bytes: int) -> _Span:
        refs, skipped = self._sides[side].spanning(tensor.file, tensor.offset + begin, size_bytes)
        return _Span(refs, skipped, size_bytes)

    def _read(self, span: _Span) -> Bytes:
        data = [np.frombuffer(self._chunk(ref), np.uint8) for ref in span.refs]
        whole = data[0] if len(data) == 1 else np.concatenate(data)
        return whole[span.skipped : span.skipped + span.size_bytes]

    def _read_chunk(self, ref: ChunkRef) -> Chunk:
        # The other side's chunk is often what this one was encoded as a difference from.
        bases = NOTHING if ref.base is None else {ref.base.digest: self._chunk(ref.base)}
        return self._reader.chunk(ref, bases)


class _Piece(NamedTuple):
    """Part of a pair of tensors: as many elements on both sides."""

    old_begin: int
    old_bytes: int
    new_begin: int
    new_bytes: int


class _Span(NamedTuple):
    """Bytes of a tensor: the chunks that they lie in, and where in the first they begin."""

    refs: list[ChunkRef]
    skipped: int
    size_bytes: int

    def is_like(self, other: _Span) -> bool:
        """Whether they are certainly the same bytes."""
        return self.skipped == other.skipped and _digests(self.refs) == _digests(other.refs)


def _pieces(pair: _Pair) -> Iterator[_Piece]:
    """Both tensors in pieces of at most 4 MiB; whole, where they lie in different orders."""
    if not (pair.old.size_bytes and pair.new.size_bytes):
        return
    if pair.old.in_columns != pair.new.in_columns:
        yield _Piece(0, pair.old.size_bytes, 0, pair.new.size_bytes)
        return
    if not _has_distance(pair):
        same_size = pair.old.size_bytes if pair.old.dtype == pair.new.dtype else 0
        for at in range(0, same_size, _PIECE_BYTES):
            size_bytes = min(_PIECE_BYTES, same_size - at)
            yield _Piece(at, size_bytes, at, size_bytes)
        return
    count = prod(pair.old.shape)
    old_bytes, new_bytes = pair.old.size_bytes // count, pair.new.size_bytes // count
    step = _PIECE_BYTES // max(old_bytes, new_bytes)
    for at in range(0, count, step):
        elements = min(step, count - at)
        yield _Piece(at * old_bytes, elements * old_bytes, at * new_bytes, elements * new_bytes)


def _has_distance(pair: _Pair) -> bool:
    dtypes = (pair.old.dtype, pair.new.dtype)
    # A complex number counts as two, which a real one has no partner for.
    return all(map(is_comparable, dtypes)) and dtypes.count("C64") != 1


def _files(manifest: Manifest) -> list[ManifestFile]:
    try:
        return looked_into(manifest.files)
    except NotFound:
        return []


def _identity(file: ManifestFile) -> tuple[str, str]:
    return file.path, file.digest


def _digests(refs: Sequence[ChunkRef]) -> list[bytes]:
    return [ref.digest for ref in refs]


def _contents(reader: Reader, manifest: Manifest, file: ManifestFile) -> list[Tensor]:
    try:
        return contents(reader, manifest, file).tensors
    except InvalidInput:
        return []  # That it differs stands among the files.


def _change(
    name: str, old: Tensor | None, new: Tensor | None, found: Distance | bool | None = None
) -> TensorChange:
    told = found if isinstance(found, Distance) else None
    return TensorChange(
        name=name,
        status=_status(old, new, found),
        old_shape=None if old is None else old.shape,
        new_shape=None if new is None else new.shape,
        old_dtype=None if old is None else old.dtype,
        new_dtype=None if new is None else new.dtype,
        l2=None if told is None else told.l2,
        relative_l2=None if told is None else told.relative_l2,
        cosine=None if told is None else told.cosine,
        max_abs=None if told is None else told.largest,
        fraction_changed=None if told is None else told.fraction_changed,
        not_finite=None if told is None else told.not_finite,
    )


def _status(old: Tensor | None, new: Tensor | None, found: Distance | bool | None) -> str:
    if old is None:
        return "added"
    if new is None:
        return "removed"
    if old.shape != new.shape:
        return "reshaped"
    if old.dtype != new.dtype:
        return "retyped"
    equal = found.changed == 0 if isinstance(found, Distance) else found
    return "" if equal else "changed"


def _overall(total: Distance) -> WeightDistance:
    return WeightDistance(
        elements=total.elements,
        l2=total.l2,
        relative_l2=total.relative_l2,
        cosine=total.cosine,
        max_abs=total.largest,
        fraction_changed=total.fraction_changed,
        not_finite=total.not_finite,
    )


class _Counted:
    """A weight store that is only read, and counts the bytes."""

    def __init__(self, weights: WeightStore) -> None:
        self._weights = weights
        self._lock = threading.Lock()
        self.read_bytes = 0

    def read(self, path: str, offset: int, length: int) -> bytes:
        """A range of a file."""
        data = self._weights.read(path, offset, length)
        with self._lock:
            self.read_bytes += len(data)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._weights, name)
