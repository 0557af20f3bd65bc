"""Restore: models come back from a backup, into an empty hub or one that lost them.

Nothing that is there is changed. A model that is absent comes back whole; of one whose log ends
earlier than the backup's, the rest; one that went on otherwise is named and left alone. Packs that
a model of the hub has lost come back as well. Packs come
before the rows that name them, pinned as those of any push, and the log last, row by row from the
oldest, each put if absent. Numbers that were given once and are not in the backup are never given
again: an entry says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase

import msgspec
from blake3 import blake3

from modelhub.content.pack import new_pack_id, new_place, pack_path, read_trailer, trash_path
from modelhub.coordinator import backup_format, bootstrap, hints, index, keys
from modelhub.coordinator.backup_format import PACKS, Copied, Point
from modelhub.coordinator.backup_rows import Source
from modelhub.coordinator.context import Context, Progress, ignore_progress
from modelhub.coordinator.lease import Lease
from modelhub.coordinator.log import Head, Sealed, head_of, open_row, read_head
from modelhub.coordinator.packs import elsewhere, register, row_of, standing
from modelhub.coordinator.publish import lookup_keys
from modelhub.coordinator.settle import change_row
from modelhub.coordinator.state import SNAPSHOT_EVERY, is_purged
from modelhub.coordinator.transaction import Attempt, Committed, commit, put_settled
from modelhub.errors import (
    Conflict,
    CorruptData,
    ModelhubError,
    NotFound,
)
from modelhub.records import (
    Collecting,
    Floored,
    Metadata,
    ModelHint,
    PackRow,
    Published,
    VersionHint,
    decode,
    encode,
)
from modelhub.results import Restored
from modelhub.stores import Folder

_ROWS = 500


def restore_hub(
    ctx: Context,
    folder: Folder,
    *,
    pattern: str = "*",
    at: datetime | None = None,
    dry_run: bool = False,
    progress: Progress = ignore_progress,
) -> Restored:
    """Bring back the models that fit ``pattern``, as they were ``at`` a moment, or last.

    Raises:
        NotFound: the folder holds no backup from then or later.
        CorruptData: the backup is damaged.
        Conflict: a collection or backup is under way; or others changed a model meanwhile.
        Unavailable, OutcomeUnknown: a store is away; repeated, it goes on from there.
    """
    found = backup_format.points(folder) if backup_format.recognise(folder) else []
    point = next((point for point in found if at is None or point.cut >= at), None)
    if at is None and found:
        point = found[-1]
    if point is None:
        raise NotFound(
            f"{folder.address} holds no backup"
            + (f" from {at.isoformat()} or later" if at else ""),
            remedy="Name the folder that `modelhub admin backup` wrote into.",
        )
    with closing(Source(folder, backup_format.chain(found, point), progress)) as source:
        run = _Run(ctx, source, point, pattern, at or point.cut, progress=progress, dry_run=dry_run)
        if dry_run:
            return run.run()
        bootstrap.initialise(ctx)
        lease = Lease(ctx, keys.COLLECTION, Collecting, "collection or backup")
        try:
            return run.run(lease.renew)
        finally:
            lease.end()


@dataclass
class _Model:
    """What a model's log in the backup says, newest first, and from where on the hub lacks it."""

    name: str
    log: list[tuple[bytes, bytes, Sealed]]
    given: int
    """The highest number that was ever given."""
    since: int = 0
    head: Head | None = None
    """The hub's; None where the model is not to be restored."""


@dataclass
class Floor:
    """No number below ``next`` is given again (a ``Plan``)."""

    next: int
    message: str = "numbers that were lost stay taken"
    op: str = "restore"
    known: dict[int, Metadata] = field(default_factory=dict)
    published: Sealed | None = None

    def build(self, head: Head, attempt: Attempt) -> Floored | None:
        """Nothing to do where they were given again by now."""
        del attempt
        return Floored(self.next) if self.next > head.state.next else None

    def landed(self, committed: Committed) -> None:
        """Nothing more: the change stands in the log."""


class _Run:
    """One restore."""

    def __init__(
        self,
        ctx: Context,
        source: Source,
        point: Point,
        pattern: str,
        at: datetime,
        *,
        progress: Progress,
        dry_run: bool,
    ) -> None:
        self._ctx = ctx
        self._source = source
        self._point = point
        self._pattern = pattern
        self._at = at
        self._progress = progress
        self._dry_run = dry_run
        self._renew: Callable[[], None] = lambda: None
        self._models = self._versions = self._entries = self._packs = self._bytes = 0
        self._current: list[str] = []
        self._differ: list[str] = []
        self._unreadable: list[str] = []
        self._taken: list[str] = []
        self._had: dict[str, bool] = {}

    def run(self, renew: Callable[[], None] = lambda: None) -> Restored:
        """Model after model; ``renew`` prolongs the lease."""
        self._renew = renew
        for model in self._found():
            if model.head is not None:
                self._restore(model)
            self._renew()
            self._progress("restore models", self._models, 0)
        return Restored(
            point=self._point.name,
            cut=self._at,
            dry_run=self._dry_run,
            models=self._models,
            versions=self._versions,
            entries=self._entries,
            packs=self._packs,
            bytes=self._bytes,
            current=tuple(self._current),
            differ=tuple(self._differ),
            unreadable=tuple(self._unreadable),
            taken=tuple(self._taken),
        )

    def _found(self) -> Iterator[_Model]:
        start, stop = keys.log_from("")
        while True:
            first = next(self._source.scan(keys.LOG, start, stop), None)
            if first is None:
                return
            name, _ = keys.parse_log(first[0])
            own = keys.prefix(name)
            if fnmatchcase(name, self._pattern):
                yield self._looked_at(name, list(self._source.scan(keys.LOG, *own)))
            start = own[1]

    def _looked_at(self, name: str, rows: list[tuple[bytes, bytes]]) -> _Model:
        """Compare the model's log with the hub's."""
        every = [(key, value, open_row(key, value)) for key, value in rows]
        given = max((_number(sealed) for _, _, sealed in every), default=0)
        log = [one for one in every if one[2].entry.time <= self._at]
        model = _Model(name, log, given)
        if not log:
            return model
        newest = log[0][2]
        known = self._known(name)
        if known is None or known.seq == 0:
            model.head = Head(name, 0, "", newest.entry.time, head_of(name, []).state, {})
            return model
        common = min(known.seq, newest.entry.seq)
        ours = self._hub_digest(name, common, known)
        theirs = next(sealed.digest for _, _, sealed in log if sealed.entry.seq == common)
        if ours != theirs:
            self._differ.append(name)
        else:
            model.head, model.since = known, common
        return model

    def _known(self, name: str) -> Head | None:
        try:
            return read_head(self._ctx.stores.rows, name)
        except NotFound:  # no table yet: a dry run of an empty hub
            return None

    def _hub_digest(self, name: str, seq: int, head: Head) -> str:
        if seq == head.seq:
            return head.digest
        value = self._ctx.stores.rows.get(keys.LOG, keys.log(name, seq))
        return "" if value is None else open_row(keys.log(name, seq), value).digest

    def _restore(self, model: _Model) -> None:
        assert model.head is not None
        fresh = [one for one in model.log if one[2].entry.seq > model.since]
        head = head_of(model.name, [sealed for _, _, sealed in model.log[:SNAPSHOT_EVERY]])
        if model.head.seq > head.seq:
            head = model.head  # which says of later deletions too
        attempt = Attempt(self._ctx, model.head, "restore")
        self._bring_packs(model, head, attempt)
        lost = self._lost_numbers(model, head)
        self._taken += [f"{model.name}@{number}" for number in lost]
        if fresh:
            self._models += 1
            self._entries += len(fresh)
            self._versions += sum(isinstance(one.entry.change, Published) for *_, one in fresh)
        else:
            self._current.append(model.name)
        if self._dry_run:
            return
        if fresh:
            attempt.announce()
            self._put_rows(model.name, fresh)
            self._put_log(model.name, fresh)
        self._show(model, attempt)
        if lost:
            commit(self._ctx, model.name, Floor(max(lost) + 1))

    def _put_log(self, name: str, fresh: Sequence[tuple[bytes, bytes, Sealed]]) -> None:
        """Row by row from the oldest, each put if absent."""
        for key, value, sealed in reversed(fresh):
            if not change_row(self._ctx, keys.LOG, key, None, value):
                raise Conflict(
                    f"{name} was changed while it was restored: entry {sealed.entry.seq} is "
                    "another",
                    remedy="Look at `modelhub log`, then restore again.",
                )

    def _put_rows(self, name: str, fresh: Sequence[tuple[bytes, bytes, Sealed]]) -> None:
        """What the log names, and what leads to it."""
        rows = self._ctx.stores.rows
        if rows.get(keys.MODELS, keys.model(name)) is None:
            rows.put(keys.MODELS, keys.model(name), encode(ModelHint()))
        own = keys.prefix(name)
        batch: dict[bytes, bytes] = {}
        for key, value in self._source.scan(keys.METADATA, *own):
            batch[key] = value
            if len(batch) == _ROWS:
                put_settled(self._ctx, keys.METADATA, batch)
                batch = {}
        put_settled(self._ctx, keys.METADATA, batch)
        lookup: dict[bytes, bytes] = {}
        for _, _, sealed in fresh:
            change = sealed.entry.change
            if isinstance(change, Published):
                hint = encode(VersionHint(sealed.entry.seq, sealed.entry.txid))
                lookup |= dict.fromkeys(lookup_keys(name, change.number, change.version), hint)
        put_settled(self._ctx, keys.LOOKUP, lookup)

    def _show(self, model: _Model, attempt: Attempt) -> None:
        """Hints and documents; what cannot be written now, the sweeper does."""
        done = False
        with suppress(ModelhubError):
            head = read_head(self._ctx.stores.rows, model.name)
            hints.refresh(self._ctx, head, model.since, {})
            index.refresh(self._ctx, head, model.since)
            done = True
        attempt.withdraw(keep_intent=not done)

    def _lost_numbers(self, model: _Model, head: Head) -> list[int]:
        """Numbers that were given, and are not in what comes back."""
        given = model.given
        with suppress(NotFound):  # an empty hub has no table yet
            survivors = self._ctx.stores.rows.scan(keys.VERSIONS, *keys.prefix(model.name))
            given = max([given, *(int(key.decode().split("\0")[1]) for key, _ in survivors)])
        return list(range(head.state.next, given + 1))

    # --- packs ---------------------------------------------------------------------------------

    def _bring_packs(self, model: _Model, head: Head, attempt: Attempt) -> None:
        """Pin and copy what the hub lacks of what versions need."""
        for _, _, sealed in model.log:
            change = sealed.entry.change
            if not isinstance(change, Published) or is_purged(head.state, change.number):
                continue
            packs = change.version.packs
            if sealed.entry.seq > model.since and not self._dry_run:
                attempt.announce(packs)
                attempt.renew()
            # Each of them, though one is missing: other versions may need the rest.
            if not min(self._bring(pack, attempt) for pack in packs):
                self._unreadable.append(f"{model.name}@{change.number}")

    def _bring(self, pack: str, attempt: Attempt) -> bool:
        """Whether the pack's chunks can be had in the hub, from now on."""
        if pack not in self._had:
            self._had[pack] = False  # rows that lead in a circle lead nowhere
            self._had[pack] = self._brought(pack, attempt)
        return self._had[pack]

    def _brought(self, pack: str, attempt: Attempt) -> bool:
        moved = self._source.get(keys.PACKS, keys.pack(pack))
        if moved is not None:
            row = decode(moved, PackRow, f"the row of pack {pack} in the backup")
            if not self._dry_run:
                attempt.announce(row.successors)
            whole = min(self._bring(successor, attempt) for successor in row.successors)
            return whole and (self._dry_run or self._lead(pack, row.successors))
        if self._is_there(pack):
            return True
        said = self._source.get(PACKS, keys.pack(pack))
        if said is None:
            return False
        copied = msgspec.json.decode(said, type=Copied)
        if not self._dry_run:
            attempt.announce([pack])
        self._packs += 1
        self._bytes += copied.size_bytes
        return self._dry_run or self._copy(pack, copied, attempt)

    def _is_there(self, pack: str) -> bool:
        weights = self._ctx.stores.weights
        try:
            row = row_of(self._ctx.stores, pack)
        except NotFound:
            return False
        if row is None or row.state not in {"live", "condemned", "moved"}:
            return False
        if row.state == "moved":
            return self._all_moved(pack)
        if self._dry_run:
            return weights.size(pack_path(pack)) == row.size_bytes
        return pack in standing(self._ctx, [pack]).live

    def _all_moved(self, pack: str) -> bool:
        """Whether a pack that was rewritten here left nothing out that the backup holds of it."""
        if self._source.get(PACKS, keys.pack(pack)) is None:
            return True  # There is nothing that could be better.
        try:
            places = elsewhere(self._ctx.stores, pack).places
        except CorruptData:
            return False
        copy = self._source.trailer(pack)
        return all(record.digest in places for record in copy)

    def _copy(self, pack: str, copied: Copied, attempt: Attempt) -> bool:
        """Copy a pack under its name; under a new one, where that name was used here before."""
        weights = self._ctx.stores.weights
        free = row_of(self._ctx.stores, pack) is None
        if weights.size(pack_path(pack)) is not None:
            # What a restore left that died: readers would take it for the pack.
            weights.move(pack_path(pack), trash_path(new_place(self._ctx.clock.now(), pack)))
            free = False
        name = pack if free else new_pack_id()
        attempt.announce([name])
        writer = weights.create(pack_path(name))
        digest = blake3()
        try:
            for piece in backup_format.read(self._source.folder, pack_path(pack)):
                digest.update(piece)
                writer.write(piece)
                attempt.renew()
                self._renew()
            if digest.hexdigest() != copied.digest:
                writer.abort()
                return False
            writer.commit()
        except CorruptData:
            writer.abort()
            return False
        except BaseException:
            writer.abort()
            raise
        read_trailer(weights, name)
        if not register(self._ctx, name, copied.size_bytes):
            return False
        return name == pack or self._lead(pack, (name,))

    def _lead(self, pack: str, successors: Sequence[str]) -> bool:
        """Let a pack's row say where its chunks are; a name that was collected stays unused."""
        key = keys.pack(pack)
        value = self._ctx.stores.rows.get(keys.PACKS, key)
        before = None if value is None else decode(value, PackRow, f"the row of pack {pack}")
        earlier = before.successors if before is not None and before.state == "moved" else ()
        row = PackRow(
            state="moved",
            size_bytes=0,
            token=new_pack_id(),
            successors=tuple(dict.fromkeys((*earlier, *successors))),
        )
        return change_row(self._ctx, keys.PACKS, key, value, encode(row))


def _number(sealed: Sealed) -> int:
    match sealed.entry.change:
        case Published(number=number):
            return number
        case Floored(next=number):
            return number - 1
        case _:
            return 0
