"""A stored file is a Python file like any other, read as far as it is needed."""

from __future__ import annotations

import io
import os
import random
import zipfile
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from modelhub.backends.memory import MemoryWeights
from modelhub.content.manifest import ChunkRef, Manifest, ManifestBuilder
from modelhub.content.pack import PackWriter, new_pack_id
from modelhub.content.read import Reader
from modelhub.content.stored_file import StoredFile, open_stored
from modelhub.errors import CorruptData, InvalidInput


class Counted(MemoryWeights):
    """Counts the bytes that are read."""

    read_bytes = 0

    def read(self, path: str, offset: int, length: int) -> bytes:
        self.read_bytes += length
        return super().read(path, offset, length)


def stored(data: bytes, cuts: Sequence[int], weights: MemoryWeights) -> StoredFile:
    """``data`` in chunks that end at ``cuts``, as a raw file."""
    refs = []
    writer = PackWriter(weights, pack_id := new_pack_id())
    for begin, end in pairwise(sorted({0, *cuts, len(data)})):
        digest = blake3(piece := data[begin:end]).digest()
        offset = writer.add(digest, piece)
        refs.append(ChunkRef(digest, len(piece), pack_id, offset, len(piece)))
    writer.finish()
    builder = ManifestBuilder()
    builder.add_file("a.bin", len(data), 0o644, "cutter", refs)
    manifest = Manifest.decode(builder.encode(), "the manifest")
    return StoredFile(Reader(weights), manifest, manifest.files[0])


def opened(data: bytes, cuts: Sequence[int] = ()) -> io.BufferedReader:
    raw = stored(data, cuts, MemoryWeights())
    return open_stored(raw._reader, raw._manifest, raw._file)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(-1, 80)),
        st.tuples(st.just("read1"), st.integers(-1, 80)),
        st.tuples(st.just("readinto"), st.integers(0, 80)),
        st.tuples(st.just("begin"), st.integers(0, 90)),
        st.tuples(st.just("on"), st.integers(-90, 90)),
        st.tuples(st.just("end"), st.integers(-90, 20)),
        st.tuples(st.just("readline"), st.just(0)),
    ),
    max_size=20,
)


@given(st.binary(max_size=70), st.sets(st.integers(1, 69)), STEPS)
def test_any_steps_through_it_give_what_they_give_in_memory(
    data: bytes, cuts: set[int], steps: list[tuple[str, int]]
) -> None:
    there = io.BufferedReader(io.BytesIO(data), 128 << 10)
    with opened(data, sorted(cut for cut in cuts if cut < len(data))) as here:
        for step, number in steps:
            match step:
                case "read1":
                    # It may be short, but only empty at the end.
                    got = here.read1(number)
                    assert got == there.read(len(got))
                    assert got or number == 0 or here.tell() >= len(data)
                case "readinto":
                    mine, theirs = bytearray(number), bytearray(number)
                    assert here.readinto(mine) == there.readinto(theirs)
                    assert mine == theirs
                case "readline":
                    assert here.readline() == there.readline()
                case "read":
                    assert here.read(number) == there.read(number)
                case _:
                    start = {"begin": 0, "on": there.tell(), "end": len(data)}[step]
                    if start + number >= 0:
                        there.seek(start + number)
                        whence = ("begin", "on", "end").index(step)
                        assert here.seek(number, whence) == start + number
            assert here.tell() == there.tell()


def test_a_raw_read_ends_with_its_chunk_and_reading_on_reads_each_chunk_once() -> None:
    weights = Counted()
    data = bytes(range(100))
    with stored(data, [30, 60], weights) as file:
        weights.read_bytes = 0
        parts = []
        while part := file.read(7):
            parts.append(part)
    assert b"".join(parts) == data
    assert [len(part) for part in parts[:5]] == [7, 7, 7, 7, 2]
    assert weights.read_bytes == len(data)


def test_only_the_chunks_that_are_read_from_are_fetched() -> None:
    weights = Counted()
    data = random.Random(0).randbytes(300_000)
    with stored(data, [100_000, 200_000], weights) as file:
        weights.read_bytes = 0
        file.seek(150_000)
        assert file.read(10) == data[150_000:150_010]
    assert weights.read_bytes == 100_000


def test_readall_gives_the_rest_and_then_nothing() -> None:
    with stored(b"0123456789", [4], MemoryWeights()) as file:
        file.seek(3)
        assert file.readall() == b"3456789"
        assert (file.readall(), file.read(1), file.tell()) == (b"", b"", 10)
        file.seek(20)
        assert (file.readall(), file.tell()) == (b"", 20)


def test_it_says_what_it_can_do_and_is_over_when_it_is_closed() -> None:
    file = opened(b"text")
    assert (file.readable(), file.seekable(), file.writable()) == (True, True, False)
    with pytest.raises(io.UnsupportedOperation):
        file.write(b"more")
    with pytest.raises(io.UnsupportedOperation):
        file.fileno()
    file.close()
    raw = stored(b"text", (), MemoryWeights())
    raw.close()
    for act in (file.read, file.tell, lambda: file.seek(0), raw.readall, lambda: raw.read(1)):
        with pytest.raises(ValueError, match="closed"):
            act()


@pytest.mark.parametrize(("offset", "whence"), [(-1, os.SEEK_SET), (-5, os.SEEK_END)])
def test_a_place_before_the_beginning_is_refused(offset: int, whence: int) -> None:
    with opened(b"text") as file:
        file.read(2)
        with pytest.raises(InvalidInput, match="no position"):
            file.seek(offset, whence)
        assert file.read() == b"xt"


def test_an_archive_and_its_arrays_are_read_in_place() -> None:
    arrays = {"a": np.arange(10_000.0), "b": np.eye(30, dtype=np.int16)}
    buffer = io.BytesIO()
    np.savez(buffer, a=arrays["a"], b=arrays["b"])
    whole = buffer.getvalue()
    with opened(whole, range(5000, len(whole), 5000)) as file:
        with zipfile.ZipFile(file) as archive:
            assert archive.namelist() == ["a.npy", "b.npy"]
            assert archive.testzip() is None
        file.seek(0)
        with np.load(file) as loaded:
            for name, array in arrays.items():
                np.testing.assert_array_equal(loaded[name], array)


def test_damage_is_an_error_and_not_bytes() -> None:
    weights = MemoryWeights()
    raw = stored(b"good" * 10 + b"bad!" * 10, [40], weights)
    (pack,) = weights._files.values()
    pack.data[:] = pack.data.replace(b"bad!", b"evil", 1)
    with open_stored(raw._reader, raw._manifest, raw._file) as file:
        assert file.read(40) == b"good" * 10
        with pytest.raises(CorruptData):
            file.read(1)
