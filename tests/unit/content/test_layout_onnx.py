from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import pytest

from modelhub.content.cut import Part, parts
from modelhub.content.layout import layout
from modelhub.content.layout.spans import Span

Onnx = Callable[..., bytes]
Tensor = tuple[str, int, tuple[int, ...], dict[str, str]]

KIB = 1 << 10
MIB = 1 << 20


def where(location: str, offset: int | str = "", length: int | str = "") -> dict[str, str]:
    pairs = {"location": location, "offset": str(offset), "length": str(length)}
    return {key: value for key, value in pairs.items() if value}


def spans(size_bytes: int, path: str, models: Mapping[str, bytes]) -> list[Span] | None:
    def beside(name: str) -> BinaryIO | None:
        return io.BytesIO(models[name]) if name in models else None

    return layout(io.BytesIO(bytes(16)), size_bytes, path, beside)


TENSORS: list[Tensor] = [
    ("late", 10, (3, 2), where("m.onnx.data", 4096, 12)),
    ("early", 1, (5,), where("m.onnx.data", 0, 20)),
    ("tied", 1, (5,), where("m.onnx.data", 0, 20)),
    ("packed", 22, (3,), where("./m.onnx.data", 4108)),
    ("elsewhere", 1, (1,), where("other.bin", 0, 4)),
]


def test_tensors_are_found_in_the_order_of_their_bytes(onnx_bytes: Onnx) -> None:
    assert spans(4110, "a/m.onnx.data", {"a/m.onnx": onnx_bytes(TENSORS)}) == [
        Span(4096, "early", "F32", (5,), 4076),
        Span(12, "late", "F16", (3, 2)),
        Span(2, "packed", "INT4", (3,)),
    ]


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("m.onnx.data", "m.onnx"),
        ("m.onnx_data", "m.onnx"),
        ("m.onnx_data_1", "m.onnx"),
        ("m.data", "m.onnx"),
        ("a/b/m.bin", "a/b/m.onnx"),
        ("a/weights.pb", "a/model.onnx"),
        ("onnx__MatMul_7", "model.onnx"),
    ],
)
def test_the_model_is_found_by_the_names_in_use(onnx_bytes: Onnx, path: str, model: str) -> None:
    data = onnx_bytes([("w", 2, (100,), where(path.rpartition("/")[2]))])
    assert spans(100, path, {model: data}) == [Span(100, "w", "U8", (100,))]


def test_a_model_that_speaks_of_other_files_leaves_it_to_the_next(onnx_bytes: Onnx) -> None:
    other = onnx_bytes([("x", 2, (100,), where("x.bin"))])
    model = onnx_bytes([("w", 2, (100,), where("m.bin"))])
    found = [Span(100, "w", "U8", (100,))]
    assert spans(100, "m.bin", {"m.onnx": other, "model.onnx": model}) == found
    assert spans(100, "m.bin", {"m.onnx": b"nonsense", "model.onnx": model}) == found


def test_a_model_itself_is_cut_by_its_content(onnx_bytes: Onnx) -> None:
    model = onnx_bytes([("w", 2, (100,), where("m.onnx"))])
    assert spans(100, "m.onnx", {"m.onnx": model, "model.onnx": model}) is None


def test_bytes_between_tensors_belong_to_the_one_before(onnx_bytes: Onnx) -> None:
    model = onnx_bytes(
        [
            ("a", 2, (5 * MIB,), where("m.data", KIB)),
            ("b", 2, (KIB,), where("m.data", 6 * MIB)),
            ("c", 2, (MIB,), where("m.data", 7 * MIB)),
        ]
    )
    size = 9 * MIB
    known = parts(io.BytesIO(bytes(size)), size, "m.data", lambda _: io.BytesIO(model))
    assert known == [
        (KIB, None),
        (4 * MIB, Part("a", "U8", 0)),
        (2 * MIB - KIB, Part("a", "U8", 4 * MIB)),
        (MIB, Part("b", "U8", 0)),
        (2 * MIB, Part("c", "U8", 0)),
    ]


HOSTILE: dict[str, list[Tensor]] = {
    "nothing elsewhere": [],
    "another file": [("w", 2, (100,), where("x.bin"))],
    "a file above": [("w", 2, (100,), where("../m.bin"))],
    "beyond the file": [("w", 2, (101,), where("m.bin"))],
    "beyond every file": [("w", 2, (10,), where("m.bin", 10**18))],
    "not a number": [("w", 2, (10,), where("m.bin", "-1"))],
    "a huge number": [("w", 2, (10,), where("m.bin", "9" * 3000))],
    "other digits": [("w", 2, (10,), where("m.bin", "٣"))],
    "another length": [("w", 2, (10,), where("m.bin", 0, 11))],
    "a huge product": [("w", 2, (2**62,) * 60, where("m.bin"))],
    "many dimensions": [("w", 2, (1,) * 65, where("m.bin"))],
    "a shape without end": [("w", 2, (1,) * 2000, where("m.bin"))],
    "texts": [("w", 8, (10,), where("m.bin"))],
    "an unknown type": [("w", 99, (10,), where("m.bin"))],
    "no name": [("", 2, (10,), where("m.bin"))],
    "a long name": [("w" * 5000, 2, (10,), where("m.bin"))],
    "an overlap": [("a", 2, (10,), where("m.bin")), ("b", 2, (10,), where("m.bin", 9))],
    "one within another": [("a", 2, (10,), where("m.bin")), ("b", 2, (3,), where("m.bin", 2))],
    "a name twice": [("a", 2, (5,), where("m.bin")), ("a", 2, (5,), where("m.bin", 5))],
}


@pytest.mark.parametrize("tensors", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_an_odd_model_says_does_not_count(onnx_bytes: Onnx, tensors: Any) -> None:
    assert spans(100, "m.bin", {"m.onnx": onnx_bytes(tensors)}) is None


@pytest.mark.parametrize(
    "model",
    [
        b"",
        b"\x3a",
        b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\xff" * 40,
        b"\x3b" * 40,
        b"\x38\x01",
        b"\x3a\x02\x28\x01",
        b"\x08\x01" * 600_000,
        b"\x3a\x80\x80\x40" + b"\x2a\x00" * (1 << 19),
    ],
    ids=[
        "empty",
        "cut",
        "endless",
        "no tag",
        "a group",
        "no message",
        "nor within",
        "many",
        "full",
    ],
)
def test_no_model_at_all_does_not_count(model: bytes) -> None:
    assert spans(100, "m.bin", {"m.onnx": model}) is None


def test_what_reading_the_model_raises_is_raised() -> None:
    class Failing(io.BytesIO):
        def readinto(self, _: bytearray | memoryview, /) -> int:  # type: ignore[override]
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        layout(io.BytesIO(bytes(99)), 99, "m.bin", lambda _: Failing(bytes(10)))


def test_without_its_model_the_data_is_opaque() -> None:
    data = io.BytesIO(bytes(MIB))
    assert parts(data, MIB, "m.onnx.data", lambda _: None) is None
