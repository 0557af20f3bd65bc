"""Collection: taking away what no version and no attempt refers to any more.

Mark, condemn, mark again, delete. A push pins a pack and then reads its row; a collector condemns
a pack and then scans intents, then the log. So of a push and a collector that meet at one pack,
either the push sees the condemned row, and takes it back under a new token, or the collector's
second scan sees the pin or the entry. Whatever a scan could not read ends the run: nothing is
taken away by half a view. Clocks decide when, never whether.

There is no way back from deleting. A file goes to the trash first, where a reader that began before
finds it, and is removed when the trash's time is over.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from itertools import groupby
from operator import itemgetter

from msgspec.structs import replace

from modelhub.content.pack import is_pack_id, new_place, pack_path, read_trailer, trash_path
from modelhub.coordinator import keys, retention, rewrite
from modelhub.coordinator.context import Context, Progress, ignore_progress
from modelhub.coordinator.lease import Lease
from modelhub.coordinator.log import Head, Sealed, models, walked
from modelhub.coordinator.marks import Held, Marks
from modelhub.coordinator.packs import hinted_chunk
from modelhub.coordinator.retention import Expire, History, Purge
from modelhub.coordinator.rewrite import Group
from modelhub.coordinator.settle import change_row
from modelhub.coordinator.state import exists, is_purged
from modelhub.coordinator.transaction import commit
from modelhub.errors import AlreadyExists, CorruptData, NotFound
from modelhub.records import Collecting, PackRow, Published, decode, encode
from modelhub.results import TRASH_HOURS, Collected, Doomed, Fate, Listing
from modelhub.rules import RetentionRule, rule_for

_MOST_TOLD = 1000


def collect(
    ctx: Context,
    rules: Sequence[RetentionRule] = (),
    *,
    trash_hours: float = TRASH_HOURS,
    dry_run: bool = False,
    throttle: Callable[[int], None] = lambda _: None,
    progress: Progress = ignore_progress,
) -> Collected:
    """Delete what rules no longer keep, purge what was deleted long ago, take unused packs away.

    ``throttle`` is told of every row read and file touched, and may wait.

    Raises:
        Conflict: another collection is under way, or took over.
        CorruptData: something could not be read that may refer to packs; no pack was touched.
        Unavailable, OutcomeUnknown: a store is away; the next run begins afresh.
    """
    with closing(Marks()) as marks:
        run = _Run(ctx, rules, marks, throttle, progress, dry_run=dry_run)
        if dry_run:
            return run.rehearse(trash_hours)
        lease = Lease(ctx, keys.COLLECTION, Collecting, "collection")
        try:
            return run.collect(lease, trash_hours)
        finally:
            lease.end()


class _Run:
    """One run. Counts what it did."""

    def __init__(
        self,
        ctx: Context,
        rules: Sequence[RetentionRule],
        marks: Marks,
        throttle: Callable[[int], None],
        progress: Progress,
        *,
        dry_run: bool,
    ) -> None:
        self._ctx = ctx
        self._rules = rules
        self._marks = marks
        self._policy = ctx.storage_policy
        self._throttle = throttle
        self._progress = progress
        self._dry_run = dry_run
        self._renew: Callable[[], None] = lambda: None
        self._now = ctx.clock.now()
        self._listed: list[Doomed] = []
        self._fates = {"delete": 0, "purge": 0}
        self._packs = self._trashed = self._freed = self._orphans = self._revived = 0
        self._rewritten = self._saved = 0

    def rehearse(self, trash_hours: float) -> Collected:
        """What ``collect`` would do, as far as can be said beforehand; nothing is written."""
        self._list_files()
        self._mark(self._survey)
        for held in (*self._marks.unnamed("live"), *self._marks.unnamed("condemned")):
            self._count(held.size_bytes)
        for held in self._marks.rows("deleting"):
            self._count(held.size_bytes)
        for _, size in self._marks.orphans():
            self._orphans += 1
            self._count(size)
        self._empty_trash(trash_hours)
        return self._result()

    def collect(self, lease: Lease[Collecting], trash_hours: float) -> Collected:
        """See the module."""
        self._renew = lease.renew
        self._mark(self._survey)
        self._condemn()
        groups = self._condemn_to_rewrite()
        self._list_files()
        # Afresh, and after every row of this run, and of those before, that condemns: whoever came
        # to rely on one of these packs before it was condemned is seen now.
        self._mark(self._refer)
        self._delete()
        for group in groups:
            done = rewrite.rewrite(self._ctx, self._marks, group, self._policy, self._touch)
            self._rewritten += len(done.packs)
            self._saved += done.saved_bytes
            for held in done.packs:
                self._marks.hold(held.pack, decode(held.value, PackRow, "a row"), held.value)
        self._bury()
        self._empty_trash(trash_hours)
        return self._result()

    # --- marking -------------------------------------------------------------------------------

    def _mark(self, look: Callable[[Head, Iterator[Sealed]], None]) -> None:
        """Find out what every pin and every version that is not purged refers to.

        Intents before the log: a pin goes only once the entry that it was for is there.
        """
        marks, rows = self._marks, self._ctx.stores.rows
        marks.scan()
        for key, _ in rows.scan(keys.INTENTS, *keys.intents_range()):
            self._touch()
            _, _, pack = keys.parse_intent(key)
            if pack is not None:
                marks.pin(pack)
        found = rows.scan(keys.LOG, *keys.log_from(""))
        for done, (name, log) in enumerate(models(found, _damaged), 1):
            look(*walked(name, log))
            self._progress("gc", done, 0)
        for key, value in rows.scan(keys.PACKS, b"\0", b"\xff"):
            self._touch()
            pack = key.decode(errors="replace")
            marks.hold(pack, decode(value, PackRow, f"the row of pack {pack}"), value)
        marks.follow()

    def _refer(self, head: Head, log: Iterator[Sealed]) -> None:
        """Name the packs of every version that is not purged."""
        for sealed in log:
            self._touch()
            change = sealed.entry.change
            if isinstance(change, Published) and not is_purged(head.state, change.number):
                self._marks.name(change.version.packs, head.name)
                rewrite.note_uses(self._ctx, self._marks, change.version)

    def _survey(self, head: Head, log: Iterator[Sealed]) -> None:
        """The same, but for versions whose retention ends now; then entries say so.

        What is condemned because of them is looked at again once these entries are in the log.
        """
        history = History(head, rule_for(self._rules, head.name))

        def noted() -> Iterator[Sealed]:
            for sealed in log:
                history.take(sealed)
                change = sealed.entry.change
                # Its deletion is nearer to the head, and so was seen before it.
                if isinstance(change, Published) and history.is_over(change.number, self._now):
                    self._marks.fade(change.version.packs)
                else:
                    yield sealed

        self._refer(head, noted())
        if not exists(head.state):
            return
        is_base = retention.is_base_of_another(self._ctx, head.name)
        self._settle(history, "delete", history.expired(self._now, is_base))
        self._settle(history, "purge", history.purgeable(self._now))

    def _settle(self, history: History, fate: Fate, numbers: list[int]) -> None:
        """Put the entry that says what becomes of these versions."""
        if not numbers:
            return
        name = history.head.name
        done: Sequence[int] = numbers
        if not self._dry_run:
            plan = (Expire if fate == "delete" else Purge)(
                self._ctx, numbers, history.head.seq, message=_MESSAGES[fate]
            )
            commit(self._ctx, name, plan)
            done = plan.done
        self._fates[fate] += len(done)
        room = _MOST_TOLD - len(self._listed)
        self._listed += [
            Doomed(name=name, number=number, fate=fate, size_bytes=history.sizes[number])
            for number in done[: max(room, 0)]
        ]

    # --- condemning and deleting ---------------------------------------------------------------

    def _condemn(self) -> None:
        """Condemn what nothing refers to; what was condemned before is doomed as it stands."""
        marks = self._marks
        for held in marks.unnamed("condemned"):
            marks.doom(held.pack, held.value, held.size_bytes)
        for held in marks.unnamed("live"):
            self._touch()
            fresh = self._change(held, state="condemned", successors=())
            if fresh is not None:
                marks.doom(held.pack, fresh, held.size_bytes)
        for held in marks.named("condemned"):
            self._revive(held)

    def _condemn_to_rewrite(self) -> list[Group]:
        """Condemn the packs that are worth rewriting: mostly dead ones, and many small ones."""
        marks = self._marks
        wanted = [[held] for held in marks.faded()]
        alone = {held.pack for (held,) in wanted}
        for _, found in groupby(marks.small(rewrite.SMALL_BYTES), key=itemgetter(0)):
            small = [held for _, held in found if held.pack not in alone]
            if len(small) >= rewrite.FEWEST:
                wanted += rewrite.batches(small)
        groups = []
        for packs in wanted:
            self._touch()
            groups.append(rewrite.condemn(self._ctx, packs))
        marks.rewrite(held.pack for group in groups for held in group.packs)
        return groups

    def _revive(self, held: Held) -> None:
        """Whoever refers to it may have read its row before it was condemned."""
        self._touch()
        if self._change(held, state="live", successors=()) is not None:
            self._revived += 1

    def _delete(self) -> None:
        """From condemned to deleting, by the very row that was read before the second scan."""
        for held in self._marks.doomed(named=True):
            self._revive(held)
        for held in self._marks.doomed(named=False):
            self._touch()
            fresh = self._change(held, state="deleting", trash=self._place(held.pack))
            if fresh is not None:
                self._marks.hold(held.pack, decode(fresh, PackRow, "a row"), fresh)
        for pack, size in self._marks.orphans():
            self._claim(pack, size)

    def _claim(self, pack: str, size_bytes: int) -> None:
        """Take a file without a row, unless its writer registers it first."""
        self._touch()
        row = PackRow(
            state="deleting",
            size_bytes=size_bytes,
            token=secrets.token_hex(8),
            trash=self._place(pack),
        )
        value = encode(row)
        if change_row(self._ctx, keys.PACKS, keys.pack(pack), None, value):
            self._orphans += 1
            self._marks.hold(pack, row, value)

    def _bury(self) -> None:
        """Files of deleted and of rewritten packs go to the trash."""
        for held in self._marks.rows("deleting"):
            row = decode(held.value, PackRow, f"the row of pack {held.pack}")
            self._forget_chunks(held.pack)
            self._to_trash(held.pack, row)
            self._change(held, state="gone")
        for held in self._marks.rows("moved"):
            row = decode(held.value, PackRow, f"the row of pack {held.pack}")
            if row.trash:
                if self._marks.is_file(held.pack):
                    self._to_trash(held.pack, row)  # An earlier run did not get to it.
                continue
            # The place first: a reader that does not find the file looks for it there.
            row = replace(row, trash=self._place(held.pack))
            if self._change(held, trash=row.trash) is not None:
                self._to_trash(held.pack, row)

    def _to_trash(self, pack: str, row: PackRow) -> None:
        self._touch()
        try:
            self._ctx.stores.weights.move(pack_path(pack), trash_path(row.trash))
        except (NotFound, AlreadyExists):
            return  # Another run was here.
        self._count(row.size_bytes)

    def _forget_chunks(self, pack: str) -> None:
        """Remove the hints that lead to a pack; one that leads elsewhere by now stays."""
        rows = self._ctx.stores.rows
        try:
            digests = [record.digest for record in read_trailer(self._ctx.stores.weights, pack)]
        except CorruptData:
            return  # Not there any more, or never whole: what hints say of it is not believed.
        for start in range(0, len(digests), _HINTS):
            wanted = {keys.chunk(digest): digest for digest in digests[start : start + _HINTS]}
            stale = []
            for key, value in rows.get_many(keys.CHUNKS, list(wanted)).items():
                ref = hinted_chunk(wanted[key], value)
                if ref is None or ref.pack == pack:
                    stale.append(key)
            self._throttle(len(wanted))
            if stale:
                rows.delete_many(keys.CHUNKS, stale)

    # --- files ---------------------------------------------------------------------------------

    def _list_files(self) -> None:
        for info in self._ctx.stores.weights.list("packs"):
            self._touch()
            pack = info.path.rpartition("/")[2]
            # What else somebody put there is not ours.
            if is_pack_id(pack) and info.path == pack_path(pack):
                self._marks.file(pack, info.size_bytes)

    def _empty_trash(self, trash_hours: float) -> None:
        since = self._ctx.clock.now() - timedelta(hours=trash_hours)
        for info in self._ctx.stores.weights.list("trash"):
            self._touch()
            at = _trashed_at(info.path)
            if at is None or at > since:
                continue
            if not self._dry_run:
                self._ctx.stores.weights.remove(info.path)
            self._freed += info.size_bytes

    def _place(self, pack: str) -> str:
        return new_place(self._ctx.clock.now(), pack)

    # --- helpers -------------------------------------------------------------------------------

    def _change(self, held: Held, **changes: object) -> bytes | None:
        """A pack's row changed under a new token: its bytes; None where it is another by now."""
        row = decode(held.value, PackRow, f"the row of pack {held.pack}")
        fresh = encode(replace(row, token=secrets.token_hex(8), **changes))
        changed = change_row(self._ctx, keys.PACKS, keys.pack(held.pack), held.value, fresh)
        return fresh if changed else None

    def _touch(self) -> None:
        self._throttle(1)
        self._renew()

    def _count(self, size_bytes: int) -> None:
        self._packs += 1
        self._trashed += size_bytes

    def _result(self) -> Collected:
        return Collected(
            versions=self._fates["purge"],
            expired=self._fates["delete"],
            packs=self._packs,
            orphans=self._orphans,
            revived=self._revived,
            rewritten=self._rewritten,
            bytes_saved=self._saved,
            bytes_trashed=self._trashed,
            bytes_freed=self._freed,
            dry_run=self._dry_run,
            listed=Listing(Doomed, self._listed),
        )


_HINTS = 5000
_MESSAGES: dict[Fate, str] = {
    "delete": "no retention rule keeps it",
    "purge": "its retention after deletion has ended",
}


def _damaged(_key: str, exc: CorruptData) -> None:
    """A log row of which nobody knows what it refers to."""
    raise exc


def _trashed_at(path: str) -> datetime | None:
    """When a file came into the trash; None where it is none of ours."""
    try:
        return datetime.strptime(f"{path[:24]}+0000", "trash/%Y-%m-%d/%H%M%S-%z")
    except ValueError:
        return None
