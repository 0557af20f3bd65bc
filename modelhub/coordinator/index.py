"""Search documents: rendered from the log alone, written after the commit, never believed.

A document's external version is the restore epoch times 2^40 plus the sequence of the newest
entry that touches it, so that writes may arrive in any order, by any process, any number of times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from modelhub.coordinator import keys, versions
from modelhub.coordinator.context import Context
from modelhub.coordinator.log import Head, Sealed, since_entry
from modelhub.coordinator.state import head_number, is_deleted, refs_at, subject, touched
from modelhub.describe.facts import facts_text
from modelhub.errors import CorruptData, ModelhubError, NotFound, Unavailable
from modelhub.records import Metadata, Published, Targets, decode
from modelhub.stores import Document

LAYOUT = 2
"""The form of documents, and of the targets that take them: another one takes a re-index."""

T = TypeVar("T")

_EPOCH = 2**40
_BATCH = 500
# A publisher waits no longer for each target: its change stands, and the sweeper can do this.
_PUBLISHER_WAITS_S = 2.0


def document_id(name: str, number: int) -> str:
    """A version's document in every target."""
    return f"{name}@{number}"


def render(head: Head, published: Sealed, metadata: Metadata) -> dict[str, Any]:
    """The body of a live version's document, as of ``head``."""
    change = published.entry.change
    assert isinstance(change, Published)
    version = change.version
    return {
        "name": head.name,
        "number": change.number,
        "title": metadata.title,
        "description": metadata.description,
        "card": metadata.card,
        "labels": list(metadata.labels),
        "facts": facts_text(metadata),
        "owner": metadata.owner,
        "creator": metadata.creator,
        "datasets": list(metadata.datasets),
        "framework": metadata.framework,
        "licence": metadata.licence,
        "params": metadata.params,
        "metrics": metadata.metrics,
        "extra": metadata.extra,
        "bases": [*version.bases, *metadata.bases],
        "parents": [document_id(head.name, parent) for parent in change.parents],
        "origin": document_id(head.name, version.origin) if version.origin else "",
        "message": published.entry.message,
        "actor": published.entry.actor,
        "created": published.entry.time.isoformat(),
        "digest": published.digest,
        "size_bytes": version.size_bytes,
        "files": version.files,
        "branches": list(refs_at(head.state.branches, change.number)),
        "tags": list(refs_at(head.state.tags, change.number)),
        "aliases": list(refs_at(head.state.aliases, change.number)),
        "current": change.number == head_number(head.state),
    }


def stale_since(ctx: Context, head: Head, since: int) -> dict[int, int]:
    """The versions that entries after ``since`` touch, each with the newest such entry."""
    newest: dict[int, int] = {}
    for sealed in since_entry(ctx.stores.rows, head, since):
        for number in touched(sealed.entry.change):
            newest.setdefault(number, sealed.entry.seq)
    return newest


def documents(
    ctx: Context,
    head: Head,
    stale: Mapping[int, int],
    known: Mapping[int, Metadata],
    unreadable: list[CorruptData],
) -> list[Document]:
    """Fresh documents for the versions in ``stale``, with external versions of epoch 0.

    A version whose rows are damaged keeps no other from search: why goes into ``unreadable``.
    """
    fresh = []
    for number, seq in sorted(stale.items()):
        try:
            body = _body(ctx, head, number, known)
        except CorruptData as exc:
            unreadable.append(exc)
        else:
            fresh.append(Document(document_id(head.name, number), seq, body))
    return fresh


def _body(
    ctx: Context, head: Head, number: int, known: Mapping[int, Metadata]
) -> dict[str, Any] | None:
    if is_deleted(head.state, number):
        return None
    published = versions.publication(ctx.stores.rows, head, number)
    metadata = known.get(number)
    if metadata is None:
        metadata = versions.metadata_row(ctx.stores.rows, head, published).metadata
    return render(head, published, metadata)


def external_version(seq: int, epoch: int) -> int:
    """The version of a document as of entry ``seq``: higher after every restore."""
    return epoch * _EPOCH + seq


def at_epoch(document: Document, epoch: int) -> Document:
    """``document``, which was of epoch 0, with its external version."""
    return Document(document.id, external_version(document.version, epoch), document.body)


def read_targets(ctx: Context) -> Targets:
    """The registered search targets, from the row store.

    Raises:
        NotFound: there is no hub here.
    """
    return take_targets(ctx, ctx.stores.rows.get(keys.SYSTEM, keys.SEARCH))


def take_targets(ctx: Context, value: bytes | None) -> Targets:
    """The search targets of a row that was read, to be remembered.

    Raises:
        CorruptData: the row is damaged.
        NotFound: it is not there.
    """
    if value is None:
        raise NotFound(
            "this hub has no search targets", remedy="Restore its system table from a backup."
        )
    ctx.targets = decode(value, Targets, "the list of search targets")
    return ctx.targets


def on_live(ctx: Context, ask: Callable[[str], T]) -> T:
    """What the live target answers; a re-index may put another in its place meanwhile.

    Raises:
        NotFound: it is not there.
        Unavailable: its documents are of another form than this release knows.
    """
    while True:
        targets = read_targets(ctx)
        if targets.layout != LAYOUT:
            raise Unavailable(
                f"search has documents of form {targets.layout}; this release knows {LAYOUT}",
                remedy="Run `modelhub admin reindex`.",
            )
        try:
            return ask(targets.live)
        except (NotFound, Unavailable, CorruptData):  # what is being dropped says any of these
            if read_targets(ctx).live == targets.live:
                raise


def write_everywhere(
    ctx: Context, fresh: list[Document], *, timeout_s: float | None = None
) -> None:
    """Write to every registered target, and again if the list changed meanwhile.

    The list is read again *after* writing: a re-index that registers a target and then reads the
    log misses nothing, because whoever committed later sees the new target here. ``timeout_s`` is
    for each call of a target; its own default without.

    Raises:
        Unavailable, OutcomeUnknown, NotFound: not every target has the documents.
    """
    if not fresh:
        return
    written: set[tuple[str, int]] = set()
    targets = ctx.targets or read_targets(ctx)
    while True:
        for target in targets.targets:
            versioned = [at_epoch(document, targets.epoch) for document in fresh]
            if (target, targets.epoch) not in written and _write(ctx, target, versioned, timeout_s):
                written.add((target, targets.epoch))
        targets = read_targets(ctx)
        if all((target, targets.epoch) in written for target in targets.targets):
            return


def held(
    ctx: Context, target: str, ids: Sequence[str], unreadable: list[CorruptData]
) -> dict[str, Document]:
    """What a target has of these documents; of those that cannot be read ``unreadable`` says why.

    Raises:
        NotFound: the target is not there.
    """
    try:
        return ctx.stores.search.get(target, ids)
    except CorruptData as exc:
        if len(ids) == 1:
            unreadable.append(exc)
            return {}
    middle = len(ids) // 2
    first, rest = (held(ctx, target, part, unreadable) for part in (ids[:middle], ids[middle:]))
    return first | rest


def _write(ctx: Context, target: str, versioned: list[Document], timeout_s: float | None) -> bool:
    """Whether the target took them; False where it is gone, which the next reading explains."""
    try:
        for start in range(0, len(versioned), _BATCH):
            batch = versioned[start : start + _BATCH]
            ctx.stores.search.write(target, batch, timeout_s=timeout_s)
    except NotFound:
        if target in read_targets(ctx).targets:
            raise
        return False
    return True


def publish_documents(ctx: Context, head: Head, known: Mapping[int, Metadata]) -> bool:
    """Show the newest entry of ``head`` to search, tried once; False leaves it to the sweeper.

    The entry stands, so a search index that refuses (a wrong password, a mapping that does not fit)
    is no error of the publisher's.
    """
    if not ctx.breaker.allows():
        return False
    unreadable: list[CorruptData] = []
    try:
        fresh = documents(ctx, head, stale_since(ctx, head, head.seq - 1), known, unreadable)
        write_everywhere(ctx, fresh, timeout_s=_PUBLISHER_WAITS_S)
    except ModelhubError:
        ctx.breaker.record(ok=False)
        return False
    ctx.breaker.record(ok=True)
    return not unreadable


def wait(ctx: Context, head: Head, published: Sealed) -> None:
    """Return when searches find a version as of ``head``.

    Raises:
        Unavailable: search does not take it, or does not answer.
    """
    try:
        refresh(ctx, head, published.entry.seq - 1)
        refreshed: set[str] = set()
        # A target that is not live yet may be, when the caller searches.
        while more := set(read_targets(ctx).targets) - refreshed:
            for target in more:
                with suppress(NotFound):  # dropped meanwhile
                    ctx.stores.search.refresh(target)
            refreshed |= more
    except ModelhubError as exc:
        revision = f"{head.name}@{subject(published.entry.change)}"
        raise Unavailable(
            f"{revision} is published, and search does not show it yet: {exc.message}",
            remedy="Search shows it once it is back and `modelhub admin sweep` ran.",
        ) from exc


def refresh(ctx: Context, head: Head, since: int) -> int:
    """Bring every document that entries after ``since`` touch up to ``head``; how many.

    Raises:
        Unavailable, OutcomeUnknown, NotFound: search or rows stay away; the debt remains.
        CorruptData: a version's rows are damaged; all other documents were written.
    """
    unreadable: list[CorruptData] = []
    fresh = documents(ctx, head, stale_since(ctx, head, since), {}, unreadable)
    write_everywhere(ctx, fresh)
    if unreadable:
        raise unreadable[0]
    return len(fresh)
