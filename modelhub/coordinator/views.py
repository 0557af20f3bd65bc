"""What a Hub hands back, made from records."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from modelhub.coordinator.log import Head, Sealed
from modelhub.coordinator.state import is_deleted, kind_of, named, refs_at, subject
from modelhub.errors import CorruptData
from modelhub.records import Change, Metadata, Protected, Published, RefMoved
from modelhub.results import Listing, LogEntry, Ref, RefChange, SearchHit, SearchResult, Version
from modelhub.stores import Hit, Hits


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
        branches=refs_at(head.state.branches, change.number),
        tags=refs_at(head.state.tags, change.number),
        aliases=refs_at(head.state.aliases, change.number),
        parents=change.parents,
        bases=change.version.bases,
        origin=change.version.origin or None,
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
        op=op(entry.change),
        ref=_ref(entry.change),
        message=entry.message,
        actor=entry.actor,
        created=entry.time,
        digest=sealed.digest,
    )


def op(change: Change) -> str:
    """What was done; of refs, what kind it is."""
    match change:
        case RefMoved(kind=kind, to=to):
            return kind if to else f"delete-{kind}"
        case Protected(on=on):
            return "protect" if on else "unprotect"
        case _:
            return str(change.__struct_config__.tag)


def _ref(change: Change) -> str:
    """The branch, tag or alias that is changed; empty where it is none."""
    match change:
        case Published(branch=branch):
            return branch
        case RefMoved(name=ref) | Protected(ref=ref):
            return ref
        case _:
            return ""


def ref(head: Head, name: str) -> Ref:
    """A branch, tag or alias as of ``head``, which has it."""
    state = head.state
    kind = kind_of(state, name)
    assert kind is not None
    return Ref(
        name=head.name,
        ref=name,
        kind=kind,
        number=named(state, name) or None,
        protected=name in state.protected,
    )


def ref_change(sealed: Sealed, to: int) -> RefChange:
    """When a ref came to mean version ``to`` (0: none)."""
    entry = sealed.entry
    return RefChange(
        number=to or None,
        op=op(entry.change),
        message=entry.message,
        actor=entry.actor,
        created=entry.time,
    )


def search_result(page: Hits, suggestion: str | None) -> SearchResult:
    """A page of answers.

    Raises:
        CorruptData: a document is not such as ``index.render`` makes.
    """
    return SearchResult(
        total=page.total,
        hits=Listing(SearchHit, [search_hit(hit) for hit in page.hits]),
        next=page.next,
        facets=page.facets,
        suggestion=suggestion,
    )


def search_hit(hit: Hit) -> SearchHit:
    """An answer, from a document that ``index.render`` made.

    Raises:
        CorruptData: the document is not such a one.
    """
    try:
        return _search_hit(hit.body, hit)
    except (KeyError, TypeError, ValueError) as exc:
        raise CorruptData(
            f"the search document {hit.id} is damaged",
            remedy="Run `modelhub admin fsck`; `modelhub edit` of that version writes it again.",
        ) from exc


def _search_hit(body: Mapping[str, Any], hit: Hit) -> SearchHit:
    return SearchHit(
        name=body["name"],
        number=body["number"],
        score=hit.score,
        title=body["title"],
        description=body["description"],
        created=datetime.fromisoformat(body["created"]),
        highlight=hit.highlight,
    )
