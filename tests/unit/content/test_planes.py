from __future__ import annotations

import struct
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from modelhub.content import encoding as encodings
from modelhub.content.encoding import Encoded, sealed
from modelhub.content.pack import RAW

MIB = 1 << 20
WIDTHS = {1: 1, 2: 2, 3: 4, 4: 8, 5: 1, 6: 2, 7: 4, 8: 8}
PLANE = struct.Struct("<BI")

CHECK_BYTES = 8


def encode(data: bytes, *, width: int, base: bytes | None = None) -> Encoded:
    """The planes alone, without the check before them."""
    found = encodings.encode(data, width=width, base=base)
    return found if found.encoding == RAW else replace(found, stored=found.stored[CHECK_BYTES:])


def decode(encoding: int, stored: bytes, length: int, base: bytes | None) -> memoryview:
    """What these planes hold, under a check that is right."""
    return encodings.decode(encoding, stored if encoding == RAW else sealed(stored), length, base)


Payload = tuple[int, bytes, bytes, bytes | None]
"""Encoding, stored bytes, chunk, base."""


def by_the_layout(encoding: int, stored: bytes, length: int, base: bytes | None) -> bytes:
    """What the documented layout says that ``stored`` holds."""
    width = WIDTHS[encoding]
    chunk = bytearray(length)
    whole = length - length % width
    at = PLANE.size * width
    for index in range(width):
        kind, size = PLANE.unpack_from(stored, PLANE.size * index)
        body = stored[at : at + size]
        chunk[index:whole:width] = zstandard.decompress(body) if kind else body
        at += size
    chunk[whole:] = stored[at:]
    other = bytes(length) if base is None else base
    return bytes(one ^ two for one, two in zip(chunk, other, strict=True))


def kinds(stored: bytes | memoryview, width: int) -> list[int]:
    return [kind for kind, _ in PLANE.iter_unpack(bytes(stored)[: PLANE.size * width])]


def small_payloads() -> list[Payload]:
    """One of every encoding that is not raw, each with a tail where its width allows."""
    before = np.repeat(np.random.default_rng(0).standard_normal(60).astype(np.float32), 3)
    data, base = (before + np.float32(1e-5)).tobytes()[:-1], before.tobytes()[:-1]
    found: list[Payload] = []
    for width in (1, 2, 4, 8):
        for chunk, against in ((bytes(200) + b"1234567", None), (data, base)):
            encoded = encode(chunk, width=width, base=against)
            found.append((encoded.encoding, bytes(encoded.stored), chunk, against))
    return found


PAYLOADS = small_payloads()
every_encoding = pytest.mark.parametrize(
    ("encoding", "stored", "chunk", "base"), PAYLOADS, ids=[str(payload[0]) for payload in PAYLOADS]
)


@every_encoding
def test_payloads_are_as_the_layout_says(
    encoding: int, stored: bytes, chunk: bytes, base: bytes | None
) -> None:
    assert sorted(payload[0] for payload in PAYLOADS) == list(range(1, 9))
    assert by_the_layout(encoding, stored, len(chunk), base) == chunk
    assert decode(encoding, stored, len(chunk), base) == memoryview(chunk)


def test_only_planes_that_shrink_by_a_twentieth_are_coded() -> None:
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, MIB, np.uint8)
    for zeros, kind in ((0.08, 0), (0.16, 1)):  # 97 % and 92 %
        low = np.where(random.random(MIB) < zeros, 0, noise)
        data = np.stack([low, np.zeros_like(low)], axis=1).tobytes()
        assert kinds(encode(data, width=2).stored, 2) == [kind, 1]


def test_samples_are_of_whole_elements_whatever_the_length() -> None:
    low = np.random.default_rng(0).integers(0, 256, MIB + 8, np.uint8)
    data = np.stack([low, np.zeros_like(low)], axis=1).tobytes()
    assert len(data) // 16 % 2 == 1
    assert kinds(encode(data, width=2).stored, 2) == [0, 1]


@every_encoding
def test_no_truncated_payload_decodes(
    encoding: int, stored: bytes, chunk: bytes, base: bytes | None
) -> None:
    for length in range(len(stored)):
        with pytest.raises(ValueError, match=r"plane|too short"):
            decode(encoding, stored[:length], len(chunk), base)
    with pytest.raises(ValueError, match="do not add up"):
        decode(encoding, stored + b"\0", len(chunk), base)


@every_encoding
def test_a_flipped_bit_gives_as_many_bytes_or_an_error(
    encoding: int, stored: bytes, chunk: bytes, base: bytes | None
) -> None:
    refused = 0
    tracemalloc.start()
    for bit in range(8 * len(stored)):
        damaged = bytearray(stored)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            assert len(decode(encoding, bytes(damaged), len(chunk), base)) == len(chunk)
        except ValueError:
            refused += 1
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert refused >= 8 * PLANE.size * WIDTHS[encoding]
    assert peak_bytes < 100_000


@given(
    encoding=st.integers(0, 9),
    stored=st.binary(max_size=80),
    length=st.integers(0, 100),
    base=st.none() | st.binary(max_size=100),
)
def test_any_bytes_are_refused_or_decode_to_the_length_asked_for(
    encoding: int, stored: bytes, length: int, base: bytes | None
) -> None:
    try:
        decoded = decode(encoding, stored, length, base)
    except ValueError:
        return
    assert len(decoded) == length


def frame(data: bytes, *, sized: bool = True) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=sized).compress(data)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(frame(bytes(64 * MIB)), id="a bomb"),
        pytest.param(frame(bytes(64 * MIB), sized=False), id="a bomb of unknown size"),
        pytest.param(frame(bytes(100), sized=False), id="a frame without its size"),
        pytest.param(frame(bytes(99)), id="a frame of less"),
        pytest.param(frame(bytes(100)) * 2, id="two frames"),
        pytest.param(b"\x50\x2a\x4d\x18\4\0\0\0abcd" + frame(bytes(100)), id="a frame to skip"),
        pytest.param(b"\x28\xb5\x2f\xfd\x80\xff\x64\0\0\0\xff", id="a window of terabytes"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_a_frame_that_is_not_of_its_plane_is_refused_before_it_takes_memory(body: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(ValueError, match="frame"):
        decode(1, PLANE.pack(1, len(body)) + body, 100, None)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 100_000


ABC = PLANE.pack(0, 3) + b"abc"


def test_planes_may_be_stored_as_they_are() -> None:
    assert decode(1, ABC, 3, None) == memoryview(b"abc")
    assert decode(5, ABC, 3, b"   ") == memoryview(b"ABC")
    assert decode(RAW, b"abc", 3, None) == memoryview(b"abc")


@pytest.mark.parametrize(
    ("encoding", "stored", "length", "base", "why"),
    [
        (5, ABC, 3, None, "without a base"),
        (1, ABC, 3, b"   ", "without a difference"),
        (RAW, b"abc", 3, b"   ", "without a difference"),
        (5, ABC, 3, b"  ", "not as long"),
        (RAW, b"a", 3, None, "not as long"),
        (9, ABC, 3, None, "not known"),
        (1, PLANE.pack(2, 3) + b"abc", 3, None, "no kind of plane"),
        (2, PLANE.pack(0, 1) + PLANE.pack(0, 3) + b"abcd", 4, None, "another size"),
        (2, PLANE.pack(0, 3) + PLANE.pack(0, 1) + b"abcd", 4, None, "another size"),
        (1, ABC, 2, None, "do not add up|another size"),
        (1, ABC, -3, None, "negative"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    encoding: int, stored: bytes, length: int, base: bytes | None, why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        decode(encoding, stored, length, base)


@every_encoding
def test_every_flipped_bit_is_found_whether_or_not_it_would_change_the_chunk(
    encoding: int, stored: bytes, chunk: bytes, base: bytes | None
) -> None:
    whole = sealed(stored)
    assert encodings.decode(encoding, whole, len(chunk), base) == memoryview(chunk)
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match="do not match their check"):
            encodings.decode(encoding, bytes(damaged), len(chunk), base)
