from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
import pytest

from modelhub.content.cut import Part, parts
from modelhub.content.layout import alone, layout
from modelhub.content.layout.spans import Span

MIB = 1 << 20
Array = np.ndarray[Any, np.dtype[Any]]


def npy(array: Array) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def npz(**members: Array | bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, held in members.items():
            stored = held if isinstance(held, bytes) else npy(held)
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                member.write(stored)
    return file.getvalue()


def spans(data: bytes, path: str) -> list[Span] | None:
    return layout(io.BytesIO(data), len(data), path, alone)


def tensors(data: bytes, path: str) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """By name what lies where the spans say."""
    at, found = 0, {}
    for span in spans(data, path) or ():
        if span.tensor:
            found[span.tensor] = span.dtype, span.shape, data[at : at + span.size_bytes]
        at += span.size_bytes
    assert at in (0, len(data))
    return found


@pytest.mark.parametrize(
    ("dtype", "named"),
    [("<f2", "F16"), ("<f4", "F32"), ("<f8", "F64"), ("|i1", "I8"), ("<u4", "U32"), ("<i8", "I64"),
     ("|b1", "BOOL"), ("<c8", "C64"), ("<c16", "<c16"), (">f4", ">f4"), ("|V2", "|V2")],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3, 4)])
def test_an_array_lies_behind_its_header(dtype: str, named: str, shape: tuple[int, ...]) -> None:
    array = np.frombuffer(bytes(range(240))[: 24 * np.dtype(dtype).itemsize] * 2, dtype)
    array = array[: int(np.prod(shape))].reshape(shape)
    found = tensors(npy(array), "folder/embeddings.v2.npy")
    assert found == {"embeddings.v2": (named, shape, array.tobytes())}


def test_an_array_in_columns_has_the_shape_of_its_bytes() -> None:
    array = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    found = tensors(npy(array), "a")
    assert found == {"a": ("F32", (3, 2), array.tobytes(order="A"))}


def test_a_long_header_of_version_2_is_read() -> None:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.arange(4), version=(2, 0))
    assert tensors(file.getvalue(), "a")["a"][2] == np.arange(4).tobytes()


def test_members_lie_where_numpy_reads_them() -> None:
    file = io.BytesIO()
    held: dict[str, Array] = {"w": np.arange(500_000), "ü": np.ones((3, 2), np.float16)}
    np.savez(file, **held)  # type: ignore[arg-type]
    found = tensors(file.getvalue(), "a.npz")
    with np.load(io.BytesIO(file.getvalue())) as loaded:
        assert {name: raw for name, (_, _, raw) in found.items()} == {
            name: loaded[name].tobytes() for name in loaded.files
        }


def test_a_large_archive_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    data = npz(a=np.arange(300), b=np.arange(500))
    assert b"PK\6\6" in data
    assert [len(raw) for _, _, raw in tensors(data, "a.npz").values()] == [2400, 4000]
    for magic in (b"PK\6\6", b"PK\6\7"):
        assert spans(data.replace(magic, b"PK\6\5"), "a.npz") is None


def test_what_is_no_plain_array_is_nameless() -> None:
    data = npz(
        text=np.array(["ab"]),
        objects=np.array([{}], object),
        fields=np.zeros(2, [("a", "<f4"), ("b", "<i4")]),
        nonsense=b"nonsense",
        longer=npy(np.arange(3)) + b"x",
        w=np.arange(9),
    )
    assert tensors(data, "a.npz") == {"w": ("I64", (9,), np.arange(9).tobytes())}


def test_a_changed_member_leaves_the_pieces_of_others_alone() -> None:
    rng = np.random.default_rng(0)
    a, b, c = (rng.standard_normal((5 * MIB) // 8) for _ in range(3))
    old, new = npz(a=a, b=b, c=c), npz(a=a, b=-b, c=c)
    known = parts(io.BytesIO(old), len(old), "a.npz", alone)
    assert known is not None
    assert [part for _, part in known if part] == [
        Part(name, "F64", at) for name in "abc" for at in (0, 4 * MIB)
    ]
    at, changed = 0, []
    for size, part in known:
        if old[at : at + size] != new[at : at + size]:
            changed.append(part)
        at += size
    assert changed == [None, Part("b", "F64", 0), Part("b", "F64", 4 * MIB), None]


NPY = npy(np.arange(8))

HOSTILE_NPY = {
    "cut in its magic": NPY[:5],
    "cut in its length": NPY[:9],
    "cut in its header": NPY[:40],
    "cut in its array": NPY[:-1],
    "more than its array": NPY + b"\0",
    "version 0": NPY.replace(b"NUMPY\1", b"NUMPY\0"),
    "version 9": NPY.replace(b"NUMPY\1", b"NUMPY\x09"),
    "a long header": b"\x93NUMPY\1\0\xff\xff" + b" " * 70_000,
    "a header of 4 GB": b"\x93NUMPY\2\0\xff\xff\xff\xff" + NPY[10:],
    "no shape": NPY.replace(b"'shape'", b"'shade'"),
    "no order": NPY.replace(b"False", b"Maybe"),
    "a negative shape": NPY.replace(b"(8,)", b"(-8)"),
    "a huge shape": b"\x93NUMPY\1\0\x60\x27"
    + (b"{'descr': '<i8', 'fortran_order': False, 'shape': (" + b"9" * 5000).ljust(10_080),
    "objects": npy(np.array([{}], object)),
    "texts": npy(np.array(["a"])),
    "fields": npy(np.zeros(2, [("a", "<f4")])),
    "no header": b"\x93NUMPY\1\0\0\0",
}


@pytest.mark.parametrize("data", HOSTILE_NPY.values(), ids=HOSTILE_NPY.keys())
def test_an_odd_array_is_opaque(data: bytes) -> None:
    assert spans(NPY, "a.npy") is not None
    assert spans(data, "a.npy") is None


def replaced(data: bytes, old: bytes, new: bytes) -> bytes:
    assert old in data
    return data.replace(old, new)


NPZ = npz(first=np.arange(8), other=np.arange(8))
DIRECTORY_AT = NPZ.index(b"PK\1\2")
END_AT = NPZ.index(b"PK\5\6")


def ended(*, count: int = 2, size: int | None = None, at: int = DIRECTORY_AT) -> bytes:
    size = END_AT - DIRECTORY_AT if size is None else size
    numbers = [(0, 2), (0, 2), (count, 2), (count, 2), (size, 4), (at, 4), (0, 2)]
    return NPZ[: END_AT + 4] + b"".join(value.to_bytes(width, "little") for value, width in numbers)


HOSTILE_NPZ = {
    "cut": NPZ[:-1],
    "no directory": NPZ[:DIRECTORY_AT],
    "an end alone": NPZ[:4] + NPZ[END_AT:],
    "something behind it": NPZ + b"x",
    "something before it": b"PK\3\4" + NPZ,
    "no members": ended(count=0, size=0, at=END_AT),
    "a member too many": ended(count=3),
    "60,000 members": ended(count=60_000),
    "a large archive without its end": ended(count=2**16 - 1),
    "a large archive with room for half its end": b"PK\6\7" + bytes(16) + NPZ[END_AT:],
    "a directory of 4 GB": ended(size=2**32 - 2),
    "a directory in the wrong place": ended(at=DIRECTORY_AT - 1),
    "another name in front": replaced(NPZ[:DIRECTORY_AT], b"first", b"f1rst") + NPZ[DIRECTORY_AT:],
    "a name twice": replaced(NPZ, b"other", b"first"),
    "a name that is no text": replaced(NPZ, b"other", b"oth\xff\xff"),
}


@pytest.mark.parametrize("data", HOSTILE_NPZ.values(), ids=HOSTILE_NPZ.keys())
def test_an_odd_archive_is_opaque(data: bytes) -> None:
    assert spans(NPZ, "a.npz") is not None
    assert spans(data, "a.npz") is None


def test_members_that_share_bytes_are_opaque() -> None:
    entries = NPZ[DIRECTORY_AT:END_AT]
    half = len(entries) // 2
    twice = entries[:half] * 2
    assert spans(NPZ[:DIRECTORY_AT] + twice + NPZ[END_AT:], "a.npz") is None


def test_a_compressed_archive_is_cut_by_content_however_much_it_unpacks_to() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", npy(np.zeros(8 * MIB)))
        archive.writestr(
            zipfile.ZipInfo("b.npy"), npy(np.random.default_rng(0).standard_normal(MIB))
        )
    data = file.getvalue()
    assert len(data) > MIB
    assert spans(data, "a.npz") is None


def test_other_archives_are_opaque() -> None:
    data = npz(w=np.arange(MIB))
    assert parts(io.BytesIO(data), len(data), "a.npz", alone) is not None
    assert parts(io.BytesIO(data), len(data), "a.pt", alone) is None


def test_many_members_share_pieces() -> None:
    data = npz(**{f"m{i}": np.arange(300) for i in range(1000)})
    known = parts(io.BytesIO(data), len(data), "a.npz", alone)
    assert known is not None
    assert len(known) < 10
    assert sum(size for size, _ in known) == len(data)
