"""Putting right what a check found, from a second source; the log itself is never rewritten.

Each mend reads again what it changes, and changes it by compare-and-set wherever others may too: so
it does no harm to whoever works meanwhile, does nothing where nothing is wrong any more, and may be
broken off anywhere and made again. Rows that are replaced are kept, files too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from modelhub.content.pack import read_trailer
from modelhub.content.read import placed
from modelhub.coordinator import bootstrap, hints, index, keys, sweep, versions
from modelhub.coordinator.check_log import CheckedLog
from modelhub.coordinator.check_model import ModelCheck, lookup_keys, version_hint
from modelhub.coordinator.check_rows import RUNS
from modelhub.coordinator.context import Context, Progress
from modelhub.coordinator.findings import Check, Mend, Noted
from modelhub.coordinator.kept import keep
from modelhub.coordinator.log import Head, Sealed, entries, read_head
from modelhub.coordinator.packs import chunk_hint, hinted_chunk
from modelhub.coordinator.rebuild import Outcome, rebuild
from modelhub.coordinator.reindex import new_name, reindex
from modelhub.coordinator.settle import change_row
from modelhub.coordinator.transaction import put_settled
from modelhub.errors import Conflict, CorruptData, NotFound
from modelhub.records import (
    Intent,
    Metadata,
    MetadataRow,
    ModelHint,
    Pin,
    Published,
    Targets,
    decode,
    encode,
    hex_digest,
)
from modelhub.results import Finding, Health, Listing

_BATCH = 5000
_NOTHING_FOR_IT = Outcome(False, "")


def repair(
    ctx: Context,
    check: Check,
    *,
    files: Path | None = None,
    dry_run: bool = False,
    progress: Progress,
) -> Health:
    """Mend what ``check`` found, and say of each finding whether it is right now.

    ``files`` is where plain files may hold what is whole nowhere else. With ``dry_run`` nothing is
    written, and ``repair`` of each finding says what would be done.

    Raises:
        Unavailable, OutcomeUnknown: a store is away; run it again.
    """
    mends = _Mends(ctx, files, dry_run=dry_run, progress=progress)
    done = mends.run([noted.mend for noted in check.noted if noted.mend is not None])
    findings = [_told(noted, done) for noted in check.noted]
    repaired = sum(finding.repaired for finding in findings)
    return Health(findings=Listing(Finding, findings), checked=check.checked, repaired=repaired)


def _told(noted: Noted, done: dict[Mend, Outcome]) -> Finding:
    finding = noted.finding
    outcome = done.get(noted.mend, _NOTHING_FOR_IT) if noted.mend is not None else _NOTHING_FOR_IT
    told = outcome.told or finding.repair
    return structs.replace(finding, repaired=outcome.repaired, repair=told)


class _Mends:
    """All mends of one run, in the order in which one may build on another."""

    def __init__(
        self, ctx: Context, files: Path | None, *, dry_run: bool, progress: Progress
    ) -> None:
        self._ctx = ctx
        self._rows = ctx.stores.rows
        self._files = files
        self._dry_run = dry_run
        self._progress = progress
        self._done: dict[Mend, Outcome] = {}

    def run(self, wanted: Sequence[Mend]) -> dict[Mend, Outcome]:
        """Mend what is wanted; what became of each."""
        every: list[tuple[str, Callable[[list[Mend]], None]]] = [
            ("system", self._each(self._system)),
            ("pack", lambda _: self._packs([m for m in wanted if m.by in {"pack", "content"}])),
            ("metadata", self._each(self._metadata)),
            ("intent", self._intents),
            ("sweep", self._sweep),
            ("model", self._each(self._model)),
            ("summary", self._each(self._summary)),
            ("chunk rows", self._chunk_rows),
            ("search", self._search),
        ]
        for by, mend in every:
            of_kind = [
                one for one in dict.fromkeys(wanted) if (one.by, by) in _ALIKE or one.by == by
            ]
            if not of_kind:
                continue
            if self._dry_run and by != "pack":
                self._done |= dict.fromkeys(of_kind, Outcome(False, _WOULD[by]))
            else:
                mend(of_kind)
            self._progress(f"repair {by}", len(of_kind), len(of_kind))
        return self._done

    def _each(self, mend: Callable[[Mend], Outcome]) -> Callable[[list[Mend]], None]:
        def mend_all(wanted: list[Mend]) -> None:
            for one in wanted:
                try:
                    self._done[one] = mend(one)
                except CorruptData as exc:
                    self._done[one] = Outcome(False, f"{exc.message}. {exc.remedy}")

        return mend_all

    # --- intents and system --------------------------------------------------------------------

    def _sweep(self, wanted: list[Mend]) -> None:
        with suppress(CorruptData):  # of one model; all others are settled
            sweep.sweep(self._ctx, self._progress)
        for one in wanted:
            found = self._rows.scan(keys.INTENTS, one.key, one.key + b"\x01", limit=1)
            there = next(iter(found), None) is not None
            told = "it is there still: its model's log is damaged" if there else "swept"
            self._done[one] = Outcome(not there, told)

    def _intents(self, wanted: list[Mend]) -> None:
        self._each(self._intent)(wanted)
        self._sweep([])

    def _intent(self, mend: Mend) -> Outcome:
        """Put a row in its place that lets the sweeper settle the attempt, whatever it was.

        Its base was the head or before; with the head as base nothing of it can land once the
        sweeper is done with it.
        """
        value = self._rows.get(keys.INTENTS, mend.key)
        if value is None:
            return Outcome(True, "it is gone")
        head = read_head(self._rows, mend.subject)
        lease = self._ctx.clock.now() + timedelta(seconds=self._ctx.patience.lease_s)
        if keys.parse_intent(mend.key)[2] is None:
            fresh = encode(Intent(base=head.seq, op="?", actor=self._ctx.principal, lease=lease))
        else:
            fresh = encode(Pin(head.seq, lease))
        return self._replace(keys.INTENTS, mend.key, value, fresh, "a later sweep settles it")

    def _system(self, mend: Mend) -> Outcome:
        kind = RUNS[mend.key]
        value = self._rows.get(keys.SYSTEM, mend.key)
        with suppress(CorruptData):
            if value is None or decode(value, kind, "a row"):
                return Outcome(True, "it is right by now")
        assert value is not None
        fresh = encode(kind(run="", actor=self._ctx.principal, lease=self._ctx.clock.now()))
        return self._replace(keys.SYSTEM, mend.key, value, fresh, "the next run begins anew")

    def _replace(self, table: str, key: bytes, value: bytes, fresh: bytes, told: str) -> Outcome:
        keep(self._ctx, table, key, value)
        if not change_row(self._ctx, table, key, value, fresh):
            return Outcome(False, "somebody else changed it; run this again")
        return Outcome(True, f"{told}; the old row is kept")

    # --- packs and chunks ----------------------------------------------------------------------

    def _packs(self, wanted: list[Mend]) -> None:
        rotten: dict[str, bool] = {}
        for mend in wanted:
            rotten[mend.subject] = rotten.get(mend.subject, False) or mend.by == "content"
        done = rebuild(self._ctx, rotten, self._files, dry_run=self._dry_run)
        self._done |= {mend: done[mend.subject] for mend in wanted}

    def _chunk_rows(self, wanted: list[Mend]) -> None:
        """Remove rows that lead nowhere, and put those right whose pack says where."""
        stale = [mend.key for mend in wanted if not mend.subject]
        lost = {mend.subject for mend in wanted if not mend.key}
        if lost:
            for key, value in self._rows.scan(keys.CHUNKS, b"\0", b"\xff"):
                ref = hinted_chunk(_digest(key), value)
                if ref is not None and lost.intersection(ref.packs()):
                    stale.append(key)
                if len(stale) >= _BATCH:
                    self._rows.delete_many(keys.CHUNKS, stale)
                    stale = []
        if stale:
            self._rows.delete_many(keys.CHUNKS, stale)
        for mend in wanted:
            if mend.subject and mend.key:
                self._place_chunk(mend)
            self._done[mend] = Outcome(True, "removed" if not mend.key else "put right")

    def _place_chunk(self, mend: Mend) -> None:
        for record in read_trailer(self._ctx.stores.weights, mend.subject):
            if keys.chunk(record.digest) == mend.key and record.base is None:
                fresh = chunk_hint(placed(mend.subject, record, None))
                self._rows.put(keys.CHUNKS, mend.key, fresh)
                return
        self._rows.delete_many(keys.CHUNKS, [mend.key])

    # --- metadata and hints --------------------------------------------------------------------

    def _metadata(self, mend: Mend) -> Outcome:
        """The row from its search document, if that is all there was to it: its digest decides."""
        name, _, number = mend.subject.rpartition("@")
        head = read_head(self._rows, name)
        published = versions.publication(self._rows, head, int(number))
        assert isinstance(published.entry.change, Published)
        document = index.on_live(
            self._ctx, lambda target: index.held(self._ctx, target, [mend.subject], [])
        ).get(mend.subject)
        body = None if document is None else document.body
        if body is None:
            return _NOTHING_FOR_IT
        for sealed in _naming(self._ctx, head, int(number)):
            digest = versions.metadata_digest(sealed.entry, int(number))
            assert digest is not None
            metadata = _metadata_of(body, published.entry.change.version.bases)
            data = encode(MetadataRow(sealed.entry.seq, sealed.entry.txid, metadata))
            if hex_digest(data) == digest:
                put_settled(
                    self._ctx,
                    keys.METADATA,
                    {keys.metadata(name, int(number), digest): data},
                )
                return Outcome(True, "search had its text; its digest agrees")
        return _NOTHING_FOR_IT

    def _model(self, mend: Mend) -> Outcome:
        """Every hint and look-up row of a model, as its log says."""
        name = mend.subject
        log = CheckedLog(Check(self._ctx), name, self._rows.scan(keys.LOG, *keys.prefix(name)))
        for of in log.versions():
            places = {keys.version(name, of.number): version_hint(of)}
            put_settled(self._ctx, keys.VERSIONS, places)
            lost = set(lookup_keys(of))
            lost -= self._rows.get_many(keys.LOOKUP, sorted(lost)).keys()
            if lost:
                put_settled(self._ctx, keys.LOOKUP, dict.fromkeys(lost, version_hint(of)))
        # The row before the head: whoever commits meanwhile puts another in its place.
        standing = self._rows.get(keys.MODELS, keys.model(name))
        head = read_head(self._rows, name)
        fresh = encode(hints.model_hint(self._ctx, head, {}))
        if standing != fresh and not change_row(
            self._ctx, keys.MODELS, keys.model(name), standing, fresh
        ):
            return Outcome(False, "the model changed meanwhile; run this again")
        return Outcome(True, "put again, as the log says")

    def _summary(self, mend: Mend) -> Outcome:
        """A summary of no model becomes what is put before a first entry: nobody lists that."""
        value = self._rows.get(keys.MODELS, mend.key)
        if value is None or read_head(self._rows, mend.key.decode(errors="replace")).seq:
            return Outcome(True, "it is right by now")
        return self._replace(
            keys.MODELS, mend.key, value, encode(ModelHint()), "not listed any more"
        )

    # --- search --------------------------------------------------------------------------------

    def _search(self, wanted: list[Mend]) -> None:
        try:
            self._restore_targets()
            if not all(mend.subject for mend in wanted) or not self._caught_up(wanted):
                reindex(self._ctx, "whole", self._progress)
        except Conflict as exc:
            outcome = Outcome(False, f"{exc.message}. {exc.remedy}")
        else:
            outcome = Outcome(True, "search shows what the log says")
        self._done |= dict.fromkeys(wanted, outcome)

    def _restore_targets(self) -> None:
        """Where the list of targets is lost, one of a single empty target."""
        prefix = bootstrap.target_prefix(bootstrap.recognise(self._ctx))
        value = self._rows.get(keys.SYSTEM, keys.SEARCH)
        with suppress(CorruptData, NotFound):
            targets = index.take_targets(self._ctx, value)
            if all(target.startswith(prefix) for target in targets.targets):
                return
        if value is not None:
            keep(self._ctx, keys.SYSTEM, keys.SEARCH, value)
        target = prefix + new_name(self._ctx.clock.now())
        self._ctx.stores.search.create_target(target)
        fresh = encode(Targets(live=target, targets=(target,), layout=index.LAYOUT))
        change_row(self._ctx, keys.SYSTEM, keys.SEARCH, value, fresh)

    def _caught_up(self, wanted: list[Mend]) -> bool:
        """Whether writing what is lost or behind was enough; what says something else was not."""
        reindex(self._ctx, "incremental", self._progress)
        check = Check(self._ctx)
        models_check = ModelCheck(check, index.read_targets(self._ctx))
        for name in sorted({mend.subject.rpartition("@")[0] for mend in wanted}):
            found = self._rows.scan(keys.LOG, *keys.prefix(name))
            for of in CheckedLog(Check(self._ctx), name, found).versions():
                models_check.check_documents([of])
        return not check.found("search-stale")


_ALIKE = {("content", "pack")}
_WOULD = {
    "sweep": "a sweep would settle it",
    "intent": "a row that the sweeper can settle would take its place; the old one is kept",
    "system": "an empty one would take its place; the old one is kept",
    "metadata": "search may have its text: it would be put again if its digest agrees",
    "model": "it would be put again, as the log says",
    "summary": "it would not be listed any more; the old row is kept",
    "chunk rows": "it would be put right or removed",
    "search": "search would be brought up to the log",
}


def _digest(key: bytes) -> bytes:
    try:
        return bytes.fromhex(key.decode())
    except ValueError:
        return b""


def _naming(ctx: Context, head: Head, number: int) -> Iterable[Sealed]:
    """The newest entry that gives a version its metadata."""
    for sealed in entries(ctx.stores.rows, head.name, newest=head.seq):
        if versions.metadata_digest(sealed.entry, number) is not None:
            yield sealed
            return


def _metadata_of(body: Mapping[str, Any], bases: Sequence[str]) -> Metadata:
    """What ``index.render`` made a document of, but for what documents leave out."""
    fields = {name: body.get(name) for name in _IN_DOCUMENTS}
    fields["bases"] = list(body.get("bases", ()))[len(bases) :]
    try:
        return msgspec.convert(fields, Metadata)
    except msgspec.ValidationError:
        return Metadata()


_IN_DOCUMENTS = (
    *("title", "description", "card", "owner", "creator", "datasets", "params", "metrics"),
    *("labels", "licence", "framework", "extra"),
)
