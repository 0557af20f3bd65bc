from __future__ import annotations

import errno
import io
import json
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelhub.content.cut import CONTENT_CUTTER, TENSOR_CUTTER, Piece, cut
from modelhub.content.tree import SourceFile, open_unchanged, survey
from modelhub.errors import Conflict, Unavailable

KIB = 1 << 10
MIB = 1 << 20

Pieces = Callable[..., tuple[str, list[bytes]]]
Safetensors = Callable[..., bytes]


def noise(size_bytes: int, seed: int = 0) -> bytes:
    return Random(seed).randbytes(size_bytes)


def lengths(pieces: Sequence[bytes]) -> list[int]:
    return [len(piece) for piece in pieces]


def source_of(data: bytes, name: str) -> SourceFile:
    return SourceFile(name, Path(name), len(data), 0o644, (0, 0, len(data), 0, 0))


class Dribble(io.BytesIO):
    """Gives less than is asked for, as raw files may."""

    def __init__(self, data: bytes, seed: int) -> None:
        super().__init__(data)
        self._random = Random(seed)

    def _some(self, size: int) -> int:
        return self._random.randint(1, size) if size > 1 else size

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        return super().read(self._some(size))

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        view = memoryview(buffer)
        return super().readinto(view[: self._some(len(view))])


def test_the_cutters_never_change(pieces_of: Pieces, safetensors_bytes: Safetensors) -> None:
    # These figures are part of the stored format: other pieces would need another cutter's id.
    cutter, pieces = pieces_of(noise(8 * MIB))
    assert cutter == "fastcdc/512K-512K-2M/1"
    assert lengths(pieces) == [
        1209596, 888635, 845371, 886219, 617910, 1013271, 559925, 717719, 545117, 656760, 448085
    ]  # fmt: skip
    sizes = {"a": 9 * MIB, "b": 40 * KIB, "c": 40 * KIB, "d": 64 * KIB}
    tensors = [(name, noise(size)) for name, size in sizes.items()]
    cutter, pieces = pieces_of(safetensors_bytes(tensors), "a.safetensors")
    assert cutter == "tensor/4M-64K-512K/1"
    assert lengths(pieces)[1:] == [4 * MIB, 4 * MIB, MIB, 80 * KIB, 64 * KIB]


@pytest.mark.parametrize("name", ["a.bin", "a.safetensors"])
@pytest.mark.parametrize("size_bytes", [1, 1000, 512 * KIB - 1, 512 * KIB])
def test_a_small_file_is_one_piece(pieces_of: Pieces, name: str, size_bytes: int) -> None:
    data = noise(size_bytes)
    assert pieces_of(data, name) == (CONTENT_CUTTER, [data])


def test_an_empty_file_has_no_pieces(pieces_of: Pieces) -> None:
    assert pieces_of(b"") == (CONTENT_CUTTER, [])


def test_opaque_pieces_keep_to_their_bounds_and_stay_valid(pieces_of: Pieces) -> None:
    data = noise(20 * MIB) + bytes(5 * MIB)
    _, pieces = pieces_of(data)
    assert b"".join(pieces) == data
    assert all(512 * KIB <= length <= 2 * MIB for length in lengths(pieces)[:-1])
    assert lengths(pieces)[-3:-1] == [2 * MIB, 2 * MIB]


def test_an_insertion_changes_the_pieces_around_it_alone(pieces_of: Pieces) -> None:
    data = noise(32 * MIB)
    _, before = pieces_of(data)
    _, after = pieces_of(data[: 10 * MIB] + noise(KIB, seed=1) + data[10 * MIB :])
    assert len(before) > 30
    assert len(set(after) - set(before)) <= 2


def test_a_longer_header_changes_the_header_alone(
    pieces_of: Pieces, safetensors_bytes: Safetensors
) -> None:
    tensors = [(f"layer.{i}", noise(5 * MIB, seed=i)) for i in range(3)]
    _, before = pieces_of(safetensors_bytes(tensors), "a.safetensors")
    _, after = pieces_of(safetensors_bytes(tensors, card="x" * KIB), "a.safetensors")
    assert len(before) == 1 + 3 * 2
    assert [a == b for a, b in zip(before, after, strict=True)] == [False] + [True] * 6


def test_a_tensor_that_grows_leaves_the_others_alone(
    pieces_of: Pieces, safetensors_bytes: Safetensors
) -> None:
    embedding, norm, rest = noise(9 * MIB), noise(8 * KIB, seed=1), noise(6 * MIB, seed=2)
    old = safetensors_bytes([("embed", embedding), ("norm", norm), ("w", rest)])
    new = safetensors_bytes([("embed", embedding + noise(KIB)), ("norm", norm), ("w", rest)])
    _, before = pieces_of(old, "a.safetensors")
    _, after = pieces_of(new, "a.safetensors")
    changed = set(after) - set(before)
    assert sorted(lengths(list(changed)))[1:] == [MIB + KIB]
    assert after[0] in changed


def test_ten_thousand_tiny_tensors_make_few_pieces(
    pieces_of: Pieces, safetensors_bytes: Safetensors
) -> None:
    tensors = [(f"t{i}", noise(KIB, seed=i)) for i in range(10_000)]
    data = safetensors_bytes(tensors)
    cutter, pieces = pieces_of(data, "a.safetensors")
    assert cutter == TENSOR_CUTTER
    assert b"".join(pieces) == data
    assert len(pieces) == 1 + 20
    tensors[5000] = ("t5000", noise(KIB, seed=-1))
    _, after = pieces_of(safetensors_bytes(tensors), "a.safetensors")
    assert lengths(list(set(after) - set(pieces))) == [512 * KIB]


@pytest.mark.parametrize(
    "header", [b"{}", b"nonsense", b'{"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}']
)
def test_an_odd_safetensors_file_is_cut_as_opaque(pieces_of: Pieces, header: bytes) -> None:
    data = len(header).to_bytes(8, "little") + header + noise(3 * MIB)
    cutter, pieces = pieces_of(data, "a.safetensors")
    assert cutter == CONTENT_CUTTER
    assert b"".join(pieces) == data
    assert pieces == pieces_of(data, "a.bin")[1]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(
        st.integers(0, 200 * KIB) | st.integers(0, 6 * MIB) | st.just(64 * KIB), max_size=5
    ),
    seed=st.integers(0, 1000),
    tensors=st.booleans(),
)
def test_pieces_cover_the_file_whatever_the_reads_give(
    sizes: list[int], seed: int, tensors: bool, safetensors_bytes: Safetensors
) -> None:
    runs = [(f"t{i}", noise(size, seed + i)) for i, size in enumerate(sizes)]
    data = safetensors_bytes(runs) if tensors else b"".join(run for _, run in runs)
    source = source_of(data, "a.safetensors" if tensors else "a.bin")
    cutter, pieces = cut(io.BytesIO(data), source)
    whole = list(pieces)
    assert b"".join(piece.data for piece in whole) == data
    assert all(piece.data for piece in whole)
    again, dribbled = cut(Dribble(data, seed), source)
    assert (again, list(dribbled)) == (cutter, whole)


@pytest.mark.parametrize("name", ["a.bin", "a.safetensors"])
@pytest.mark.parametrize("off_by", [-6 * MIB, -MIB, -1, 1, MIB])
def test_a_file_of_another_length_than_surveyed_conflicts(
    safetensors_bytes: Safetensors, name: str, off_by: int
) -> None:
    data = safetensors_bytes([("a", noise(9 * MIB))])
    changed = data + bytes(off_by) if off_by > 0 else data[:off_by]
    _, pieces = cut(io.BytesIO(changed), source_of(data, name))
    seen: list[Piece] = []
    with pytest.raises(Conflict, match="changed while it was read"):
        seen.extend(pieces)
    assert all(piece.data for piece in seen)


def test_a_file_that_never_ends_is_left_soon_after_its_length() -> None:
    class Endless(io.BytesIO):
        given_bytes = 0

        def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
            self.given_bytes += len(buffer)
            return len(buffer)

    endless = Endless()
    source = msgspec.structs.replace(source_of(b"", "a.bin"), size_bytes=5 * MIB)
    _, pieces = cut(endless, source)
    with pytest.raises(Conflict):
        list(pieces)
    assert endless.given_bytes <= 12 * MIB


@pytest.mark.parametrize("name", ["a.bin", "a.safetensors"])
@pytest.mark.parametrize("good_bytes", [0, 2 * MIB])
def test_a_failing_disk_is_reported_by_the_file_that_it_holds(
    safetensors_bytes: Safetensors, name: str, good_bytes: int
) -> None:
    class Failing(io.BytesIO):
        def _check(self) -> None:
            if self.tell() >= good_bytes:
                raise OSError(errno.EIO, "Input/output error")

        def read(self, size: int | None = -1, /) -> bytes:
            self._check()
            return super().read(size)

        def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
            self._check()
            return super().readinto(memoryview(buffer)[:MIB])

    data = safetensors_bytes([("a", noise(5 * MIB))])
    with pytest.raises(Unavailable, match=f"'{name}' could not be read: Input/output error"):
        list(cut(Failing(data), source_of(data, name))[1])


@pytest.mark.parametrize("name", ["a.bin", "a.safetensors"])
def test_memory_does_not_grow_with_the_file(
    tmp_path: Path, safetensors_bytes: Safetensors, name: str
) -> None:
    header = {"w": {"dtype": "U8", "shape": [256 * MIB], "data_offsets": [0, 256 * MIB]}}
    raw = json.dumps(header).encode()
    with (tmp_path / name).open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + 256 * MIB)
    [source] = survey(tmp_path)
    tracemalloc.start()
    try:
        with open_unchanged(source) as opened:
            cut_bytes = sum(len(piece.data) for piece in cut(opened, source)[1])
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert cut_bytes == source.size_bytes
    assert peak_bytes < 16 * MIB
