"""Checking one version, byte for byte, and what any check notes down. Reads only."""

from __future__ import annotations

from dataclasses import dataclass, field

from modelhub.content.manifest import ChunkRef, Manifest
from modelhub.coordinator import versions
from modelhub.coordinator.context import Context, Progress
from modelhub.coordinator.log import Head
from modelhub.coordinator.relatives import read_manifest
from modelhub.errors import CorruptData, NotFound
from modelhub.results import Finding, Health, Listing

_FROM_BACKUP = "Restore it from a backup."
_REPAIR = {
    "log-damaged": "Restore the row from a backup; later entries still name its digest.",
    "log-broken": "Restore the missing rows from a backup.",
    "metadata-damaged": "`modelhub edit` describes the version anew; old text needs a backup.",
    "lookup-missing": "Restore the row from a backup: a repeated request would not be recognised.",
    "manifest-damaged": _FROM_BACKUP,
    "pack-missing": "Restore it from a backup; a push of the same files stores them anew.",
    "pack-damaged": _FROM_BACKUP,
    "chunk-damaged": "Restore its pack from a backup.",
    "intent-damaged": "Restore the row from a backup, or delete it if no push is under way.",
    "search-missing": "Restore the search index from a backup.",
    "hint-stale": "None is needed: readers believe the log, only slower.",
    "search-stale": "`modelhub edit` of that version writes its document again.",
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
    try:
        manifest = read_manifest(ctx, published)
    except CorruptData as exc:
        check.report("manifest-damaged", subject, exc)
    else:
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
            check_chunk(check, ref, f"{subject} {file.path}")
            done += ref.length
            progress("verify", done, total)


def check_chunk(check: Check, ref: ChunkRef, subject: str) -> None:
    """Read one chunk, and report it where it is not what its digest says."""
    check.count("chunks")
    try:
        check.ctx.reader.chunk(ref)
    except (CorruptData, NotFound) as exc:
        check.report("chunk-damaged", subject, exc)
