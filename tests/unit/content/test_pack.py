from __future__ import annotations

from pathlib import Path

import pytest
from blake3 import blake3

from modelhub.backends.files import LocalWeights
from modelhub.backends.memory import MemoryWeights
from modelhub.content.pack import (
    PackMissing,
    PackWriter,
    TrailerRecord,
    new_pack_id,
    pack_path,
    read_pack,
    read_trailer,
)
from modelhub.errors import AlreadyExists, CorruptData, InvalidInput, Unavailable
from modelhub.stores import WeightStore, Writer

CHUNKS = [b"first", b"second" * 50, b"x"]


def fill(weights: WeightStore, pack_id: str, chunks: list[bytes]) -> list[int]:
    writer = PackWriter(weights, pack_id)
    offsets = [writer.add(blake3(chunk).digest(), chunk) for chunk in chunks]
    assert writer.finish() == weights.size(pack_path(pack_id))
    return offsets


class Recorder:
    """Notes the sizes of what is written, and may report other lengths than true ones."""

    def __init__(self, weights: MemoryWeights, *, lost_bytes: int = 0) -> None:
        self.sizes: list[int] = []
        self.aborted = False
        self._weights = weights
        self._lost_bytes = lost_bytes
        self._writer: Writer | None = None

    def __getattr__(self, name: str) -> object:
        return getattr(self._weights, name)

    def create(self, path: str) -> Recorder:
        self._writer = self._weights.create(path)
        return self

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert self._writer is not None
        self.sizes.append(len(data))
        self._writer.write(data)

    def commit(self) -> int:
        assert self._writer is not None
        return self._writer.commit() - self._lost_bytes

    def abort(self) -> None:
        self.aborted = True


def test_pack_ids_are_new_and_spread_over_folders() -> None:
    ids = {new_pack_id() for _ in range(100)}
    assert len(ids) == 100
    assert pack_path("abcdef" + "0" * 26) == "packs/ab/cd/abcdef" + "0" * 26


@pytest.mark.parametrize(
    "text", ["", "../" * 10 + "aa", "A" * 32, "0" * 31, "0" * 33, "0" * 32 + "\n"]
)
def test_what_is_no_pack_id_leads_to_no_path(text: str) -> None:
    with pytest.raises(CorruptData, match="is not a pack id"):
        pack_path(text)


def test_the_file_is_magic_chunks_records_and_footer(tmp_path: Path) -> None:
    pack_id = new_pack_id()
    offsets = fill(LocalWeights(tmp_path), pack_id, CHUNKS)
    data = (tmp_path / pack_path(pack_id)).read_bytes()
    assert offsets == [16, 21, 321]
    records = b"".join(
        blake3(chunk).digest()
        + bytes(32)
        + offset.to_bytes(8, "little")
        + len(chunk).to_bytes(4, "little") * 2
        + b"\0"
        for chunk, offset in zip(CHUNKS, offsets, strict=True)
    )
    footer = bytes(28) + len(records).to_bytes(8, "little") + (3).to_bytes(8, "little")
    seal = blake3(records + footer).digest()
    magic = b"modelhub pack 1\n"
    assert data == magic + b"".join(CHUNKS) + records + footer + seal + magic


@pytest.mark.parametrize("chunks", [[], CHUNKS, [b"a"] * 3000])
def test_the_trailer_tells_what_was_added(chunks: list[bytes]) -> None:
    weights = MemoryWeights()
    pack_id = new_pack_id()
    offsets = fill(weights, pack_id, chunks)
    assert read_trailer(weights, pack_id) == [
        TrailerRecord(blake3(chunk).digest(), None, offset, len(chunk), len(chunk), 0)
        for chunk, offset in zip(chunks, offsets, strict=True)
    ]


def test_the_size_is_where_the_next_chunk_begins() -> None:
    writer = PackWriter(MemoryWeights(), new_pack_id())
    for chunk in (b"small", bytes(5 << 20), b"small"):
        before = writer.size
        assert writer.add(bytes(32), chunk) == before
        assert writer.size == before + len(chunk)


def test_small_chunks_are_written_together_and_large_ones_as_they_are() -> None:
    recorder = Recorder(MemoryWeights())
    writer = PackWriter(recorder, new_pack_id())  # type: ignore[arg-type]
    for _ in range(10_000):
        writer.add(bytes(32), bytes(1000))
    writer.add(bytes(32), bytes(3 << 20))
    size = writer.finish()
    assert sum(recorder.sizes) == size
    assert len(recorder.sizes) <= 6


def test_a_chunk_may_be_reused_once_it_was_added() -> None:
    weights = MemoryWeights()
    writer = PackWriter(weights, pack_id := new_pack_id())
    data = bytearray(b"before")
    offset = writer.add(bytes(32), memoryview(data))
    data[:] = b"behind"
    writer.finish()
    assert read_pack(weights, pack_id, offset, 6) == b"before"


def test_a_name_is_used_once() -> None:
    weights = MemoryWeights()
    fill(weights, pack_id := new_pack_id(), CHUNKS)
    with pytest.raises(AlreadyExists):
        PackWriter(weights, pack_id)


def test_an_empty_chunk_is_refused() -> None:
    with pytest.raises(InvalidInput, match="a chunk of 0 bytes"):
        PackWriter(MemoryWeights(), new_pack_id()).add(bytes(32), b"")


def test_a_pack_that_lost_bytes_is_not_finished() -> None:
    recorder = Recorder(MemoryWeights(), lost_bytes=1)
    writer = PackWriter(recorder, new_pack_id())  # type: ignore[arg-type]
    writer.add(bytes(32), b"data")
    with pytest.raises(Unavailable, match="were reported"):
        writer.finish()


def test_a_pack_whose_file_is_shorter_than_reported_is_not_finished() -> None:
    class Shrinking(MemoryWeights):
        def size(self, path: str) -> int | None:
            return (super().size(path) or 0) // 2

    writer = PackWriter(Shrinking(), new_pack_id())
    writer.add(bytes(32), b"data")
    with pytest.raises(Unavailable, match="are there"):
        writer.finish()


def test_giving_up_gives_up_the_file() -> None:
    recorder = Recorder(MemoryWeights())
    PackWriter(recorder, new_pack_id()).abort()  # type: ignore[arg-type]
    assert recorder.aborted


def test_a_missing_pack_is_named_so_that_its_row_can_be_looked_up() -> None:
    weights = MemoryWeights()
    pack_id = new_pack_id()
    for read in (lambda: read_trailer(weights, pack_id), lambda: read_pack(weights, pack_id, 0, 1)):
        with pytest.raises(PackMissing, match=pack_id) as missing:
            read()
        assert missing.value.pack == pack_id


def test_every_flipped_bit_outside_the_chunks_is_found() -> None:
    class Damaged(MemoryWeights):
        flipped = (0, 0)

        def read(self, path: str, offset: int, length: int) -> bytes:
            data = bytearray(super().read(path, offset, length))
            at, bit = self.flipped
            if offset <= at < offset + length:
                data[at - offset] ^= 1 << bit
            return bytes(data)

    weights = Damaged()
    fill(weights, pack_id := new_pack_id(), CHUNKS)
    chunks = range(16, 16 + sum(map(len, CHUNKS)))
    for at in range(weights.size(pack_path(pack_id)) or 0):
        for bit in range(8):
            weights.flipped = (at, bit)
            if at in chunks:
                assert len(read_trailer(weights, pack_id)) == len(CHUNKS)
            else:
                with pytest.raises(CorruptData, match=pack_id):
                    read_trailer(weights, pack_id)


def test_every_shortened_pack_is_found(tmp_path: Path) -> None:
    weights = LocalWeights(tmp_path)
    fill(weights, pack_id := new_pack_id(), CHUNKS)
    location = tmp_path / pack_path(pack_id)
    whole = location.read_bytes()
    for length in range(len(whole)):
        location.write_bytes(whole[:length])
        with pytest.raises(CorruptData, match=pack_id):
            read_trailer(weights, pack_id)


@pytest.mark.parametrize("rows", [[], [0, 1], [0, 2], [1, 2], [0, 0, 1, 2], [1, 0, 2]])
def test_a_sealed_trailer_that_does_not_account_for_every_byte_is_refused(
    tmp_path: Path, rows: list[int]
) -> None:
    weights = LocalWeights(tmp_path)
    fill(weights, pack_id := new_pack_id(), CHUNKS)
    location = tmp_path / pack_path(pack_id)
    whole = location.read_bytes()
    start = 16 + sum(map(len, CHUNKS))
    records = b"".join(whole[start + 81 * row : start + 81 * (row + 1)] for row in rows)
    footer = bytes(28) + len(records).to_bytes(8, "little") + len(rows).to_bytes(8, "little")
    seal = blake3(records + footer).digest()
    location.write_bytes(whole[:start] + records + footer + seal + whole[:16])
    with pytest.raises(CorruptData, match=r"trailer (leaves a gap|accounts for)"):
        read_trailer(weights, pack_id)


def test_a_read_that_fails_now_and_then_is_tried_again() -> None:
    class Shaky(MemoryWeights):
        failures = 0
        reads = 0

        def read(self, path: str, offset: int, length: int) -> bytes:
            self.reads += 1
            if self.reads <= self.failures:
                raise Unavailable("all data nodes failed")
            return super().read(path, offset, length)

    weights = Shaky()
    fill(weights, pack_id := new_pack_id(), CHUNKS)
    weights.failures = 3
    assert read_pack(weights, pack_id, 16, 5) == b"first"
    weights.failures, weights.reads = 4, 0
    with pytest.raises(Unavailable):
        read_pack(weights, pack_id, 16, 5)
    assert weights.reads == 4


def test_a_pack_that_was_interrupted_within_a_chunk_is_never_completed() -> None:
    writer = PackWriter(MemoryWeights(), new_pack_id())
    writer.add(blake3(b"one").digest(), b"one")
    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(PackWriter, "_append", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            writer.add(blake3(b"two").digest(), b"two")
    writer._append(b"tw")
    with pytest.raises(Unavailable, match="interrupted within a chunk"):
        writer.finish()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
