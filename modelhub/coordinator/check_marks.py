"""What a check knows of a hub besides what a collection knows, in the same private file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from modelhub.content.manifest import ChunkRef
from modelhub.content.pack import TrailerRecord
from modelhub.coordinator.marks import BATCH, Held, Marks


class CheckMarks(Marks):
    """Also which versions need a pack, which models there are, and where bases and copies lie."""

    def __init__(self) -> None:
        super().__init__()
        self._db.executescript(
            """
            CREATE TABLE uses (pack TEXT, model TEXT, first INTEGER, last INTEGER,
                PRIMARY KEY (pack, model)) WITHOUT ROWID;
            CREATE TABLE models (model TEXT PRIMARY KEY, next INTEGER) WITHOUT ROWID;
            CREATE TABLE bases (digest BLOB PRIMARY KEY, length INTEGER, pack TEXT, offset INTEGER,
                stored INTEGER, encoding INTEGER) WITHOUT ROWID;
            CREATE TABLE doubts (pack TEXT PRIMARY KEY, rows INTEGER) WITHOUT ROWID;
            CREATE TABLE places (digest BLOB, pack TEXT, path TEXT, record BLOB);
            CREATE INDEX places_of ON places (digest);
            """
        )

    def scan(self) -> None:
        """See ``Marks``."""
        super().scan()
        self._db.execute("DELETE FROM uses")

    def need(self, model: str, number: int, packs: Iterable[str]) -> None:
        """A version needs these packs."""
        self._db.executemany(
            "INSERT INTO uses VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
            " SET first = min(first, excluded.first), last = max(last, excluded.last)",
            ((pack, model, number, number) for pack in packs),
        )

    def inherit(self) -> None:
        """Who needs a pack that moved needs its successors."""
        self._db.execute(
            """
            INSERT OR IGNORE INTO uses
            WITH RECURSIVE reached(pack, model, first, last) AS (
                SELECT * FROM uses
                UNION SELECT successor, model, first, last
                    FROM reached JOIN leads USING (pack) JOIN held USING (pack)
                    WHERE state = 'moved'
            ) SELECT * FROM reached
            """
        )
        self.name((pack for pack, _ in self.used()), "")

    def used(self, *, after: str = "") -> Iterator[tuple[str, str]]:
        """Every pack that a version needs, in key order, with one such model."""
        while found := self._db.execute(
            "SELECT pack, min(model) FROM uses WHERE pack > ? GROUP BY pack ORDER BY pack LIMIT ?",
            (after, BATCH),
        ).fetchall():
            yield from found
            after = found[-1][0]

    def count_used(self) -> int:
        """How many packs versions need."""
        return int(self._db.execute("SELECT count(DISTINCT pack) FROM uses").fetchone()[0])

    def users(self, pack: str) -> list[tuple[str, int, int]]:
        """The models that need a pack, each with the first and last version that does."""
        found = self._db.execute("SELECT model, first, last FROM uses WHERE pack = ?", (pack,))
        return found.fetchall()

    def forebears(self, pack: str) -> set[str]:
        """The packs that moved to this one, in however many steps."""
        found = self._db.execute(
            """
            WITH RECURSIVE before(pack) AS (
                SELECT leads.pack FROM leads JOIN held USING (pack)
                    WHERE successor = ? AND state = 'moved'
                UNION SELECT leads.pack FROM leads JOIN before ON successor = before.pack
                    JOIN held ON held.pack = leads.pack WHERE state = 'moved'
            ) SELECT pack FROM before
            """,
            (pack,),
        )
        return {one for (one,) in found} - {pack}

    def row(self, pack: str) -> Held | None:
        """A pack's row, as it was read."""
        found = self._db.execute(
            "SELECT pack, state, value, size FROM held WHERE pack = ?", (pack,)
        ).fetchone()
        return None if found is None else Held(*found)

    def is_named(self, pack: str) -> bool:
        """Whether anything refers to a pack."""
        found = self._db.execute("SELECT 1 FROM named WHERE pack = ?", (pack,))
        return found.fetchone() is not None

    def file_size(self, pack: str) -> int | None:
        """The size of a pack's file, where it was listed."""
        found = self._db.execute("SELECT size FROM files WHERE pack = ?", (pack,)).fetchone()
        return None if found is None else int(found[0])

    def model(self, name: str, next_number: int) -> None:
        """There is a model, whose next version has this number; 0: its log cannot be read."""
        self._db.execute("INSERT OR REPLACE INTO models VALUES (?, ?)", (name, next_number))

    def next_number(self, name: str) -> int | None:
        """The number of a model's next version; None where there is no log of this name."""
        found = self._db.execute("SELECT next FROM models WHERE model = ?", (name,)).fetchone()
        return None if found is None else int(found[0])

    def note_bases(self, refs: Iterable[ChunkRef]) -> None:
        """Where chunks lie that others are differences from."""
        self._db.executemany(
            "INSERT OR IGNORE INTO bases VALUES (?, ?, ?, ?, ?, ?)",
            (
                (one.digest, one.length, one.pack, one.offset, one.stored, one.encoding)
                for one in refs
            ),
        )

    def base(self, digest: bytes) -> ChunkRef | None:
        """Where such a chunk lies."""
        found = self._db.execute("SELECT * FROM bases WHERE digest = ?", (digest,)).fetchone()
        return None if found is None else ChunkRef(*found)

    def doubt(self, packs: Iterable[str]) -> None:
        """A row of ``chunks`` leads to each of these packs, which hold no chunks any more."""
        self._db.executemany(
            "INSERT INTO doubts VALUES (?, 1) ON CONFLICT DO UPDATE SET rows = rows + 1",
            ((pack,) for pack in packs),
        )

    def doubts(self) -> Iterator[tuple[str, int]]:
        """Those packs, and how many rows lead to each."""
        yield from self._db.execute("SELECT pack, rows FROM doubts ORDER BY pack")

    def place(self, pack: str, path: str, records: Iterable[TrailerRecord]) -> None:
        """A file at ``path`` holds these chunks."""
        self._db.executemany(
            "INSERT INTO places VALUES (?, ?, ?, ?)",
            ((one.digest, pack, path, msgspec.msgpack.encode(one)) for one in records),
        )

    def places(self, digest: bytes) -> list[tuple[str, str, TrailerRecord]]:
        """The pack, the file and the record of every copy of a chunk."""
        found = self._db.execute(
            "SELECT pack, path, record FROM places WHERE digest = ?", (digest,)
        )
        return [
            (pack, path, msgspec.msgpack.decode(record, type=TrailerRecord))
            for pack, path, record in found.fetchall()
        ]
