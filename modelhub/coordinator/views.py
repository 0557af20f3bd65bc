"""What a Hub hands back, made from records."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from modelhub.coordinator.log import Head, Sealed
from modelhub.coordinator.state import heads_at, is_deleted, subject
from modelhub.errors import CorruptData
from modelhub.records import Metadata, Published
from modelhub.results import LogEntry, SearchHit, Version
from modelhub.stores import Hit


def version(head: Head, published: Sealed, metadata: Metadata) -> Version:
    """A version as of ``head``."""
    entry, change = published.entry, published.entry.change
    assert isinstance(change, Published)
    return Version(
        name=head.name,
        number=change.number,
        digest=published.digest,
        content=change.version.content,
        branch=change.branch,
        branches=heads_at(head.state, change.number),
        parents=change.parents,
        bases=change.version.bases,
        message=entry.message,
        actor=entry.actor,
        created=entry.time,
        deleted=is_deleted(head.state, change.number),
        files=change.version.files,
        total_bytes=change.version.size_bytes,
        new_bytes=change.version.new_bytes,
        metadata=metadata,
    )


def log_entry(sealed: Sealed) -> LogEntry:
    """An entry of a history."""
    entry = sealed.entry
    return LogEntry(
        seq=entry.seq,
        number=subject(entry.change),
        op=str(entry.change.__struct_config__.tag),
        message=entry.message,
        actor=entry.actor,
        created=entry.time,
        digest=sealed.digest,
    )


def search_hit(hit: Hit) -> SearchHit:
    """An answer, from a document that ``index.render`` made.

    Raises:
        CorruptData: the document is not such a one.
    """
    try:
        return _search_hit(hit.body, hit.score)
    except (KeyError, TypeError, ValueError) as exc:
        raise CorruptData(
            f"the search document {hit.id} is damaged",
            remedy="Run `modelhub admin fsck`; `modelhub edit` of that version writes it again.",
        ) from exc


def _search_hit(body: Mapping[str, Any], score: float) -> SearchHit:
    return SearchHit(
        name=body["name"],
        number=body["number"],
        score=score,
        title=body["title"],
        description=body["description"],
        created=datetime.fromisoformat(body["created"]),
    )
