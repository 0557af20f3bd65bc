from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from modelhub.content.safetensors_layout import (
    LARGEST_HEADER_BYTES,
    SafetensorsHeader,
    Tensor,
    safetensors_header,
)


def parse(data: bytes, size_bytes: int | None = None) -> SafetensorsHeader | None:
    return safetensors_header(io.BytesIO(data), len(data) if size_bytes is None else size_bytes)


def framed(header: str | bytes, body: bytes = b"") -> bytes:
    raw = header.encode() if isinstance(header, str) else header
    return len(raw).to_bytes(8, "little") + raw + body


def tensor(begin: int, end: int, dtype: str = "U8", shape: list[Any] | None = None) -> Any:
    return {
        "dtype": dtype,
        "shape": [end - begin] if shape is None else shape,
        "data_offsets": [begin, end],
    }


def test_tensors_come_in_the_order_of_their_bytes() -> None:
    header = {
        "__metadata__": {"format": "pt"},
        "late": tensor(8, 12, "F32", [1]),
        "nothing": tensor(8, 8, "BF16", [0, 7]),
        "early": tensor(0, 8, "BF16", [2, 2]),
    }
    data = framed(json.dumps(header) + "   ", bytes(12))
    parsed = parse(data)
    assert parsed is not None
    assert list(parsed.tensors) == ["early", "nothing", "late"]
    assert parsed.tensors["early"] == Tensor("BF16", (2, 2), (0, 8))
    assert parsed.metadata == {"format": "pt"}
    assert parsed.size_bytes == len(data) - 12


def test_a_file_without_tensors_is_sound() -> None:
    assert parse(framed("{}")) == SafetensorsHeader(10, {}, {})


def test_packed_dtypes_are_counted_in_bits() -> None:
    assert parse(framed(json.dumps({"a": tensor(0, 3, "F6_E2M3", [4])}), bytes(3))) is not None
    assert parse(framed(json.dumps({"a": tensor(0, 1, "F4", [3])}), bytes(1))) is None


def test_no_more_than_the_header_is_read() -> None:
    class Watched(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            assert size is not None
            assert self.tell() + size <= 8 + length
            return super().read(size)

    header = json.dumps({"a": tensor(0, 1 << 20)}).encode()
    length = len(header)
    data = framed(header, bytes(1 << 20))
    assert safetensors_header(Watched(data), len(data)) is not None


ENTRY = '{"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}'

HOSTILE: dict[str, bytes] = {
    "empty": b"",
    "shorter than its length field": b"\x01\0\0",
    "a header longer than the file": (1 << 62).to_bytes(8, "little") + b"{}",
    "no JSON": framed("not json"),
    "cut JSON": framed('{"a": '),
    "a list": framed("[]"),
    "UTF-16": framed('{"a": 1}'.encode("utf-16-le")),
    "not UTF-8": framed(b'{"\xff": 1}'),
    "half a surrogate": framed('{"__metadata__": {"a": "\\ud800 "}}'),
    "nested without end": framed('{"a":' + "[" * 200_000),
    "nested where nobody looks": framed('{"a":{"x":' + "[" * 200_000 + "]" * 200_000 + "}}"),
    "a gap": framed(json.dumps({"a": tensor(0, 1), "b": tensor(2, 3)}), bytes(3)),
    "an overlap": framed(json.dumps({"a": tensor(0, 2), "b": tensor(1, 3)}), bytes(3)),
    "a late start": framed(json.dumps({"a": tensor(1, 2)}), bytes(2)),
    "beyond the file": framed(json.dumps({"a": tensor(0, 5)}), bytes(4)),
    "bytes left over": framed(json.dumps({"a": tensor(0, 3)}), bytes(4)),
    "backwards": framed(json.dumps({"a": tensor(1, 0, shape=[1])}), bytes(1)),
    "a name twice": framed(f'{{"a": {ENTRY}, "a": {ENTRY}}}', bytes(1)),
    "a text twice": framed('{"__metadata__": {"a": "1", "a": "2"}}'),
    "a text that is none": framed('{"__metadata__": {"a": 1}}'),
    "an unknown dtype": framed(json.dumps({"a": tensor(0, 1, "U9")}), bytes(1)),
    "a wrong size": framed(json.dumps({"a": tensor(0, 4, "F32", [2])}), bytes(4)),
    "a negative shape": framed(json.dumps({"a": tensor(0, 1, shape=[-1, -1])}), bytes(1)),
    "a fraction": framed(json.dumps({"a": tensor(0, 1, shape=[1.5])}), bytes(1)),
    "a huge number": framed(ENTRY.replace("[1]", "[" + "9" * 5000 + "]").join(['{"a": ', "}"])),
    "a huge product": framed(json.dumps({"a": tensor(0, 1, shape=[2**63 - 1] * 64)}), bytes(1)),
    "65 dimensions": framed(json.dumps({"a": tensor(0, 1, shape=[1] * 65)}), bytes(1)),
    "no shape": framed('{"a": {"dtype": "U8", "data_offsets": [0, 1]}}', bytes(1)),
    "three offsets": framed(f'{{"a": {ENTRY.replace("0, 1", "0, 1, 1")}}}', bytes(1)),
}  # fmt: skip


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_an_odd_header_is_none(data: bytes) -> None:
    assert parse(data) is None


def test_a_header_beyond_the_limit_is_not_even_read() -> None:
    length = LARGEST_HEADER_BYTES + 1
    file = io.BytesIO(length.to_bytes(8, "little") + b"{}")
    assert safetensors_header(file, length + 8) is None
    assert file.tell() == 8


def test_a_file_shorter_than_it_was_surveyed_is_none() -> None:
    assert parse(framed('{"a": 1}')[:-2], size_bytes=100) is None


@given(st.binary(max_size=200), st.booleans())
@example(b"{}", True)
def test_any_bytes_are_taken(data: bytes, frame: bool) -> None:
    parse(framed(data) if frame else data)


names = st.sampled_from(["a", "b", "__metadata__", "\0", "é"])
numbers = st.integers(-1, 5) | st.sampled_from([2**31, 2**63, 2**64, 10**400])
entries = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["U8", "F32", "F4", "", "U9"]),
        "shape": st.lists(numbers, max_size=3),
        "data_offsets": st.lists(numbers, max_size=3),
    },
)


@given(st.dictionaries(names, entries | st.none() | st.text(), max_size=4), st.integers(0, 12))
def test_what_is_accepted_fills_the_file_without_gaps(header: Any, body_bytes: int) -> None:
    data = framed(json.dumps(header), bytes(body_bytes))
    parsed = parse(data)
    if parsed is not None:
        ends = [parsed.size_bytes]
        for found in parsed.tensors.values():
            begin, end = found.data_offsets
            assert parsed.size_bytes + begin == ends[-1]
            ends.append(parsed.size_bytes + end)
        assert ends[-1] == len(data)


def test_the_helper_builds_sound_files(safetensors_bytes: Callable[..., bytes]) -> None:
    parsed = parse(safetensors_bytes([("w", b"abc"), ("b", b"")], licence="mit"))
    assert parsed is not None
    assert (list(parsed.tensors), parsed.metadata) == (["w", "b"], {"licence": "mit"})
