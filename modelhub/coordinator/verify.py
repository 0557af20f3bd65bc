"""Checking a version, or a whole hub, against what its records say. Reads only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import groupby

from modelhub.content.manifest import ChunkRef, Manifest
from modelhub.content.pack import pack_path, read_trailer
from modelhub.content.read import chunk_bytes
from modelhub.coordinator import hints, index, keys, sweep, versions
from modelhub.coordinator.context import Context, Progress, ignore_progress
from modelhub.coordinator.log import Head, Sealed, open_row
from modelhub.coordinator.publish import read_manifest
from modelhub.coordinator.state import SNAPSHOT_EVERY, apply, exists, touched
from modelhub.errors import CorruptData, NotFound
from modelhub.records import PackRow, Published, State, VersionHint, decode, encode
from modelhub.results import Finding, Health, Listing

_BATCH = 500

_REPAIR = {
    "log-damaged": "Restore the row from a backup; later entries still name its digest.",
    "log-broken": "Restore the missing rows from a backup.",
    "metadata-damaged": "`modelhub edit` gives the version new metadata; old text needs a backup.",
    "manifest-damaged": "Push the same files again, or restore the pack from a backup.",
    "pack-missing": "Restore the pack from a backup, or push the same files again.",
    "pack-damaged": "Restore the pack from a backup, or push the same files again.",
    "chunk-damaged": "Restore the pack from a backup, or push the same files again.",
    "hint-stale": "None is needed: readers believe the log. The next change or sweep refreshes it.",
    "search-stale": "Run `modelhub admin sweep`.",
    "intent-overdue": "Run `modelhub admin sweep`.",
}
_WARNINGS = {"hint-stale", "search-stale", "intent-overdue"}


@dataclass
class Check:
    """A check under way: what was found, and how much was looked at."""

    ctx: Context
    findings: list[Finding] = field(default_factory=list)
    checked: dict[str, int] = field(default_factory=dict)

    def count(self, what: str, number: int = 1) -> None:
        """Note that something was looked at."""
        self.checked[what] = self.checked.get(what, 0) + number

    def report(self, kind: str, subject: str, cause: object) -> None:
        """Note that something is not as it should be."""
        severity = "warning" if kind in _WARNINGS else "error"
        self.findings.append(
            Finding(
                kind=kind,
                severity=severity,
                subject=subject,
                cause=str(cause),
                repair=_REPAIR[kind],
            )
        )

    def health(self) -> Health:
        """The result."""
        return Health(findings=Listing(Finding, self.findings), checked=self.checked)


def verify_version(ctx: Context, head: Head, number: int, progress: Progress) -> Health:
    """Check everything that reading one version needs, every chunk of it included."""
    check = Check(ctx)
    subject = f"{head.name}@{number}"
    published = versions.publication(ctx.stores.rows, head, number)
    check.count("versions")
    try:
        versions.metadata_row(ctx.stores.rows, head, published)
    except CorruptData as exc:
        check.report("metadata-damaged", subject, exc)
    manifest = _manifest(check, subject, published)
    if manifest is not None:
        total = sum(file.size_bytes for file in manifest.files)
        _check_chunks(check, subject, manifest, total, progress)
    return check.health()


def _check_chunks(
    check: Check, subject: str, manifest: Manifest, total: int, progress: Progress
) -> None:
    done = 0
    for file in manifest.files:
        check.count("files")
        for ref in manifest.chunks(file):
            _check_chunk(check, ref, f"{subject} {file.path}")
            done += ref.length
            progress("verify", done, total)


def _check_chunk(check: Check, ref: ChunkRef, subject: str) -> None:
    check.count("chunks")
    try:
        chunk_bytes(check.ctx.stores.weights, ref)
    except (CorruptData, NotFound) as exc:
        check.report("chunk-damaged", subject, exc)


def _manifest(check: Check, subject: str, published: Sealed) -> Manifest | None:
    try:
        return read_manifest(check.ctx, published)
    except (CorruptData, NotFound) as exc:
        check.report("manifest-damaged", subject, exc)
        return None


def check_hub(ctx: Context, *, data: bool, progress: Progress = ignore_progress) -> Health:
    """Check every model and pack; with ``data``, every byte of every pack in use.

    Raises:
        Unavailable: a store is away; a check that ends was complete.
    """
    check = Check(ctx)
    packs: dict[str, str] = {}
    for done, (name, rows) in enumerate(_models(ctx), 1):
        check.count("models")
        for pack in _check_model(check, name, rows):
            packs.setdefault(pack, name)
        progress("fsck", done, 0)
    for done, pack in enumerate(sorted(packs), 1):
        _check_pack(check, pack, packs[pack], data=data)
        progress("fsck packs", done, len(packs))
    _check_intents(check)
    return check.health()


def _models(ctx: Context) -> Iterator[tuple[str, Iterator[tuple[bytes, bytes]]]]:
    """Every model that has a log row, from the log itself, with its rows newest first."""
    rows = ctx.stores.rows.scan(keys.LOG, b"\0", b"\xff")
    yield from groupby(rows, key=lambda row: keys.parse_log(row[0])[0])


def _check_model(check: Check, name: str, rows: Iterable[tuple[bytes, bytes]]) -> Iterator[str]:
    """Check one model; the packs that its versions need."""
    log = _read_log(check, name, rows)
    state = _check_states(check, name, log)
    if state is None:
        # What the readable entries refer to is still worth knowing to be in use.
        for sealed in log:
            if isinstance(sealed.entry.change, Published):
                yield from sealed.entry.change.version.packs
        return
    if not exists(state):
        return
    newest = log[-1]
    head = Head(
        name,
        newest.entry.seq,
        newest.digest,
        newest.entry.time,
        state,
        {sealed.entry.seq: sealed for sealed in log},
    )
    for sealed in log:
        if isinstance(sealed.entry.change, Published):
            check.count("versions")
            yield from _check_version(check, head, sealed, sealed.entry.change)
    _check_model_hint(check, head)
    _check_documents(check, head)


def _read_log(check: Check, name: str, rows: Iterable[tuple[bytes, bytes]]) -> list[Sealed]:
    """The readable entries, oldest first."""
    log = []
    for key, value in rows:
        check.count("entries")
        try:
            log.append(open_row(key, value))
        except CorruptData as exc:
            seq = keys.parse_log(key)[1]
            check.report("log-damaged", f"{name} entry {seq}", exc)
    return log[::-1]


def _check_states(check: Check, name: str, log: Sequence[Sealed]) -> State | None:
    """The state after the last entry; None where the log does not add up, which is reported."""
    state = State()
    previous: Sealed | None = None
    for sealed in log:
        entry = sealed.entry
        before = previous.entry.seq if previous else 0
        cause = ""
        if entry.seq != before + 1:
            cause = f"entries {before + 1} to {entry.seq - 1} are missing or unreadable"
        elif previous and entry.previous != previous.digest:
            cause = "it does not name its predecessor's digest"
        elif previous and entry.time < previous.entry.time:
            cause = "its time is before its predecessor's"
        elif isinstance(entry.change, Published) and entry.change.number != state.next:
            cause = f"it publishes version {entry.change.number} where {state.next} is next"
        if not cause:
            state = apply(state, entry.change)
            if entry.seq % SNAPSHOT_EVERY == 0 and entry.state != state:
                cause = "the state it carries is not what the log adds up to"
        if cause:
            check.report("log-broken", f"{name} entry {entry.seq}", cause)
            return None
        previous = sealed
    return state


def _check_version(check: Check, head: Head, published: Sealed, change: Published) -> Iterator[str]:
    subject = f"{head.name}@{change.number}"
    try:
        versions.metadata_row(check.ctx.stores.rows, head, published)
    except CorruptData as exc:
        check.report("metadata-damaged", subject, exc)
    manifest = _manifest(check, subject, published)
    if manifest is not None and not set(manifest.packs()) <= set(change.version.packs):
        check.report("manifest-damaged", subject, "it names packs that its log entry does not")
    yield from change.version.packs
    key = keys.version(head.name, change.number)
    value = check.ctx.stores.rows.get(keys.VERSIONS, key)
    if value != encode(VersionHint(published.entry.seq, published.entry.txid)):
        _report_hint(check, head.name, f"versions row of {subject}")


def _report_hint(check: Check, name: str, subject: str) -> None:
    if not _is_pending(check, name):
        check.report("hint-stale", subject, "it is absent, or not what the log says")


def _is_pending(check: Check, name: str) -> bool:
    """Whether an intent of this model is there, which owes hints and documents."""
    scan = check.ctx.stores.rows.scan(keys.INTENTS, *keys.intents_range(name), limit=1)
    return next(iter(scan), None) is not None


def _check_model_hint(check: Check, head: Head) -> None:
    value = check.ctx.stores.rows.get(keys.MODELS, keys.model(head.name))
    try:
        expected = hints.model_hint(check.ctx, head, {})
    except CorruptData:
        return  # Reported with its version.
    if value != encode(expected):
        _report_hint(check, head.name, f"models row of {head.name}")


def _check_documents(check: Check, head: Head) -> None:
    """Compare what search holds of a model with a fresh rendering."""
    newest: dict[int, int] = {}
    for seq in sorted(head.recent):
        newest.update(dict.fromkeys(touched(head.recent[seq].entry.change), seq))
    try:
        fresh = index.documents(check.ctx, head, newest, {})
    except CorruptData:
        return  # Reported with its version.
    targets = index.read_targets(check.ctx)
    for start in range(0, len(fresh), _BATCH):
        batch = fresh[start : start + _BATCH]
        check.count("documents", len(batch))
        held = check.ctx.stores.search.get(targets.live, [document.id for document in batch])
        for document in batch:
            expected = index.at_epoch(document, targets.epoch)
            if held.get(document.id) != expected and not _is_pending(check, head.name):
                check.report("search-stale", document.id, "search does not show what the log says")


def _check_pack(check: Check, pack: str, name: str, *, data: bool) -> None:
    check.count("packs")
    subject = f"pack {pack} (used by {name})"
    weights = check.ctx.stores.weights
    value = check.ctx.stores.rows.get(keys.PACKS, keys.pack(pack))
    if value is None:
        check.report("pack-missing", subject, "it has no row")
        return
    row = decode(value, PackRow, subject)
    size = weights.size(pack_path(pack))
    if row.state not in {"live", "condemned"} or size is None:
        check.report("pack-missing", subject, f"its row says {row.state}; its file is absent")
        return
    if size != row.size_bytes:
        cause = f"its file has {size:,} bytes; {row.size_bytes:,} were written"
        check.report("pack-damaged", subject, cause)
        return
    if data:
        _check_pack_bytes(check, pack, subject)


def _check_pack_bytes(check: Check, pack: str, subject: str) -> None:
    try:
        records = read_trailer(check.ctx.stores.weights, pack)
    except (CorruptData, NotFound) as exc:
        check.report("pack-damaged", subject, exc)
        return
    for record in records:
        ref = ChunkRef(
            record.digest,
            record.length,
            pack,
            record.offset,
            record.stored,
            record.encoding,
            record.base,
        )
        _check_chunk(check, ref, subject)


def _check_intents(check: Check) -> None:
    """An attempt whose lease is long over should have been swept."""
    now = check.ctx.clock.now()
    grace = timedelta(seconds=check.ctx.patience.grace_s)
    for name, attempts in sweep.remains(check.ctx):
        for attempt in attempts:
            check.count("intents")
            if attempt.intent is not None and now > attempt.lease + 2 * grace:
                cause = f"its lease ended at {attempt.lease.isoformat()}"
                check.report("intent-overdue", f"{name} {attempt.txid}", cause)
