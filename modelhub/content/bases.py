"""Finding the chunk of an earlier version that a new piece is best stored as a difference from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import BinaryIO

from modelhub.content.cut import CONTENT_CUTTER, Part, parts
from modelhub.content.manifest import ChunkRef, Manifest, ManifestFile
from modelhub.content.read import Reader
from modelhub.content.stored_file import open_stored
from modelhub.errors import CorruptData, NotFound, Unavailable


class Bases:
    """The chunks of ``manifests`` by the part of a model that each is, earlier manifests first.

    Which part a chunk is follows from its file's own header, which is read when it is asked for.
    """

    def __init__(self, reader: Reader, manifests: Sequence[Manifest]) -> None:
        self._reader = reader
        self._files = [{file.path: file for file in manifest.files} for manifest in manifests]
        self._cut = [
            {path: file for path, file in files.items() if file.cutter != CONTENT_CUTTER}
            for files in self._files
        ]
        self._manifests = manifests
        self._known: dict[tuple[int, str], Mapping[Part, ChunkRef]] = {}

    def find(self, path: str, part: Part | None, length: int) -> ChunkRef | None:
        """A chunk of ``length`` bytes that is the same part, and is no difference itself.

        That of the file at ``path`` where there is one, else of any file.
        """
        if part is None:
            return None
        for number, manifest in enumerate(self._manifests):
            ref = self._parts(number, manifest, path).get(part)
            if ref is not None and ref.length == length:
                return ref.base or ref
        return None

    def _parts(self, number: int, manifest: Manifest, path: str) -> Mapping[Part, ChunkRef]:
        files = self._cut[number]
        key = (number, path if path in files else "")
        if key not in self._known:
            found: dict[Part, ChunkRef] = {}
            for file in [files[path]] if path in files else files.values():
                found.update(self._parts_of(number, manifest, file))
            self._known[key] = found
        return self._known[key]

    def _parts_of(
        self, number: int, manifest: Manifest, file: ManifestFile
    ) -> Mapping[Part, ChunkRef]:
        def beside(name: str) -> BinaryIO | None:
            other = self._files[number].get(name)
            return None if other is None else open_stored(self._reader, manifest, other)

        refs = manifest.chunks(file)
        try:
            with open_stored(self._reader, manifest, file) as stored:
                known = parts(stored, file.size_bytes, file.path, beside)
        except (CorruptData, NotFound, Unavailable):
            return {}  # A damaged predecessor costs room, and stops nobody.
        if known is None or [size for size, _ in known] != [ref.length for ref in refs]:
            return {}
        return {part: ref for (_, part), ref in zip(known, refs, strict=True) if part is not None}
