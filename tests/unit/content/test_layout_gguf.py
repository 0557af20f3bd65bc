from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest

from modelhub.content.cut import TENSOR_CUTTER, Part, parts
from modelhub.content.layout import alone, layout
from modelhub.content.layout.gguf import TYPES
from modelhub.content.layout.spans import Span

Gguf = Callable[..., bytes]
Pieces = Callable[..., tuple[str, list[bytes]]]

KIB = 1 << 10
MIB = 1 << 20
U32, TEXT, ARRAY = 4, 8, 9


def number(value: int, size_bytes: int) -> bytes:
    return value.to_bytes(size_bytes, "little")


def text(value: str) -> bytes:
    return number(len(value.encode()), 8) + value.encode()


def array(kind: int, count: int, items: bytes) -> bytes:
    return number(ARRAY, 4) + number(kind, 4) + number(count, 8) + items


FACTS = [
    text("general.name") + number(TEXT, 4) + text("ä model"),
    text("vocabulary") + array(TEXT, 3, text("a") + text("") + text("ccc")),
    text("scores") + array(6, 2, bytes(8)),
    text("nested") + array(ARRAY, 1, number(U32, 4) + number(2, 8) + bytes(8)),
    text("flag") + number(7, 4) + b"\1",
    text("wide") + number(11, 4) + bytes(8),
]


def spans(data: bytes, size_bytes: int | None = None) -> list[Span] | None:
    size = len(data) if size_bytes is None else size_bytes
    return layout(io.BytesIO(data), size, "a.gguf", alone)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("alignment", [8, 32, 64])
def test_tensors_are_found_behind_facts_of_every_kind(
    gguf_bytes: Gguf, version: int, alignment: int
) -> None:
    tensors = {"embed": (8, (64, 3), bytes(204)), "norm": (0, (5,), bytes(20)), "é": (1, (), b"ab")}
    data = gguf_bytes(tensors, FACTS, version=version, alignment=alignment)
    found = spans(data)
    assert found is not None
    header, embed, norm, last = found
    body = sum(size + -size % alignment for size in (204, 20, 2))
    assert header == Span(len(data) - body)
    assert embed == Span(204 + -204 % alignment, "embed", "Q8_0", (3, 64), -204 % alignment)
    assert norm == Span(20 + -20 % alignment, "norm", "F32", (5,), -20 % alignment)
    assert last == Span(2 + -2 % alignment, "é", "F16", (), -2 % alignment)
    assert spans(data[: len(data) - last.padding_bytes]) == [
        header, embed, norm, Span(2, "é", "F16", ())
    ]  # fmt: skip


# As the package gguf 0.19.0 has them: number, name, elements in a block, bytes of a block.
REFERENCE = """
0 F32 1 4, 1 F16 1 2, 2 Q4_0 32 18, 3 Q4_1 32 20, 6 Q5_0 32 22, 7 Q5_1 32 24, 8 Q8_0 32 34,
9 Q8_1 32 40, 10 Q2_K 256 84, 11 Q3_K 256 110, 12 Q4_K 256 144, 13 Q5_K 256 176, 14 Q6_K 256 210,
15 Q8_K 256 292, 16 IQ2_XXS 256 66, 17 IQ2_XS 256 74, 18 IQ3_XXS 256 98, 19 IQ1_S 256 50,
20 IQ4_NL 32 18, 21 IQ3_S 256 110, 22 IQ2_S 256 82, 23 IQ4_XS 256 136, 24 I8 1 1, 25 I16 1 2,
26 I32 1 4, 27 I64 1 8, 28 F64 1 8, 29 IQ1_M 256 56, 30 BF16 1 2, 34 TQ1_0 256 54, 35 TQ2_0 256 66,
39 MXFP4 32 17, 40 NVFP4 64 36, 41 Q1_0 128 18
"""


def test_the_types_are_those_of_the_reference() -> None:
    rows = [row.split() for row in REFERENCE.split(",")]
    assert {int(n): (name, int(count), int(size)) for n, name, count, size in rows} == TYPES


def test_a_longer_header_leaves_the_tensors_pieces_alone(
    gguf_bytes: Gguf, pieces_of: Pieces
) -> None:
    tensors = {
        "embed": (0, (256, 5 * KIB), b"e" * (5 * MIB)),
        "norm": (0, (256,), b"n" * KIB),
        "w": (30, (256, KIB), b"w" * (MIB // 2)),
    }
    before, after = gguf_bytes(tensors), gguf_bytes(tensors, FACTS)
    cutter, old = pieces_of(before, "m.gguf")
    _, new = pieces_of(after, "another name")
    assert cutter == TENSOR_CUTTER
    assert [len(piece) for piece in old[1:]] == [4 * MIB, MIB, KIB, MIB // 2]
    assert (old[1:], len(new[0]) > len(old[0])) == (new[1:], True)
    known = parts(io.BytesIO(after), len(after), "m.gguf", alone)
    assert known is not None
    assert [part for _, part in known] == [
        None, Part("embed", "F32", 0), Part("embed", "F32", 4 * MIB), Part("norm", "F32", 0),
        Part("w", "BF16", 0),
    ]  # fmt: skip


def test_a_header_beyond_16_mib_is_several_pieces(gguf_bytes: Gguf) -> None:
    vocabulary = text("v") + array(TEXT, 1000, text("x" * 20_000) * 1000)
    data = gguf_bytes({"w": (24, (4,), b"abcd")}, [vocabulary])
    known = parts(io.BytesIO(data), len(data), "a", alone)
    assert known is not None
    assert known[0] == (16 * MIB + 8, None)
    assert [part for _, part in known] == [None, None, Part("w", "I8", 0)]
    assert sum(size for size, _ in known) == len(data)


ONE = {"w": (0, (8,), bytes(32))}
TWO = {"a": (0, (8,), bytes(32)), "b": (0, (8,), bytes(32))}

HOSTILE: dict[str, tuple[Any, dict[str, Any]]] = {
    "version 1": (ONE, {"version": 1}),
    "big-endian": (ONE, {"version": 3 << 24}),
    "no tensors": ({}, {}),
    "2^60 tensors": (ONE, {"counts": (2**60, 0)}),
    "more tensors than there are": (ONE, {"counts": (100_000, 0)}),
    "2^60 facts": (ONE, {"counts": (1, 2**60)}),
    "an unknown type": ({"w": (4, (8,), bytes(32))}, {}),
    "a type that never was": ({"w": (2**32 - 1, (8,), bytes(32))}, {}),
    "broken blocks": ({"w": (12, (255,), bytes(144))}, {}),
    "blocks without rows": ({"w": (12, (), bytes(144))}, {}),
    "a huge product": ({"w": (0, (2**63,) * 4, bytes(32))}, {}),
    "many dimensions": ({"w": (0, (1,) * 9, bytes(4))}, {}),
    "an overlap": (TWO, {"offsets": (0, 0)}),
    "a gap": ({"a": (0, (8,), bytes(32)), "b": (0, (8,), bytes(64))}, {"offsets": (0, 64)}),
    "a late start": ({"w": (0, (8,), bytes(64))}, {"offsets": (32,)}),
    "unaligned": (TWO, {"offsets": (0, 33)}),
    "beyond the file": (TWO, {"offsets": (0, 2**62)}),
    "no number": (TWO, {"offsets": (0, 2**64 - 1)}),
    "a name twice": (TWO, {"names": ("a", "a")}),
    "no name": (ONE, {"names": ("",)}),
    "a long name": (ONE, {"names": ("n" * 70_000,)}),
    "bytes left over": ({"w": (0, (8,), bytes(64))}, {}),
    "bytes missing": ({"w": (0, (16,), bytes(32))}, {}),
    "a fact of no kind": (ONE, {"facts": [text("x") + number(13, 4)]}),
    "an endless text": (ONE, {"facts": [text("x") + number(TEXT, 4) + number(2**63, 8)]}),
    "endless numbers": (ONE, {"facts": [text("x") + array(10, 2**61, b"")]}),
    "endless texts": (ONE, {"facts": [text("x") + array(TEXT, 2**60, bytes(800))]}),
    "endless arrays": (ONE, {"facts": [text("x") + array(ARRAY, 2**60, bytes(900))]}),
    "deep arrays": (
        ONE,
        {"facts": [text("x") + number(ARRAY, 4) + (number(ARRAY, 4) + number(1, 8)) * 2000]},
    ),
    "alignment 0": (ONE, {"alignment": 0}),
    "alignment 12": (ONE, {"alignment": 12}),
    "alignment 2 GiB": (
        ONE,
        {"facts": [text("general.alignment") + number(U32, 4) + number(2**31, 4)]},
    ),
}


@pytest.mark.parametrize(("tensors", "changes"), HOSTILE.values(), ids=HOSTILE.keys())
def test_an_odd_file_is_opaque(gguf_bytes: Gguf, tensors: Any, changes: dict[str, Any]) -> None:
    assert spans(gguf_bytes(ONE)) is not None
    assert spans(gguf_bytes(tensors, **changes)) is None


def test_a_name_that_is_no_text_is_opaque(gguf_bytes: Gguf) -> None:
    data = gguf_bytes({"name": ONE["w"]}).replace(b"name", b"n\xff\xfe\xfd")
    assert spans(data) is None


def test_a_header_beyond_the_limit_is_left_before_its_end(gguf_bytes: Gguf) -> None:
    class Watched(io.BytesIO):
        farthest = 0

        def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
            found = super().readinto(buffer)
            self.farthest = max(self.farthest, self.tell())
            return found

    vocabulary = text("v") + array(TEXT, 40, text("x" * MIB) * 40)
    file = Watched(gguf_bytes(ONE, [vocabulary]))
    assert layout(file, len(file.getbuffer()), "a", alone) is None
    assert file.farthest < 33 * MIB
