"""Chunks that are stored encoded, as differences from others, or in packs that were rewritten."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from blake3 import blake3

from modelhub.backends.memory import MemoryWeights
from modelhub.content.encoding import encode
from modelhub.content.manifest import ChunkRef, Manifest, ManifestBuilder
from modelhub.content.pack import (
    PackMissing,
    PackWriter,
    TrailerRecord,
    new_pack_id,
    pack_path,
    read_trailer,
)
from modelhub.content.read import NOWHERE, READ_BYTES, Reader, Whereabouts
from modelhub.errors import CorruptData

PIECE_BYTES = 1 << 20


def weights_of(seed: int, scale: float = 1.0) -> bytes:
    """Half-precision numbers around zero."""
    numbers = np.random.default_rng(seed).standard_normal(PIECE_BYTES // 2) * scale
    return numbers.astype(np.float16).tobytes()


def tuned(data: bytes, seed: int) -> bytes:
    """The same numbers, each changed by about a hundredth of their spread."""
    numbers = np.frombuffer(data, np.float16).astype(np.float64)
    noise = np.random.default_rng(seed).standard_normal(len(numbers)) * 0.01
    return (numbers + noise).astype(np.float16).tobytes()


BASES = [weights_of(seed) for seed in range(6)]
TUNED = [tuned(base, seed) for seed, base in enumerate(BASES)]


def stored(
    weights: MemoryWeights, pieces: Sequence[bytes], bases: Sequence[ChunkRef | None] = ()
) -> list[ChunkRef]:
    """One pack of ``pieces``, each encoded, as a difference from the base beside it if any."""
    writer = PackWriter(weights, pack_id := new_pack_id())
    reader, refs = Reader(weights), []
    for piece, base in zip(pieces, bases or [None] * len(pieces), strict=True):
        found = encode(piece, width=2, base=None if base is None else reader.chunk(base))
        assert found.based == (base is not None)
        digest = blake3(piece).digest()
        offset = writer.add(
            digest,
            found.stored,
            length=len(piece),
            encoding=found.encoding,
            base=None if base is None else base.digest,
        )
        size = len(found.stored)
        refs.append(ChunkRef(digest, len(piece), pack_id, offset, size, found.encoding, base))
    writer.finish()
    return refs


@pytest.fixture
def weights() -> MemoryWeights:
    return MemoryWeights()


@pytest.fixture
def bases(weights: MemoryWeights) -> list[ChunkRef]:
    return stored(weights, BASES)


@pytest.fixture
def refs(weights: MemoryWeights, bases: Sequence[ChunkRef]) -> list[ChunkRef]:
    return stored(weights, TUNED, bases)


def test_differences_take_less_room_and_come_back(
    weights: MemoryWeights, bases: Sequence[ChunkRef], refs: Sequence[ChunkRef]
) -> None:
    assert list(Reader(weights).chunks(refs)) == TUNED
    assert sum(ref.stored for ref in refs) < 0.8 * sum(ref.stored for ref in bases)
    assert [bytes(Reader(weights).chunk(ref)) for ref in refs] == TUNED


def test_a_manifest_says_where_the_bases_of_its_differences_lie(
    weights: MemoryWeights, bases: Sequence[ChunkRef], refs: Sequence[ChunkRef]
) -> None:
    builder = ManifestBuilder()
    builder.add_file("a.bin", PIECE_BYTES * len(refs), 0o644, "cutter", refs)
    manifest = Manifest.decode(builder.encode(), "the manifest")
    (file,) = manifest.files
    assert manifest.chunks(file) == refs
    assert set(manifest.packs()) == {bases[0].pack, refs[0].pack}
    assert b"".join(Reader(weights).file(manifest, file)) == b"".join(TUNED)
    middle = Reader(weights).range(manifest, file, PIECE_BYTES - 5, 10)
    assert middle == TUNED[0][-5:] + TUNED[1][:5]


def test_a_read_is_bounded_by_what_it_decodes_to(weights: MemoryWeights) -> None:
    class Counting(MemoryWeights):
        most = 0

        def read(self, path: str, offset: int, length: int) -> bytes:
            self.most = max(self.most, length)
            return super().read(path, offset, length)

    counting = Counting()
    pieces = [bytes(4 << 20)] * 20
    refs = stored(counting, pieces)
    assert list(Reader(counting).chunks(refs)) == pieces
    assert counting.most <= READ_BYTES // (4 << 20) * max(ref.stored for ref in refs)


@pytest.mark.parametrize("which", ["difference", "base"])
def test_a_flipped_bit_is_found_before_anybody_sees_the_chunk(
    weights: MemoryWeights, refs: Sequence[ChunkRef], which: str
) -> None:
    ref = refs[2]
    assert ref.base is not None
    place = ref if which == "difference" else ref.base
    path = pack_path(place.pack)
    whole = bytearray(weights.read(path, 0, 1 << 30))
    random_bits = random.Random(0)
    for _ in range(50):
        bit = random_bits.randrange(place.stored * 8)
        damaged = bytearray(whole)
        damaged[place.offset + bit // 8] ^= 1 << bit % 8
        broken = MemoryWeights()
        for other in {ref.pack, ref.base.pack}:
            data = damaged if other == place.pack else weights.read(pack_path(other), 0, 1 << 30)
            writer = broken.create(pack_path(other))
            writer.write(data)
            writer.commit()
        with pytest.raises(CorruptData, match=place.pack):
            Reader(broken).chunk(ref)
    assert Reader(weights).chunk(ref) == TUNED[2]


@pytest.mark.parametrize(
    "lie",
    [{"encoding": 200}, {"encoding": 0}, {"base": None}, {"length": 5}, {"stored": 3}],
    ids=str,
)
def test_a_place_that_makes_no_sense_is_corrupt(
    weights: MemoryWeights, refs: Sequence[ChunkRef], lie: dict[str, object]
) -> None:
    with pytest.raises(CorruptData):
        Reader(weights).chunk(msgspec.structs.replace(refs[0], **lie))


def test_a_difference_from_a_difference_is_refused(
    weights: MemoryWeights, refs: Sequence[ChunkRef]
) -> None:
    deep = msgspec.structs.replace(refs[0], base=refs[1])
    with pytest.raises(CorruptData, match="makes no sense"):
        Reader(weights).chunk(deep)


def places_of(
    weights: MemoryWeights, refs: Sequence[ChunkRef]
) -> dict[bytes, tuple[str, TrailerRecord]]:
    """The pack that holds ``refs``, as its trailer has it."""
    pack = refs[0].pack
    return {record.digest: (pack, record) for record in read_trailer(weights, pack)}


def test_what_was_moved_is_read_where_it_is_now(
    weights: MemoryWeights, bases: Sequence[ChunkRef], refs: Sequence[ChunkRef]
) -> None:
    places = places_of(weights, stored(weights, [*TUNED[3:], *TUNED[:3]]))
    weights.remove(pack_path(refs[0].pack))

    def moved(pack: str) -> Whereabouts:
        return Whereabouts(places, "") if pack == refs[0].pack else NOWHERE

    assert list(Reader(weights, moved).chunks(refs)) == TUNED
    with pytest.raises(PackMissing, match=refs[0].pack):
        list(Reader(weights).chunks(refs))
    del places[refs[1].digest]
    with pytest.raises(PackMissing, match=refs[0].pack):
        Reader(weights, moved).chunk(refs[1])


def test_what_did_not_move_is_read_from_the_trash(
    weights: MemoryWeights, bases: Sequence[ChunkRef], refs: Sequence[ChunkRef]
) -> None:
    places = places_of(weights, stored(weights, TUNED[2:]))
    path = f"trash/2026-05-01/120000-{refs[0].pack}"
    weights.move(pack_path(refs[0].pack), path)

    def partly_moved(pack: str) -> Whereabouts:
        return Whereabouts(places, path) if pack == refs[0].pack else NOWHERE

    assert list(Reader(weights, partly_moved).chunks(refs)) == TUNED
    weights.remove(path)
    with pytest.raises(PackMissing, match=refs[0].pack):
        list(Reader(weights, partly_moved).chunks(refs))


def test_bases_that_were_moved_are_followed_too(
    weights: MemoryWeights, bases: Sequence[ChunkRef], refs: Sequence[ChunkRef]
) -> None:
    places = places_of(weights, stored(weights, BASES[::-1]))
    weights.remove(pack_path(bases[0].pack))
    there = Whereabouts(places, "")
    reader = Reader(weights, lambda pack: there if pack == bases[0].pack else NOWHERE)
    assert list(reader.chunks(refs)) == TUNED
