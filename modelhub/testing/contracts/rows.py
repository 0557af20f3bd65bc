"""The contract of ``RowStore``."""

# ruff: noqa: D102 (the tests are named as sentences)

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Barrier

import msgspec
import pytest

from modelhub.errors import InvalidInput, NotFound
from modelhub.records import ROW_LIMIT_BYTES
from modelhub.stores import RowStore

THREADS = 8
LAST = b"\xff" * 64
"""After every key that these tests use."""

ODD_KEYS = [
    b"\x00",
    b"\x00\x00",
    b"\x00\xff",
    b"a",
    b"a\x00",
    b"a\x00\x00b",
    b"a\x01",
    b"a\xff",
    b"a\xff\x00",
    b"b" * 1000,
    b"\x7f",
    b"\x80",
    b"\xe6\x83\x85",
    b"\xff",
    b"\xff\x00",
    b"\xff\xff",
]
"""In the order of their bytes."""

CALLS: dict[str, Callable[[RowStore, str], object]] = {
    "get": lambda store, table: store.get(table, b"k"),
    "get_many": lambda store, table: store.get_many(table, [b"k", b"l"]),
    "scan": lambda store, table: list(store.scan(table, b"a", b"z")),
    "put": lambda store, table: store.put(table, b"k", b"v"),
    "put_many": lambda store, table: store.put_many(table, {b"k": b"v", b"l": b"v"}),
    "put_if_absent": lambda store, table: store.check_and_put(table, b"k", None, b"v"),
    "check_and_put": lambda store, table: store.check_and_put(table, b"k", b"u", b"v"),
    "delete_many": lambda store, table: store.delete_many(table, [b"k", b"l"]),
}


@dataclass(frozen=True)
class RowBackend:
    """What the tests need of a row store: supply it as the fixture ``row_backend``.

    Attributes:
        open: makes a store on the same rows each time it is called.
        table: a table that exists, without rows.
        raw_get: reads a row's value past the store, None where it is absent.
        raw_set: writes a row past the store.
    """

    open: Callable[[], RowStore]
    table: str
    raw_get: Callable[[str, bytes], bytes | None]
    raw_set: Callable[[str, bytes, bytes], None]


class RowStoreContract:
    """What every row store does."""

    @pytest.fixture
    def store(self, row_backend: RowBackend) -> Iterator[RowStore]:
        store = row_backend.open()
        yield store
        store.close()

    @pytest.fixture
    def other(self, row_backend: RowBackend) -> Iterator[RowStore]:
        """A second store on the same rows, as another process has one."""
        other = row_backend.open()
        yield other
        other.close()

    @pytest.fixture
    def table(self, row_backend: RowBackend) -> str:
        return row_backend.table

    def test_creating_tables_again_keeps_their_rows_and_adds_what_is_missing(
        self, store: RowStore, table: str
    ) -> None:
        store.put(table, b"k", b"v")
        store.create_tables([table, f"{table}_more"])
        store.create_tables([table, f"{table}_more"])
        assert store.get(table, b"k") == b"v"
        assert store.get(f"{table}_more", b"k") is None

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    def test_a_table_that_does_not_exist_is_not_found(
        self, store: RowStore, table: str, call: Callable[[RowStore, str], object]
    ) -> None:
        with pytest.raises(NotFound, match=f"{table}_missing"):
            call(store, f"{table}_missing")

    def test_a_row_that_is_absent_is_none(self, store: RowStore, table: str) -> None:
        assert store.get(table, b"k") is None

    def test_a_put_is_in_the_database(
        self, store: RowStore, table: str, row_backend: RowBackend
    ) -> None:
        store.put(table, b"k", b"first")
        assert row_backend.raw_get(table, b"k") == b"first"
        store.put(table, b"k", b"second")
        assert row_backend.raw_get(table, b"k") == b"second"

    def test_what_others_wrote_is_read(
        self, store: RowStore, table: str, row_backend: RowBackend
    ) -> None:
        assert store.get(table, b"k") is None
        row_backend.raw_set(table, b"k", b"theirs")
        assert store.get(table, b"k") == b"theirs"
        assert store.get_many(table, [b"k"]) == {b"k": b"theirs"}
        assert list(store.scan(table, b"a", b"z")) == [(b"k", b"theirs")]
        assert not store.check_and_put(table, b"k", None, b"mine")
        assert store.check_and_put(table, b"k", b"theirs", b"mine")

    def test_an_acknowledged_write_is_visible_to_another_store_at_once(
        self, store: RowStore, other: RowStore, table: str
    ) -> None:
        for number in range(50):
            writer, reader = (store, other) if number % 2 else (other, store)
            writer.put(table, b"k", b"%d" % number)
            assert reader.get(table, b"k") == b"%d" % number
            assert list(reader.scan(table, b"k", b"l")) == [(b"k", b"%d" % number)]

    @pytest.mark.parametrize("key", ODD_KEYS)
    def test_keys_are_any_bytes(
        self, store: RowStore, table: str, key: bytes, row_backend: RowBackend
    ) -> None:
        value = key[::-1] + b"\x00\xff"
        assert store.check_and_put(table, key, None, value)
        assert row_backend.raw_get(table, key) == value
        assert store.get(table, key) == value
        assert list(store.scan(table, key, key + b"\x00")) == [(key, value)]
        store.delete_many(table, [key])
        assert row_backend.raw_get(table, key) is None

    def test_a_value_may_take_256_kib(
        self, store: RowStore, table: str, row_backend: RowBackend
    ) -> None:
        value = bytes(range(256)) * (ROW_LIMIT_BYTES // 256)
        store.put(table, b"k", value)
        assert row_backend.raw_get(table, b"k") == value
        assert store.get(table, b"k") == value
        assert store.check_and_put(table, b"k", value, value[::-1])
        assert store.get_many(table, [b"k"]) == {b"k": value[::-1]}

    @pytest.mark.parametrize(
        "call",
        [
            lambda store, table: store.put(table, b"", b"v"),
            lambda store, table: store.put(table, b"k", b""),
            lambda store, table: store.put_many(table, {b"k": b"v", b"l": b""}),
            lambda store, table: store.check_and_put(table, b"k", None, b""),
            lambda store, table: store.check_and_put(table, b"k", b"", b"v"),
            lambda store, table: store.check_and_put(table, b"", None, b"v"),
        ],
    )
    def test_an_empty_key_or_value_is_refused_and_nothing_is_written(
        self, store: RowStore, table: str, call: Callable[[RowStore, str], object]
    ) -> None:
        with pytest.raises(InvalidInput, match="empty"):
            call(store, table)
        assert list(store.scan(table, b"\x00", LAST)) == []

    def test_get_many_finds_those_that_exist_among_thousands(
        self, store: RowStore, table: str
    ) -> None:
        rows = {b"%05d" % number: b"v%d" % number for number in range(0, 6000, 2)}
        store.put_many(table, rows)
        asked = [b"%05d" % number for number in range(6000)]
        assert store.get_many(table, [*asked, asked[0]]) == rows
        assert store.get_many(table, []) == {}

    def test_put_many_writes_all_rows_and_overwrites(
        self, store: RowStore, table: str, row_backend: RowBackend
    ) -> None:
        store.put(table, b"00007", b"old")
        rows = {b"%05d" % number: b"v%d" % number for number in range(3000)}
        store.put_many(table, rows)
        assert row_backend.raw_get(table, b"00007") == b"v7"
        assert dict(store.scan(table, b"0", b"1")) == rows
        store.put_many(table, {})

    def test_a_scan_is_in_the_order_of_the_bytes(self, store: RowStore, table: str) -> None:
        store.put_many(table, dict.fromkeys(reversed(ODD_KEYS), b"v"))
        assert [key for key, _ in store.scan(table, b"\x00", LAST)] == ODD_KEYS

    def test_a_scan_has_its_start_and_not_its_stop(self, store: RowStore, table: str) -> None:
        store.put_many(table, dict.fromkeys(ODD_KEYS, b"v"))
        for start, stop in itertools.product([b"\x00\x01", *ODD_KEYS], repeat=2):
            expected = [key for key in ODD_KEYS if start <= key < stop]
            assert [key for key, _ in store.scan(table, start, stop)] == expected

    @pytest.mark.parametrize("limit", [0, 1, 2, 255, 256, 257, 1000, 1234, 1235, 5000])
    def test_a_scan_ends_at_its_limit(self, store: RowStore, table: str, limit: int) -> None:
        rows = [(b"%05d" % number, b"v%d" % number) for number in range(1234)]
        store.put_many(table, dict(rows))
        assert list(store.scan(table, b"0", b"1", limit=limit)) == rows[:limit]

    def test_a_scan_of_many_pages_has_every_row_once(self, store: RowStore, table: str) -> None:
        rows = [(b"%05d" % number, b"v%d" % number) for number in range(5000)]
        store.put_many(table, dict(rows))
        assert list(store.scan(table, b"0", b"1")) == rows

    def test_a_scan_sees_what_was_there_before_it_whatever_happens_meanwhile(
        self, store: RowStore, other: RowStore, table: str
    ) -> None:
        keys = [b"%05d" % number for number in range(2000)]
        store.put_many(table, dict.fromkeys(keys, b"old"))
        scan = store.scan(table, b"0", b"1")
        seen = [next(scan)]
        other.put_many(table, {key + b"x": b"between" for key in keys})
        other.put_many(table, dict.fromkeys(keys[1000:], b"new"))
        other.delete_many(table, [keys[0], keys[500], keys[1999]])
        seen.extend(scan)
        assert [key for key, _ in seen] == sorted({key for key, _ in seen})
        assert {key for key, _ in seen} >= set(keys) - {keys[500], keys[1999]}
        assert {value for key, value in seen if key in keys} <= {b"old", b"new"}

    def test_a_scan_may_be_left_half_way(self, store: RowStore, table: str) -> None:
        store.put_many(table, {b"%05d" % number: b"v" for number in range(2000)})
        for _ in range(20):
            assert next(iter(store.scan(table, b"0", b"1"))) == (b"00000", b"v")
        store.put(table, b"00000", b"w")

    def test_a_scan_takes_little_memory_however_large_the_range(
        self, store: RowStore, table: str
    ) -> None:
        large = bytes(ROW_LIMIT_BYTES)
        for start in range(0, 96, 3):
            store.put_many(table, {b"%05d" % key: large for key in range(start, start + 3)})
        tracemalloc.start()
        try:
            assert sum(len(value) for _, value in store.scan(table, b"0", b"1")) == 96 * len(large)
            assert tracemalloc.get_traced_memory()[1] < 8 * 1024 * 1024
        finally:
            tracemalloc.stop()

    def test_put_if_absent_writes_once(
        self, store: RowStore, other: RowStore, table: str, row_backend: RowBackend
    ) -> None:
        assert store.check_and_put(table, b"k", None, b"first") is True
        assert other.check_and_put(table, b"k", None, b"second") is False
        assert store.check_and_put(table, b"k", None, b"first") is False
        assert row_backend.raw_get(table, b"k") == b"first"

    def test_a_swap_from_the_held_value_writes(
        self, store: RowStore, table: str, row_backend: RowBackend
    ) -> None:
        store.put(table, b"k", b"a")
        assert store.check_and_put(table, b"k", b"a", b"b") is True
        assert store.check_and_put(table, b"k", b"b", b"b\x00") is True
        assert row_backend.raw_get(table, b"k") == b"b\x00"

    @pytest.mark.parametrize("expected", [b"stale", b"hel", b"held\x00", b"HELD"])
    def test_a_stale_swap_conflicts_and_changes_nothing(
        self, store: RowStore, table: str, expected: bytes, row_backend: RowBackend
    ) -> None:
        store.put(table, b"k", b"held")
        assert store.check_and_put(table, b"k", expected, b"new") is False
        assert row_backend.raw_get(table, b"k") == b"held"

    def test_a_swap_of_an_absent_row_leaves_it_absent(
        self, store: RowStore, table: str, row_backend: RowBackend
    ) -> None:
        assert store.check_and_put(table, b"k", b"held", b"new") is False
        assert row_backend.raw_get(table, b"k") is None

    def test_of_racing_threads_one_alone_puts_if_absent(
        self, store: RowStore, other: RowStore, table: str, row_backend: RowBackend
    ) -> None:
        for number in range(20):
            key, start = b"race%d" % number, Barrier(THREADS)

            def put(thread: int, key: bytes = key, start: Barrier = start) -> bool:
                start.wait()
                mine = (store, other)[thread % 2]
                return mine.check_and_put(table, key, None, b"%d" % thread)

            with ThreadPoolExecutor(THREADS) as pool:
                won = [
                    thread for thread, wrote in enumerate(pool.map(put, range(THREADS))) if wrote
                ]
            assert [row_backend.raw_get(table, key)] == [b"%d" % thread for thread in won]

    def test_increments_of_racing_threads_all_count(
        self, store: RowStore, other: RowStore, table: str, row_backend: RowBackend
    ) -> None:
        store.put(table, b"counter", b"0")

        def count(thread: int) -> None:
            mine, added = (store, other)[thread % 2], 0
            while added < 25:
                held = mine.get(table, b"counter")
                assert held is not None
                added += mine.check_and_put(table, b"counter", held, b"%d" % (int(held) + 1))

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(count, range(THREADS)))
        assert row_backend.raw_get(table, b"counter") == b"%d" % (THREADS * 25)

    def test_deleted_rows_are_gone_and_absent_ones_count_as_removed(
        self, store: RowStore, table: str, row_backend: RowBackend
    ) -> None:
        store.put_many(table, {b"%05d" % number: b"v" for number in range(2000)})
        store.delete_many(table, (b"%05d" % number for number in range(0, 4000, 2)))
        assert row_backend.raw_get(table, b"00002") is None
        expected = [b"%05d" % number for number in range(1, 2000, 2)]
        assert [key for key, _ in store.scan(table, b"0", b"1")] == expected
        store.delete_many(table, [b"00002", b"never"])
        store.delete_many(table, [])

    def test_the_clock_is_in_utc_and_near_ours(self, store: RowStore) -> None:
        now = store.now()
        assert now.utcoffset() == timedelta(0)
        assert abs(now - datetime.now(UTC)) < timedelta(minutes=5)

    def test_the_description_says_where_and_what_it_is(self, store: RowStore) -> None:
        description = msgspec.json.decode(msgspec.json.encode(store.describe()))
        assert {"kind", "address", "version"} <= description.keys()

    def test_closing_twice_is_closing_once(self, row_backend: RowBackend) -> None:
        store = row_backend.open()
        store.put(row_backend.table, b"k", b"v")
        store.close()
        store.close()
        assert row_backend.raw_get(row_backend.table, b"k") == b"v"
