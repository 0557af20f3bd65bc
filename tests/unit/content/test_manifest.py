from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from modelhub.content.manifest import ChunkRef, Manifest, ManifestBuilder
from modelhub.content.pack import new_pack_id
from modelhub.errors import CorruptData, InvalidInput

PACKS = ["aa" * 16, "bb" * 16]


def chunk(data: bytes, pack: str = PACKS[0], offset: int = 16) -> ChunkRef:
    return ChunkRef(blake3(data).digest(), len(data), pack, offset, len(data))


def encoded(files: Sequence[tuple[str, Sequence[ChunkRef]]]) -> bytes:
    builder = ManifestBuilder()
    for path, chunks in files:
        builder.add_file(path, sum(ref.length for ref in chunks), 0o640, "cutter/1", chunks)
    return builder.encode()


def decoded(files: Sequence[tuple[str, Sequence[ChunkRef]]]) -> Manifest:
    return Manifest.decode(encoded(files), "the manifest")


FILES = [
    ("b/model.bin", [chunk(b"one"), chunk(b"three", PACKS[1], 100)]),
    ("a.txt", [chunk(b"one")]),
    ("空.bin", []),
]


def test_files_come_back_by_path_with_their_chunks() -> None:
    manifest = decoded(FILES)
    assert [file.path for file in manifest.files] == ["a.txt", "b/model.bin", "空.bin"]
    found = {file.path: manifest.chunks(file) for file in manifest.files}
    assert found == dict(FILES)
    model = manifest.files[1]
    assert (model.size_bytes, model.mode, model.cutter) == (8, 0o640, "cutter/1")
    assert (model.first_chunk, model.chunk_count) == (1, 2)
    assert manifest.packs() == tuple(PACKS)


def test_a_manifest_may_be_empty() -> None:
    manifest = decoded([])
    assert (manifest.files, manifest.packs()) == ((), ())


def test_a_files_digest_is_over_digests_and_lengths_of_its_chunks() -> None:
    [file] = decoded([("a", [chunk(b"one"), chunk(b"three")])]).files
    listing = blake3(b"one").digest() + (3).to_bytes(8, "little")
    listing += blake3(b"three").digest() + (5).to_bytes(8, "little")
    assert file.digest == blake3(listing).hexdigest()


def test_the_content_digest_is_over_paths_modes_sizes_and_digests() -> None:
    manifest = decoded([("ä", [chunk(b"one")])])
    [file] = manifest.files
    listing = (2).to_bytes(4, "little") + "ä".encode() + (0o640).to_bytes(4, "little")
    listing += (3).to_bytes(8, "little") + bytes.fromhex(file.digest)
    assert manifest.content_digest() == blake3(listing).hexdigest()


def test_the_content_digest_does_not_depend_on_packs_or_on_the_order_of_adding() -> None:
    elsewhere = [
        (path, [msgspec.structs.replace(ref, pack=PACKS[1], offset=7) for ref in refs])
        for path, refs in FILES
    ]
    digests = {
        decoded(files).content_digest() for files in (FILES, list(reversed(FILES)), elsewhere)
    }
    assert len(digests) == 1
    assert decoded(FILES[:2]).content_digest() not in digests


def test_the_same_files_give_the_same_bytes_in_any_order() -> None:
    assert encoded(FILES) == encoded(FILES) == encoded(list(reversed(FILES)))


def test_a_path_is_added_once_and_must_be_one() -> None:
    builder = ManifestBuilder()
    builder.add_file("a", 0, 0o644, "", [])
    with pytest.raises(InvalidInput, match="'a' occurs twice"):
        builder.add_file("a", 0, 0o644, "", [])
    with pytest.raises(InvalidInput, match="not a file path"):
        builder.add_file("../a", 0, 0o644, "", [])


@pytest.mark.parametrize(
    ("offset", "length", "chunks", "begin"),
    [
        (0, 1, ["one"], 0),
        (2, 1, ["one"], 2),
        (2, 2, ["one", "three"], 2),
        (3, 5, ["three"], 0),
        (7, 2, ["three", "six"], 4),
        (0, 11, ["one", "three", "six"], 0),
    ],
)
def test_a_range_is_spanned_by_the_chunks_that_hold_it(
    offset: int, length: int, chunks: list[str], begin: int
) -> None:
    refs = [chunk(b"one"), chunk(b"three"), chunk(b"six")]
    manifest = decoded([("a", [chunk(b"before")]), ("b", refs), ("c", [chunk(b"behind")])])
    expected = [chunk(name.encode()) for name in chunks]
    assert manifest.spanning(manifest.files[1], offset, length) == (expected, begin)


def test_a_tebibyte_has_a_small_manifest() -> None:
    random = Random(0)
    refs = [
        ChunkRef(random.randbytes(32), 4 << 20, f"{at // 256:032x}", at % 256 << 22, 4 << 20)
        for at in range(262_144)
    ]
    data = encoded([(f"{shard:02}.safetensors", refs[shard::16]) for shard in range(16)])
    manifest = Manifest.decode(data, "the manifest")
    assert len(data) < 14_000_000
    assert sum(file.size_bytes for file in manifest.files) == 1 << 40
    assert manifest.chunks(manifest.files[3]) == refs[3::16]


def streams(data: bytes) -> list[Any]:
    source = pa.BufferReader(data)
    tables = []
    while source.tell() < len(data):
        tables.append(pa.ipc.open_stream(source).read_all())
    return tables


def joined(*tables: Any) -> bytes:
    sink = pa.BufferOutputStream()
    for table in tables:
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
    return bytes(sink.getvalue())


def with_column(table: Any, name: str, values: list[Any]) -> Any:
    at = table.schema.get_field_index(name)
    field = table.schema.field(at)
    return table.set_column(at, field, pa.array(values, field.type))


def forged(name: str, values: list[Any], *, table: str = "files") -> bytes:
    """A manifest of two files and three chunks in which one column was replaced."""
    files, chunks = streams(encoded(FILES[:2]))
    if table == "files":
        return joined(with_column(files, name, values), chunks)
    return joined(files, with_column(chunks, name, values))


def with_packs(indices: list[int], packs: list[str | None]) -> bytes:
    files, chunks = streams(encoded(FILES[:2]))
    keys = pa.array(indices, pa.int32())
    column = pa.DictionaryArray.from_arrays(keys, pa.array(packs, pa.utf8()), safe=False)
    at = chunks.schema.get_field_index("pack")
    return joined(files, chunks.set_column(at, chunks.schema.field(at), column))


def with_bytes_for_a_path() -> bytes:
    files, chunks = streams(encoded(FILES[:2]))
    paths = pa.array([b"a", b"\xff"]).view(pa.utf8())
    return joined(files.set_column(0, files.schema.field(0), paths), chunks)


def without_format() -> bytes:
    files, chunks = streams(encoded(FILES[:2]))
    return joined(files, chunks.replace_schema_metadata({b"modelhub.manifest": b"2"}))


def without_column() -> bytes:
    files, chunks = streams(encoded(FILES[:2]))
    return joined(files.drop_columns(["mode"]), chunks)


def as_nullable() -> bytes:
    files, chunks = streams(encoded(FILES[:2]))
    field = files.schema.field("mode").with_nullable(True)
    return joined(files.set_column(2, field, pa.array([None, 1], pa.uint16())), chunks)


def swapped() -> bytes:
    files, chunks = streams(encoded(FILES[:2]))
    return joined(chunks, files)


def with_an_extra_chunk() -> bytes:
    files, chunks = streams(encoded(FILES[:2]))
    return joined(files, pa.concat_tables([chunks, chunks.slice(0, 1)]).combine_chunks())


GROUPED, DIFFERENCE = 2, 6
BASE = ChunkRef(b"b" * 32, 50, PACKS[1], 500, 50)
DIFFERENT = [
    ChunkRef(b"c" * 32, 50, PACKS[0], 100, 20, DIFFERENCE, BASE),
    ChunkRef(b"d" * 32, 90, PACKS[0], 16, 80, GROUPED),
]


def altered(table: int, **columns: list[Any]) -> bytes:
    """A manifest with a difference, its chunk's base and an encoded chunk, changed in columns."""
    tables = streams(encoded([("a", DIFFERENT)]))
    for name, values in columns.items():
        tables[table] = with_column(tables[table], name, values)
    return joined(*tables)


def without_bases() -> bytes:
    return joined(*streams(encoded([("a", DIFFERENT)]))[:2])


LENGTHS = [3, 3, 5]
HOSTILE: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "no Arrow": lambda: b"nonsense" * 100,
    "one stream": lambda: encoded(FILES)[:-10],
    "something behind": lambda: encoded(FILES) + b"\0",
    "a newer format": without_format,
    "a missing column": without_column,
    "a column that may be null": as_nullable,
    "streams swapped": swapped,
    "a chunk too many": with_an_extra_chunk,
    "a null path": lambda: forged("path", ["a", None]),
    "a null mode": lambda: forged("mode", [None, 0o644]),
    "a null offset": lambda: forged("offset", [16, 16, None], table="chunks"),
    "a path upwards": lambda: forged("path", ["../a", "b"]),
    "an absolute path": lambda: forged("path", ["/a", "b"]),
    "a NUL in a path": lambda: forged("path", ["a\0", "b"]),
    "an empty path": lambda: forged("path", ["", "b"]),
    "a path twice": lambda: forged("path", ["a", "a"]),
    "paths out of order": lambda: forged("path", ["b", "a"]),
    "a file as a folder": lambda: forged("path", ["a", "a/b/c"]),
    "a set-uid file": lambda: forged("mode", [0o4755, 0o644]),
    "a size too large": lambda: forged("size", [2**64 - 1, 8]),
    "sizes exchanged": lambda: forged("size", [8, 3]),
    "too many chunks": lambda: forged("chunks", [1, 2**63]),
    "too few chunks": lambda: forged("chunks", [1, 1]),
    "another digest": lambda: forged("digest", [bytes(32), bytes(32)]),
    "another chunk": lambda: forged("digest", [bytes(32)] * 3, table="chunks"),
    "a null digest": lambda: forged("digest", [None] * 3, table="chunks"),
    "a pack outside": lambda: forged("pack", ["../../etc/passwd"] * 3, table="chunks"),
    "a null pack": lambda: forged("pack", [None] * 3, table="chunks"),
    "a null among packs": lambda: with_packs([0, 0, 1], [PACKS[0], None]),
    "a pack that is not listed": lambda: with_packs([0, 0, 2_000_000_000], [PACKS[0]]),
    "a pack before the first": lambda: with_packs([0, -5, 0], [PACKS[0]]),
    "a path that is no text": with_bytes_for_a_path,
    "an unknown encoding": lambda: forged("encoding", [0, 0, 9], table="chunks"),
    "a base for a raw chunk": lambda: forged("base", [None, None, bytes(32)], table="chunks"),
    "a raw chunk with two lengths": lambda: forged("stored", [3, 3, 6], table="chunks"),
    "an endless offset": lambda: forged("offset", [0, 0, 2**63], table="chunks"),
    "a base that is not listed": without_bases,
    "a base of another name": lambda: altered(2, digest=[bytes(32)]),
    "a base of another length": lambda: altered(2, length=[51], stored=[51]),
    "a base that is a difference": lambda: altered(2, encoding=[DIFFERENCE]),
    "a base of an unknown encoding": lambda: altered(2, encoding=[9]),
    "a base in no pack": lambda: altered(2, pack=["x"]),
    "a difference without a base": lambda: altered(1, base=[None, None]),
    "an encoded chunk with a base": lambda: altered(1, base=[BASE.digest, BASE.digest]),
    "an encoding that makes longer": lambda: altered(1, stored=[20, 91]),
    "other lengths": lambda: forged("length", [3, 4, 4], table="chunks"),
}


@pytest.mark.parametrize("forge", HOSTILE.values(), ids=HOSTILE.keys())
def test_an_inconsistent_manifest_is_refused_by_name(forge: Callable[[], bytes]) -> None:
    with pytest.raises(CorruptData, match="version 7's manifest is not readable"):
        Manifest.decode(forge(), "version 7's manifest")


def test_forging_alone_changes_nothing() -> None:
    manifest = Manifest.decode(altered(1), "it")
    assert (manifest.chunks(manifest.files[0]), manifest.packs()) == (DIFFERENT, tuple(PACKS))
    assert Manifest.decode(forged("stored", LENGTHS, table="chunks"), "it").packs() == tuple(PACKS)


def test_an_empty_chunk_is_refused() -> None:
    empty = chunk(b"")
    with pytest.raises(CorruptData, match="a chunk is empty"):
        decoded([("a", [empty])])


@pytest.mark.parametrize("files", [FILES, [("a", DIFFERENT)]], ids=["whole", "differences"])
def test_every_cut_manifest_is_refused(files: Sequence[tuple[str, Sequence[ChunkRef]]]) -> None:
    data = encoded(files)
    whole = len(data) - 8  # without Arrow's end mark alone nothing is missing
    for length in range(whole):
        with pytest.raises(CorruptData):
            Manifest.decode(data[:length], "it")


@given(st.data())
def test_a_damaged_manifest_is_refused_or_consistent(data: st.DataObject) -> None:
    damaged = bytearray(encoded(FILES))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        manifest = Manifest.decode(bytes(damaged), "it")
    except CorruptData:
        return
    for file in manifest.files:
        assert ".." not in file.path.split("/")
        assert sum(ref.length for ref in manifest.chunks(file)) == file.size_bytes


@given(
    st.dictionaries(
        st.text("ab/é", min_size=1, max_size=6).filter(
            lambda text: all(part for part in text.split("/"))
        ),
        st.lists(st.tuples(st.binary(min_size=1, max_size=9), st.integers(0, 2**40)), max_size=5),
        max_size=6,
    )
)
def test_any_files_come_back(files: dict[str, list[tuple[bytes, int]]]) -> None:
    pack = new_pack_id()
    listed = [
        (path, [chunk(data, pack, offset) for data, offset in chunks])
        for path, chunks in files.items()
    ]
    if any(other.startswith(path + "/") for path in files for other in files):
        with pytest.raises(CorruptData, match="a folder that is a file as well"):
            decoded(listed)
        return
    manifest = decoded(listed)
    assert {file.path: manifest.chunks(file) for file in manifest.files} == dict(listed)


def test_making_and_reading_a_manifest_imports_no_pandas() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_PANDAS], check=True, capture_output=True)
    assert done.stdout.split() == [b"3", b"False"]


WITHOUT_PANDAS = """
import sys
from modelhub.content.manifest import ChunkRef, Manifest, ManifestBuilder
builder = ManifestBuilder()
base = ChunkRef(b"b" * 32, 3, "0" * 32, 16, 3)
builder.add_file("a", 3, 0o644, "c", [ChunkRef(b"x" * 32, 3, "1" * 32, 16, 2, 6, base)])
(file,) = (manifest := Manifest.decode(builder.encode(), "it")).files
print(manifest.chunks(file)[0].length, "pandas" in sys.modules)
"""
