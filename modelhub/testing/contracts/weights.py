"""The contract of ``WeightStore``."""

# ruff: noqa: D102 (the tests are named as sentences)

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Barrier

import msgspec
import pytest

from modelhub.errors import AlreadyExists, InvalidInput, NotFound
from modelhub.stores import WeightStore

THREADS = 8
PATH = "packs/ab/cd/Pack_1.bin-2"

BAD_PATHS = [
    "",
    ".",
    "..",
    "/packs/a",
    "packs/",
    "packs//a",
    "packs/./a",
    "packs/../a",
    "packs/a b",
    "packs/a\n",
    "packs/a\0b",
    "packs\\a",
    "packs/%2e%2e/a",
    "packs/é",
    "packs/情感",
]

CALLS: dict[str, Callable[[WeightStore, str], object]] = {
    "create": lambda store, path: store.create(path),
    "read": lambda store, path: store.read(path, 0, 1),
    "size": lambda store, path: store.size(path),
    "move_from": lambda store, path: store.move(path, "packs/target"),
    "move_to": lambda store, path: store.move(PATH, path),
    "remove": lambda store, path: store.remove(path),
}


@dataclass(frozen=True)
class WeightBackend:
    """What the tests need of a weight store: supply it as the fixture ``weight_backend``.

    Attributes:
        open: makes a store on the same files each time it is called; there are none at first.
        raw_get: reads a whole file past the store, None where it is absent.
        raw_set: writes a whole file, its folders included, past the store.
    """

    open: Callable[[], WeightStore]
    raw_get: Callable[[str], bytes | None]
    raw_set: Callable[[str, bytes], None]


def write(store: WeightStore, path: str, *pieces: bytes | memoryview) -> int:
    """Write a whole file; its length as ``commit`` says it."""
    writer = store.create(path)
    for piece in pieces:
        writer.write(piece)
    return writer.commit()


class WeightStoreContract:
    """What every weight store does."""

    @pytest.fixture
    def store(self, weight_backend: WeightBackend) -> Iterator[WeightStore]:
        store = weight_backend.open()
        yield store
        store.close()

    @pytest.fixture
    def other(self, weight_backend: WeightBackend) -> Iterator[WeightStore]:
        """A second store on the same files, as another process has one."""
        other = weight_backend.open()
        yield other
        other.close()

    def test_a_committed_file_is_in_the_store_whole(
        self, store: WeightStore, weight_backend: WeightBackend
    ) -> None:
        pieces = [bytes([number]) * number for number in range(200)]
        assert write(store, PATH, *pieces) == sum(range(200))
        assert weight_backend.raw_get(PATH) == b"".join(pieces)

    def test_an_empty_file_is_a_file(
        self, store: WeightStore, weight_backend: WeightBackend
    ) -> None:
        assert write(store, "empty") == 0
        assert write(store, "also/empty", b"", b"") == 0
        assert weight_backend.raw_get("empty") == b""
        assert store.size("empty") == 0
        assert store.read("empty", 0, 10) == b""

    def test_any_buffer_is_written_as_its_bytes(
        self, store: WeightStore, weight_backend: WeightBackend
    ) -> None:
        numbers = array("d", [1.5, -2.5, 3.5])
        writer = store.create(PATH)
        writer.write(b"bytes")
        writer.write(bytearray(b"array"))
        writer.write(memoryview(b"xxviewxx")[2:6])
        writer.write(memoryview(numbers))
        assert writer.commit() == 14 + 24
        assert weight_backend.raw_get(PATH) == b"bytesarrayview" + numbers.tobytes()

    def test_a_buffer_may_be_reused_as_soon_as_it_was_written(
        self, store: WeightStore, weight_backend: WeightBackend
    ) -> None:
        buffer = bytearray(100_000)
        writer = store.create(PATH)
        for number in range(20):
            buffer[:] = bytes([number]) * len(buffer)
            writer.write(buffer)
        buffer[:] = b"!" * len(buffer)
        writer.commit()
        expected = b"".join(bytes([number]) * len(buffer) for number in range(20))
        assert weight_backend.raw_get(PATH) == expected

    def test_a_name_that_is_taken_is_never_overwritten(
        self, store: WeightStore, other: WeightStore, weight_backend: WeightBackend
    ) -> None:
        write(store, PATH, b"first")
        weight_backend.raw_set("theirs", b"theirs")
        for path in (PATH, "theirs"):
            with pytest.raises(AlreadyExists, match=path):
                other.create(path)
        assert weight_backend.raw_get(PATH) == b"first"
        assert weight_backend.raw_get("theirs") == b"theirs"

    def test_a_name_is_taken_before_its_file_is_complete(
        self, store: WeightStore, other: WeightStore, weight_backend: WeightBackend
    ) -> None:
        writer = store.create(PATH)
        writer.write(b"half ")
        with pytest.raises(AlreadyExists):
            other.create(PATH)
        writer.write(b"and half")
        assert writer.commit() == 13
        assert weight_backend.raw_get(PATH) == b"half and half"

    def test_of_racing_threads_one_alone_creates_a_file(
        self, store: WeightStore, weight_backend: WeightBackend
    ) -> None:
        start = Barrier(THREADS)

        def create(thread: int) -> bool:
            start.wait()
            try:
                write(store, PATH, b"%d" % thread)
            except AlreadyExists:
                return False
            return True

        with ThreadPoolExecutor(THREADS) as pool:
            won = [thread for thread, wrote in enumerate(pool.map(create, range(THREADS))) if wrote]
        assert [weight_backend.raw_get(PATH)] == [b"%d" % thread for thread in won]

    def test_giving_up_never_raises_and_harms_no_other_file(self, store: WeightStore) -> None:
        writer = store.create(PATH)
        writer.write(b"half")
        writer.abort()
        writer.abort()
        assert write(store, "packs/another", b"whole") == 5

    @pytest.mark.parametrize(
        ("offset", "length"),
        [(0, 0), (0, 1), (0, 1000), (17, 400), (999, 1), (990, 100), (1000, 1), (5000, 5), (7, 0)],
    )
    def test_a_read_is_exact_and_ends_with_the_file(
        self, store: WeightStore, weight_backend: WeightBackend, offset: int, length: int
    ) -> None:
        data = bytes(number % 251 for number in range(1000))
        weight_backend.raw_set(PATH, data)
        assert store.read(PATH, offset, length) == data[offset : offset + length]

    def test_a_read_of_more_than_there_could_be_ends_with_the_file(
        self, store: WeightStore
    ) -> None:
        write(store, PATH, b"short")
        assert store.read(PATH, 1, 2**40) == b"hort"
        assert store.read(PATH, 2**40, 2**40) == b""

    def test_threads_read_different_ranges_at_once(self, store: WeightStore) -> None:
        data = b"".join(number.to_bytes(4, "big") for number in range(500_000))
        write(store, PATH, data)
        starts = range(0, len(data), 100_000)

        def read(start: int) -> bytes:
            return store.read(PATH, start, 100_000)

        with ThreadPoolExecutor(THREADS) as pool:
            assert b"".join(pool.map(read, starts)) == data

    def test_an_absent_file_is_not_found_and_has_no_size(self, store: WeightStore) -> None:
        write(store, PATH, b"data")
        for path in ("absent", "packs/absent", "packs/ab", f"{PATH}/below"):
            assert store.size(path) is None
            with pytest.raises(NotFound, match=path):
                store.read(path, 0, 1)
            with pytest.raises(NotFound, match=path):
                store.move(path, "packs/target")

    def test_the_size_is_the_length_in_bytes(
        self, store: WeightStore, weight_backend: WeightBackend
    ) -> None:
        weight_backend.raw_set(PATH, b"x" * 12_345)
        assert store.size(PATH) == 12_345

    def test_a_list_has_every_file_below_a_folder_and_no_other(
        self, store: WeightStore, weight_backend: WeightBackend
    ) -> None:
        sizes = {"top": 1, "packs/a": 2, "packs/ab/b": 3, "packs/ab/cd/c": 4, "packs2/d": 5}
        for path, size_bytes in sizes.items():
            weight_backend.raw_set(path, b"x" * size_bytes)

        def listed(prefix: str) -> dict[str, int]:
            infos = list(store.list(prefix))
            assert len({info.path for info in infos}) == len(infos)
            return {info.path: info.size_bytes for info in infos}

        assert listed("") == sizes
        assert listed("packs") == {p: s for p, s in sizes.items() if p.startswith("packs/")}
        assert listed("packs/ab") == {"packs/ab/b": 3, "packs/ab/cd/c": 4}
        assert listed("packs/a") == {}
        assert listed("absent") == {}

    def test_an_empty_store_lists_nothing(self, store: WeightStore) -> None:
        assert list(store.list("")) == []
        assert store.size(PATH) is None

    def test_a_listed_file_says_when_it_was_written_in_utc(self, store: WeightStore) -> None:
        write(store, PATH, b"data")
        (info,) = store.list("packs")
        assert info.modified.utcoffset() == timedelta(0)
        assert abs(info.modified - datetime.now(UTC)) < timedelta(minutes=5)

    def test_a_moved_file_is_there_under_its_new_name_alone(
        self, store: WeightStore, other: WeightStore, weight_backend: WeightBackend
    ) -> None:
        write(store, PATH, b"data")
        store.move(PATH, "trash/2026-05-01/Pack")
        assert weight_backend.raw_get(PATH) is None
        assert weight_backend.raw_get("trash/2026-05-01/Pack") == b"data"
        assert [info.path for info in other.list("")] == ["trash/2026-05-01/Pack"]

    def test_a_move_never_overwrites(
        self, store: WeightStore, weight_backend: WeightBackend
    ) -> None:
        write(store, PATH, b"data")
        write(store, "trash/taken", b"taken")
        for target in ("trash/taken", PATH):
            with pytest.raises(AlreadyExists, match=target):
                store.move(PATH, target)
        assert weight_backend.raw_get(PATH) == b"data"
        assert weight_backend.raw_get("trash/taken") == b"taken"

    def test_a_removed_file_is_gone_and_an_absent_one_counts_as_removed(
        self, store: WeightStore, weight_backend: WeightBackend
    ) -> None:
        write(store, PATH, b"data")
        write(store, "packs/ab/other", b"other")
        store.remove(PATH)
        assert weight_backend.raw_get(PATH) is None
        assert weight_backend.raw_get("packs/ab/other") == b"other"
        store.remove(PATH)
        store.remove("never/there")
        assert store.size(PATH) is None

    @pytest.mark.parametrize("path", BAD_PATHS)
    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    def test_a_path_that_is_none_is_refused_and_nothing_is_written(
        self, store: WeightStore, path: str, call: Callable[[WeightStore, str], object]
    ) -> None:
        with pytest.raises(InvalidInput, match="not a path"):
            call(store, path)
        assert list(store.list("")) == []

    @pytest.mark.parametrize("prefix", [path for path in BAD_PATHS if path])
    def test_a_folder_that_is_none_is_refused(self, store: WeightStore, prefix: str) -> None:
        with pytest.raises(InvalidInput, match="not a path"):
            list(store.list(prefix))

    def test_the_description_says_where_and_what_it_is(self, store: WeightStore) -> None:
        write(store, PATH, b"x" * 1000)
        description = msgspec.json.decode(msgspec.json.encode(store.describe()))
        assert {"kind", "address", "version"} <= description.keys()
        assert description["bytes"] >= 1000

    def test_closing_twice_is_closing_once(self, weight_backend: WeightBackend) -> None:
        store = weight_backend.open()
        write(store, PATH, b"data")
        store.close()
        store.close()
        assert weight_backend.raw_get(PATH) == b"data"
