from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from modelhub.backends.files import LocalWeights
from modelhub.backends.memory import MemoryWeights
from modelhub.content.manifest import ChunkRef, Manifest, ManifestBuilder, ManifestFile
from modelhub.content.pack import PackMissing, PackWriter, new_pack_id, pack_path, read_trailer
from modelhub.content.read import READ_BYTES, Chunk, Reader
from modelhub.errors import CorruptData, InvalidInput, Unavailable
from modelhub.records import Address
from modelhub.stores import WeightStore


def stored(weights: WeightStore, pieces: Sequence[bytes], *, per_pack: int = 100) -> list[ChunkRef]:
    """Packs ``pieces`` as they come, ``per_pack`` of them into each pack."""
    refs = []
    for start in range(0, len(pieces), per_pack):
        writer = PackWriter(weights, pack_id := new_pack_id())
        for piece in pieces[start : start + per_pack]:
            digest = blake3(piece).digest()
            offset = writer.add(digest, piece)
            refs.append(ChunkRef(digest, len(piece), pack_id, offset, len(piece)))
        writer.finish()
    return refs


def listed(refs: Sequence[ChunkRef]) -> tuple[Manifest, ManifestFile]:
    builder = ManifestBuilder()
    builder.add_file("a.bin", sum(ref.length for ref in refs), 0o644, "cutter", refs)
    manifest = Manifest.decode(builder.encode(), "the manifest")
    return manifest, manifest.files[0]


class Watched(MemoryWeights):
    """Counts reads, and can fail or lie in some of them."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[int] = []
        self.failing: set[int] = set()
        self.lying: set[int] = set()

    def read(self, path: str, offset: int, length: int) -> bytes:
        self.reads.append(length)
        if len(self.reads) in self.failing:
            raise Unavailable("all data nodes failed")
        data = super().read(path, offset, length)
        if len(self.reads) in self.lying:
            return bytes([data[0] ^ 1]) + data[1:]
        return data


PIECES = [b"one", b"three", b"one", b"sixteen" * 9]


def test_a_file_comes_back_piece_by_piece_from_wherever_one_likes() -> None:
    weights = MemoryWeights()
    manifest, file = listed(stored(weights, PIECES, per_pack=3))
    assert list(Reader(weights).file(manifest, file)) == PIECES
    assert list(Reader(weights).file(manifest, file, start_chunk=2)) == PIECES[2:]
    assert list(Reader(weights).file(manifest, file, start_chunk=4)) == []


def test_chunks_side_by_side_are_read_at_once() -> None:
    weights = Watched()
    refs = stored(weights, PIECES)
    assert list(Reader(weights).chunks(refs)) == PIECES
    assert weights.reads == [sum(map(len, PIECES))]


def test_chunks_in_another_order_or_pack_are_read_by_themselves() -> None:
    weights = Watched()
    refs = stored(weights, PIECES, per_pack=2)
    assert list(Reader(weights).chunks(refs)) == PIECES
    assert len(weights.reads) == 2
    assert list(Reader(weights).chunks(reversed(refs))) == PIECES[::-1]
    assert len(weights.reads) == 6


def test_no_read_is_larger_than_its_bound() -> None:
    weights = Watched()
    pieces = [bytes([number]) * (3 << 20) for number in range(12)]
    assert list(Reader(weights).chunks(stored(weights, pieces))) == pieces
    assert sorted(weights.reads) == [6 << 20, 15 << 20, 15 << 20]
    large = stored(weights, [bytes(READ_BYTES + 1)])
    assert len(Reader(weights).chunk(large[0])) == READ_BYTES + 1


def test_a_blob_is_read_by_its_address() -> None:
    weights = MemoryWeights()
    ref = stored(weights, PIECES)[1]
    address = Address(ref.pack, ref.offset, ref.length, blake3(b"three").hexdigest())
    assert Reader(weights).blob(address) == b"three"
    with pytest.raises(CorruptData, match="do not match"):
        Reader(weights).blob(msgspec.structs.replace(address, offset=ref.offset + 1))


def test_reads_that_fail_three_times_in_a_row_still_succeed() -> None:
    weights = Watched()
    refs = stored(weights, PIECES)
    weights.failing = {1, 2, 3}
    assert list(Reader(weights).chunks(refs)) == PIECES
    weights.failing = {5, 6, 7, 8}
    with pytest.raises(Unavailable):
        list(Reader(weights).chunks(refs))


def test_a_bad_replica_is_read_past() -> None:
    weights = Watched()
    refs = stored(weights, PIECES)
    weights.lying = {1}
    assert list(Reader(weights).chunks(refs)) == PIECES
    assert weights.reads[1:] == [len(PIECES[0])]


def test_what_is_wrong_twice_is_corrupt_and_named() -> None:
    weights = Watched()
    ref = stored(weights, PIECES)[1]
    weights.lying = {1, 2}
    with pytest.raises(CorruptData) as damaged:
        Reader(weights).chunk(ref)
    for part in (ref.pack, str(ref.offset), ref.digest.hex()):
        assert part in damaged.value.message


def test_what_came_before_the_damage_was_handed_on_and_nothing_else() -> None:
    weights = MemoryWeights()
    refs = stored(weights, PIECES)
    refs[2] = msgspec.structs.replace(refs[2], digest=bytes(32))
    seen: list[Chunk] = []
    with pytest.raises(CorruptData):
        seen.extend(Reader(weights).chunks(refs))
    assert seen == PIECES[:2]


def test_a_missing_pack_is_an_error_of_its_own() -> None:
    weights = MemoryWeights()
    refs = stored(weights, PIECES, per_pack=2)
    weights.remove(pack_path(refs[2].pack))
    chunks = Reader(weights).chunks(refs)
    assert [next(chunks), next(chunks)] == PIECES[:2]
    with pytest.raises(PackMissing) as missing:
        next(chunks)
    assert missing.value.pack == refs[2].pack


@pytest.mark.parametrize(
    "lie",
    [
        {"offset": -1},
        {"offset": 2**63},
        {"stored": 0},
        {"stored": 2**40},
        {"length": 4},
        {"encoding": 1},
        {"pack": "../../../etc/passwd"},
    ],
)
def test_a_hint_that_makes_no_sense_is_corrupt(lie: dict[str, int | str]) -> None:
    weights = MemoryWeights()
    ref = stored(weights, [b"one"])[0]
    with pytest.raises(CorruptData):
        Reader(weights).chunk(msgspec.structs.replace(ref, **lie))


def test_a_range_reads_only_the_chunks_that_it_lies_in() -> None:
    weights = Watched()
    manifest, file = listed(stored(weights, PIECES, per_pack=1))
    assert Reader(weights).range(manifest, file, 4, 5) == b"hreeo"
    assert weights.reads == [5, 3]


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, -1)])
def test_a_negative_range_is_refused(offset: int, length: int) -> None:
    weights = MemoryWeights()
    manifest, file = listed(stored(weights, PIECES))
    with pytest.raises(InvalidInput):
        Reader(weights).range(manifest, file, offset, length)


@given(
    st.lists(st.binary(min_size=1, max_size=20), max_size=12),
    st.integers(1, 5),
    st.integers(0, 300),
    st.integers(0, 300),
)
def test_packing_and_reading_gives_the_same_bytes(
    pieces: list[bytes], per_pack: int, offset: int, length: int
) -> None:
    weights = MemoryWeights()
    manifest, file = listed(stored(weights, pieces, per_pack=per_pack))
    whole = b"".join(pieces)
    assert b"".join(Reader(weights).file(manifest, file)) == whole
    assert Reader(weights).range(manifest, file, offset, length) == whole[offset : offset + length]


def check_all(weights: WeightStore, refs: Sequence[ChunkRef]) -> None:
    assert list(Reader(weights).chunks(refs)) == PIECES
    read_trailer(weights, refs[0].pack)


def test_a_flipped_bit_in_any_byte_of_a_pack_is_found_by_reading_or_by_its_trailer(
    tmp_path: Path,
) -> None:
    weights = LocalWeights(tmp_path)
    refs = stored(weights, PIECES)
    location = tmp_path / pack_path(refs[0].pack)
    whole = location.read_bytes()
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        location.write_bytes(damaged)
        with pytest.raises(CorruptData):
            check_all(weights, refs)


@given(bad=st.sets(st.integers(0, 11)), per_pack=st.integers(1, 6), gone=st.booleans())
def test_intact_names_each_chunk_that_cannot_be_had(
    bad: set[int], per_pack: int, gone: bool
) -> None:
    weights = MemoryWeights()
    pieces = [bytes([number]) * (number + 1) for number in range(12)]
    refs = stored(weights, pieces, per_pack=per_pack)
    for number in bad:
        weights._files[pack_path(refs[number].pack)].data[refs[number].offset] ^= 1
    if gone:
        weights.remove(pack_path(refs[0].pack))
    lost = bad | {number for number, ref in enumerate(refs) if gone and ref.pack == refs[0].pack}
    assert list(Reader(weights).intact(refs)) == [number not in lost for number in range(12)]


def test_intact_says_nothing_of_what_could_not_be_asked() -> None:
    weights = Watched()
    refs = stored(weights, PIECES)
    weights.failing = set(range(1, 20))
    with pytest.raises(Unavailable):
        list(Reader(weights).intact(refs))
