"""Checking what no model's log leads to: rows and documents of nothing, intents, ``system``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import lru_cache

from modelhub.coordinator import bootstrap, index, keys, sweep
from modelhub.coordinator.check_marks import CheckMarks
from modelhub.coordinator.findings import Check, Mend
from modelhub.coordinator.log import read_head
from modelhub.errors import CorruptData, NotFound
from modelhub.names import shown
from modelhub.records import Checking, Collecting, ModelHint, Reindexing, Run, Targets, decode

RUNS: dict[bytes, type[Run]] = {
    keys.REINDEX: Reindexing,
    keys.COLLECTION: Collecting,
    keys.CHECK: Checking,
}
"""What the rows of ``system`` hold that come and go with runs."""

_AT_HAND = 4096


class RowCheck:
    """Checks what is left over; ``marks`` knows of every model, once the log was read."""

    def __init__(self, check: Check, marks: CheckMarks) -> None:
        self._check = check
        self._ctx = check.ctx
        self._marks = marks
        self._next = lru_cache(_AT_HAND)(marks.next_number)

    # --- system --------------------------------------------------------------------------------

    def check_system(self) -> Targets | None:
        """The rows of ``system``; the search targets, None where search has none to look into."""
        for key, kind in RUNS.items():
            value = self._ctx.stores.rows.get(keys.SYSTEM, key)
            if value is None:
                continue
            self._check.count("system rows")
            try:
                decode(value, kind, f"system row {key.decode()!r}")
            except CorruptData as exc:
                subject, mend = f"system row {key.decode()!r}", Mend("system", key=key)
                self._check.report("system-damaged", subject, exc, mend)
        return self._check_targets()

    def _check_targets(self) -> Targets | None:
        """The registered targets, each of which has to be there."""
        mend = Mend("search")
        try:
            targets, absent = self._listed()
        except (CorruptData, NotFound) as exc:
            self._check.report("search-missing", "the search index", exc, mend)
            return None
        prefix = bootstrap.target_prefix(bootstrap.recognise(self._ctx))
        if any(not target.startswith(prefix) for target in targets.targets):
            cause = f"it names {', '.join(targets.targets)}, and this hub's begin with {prefix}"
            self._check.report("search-missing", "the search index", cause, mend)
            return None
        if targets.layout != index.LAYOUT:
            cause = f"its documents are of form {targets.layout}; this release knows {index.LAYOUT}"
            self._check.report("search-stale", f"search target {targets.live}", cause, mend)
            return None
        for target in sorted(absent):
            subject = f"search target {target}"
            self._check.report("search-missing", subject, "it is not there", mend)
        return targets if targets.live not in absent else None

    def _listed(self) -> tuple[Targets, set[str]]:
        """The registered targets, and those of them that are not there."""
        targets = index.read_targets(self._ctx)
        there = set(self._ctx.stores.search.targets())
        again = index.read_targets(self._ctx)
        if again != targets:
            return self._listed()  # a re-index changed them meanwhile
        return targets, set(targets.targets) - there

    # --- intents -------------------------------------------------------------------------------

    def check_intents(self) -> None:
        """An attempt whose lease is long over should have been swept, and its pins in the end."""
        now = self._ctx.clock.now()
        grace = 2 * timedelta(seconds=self._ctx.patience.grace_s)
        resumed = timedelta(hours=self._ctx.patience.resume_hours)
        for name, attempts in sweep.remains(self._ctx, self._unreadable):
            for attempt in attempts:
                self._check.count("intents")
                left = grace if attempt.intent is not None else grace + resumed
                if now > attempt.lease + left:
                    cause = f"its lease ended at {attempt.lease.isoformat()}{self._pins(attempt)}"
                    subject = f"{name} {attempt.txid}"
                    mend = Mend("sweep", name, keys.intent(name, attempt.txid))
                    self._check.report("intent-overdue", subject, cause, mend)

    def _unreadable(self, exc: CorruptData, key: bytes) -> None:
        try:
            name, _, _ = keys.parse_intent(key)
        except CorruptData:
            self._check.report("intent-damaged", exc.message, "it cannot be read")
        else:
            mend = Mend("intent", name, key)
            self._check.report("intent-damaged", exc.message, "it cannot be read", mend)

    def _pins(self, attempt: sweep.Remains) -> str:
        packs = [keys.parse_intent(key)[2] or "" for key in attempt.pins]
        there = self._ctx.stores.rows.get_many(keys.PACKS, [keys.pack(pack) for pack in packs])
        absent = len(packs) - len(there)
        return f"; of its {len(packs)} packs {absent} have no row" if absent else ""

    # --- rows and documents of nothing ---------------------------------------------------------

    def check_strays(self) -> None:
        """Rows that name versions which no log has, and which no attempt can have left."""
        # Names and numbers alone: a table's values take most of the time.
        self._stray(keys.METADATA, lambda key: _named(keys.METADATA, key, 3))
        self._stray(keys.LOOKUP, lambda key: keys.parse_lookup(key)[2:])
        self._stray(keys.VERSIONS, lambda key: _named(keys.VERSIONS, key, 2))
        for key, value in self._ctx.stores.rows.scan(keys.MODELS, b"\0", b"\xff"):
            self._check.count("models rows")
            name = key.decode(errors="replace")
            if self._next(name) is not None or self._is_known_now(name, 0):
                continue
            try:
                # Put before a model's first entry, which may not have come.
                begun = not decode(value, ModelHint, "a summary").seq
            except CorruptData:
                begun = False
            if not begun:
                cause, mend = "there is no log of this name", Mend("summary", key=key)
                self._check.report("row-stray", f"models row of {shown(name)}", cause, mend)

    def _stray(self, table: str, parse: Callable[[bytes], tuple[str, int]]) -> None:
        for key, _ in self._ctx.stores.rows.scan(table, b"\0", b"\xff"):
            self._check.count(f"{table} rows")
            try:
                name, number = parse(key)
            except CorruptData as exc:
                self._check.report("row-stray", f"{table} row {_shown(key)}", exc)
                continue
            if self._can_be(name, number) or self._is_known_now(name, number):
                continue
            if table == keys.VERSIONS and self._next(name) is None:
                # Put after a commit alone: there was a log.
                cause = "its versions were published once; all entries are missing"
                self._check.report("log-broken", f"{name} entry {number}", cause)
            elif table != keys.VERSIONS:  # beyond a log's end they are reported with it
                cause = f"the log of {name} does not have version {number}"
                self._check.report("row-stray", f"{table} row {_shown(key)}", cause)

    def _can_be(self, name: str, number: int) -> bool:
        """Whether the log has this version, or an attempt may have been about to make it."""
        following = self._next(name)
        return following is not None and (following == 0 or 0 < number <= following)

    def _is_known_now(self, name: str, number: int) -> bool:
        """The same as of now, where that can be told; an attempt under way may make anything."""
        try:
            head = read_head(self._ctx.stores.rows, name)
        except CorruptData:
            return True
        under_way = self._ctx.stores.rows.scan(keys.INTENTS, *keys.intents_range(name), limit=1)
        return bool(head.seq and number <= head.state.next) or any(under_way)

    def check_surplus(self, targets: Targets) -> None:
        """Documents of versions that no log has."""
        try:
            for document in self._ctx.stores.search.scan(targets.live):
                name, _, digits = document.id.rpartition("@")
                number = int(digits) if digits.isdecimal() else 0
                following = self._next(name)
                there = following is not None and (following == 0 or 0 < number < following)
                if document.body is None or there or self._is_published_now(name, number):
                    continue
                cause = "the log has no such version"
                self._check.report("search-surplus", shown(document.id), cause, Mend("search"))
        except NotFound:
            return  # a re-index put another in its place
        except CorruptData as exc:
            if not self._check.found("search-stale"):
                subject = f"search target {targets.live}"
                self._check.report("search-stale", subject, exc, Mend("search"))

    def _is_published_now(self, name: str, number: int) -> bool:
        try:
            return 0 < number < read_head(self._ctx.stores.rows, name).state.next
        except CorruptData:
            return True


def _named(table: str, key: bytes, fields: int) -> tuple[str, int]:
    parts = key.decode(errors="replace").split("\0")
    if len(parts) != fields or not (parts[1].isascii() and parts[1].isdigit()):
        raise CorruptData(f"the table {table} has a row with a damaged key")
    return parts[0], int(parts[1])


def _shown(key: bytes) -> str:
    return shown(key.decode(errors="replace").replace("\0", " "))
