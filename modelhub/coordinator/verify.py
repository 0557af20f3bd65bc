"""Checking one version, byte for byte. Reads only."""

from __future__ import annotations

from modelhub.content.manifest import Manifest
from modelhub.coordinator import versions
from modelhub.coordinator.context import Context, Progress
from modelhub.coordinator.findings import Check
from modelhub.coordinator.log import Head
from modelhub.coordinator.relatives import read_manifest
from modelhub.errors import CorruptData
from modelhub.results import Health


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
            check.chunk(ref, f"{subject} {file.path}")
            done += ref.length
            progress("verify", done, total)
