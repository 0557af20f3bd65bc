"""Finding a chunk somewhere else: other packs, the trash, quarantine, or plain files.

Nothing that is found is believed before it matched its hash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from blake3 import blake3

from modelhub.content.cut import cut
from modelhub.content.manifest import ChunkRef
from modelhub.content.pack import TrailerRecord, is_pack_id, read_trailer
from modelhub.content.read import NOTHING, Chunk, Reader, placed
from modelhub.content.tree import SourceFile, survey
from modelhub.coordinator import keys
from modelhub.coordinator.check_marks import CheckMarks
from modelhub.coordinator.context import Context
from modelhub.coordinator.packs import hinted_chunk
from modelhub.errors import CorruptData, NotFound
from modelhub.stores import WeightStore

_FOLDERS = ("packs", "trash", "quarantine")


class Copies:
    """Whole copies of chunks. ``files`` is where plain files of models lie, if anywhere.

    What packs and files hold is looked through once, when hints do not lead to a copy.
    """

    def __init__(self, ctx: Context, marks: CheckMarks, files: Path | None) -> None:
        self._ctx = ctx
        self._marks = marks
        self._files = files
        self._in_files: dict[bytes, tuple[SourceFile, int, int]] = {}
        self._looked = False

    def find(self, digest: bytes, length: int) -> Chunk | None:
        """The chunk's bytes, from wherever they are whole; None where that is nowhere."""
        found = self._hinted(digest)
        if found is None:
            self._look()
            found = self._in_packs(digest) or self._in_file(digest)
        return found if found is not None and len(found) == length else None

    def _hinted(self, digest: bytes) -> Chunk | None:
        value = self._ctx.stores.rows.get(keys.CHUNKS, keys.chunk(digest))
        ref = None if value is None else hinted_chunk(digest, value)
        return None if ref is None else whole(self._ctx.reader, ref)

    def _in_packs(self, digest: bytes) -> Chunk | None:
        places = self._marks.places(digest)
        # Those that are no differences first: they take nothing else.
        for pack, path, record in sorted(places, key=lambda place: place[2].base is not None):
            reader = Reader(cast(WeightStore, _OneFile(self._ctx.stores.weights, path)))
            base, at_hand = None, NOTHING
            if record.base is not None:
                other = self.find(record.base, record.length)
                if other is None:
                    continue
                base = ChunkRef(record.base, record.length, pack, 0, record.length)
                at_hand = {record.base: other}
            found = whole(reader, placed(pack, record, base), at_hand)
            if found is not None:
                return found
        return None

    def _in_file(self, digest: bytes) -> Chunk | None:
        if digest not in self._in_files:
            return None
        file, offset, length = self._in_files[digest]
        with file.opened() as opened:
            opened.seek(offset)
            data = opened.read(length)
        return data if blake3(data).digest() == digest else None

    def _look(self) -> None:
        if self._looked:
            return
        self._looked = True
        weights = self._ctx.stores.weights
        for folder in _FOLDERS:
            for info in weights.list(folder):
                pack = info.path[-32:]
                if is_pack_id(pack):
                    self._marks.place(pack, info.path, _records(weights, pack, info.path))
        for file in survey(self._files) if self._files is not None else ():
            offset = 0
            with file.opened() as opened:
                for piece in cut(opened, file)[1]:
                    digest, length = blake3(piece.data).digest(), len(piece.data)
                    self._in_files.setdefault(digest, (file, offset, length))
                    offset += length


class _OneFile:
    """A weight store in which every path is that of one file."""

    def __init__(self, weights: WeightStore, path: str) -> None:
        self._weights = weights
        self._path = path

    def read(self, _path: str, offset: int, length: int) -> bytes:
        """As ``WeightStore.read``."""
        return self._weights.read(self._path, offset, length)


def whole(reader: Reader, ref: ChunkRef, at_hand: Mapping[bytes, Chunk] = NOTHING) -> Chunk | None:
    """The chunk, where it lies there as it should."""
    try:
        return reader.chunk(ref, at_hand)
    except (CorruptData, NotFound):
        return None


def _records(weights: WeightStore, pack: str, path: str) -> Sequence[TrailerRecord]:
    try:
        return read_trailer(weights, pack, path=path)
    except CorruptData:
        return ()
