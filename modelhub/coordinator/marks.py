"""What a collection, or a check, knows of a hub: in a private file, so that memory stays small."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from modelhub.content.manifest import ChunkRef
from modelhub.records import PackRow

_CACHE_KIB = 16 << 10
BATCH = 500
"""Rows that are handled at once."""


DAMAGED = "damaged"
"""The state of a row that cannot be read."""


class Held(NamedTuple):
    """A pack's row as it was read: its state, its bytes, and the size of its file."""

    pack: str
    state: str
    value: bytes
    size_bytes: int


class Marks:
    """Packs that something refers to, their rows, and the files that are there.

    ``scan`` begins a new look at references and rows; files and doomed packs stay.
    """

    def __init__(self) -> None:
        # An empty name is a file of its own, which goes by itself, and which small sets never need.
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.executescript(
            f"""
            PRAGMA cache_size = -{_CACHE_KIB};
            PRAGMA journal_mode = OFF;
            CREATE TABLE pinned (pack TEXT PRIMARY KEY) WITHOUT ROWID;
            CREATE TABLE named (pack TEXT PRIMARY KEY, model TEXT) WITHOUT ROWID;
            CREATE TABLE held
                (pack TEXT PRIMARY KEY, state TEXT, value BLOB, size INTEGER) WITHOUT ROWID;
            CREATE TABLE leads (pack TEXT, successor TEXT, PRIMARY KEY (pack, successor))
                WITHOUT ROWID;
            CREATE TABLE files (pack TEXT PRIMARY KEY, size INTEGER, note BLOB) WITHOUT ROWID;
            CREATE TABLE faded (pack TEXT PRIMARY KEY) WITHOUT ROWID;
            CREATE TABLE sources (pack TEXT PRIMARY KEY) WITHOUT ROWID;
            CREATE TABLE used (digest BLOB PRIMARY KEY, base BLOB) WITHOUT ROWID;
            CREATE TABLE doomed (pack TEXT PRIMARY KEY, value BLOB, size INTEGER) WITHOUT ROWID;
            """
        )

    def close(self) -> None:
        """The file goes."""
        self._db.close()

    def scan(self) -> None:
        """Forget references and rows: they are about to be read anew."""
        for table in ("pinned", "named", "held", "leads"):
            self._db.execute(f"DELETE FROM {table}")  # noqa: S608 - a name of our own

    def pin(self, pack: str) -> None:
        """A push relies on this pack, or is about to."""
        self._db.execute("INSERT OR IGNORE INTO pinned VALUES (?)", (pack,))
        self.name([pack], "")

    def is_pinned(self, pack: str) -> bool:
        """Whether any does."""
        return self._has("pinned", "pack", pack)

    def is_awaited(self, pack: str) -> bool:
        """Whether a condemned row names it: somebody else is filling it."""
        return (
            self._db.execute(
                "SELECT 1 FROM leads JOIN held USING (pack)"
                " WHERE successor = ? AND state = 'condemned'",
                (pack,),
            ).fetchone()
            is not None
        )

    def name(self, packs: Iterable[str], model: str) -> None:
        """A version of this model refers to these packs."""
        named = ((pack, model) for pack in packs)
        self._db.executemany("INSERT OR IGNORE INTO named VALUES (?, ?)", named)

    def hold(self, pack: str, row: PackRow | None, value: bytes) -> None:
        """This is a pack's row; None: it cannot be read."""
        if row is None:
            row = PackRow(state="live", size_bytes=0, token="")
            held = (pack, DAMAGED, value, 0)
        else:
            held = (pack, row.state, value, row.size_bytes)
        self._db.execute("INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?)", held)
        leads = ((pack, successor) for successor in row.successors)
        self._db.executemany("INSERT OR IGNORE INTO leads VALUES (?, ?)", leads)

    def follow(self) -> None:
        """Name the successors of what is named, and those that condemned rows name.

        The latter are being filled by somebody who counts on them.
        """
        self._db.execute(
            """
            INSERT OR IGNORE INTO named
            WITH RECURSIVE reached(pack) AS (
                SELECT pack FROM named
                UNION SELECT successor FROM leads JOIN held USING (pack) WHERE state = 'condemned'
                UNION SELECT successor FROM leads JOIN reached USING (pack)
            ) SELECT pack, '' FROM reached
            """
        )

    def unnamed(self, state: str) -> Iterator[Held]:
        """The rows in ``state`` of packs to which nothing refers."""
        return self._rows(
            "SELECT pack, state, value, size FROM held"
            " WHERE state = ? AND pack NOT IN (SELECT pack FROM named) AND pack > ?",
            state,
        )

    def named(self, state: str) -> Iterator[Held]:
        """The rows in ``state`` of packs to which something refers."""
        return self._rows(
            "SELECT pack, state, value, size FROM held JOIN named USING (pack)"
            " WHERE state = ? AND pack > ?",
            state,
        )

    def rows(self, state: str) -> Iterator[Held]:
        """All rows in ``state``."""
        return self._rows(
            "SELECT pack, state, value, size FROM held WHERE state = ? AND pack > ?", state
        )

    def file(self, pack: str, size_bytes: int, note: bytes = b"") -> None:
        """There is a file of this name."""
        self._db.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", (pack, size_bytes, note))

    def note_of(self, pack: str) -> bytes | None:
        """What was noted with the file; None where there is none."""
        found = self._db.execute("SELECT note FROM files WHERE pack = ?", (pack,)).fetchone()
        return None if found is None else bytes(found[0])

    def every_name(self) -> Iterator[str]:
        """Every pack to which something refers."""
        after = ""
        query = f"SELECT pack FROM named WHERE pack > ? ORDER BY pack LIMIT {BATCH}"  # noqa: S608
        while found := self._db.execute(query, (after,)).fetchall():
            yield from (pack for (pack,) in found)
            after = found[-1][0]

    def is_file(self, pack: str) -> bool:
        """Whether there is."""
        return self._has("files", "pack", pack)

    def orphans(self) -> Iterator[tuple[str, int]]:
        """The files that have no row, and to which nothing refers, with their sizes."""
        found = self._db.execute(
            "SELECT pack, size FROM files WHERE pack NOT IN (SELECT pack FROM held)"
            " AND pack NOT IN (SELECT pack FROM named)"
        )
        yield from found.fetchall()

    def doom(self, pack: str, value: bytes, size_bytes: int) -> None:
        """This row says that the pack is condemned."""
        self._db.execute(
            "INSERT OR REPLACE INTO doomed VALUES (?, ?, ?)", (pack, value, size_bytes)
        )

    def doomed(self, *, named: bool) -> Iterator[Held]:
        """Condemned packs to which something refers after all, or nothing does."""
        return self._rows(
            "SELECT pack, 'condemned', value, size FROM doomed"
            " WHERE (pack IN (SELECT pack FROM named)) = ? AND pack > ?",
            named,
        )

    # --- what is to be rewritten ---------------------------------------------------------------

    def fade(self, packs: Iterable[str]) -> None:
        """A version that needed these packs is about to be purged."""
        self._db.executemany("INSERT OR IGNORE INTO faded VALUES (?)", ((one,) for one in packs))

    def faded(self) -> Iterator[Held]:
        """Live packs that lost a version and have others."""
        return self._rows(
            "SELECT pack, state, value, size FROM held JOIN named USING (pack) JOIN faded"
            " USING (pack) WHERE state = ? AND pack > ?",
            "live",
        )

    def small(self, limit_bytes: int) -> Iterator[tuple[str, Held]]:
        """Live packs below a size that something refers to, each with one model of those."""
        found = self._db.execute(
            "SELECT model, pack, state, value, size FROM held JOIN named USING (pack)"
            " WHERE state = 'live' AND size < ? ORDER BY model, pack",
            (limit_bytes,),
        )
        for model, *row in found:
            yield model, Held(*row)

    def rewrite(self, packs: Iterable[str]) -> None:
        """These are to be rewritten; versions may need them by names that lead to them."""
        self._db.executemany("INSERT OR IGNORE INTO sources VALUES (?)", ((one,) for one in packs))
        self._db.execute(
            """
            INSERT OR IGNORE INTO sources
            WITH RECURSIVE leading(pack) AS (
                SELECT pack FROM sources
                UNION SELECT leads.pack FROM leads JOIN leading ON successor = leading.pack
            ) SELECT pack FROM leading
            """
        )

    def are_sources(self, packs: Iterable[str]) -> bool:
        """Whether any of these is to be rewritten, or leads to such a one."""
        return any(self._has("sources", "pack", pack) for pack in packs)

    def use(self, digest: bytes, base: ChunkRef | None) -> None:
        """A version uses this chunk, which is a difference from ``base``."""
        packed = None if base is None else msgspec.msgpack.encode(base)
        self._db.execute("INSERT OR IGNORE INTO used VALUES (?, ?)", (digest, packed))

    def is_used(self, digest: bytes) -> bool:
        """Whether any does."""
        return self._has("used", "digest", digest)

    def base_of(self, digest: bytes) -> ChunkRef | None:
        """What a chunk is a difference from, as the version says that was seen first."""
        found = self._db.execute("SELECT base FROM used WHERE digest = ?", (digest,)).fetchone()
        packed = None if found is None else found[0]
        return None if packed is None else msgspec.msgpack.decode(packed, type=ChunkRef)

    def _has(self, table: str, column: str, value: str | bytes) -> bool:
        query = f"SELECT 1 FROM {table} WHERE {column} = ?"  # noqa: S608 - names of our own
        return self._db.execute(query, (value,)).fetchone() is not None

    def _rows(self, query: str, of: str | bool) -> Iterator[Held]:
        # Batch by batch, since rows may be changed while they are gone through.
        after = ""
        while found := self._db.execute(
            f"{query} ORDER BY pack LIMIT {BATCH}", (of, after)
        ).fetchall():
            yield from (Held(*row) for row in found)
            after = found[-1][0]
