from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from modelhub.content import encoding as encodings
from modelhub.content.encoding import Encoded, decode, encode, is_based, is_known, width_of
from modelhub.content.pack import RAW

MIB = 1 << 20

Weights = NDArray[np.float32]


def bfloat16(weights: Weights) -> bytes:
    """The upper halves of the float32s, rounded."""
    rounded: NDArray[np.uint32] = weights.view(np.uint32) + np.uint32(0x8000)
    return (rounded >> 16).astype(np.uint16).tobytes()


def float16(weights: Weights) -> bytes:
    return weights.astype(np.float16).tobytes()


def float32(weights: Weights) -> bytes:
    return weights.tobytes()


def weights_of(count: int = MIB, *, seed: int = 0) -> Weights:
    normal = np.random.default_rng(seed).standard_normal(count, dtype=np.float32)
    return normal * np.float32(0.02)


def tuned(weights: Weights, share: float) -> Weights:
    """Every weight moved by about this share of their spread."""
    return weights + weights_of(len(weights), seed=1) * np.float32(share)


def touched(weights: Weights, share: float) -> Weights:
    """This share of the weights moved, and the others the same."""
    which = np.random.default_rng(2).random(len(weights)) < share
    return np.where(which, tuned(weights, 0.01), weights)


def values(below: int, count: int = MIB, *, seed: int = 0) -> bytes:
    """Random bytes of this many values."""
    return np.random.default_rng(seed).integers(0, below, count, np.uint8).tobytes()


def words() -> bytes:
    random = Random(0)
    known = [random.randbytes(4).hex() for _ in range(500)]
    return " ".join(random.choices(known, k=100_000)).encode()


def repeated(pattern: bytes, length: int) -> bytes:
    return bytes(islice(cycle(pattern), length))


def xor(data: bytes, other: bytes) -> bytes:
    return (np.frombuffer(data, np.uint8) ^ np.frombuffer(other, np.uint8)).tobytes()


def decoded(encoded: Encoded, length: int, base: bytes | None) -> bytes:
    used = base if encoded.based else None
    return bytes(decode(encoded.encoding, encoded.stored, length, used))


chunks = st.one_of(
    st.binary(min_size=1, max_size=300),
    st.builds(repeated, st.binary(min_size=1, max_size=9), st.integers(1, 3000)),
    st.builds(
        lambda seed, length: bfloat16(weights_of(200_000, seed=seed))[:length],
        st.integers(0, 3),
        st.integers(60_000, 400_000),
    ),
)


@given(
    data=chunks,
    width=st.sampled_from([None, 1, 2, 4, 8]),
    changes=st.none() | st.binary(max_size=5),
    small=st.booleans(),
)
def test_what_was_encoded_decodes_to_the_same_bytes(
    data: bytes, width: int | None, changes: bytes | None, small: bool
) -> None:
    base = None
    if changes is not None:
        base = xor(data, changes[: len(data)].ljust(len(data), b"\0"))
    encoded = encode(data, width=width, base=base, small=small)
    assert len(encoded.stored) <= len(data)
    assert decoded(encoded, len(data), base) == data


@pytest.mark.parametrize("length", [*range(1, 40), 65_535, 65_536, 65_537, 65_549, 200_003])
@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_any_length_round_trips_whatever_the_width(length: int, width: int) -> None:
    data, base = repeated(bytes(range(16)), length), bytes(length)
    for against in (None, base):
        encoded = encode(data, width=width, base=against)
        assert decoded(encoded, length, against) == data
    assert length < 60_000 or encode(data, width=width).encoding != RAW


@pytest.mark.parametrize(
    ("number_format", "width", "change", "percent"),
    [
        (bfloat16, 2, None, 67.4),
        (bfloat16, 2, 0.002, 19.9),
        (bfloat16, 2, 0.01, 35.2),
        (bfloat16, 2, 0.05, 51.7),
        (float16, 2, None, 85),
        (float16, 2, 0.01, 56),
        (float32, 4, None, 84),
        (float32, 4, 0.01, 68),
    ],
)
def test_weights_take_the_room_that_the_encodings_were_chosen_for(
    number_format: Callable[[Weights], bytes], width: int, change: float | None, percent: float
) -> None:
    before = weights_of()
    base = None if change is None else number_format(before)
    data = number_format(before if change is None else tuned(before, change))

    encoded = encode(data, width=width, base=base)

    assert encoded.based == (base is not None)
    assert decoded(encoded, len(data), base) == data
    assert 100 * len(encoded.stored) / len(data) == pytest.approx(percent, abs=2)


def test_a_few_changed_weights_take_the_room_of_these() -> None:
    before = weights_of()
    encoded = encode(bfloat16(touched(before, 0.05)), width=2, base=bfloat16(before))
    assert encoded.based
    assert len(encoded.stored) <= 0.06 * 2 * MIB


def test_text_is_searched_for_repetitions_unless_it_is_said_to_be_numbers() -> None:
    text = words()
    numbers, unknown, small = (
        len(encode(text, width=width, small=small).stored)
        for width, small in ((1, False), (None, False), (1, True))
    )
    assert small <= unknown < 0.5 * numbers


def test_small_takes_no_more_room_for_weights() -> None:
    before = weights_of()
    for data, base in (
        (bfloat16(before), None),
        (bfloat16(tuned(before, 0.01)), bfloat16(before)),
    ):
        auto, small = (encode(data, width=2, base=base, small=each) for each in (False, True))
        assert len(small.stored) <= len(auto.stored)
        assert decoded(small, len(data), base) == data


def test_the_width_of_numbers_is_found_where_nothing_says_it() -> None:
    found = encode(bfloat16(weights_of()), width=None)
    assert len(found.stored) == pytest.approx(0.674 * 2 * MIB, rel=0.03)
    off_by_one = encode(float32(weights_of())[1:-3], width=None)
    assert len(off_by_one.stored) == pytest.approx(0.84 * 4 * MIB, rel=0.03)


@pytest.mark.parametrize("width", [None, 1, 2, 4, 8])
@pytest.mark.parametrize("length", [1, 7, 1000, 3 * MIB + 1])
def test_noise_stays_raw_and_costs_no_more_than_a_sample(
    width: int | None, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(encodings, "group")  # what works on more than the sample
    data, base = Random(0).randbytes(length), Random(1).randbytes(length)
    for against in (None, base):
        encoded = encode(data, width=width, base=against)
        assert encoded.encoding == RAW
        assert encoded.stored is data


def test_what_the_sample_overrates_stays_raw() -> None:
    data = bytearray(Random(0).randbytes(4 * MIB))
    for start in range(0, len(data), len(data) // 16):
        data[start : start + 4096] = bytes(4096)
    assert encode(bytes(data), width=2).encoding == RAW


def test_a_chunk_is_encoded_only_where_that_saves_three_in_a_hundred() -> None:
    noise = np.frombuffer(values(256), np.uint8)
    for zeros, encoding in ((0.125, RAW), (0.16, 2)):  # 97.3 % and 96.1 %
        less = np.where(np.random.default_rng(1).random(MIB) < zeros, 0, noise[::-1])
        data = np.stack([noise, less], axis=1).tobytes()
        assert encode(data, width=2).encoding == encoding


def test_a_base_is_used_only_where_it_saves_a_tenth() -> None:
    data = values(32)  # 5 bits a byte
    for below, based in ((30, False), (16, True)):  # 98 % and 80 % of that
        base = xor(data, values(below, seed=1))
        assert encode(data, width=1, base=base).based == based


def test_a_base_that_has_nothing_in_common_changes_nothing() -> None:
    data, other = bfloat16(weights_of()), bfloat16(weights_of(seed=7))
    assert encode(data, width=2, base=other) == encode(data, width=2)


def test_a_base_that_the_sample_overrates_is_not_used() -> None:
    data, base = bytearray(bfloat16(weights_of())), bytearray(bfloat16(weights_of(seed=7)))
    for start in range(0, len(data), len(data) // 16):
        base[start : start + 4096] = data[start : start + 4096]
    encoded = encode(bytes(data), width=2, base=bytes(base))
    assert encoded == encode(bytes(data), width=2)


def test_a_base_of_another_length_is_not_used() -> None:
    before = weights_of()
    data = bfloat16(tuned(before, 0.01))
    assert encode(data, width=2, base=bfloat16(before)).based
    assert encode(data, width=2, base=bfloat16(before) + b"..") == encode(data, width=2)


def test_a_chunk_is_decoded_where_it_is_to_go() -> None:
    before = weights_of(1001)
    data, base = bfloat16(tuned(before, 0.01)), bfloat16(before)
    for against in (None, base):
        encoded = encode(data, width=2, base=against)
        file = bytearray(len(data) + 5)
        decode(encoded.encoding, encoded.stored, len(data), against, memoryview(file)[3:-2])
        assert file == bytes(3) + data + bytes(2)
        with pytest.raises(ValueError, match="as long as"):
            decode(encoded.encoding, encoded.stored, len(data), against, memoryview(file))


def test_threads_do_not_disturb_each_other() -> None:
    before = weights_of(60_000)
    work: list[tuple[bytes, bytes | None, int]] = []
    for seed in range(8):
        work.append((bfloat16(weights_of(60_000, seed=seed)), None, 2))
        work.append((float32(tuned(before, seed / 100)), float32(before), 4))

    def there_and_back(item: tuple[bytes, bytes | None, int]) -> bytes:
        data, base, width = item
        encoded = encode(data, width=width, base=base)
        assert decoded(encoded, len(data), base) == data
        return bytes(encoded.stored)

    alone = [there_and_back(item) for item in work]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(there_and_back, work * 5)) == alone * 5


def test_each_encoding_says_whether_it_needs_a_base() -> None:
    assert [number for number in range(256) if is_known(number)] == list(range(9))
    assert [number for number in range(256) if is_based(number)] == [5, 6, 7, 8]


@pytest.mark.parametrize(
    ("dtypes", "width"),
    [
        ("BF16 F16 I16 U16", 2),
        ("F32 I32 U32 C64", 4),
        ("F64 I64 U64", 8),
        ("F8_E4M3 F8_E5M2 I8 U8 BOOL Q4_K Q8_0 IQ2_XS unheard-of", 1),
    ],
)
def test_widths_follow_from_the_type(dtypes: str, width: int) -> None:
    assert {width_of(dtype) for dtype in dtypes.split()} == {width}
    assert width_of("") == 1
