"""Finding versions in a model's log: by number, by name, by digest, by time."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from difflib import get_close_matches

from modelhub.coordinator import keys
from modelhub.coordinator.log import (
    Head,
    Sealed,
    entries,
    entry_at,
    open_row,
    read_head,
    require,
)
from modelhub.coordinator.state import exists, is_deleted, is_purged, kind_of, named
from modelhub.errors import CorruptData, InvalidInput, NotFound
from modelhub.names import DEFAULT_BRANCH, AtTime, Digest, Number, Ref, Revision
from modelhub.names import Head as DefaultHead
from modelhub.records import (
    Edited,
    Entry,
    Metadata,
    MetadataRow,
    Published,
    VersionHint,
    decode,
    hex_digest,
)
from modelhub.stores import RowStore

_MOST_NAMED = 10


def resolve(rows: RowStore, head: Head, revision: Revision) -> int:
    """The number of the version that ``revision`` names, deleted or not.

    Raises:
        NotFound: the model, or what follows the ``@``, is not there.
        InvalidInput: a shortened digest fits more than one version.
    """
    require(rows, head)
    match revision.selector:
        case DefaultHead():
            return _named(head, DEFAULT_BRANCH)
        case Number(number=number):
            if number >= head.state.next:
                raise NotFound(
                    f"{head.name} has no version {number}; its newest is {head.state.next - 1}",
                    remedy=f"`modelhub log {head.name}` lists them.",
                )
            return number
        case Ref(name=name):
            return _named(head, name)
        case Digest(prefix=prefix):
            return _by_digest(rows, head, prefix)
        case AtTime(ref=ref, time=time):
            then = _head_at_time(rows, head, time)
            return _named(then, ref or DEFAULT_BRANCH, when=f" at {time.isoformat()}")


def resolve_live(rows: RowStore, head: Head, revision: Revision) -> int:
    """As ``resolve``, for whoever wants the version's bytes.

    Raises:
        NotFound: also where the version is deleted.
    """
    number = resolve(rows, head, revision)
    require_unpurged(head, number)
    if is_deleted(head.state, number):
        raise NotFound(
            f"{head.name}@{number} is deleted",
            remedy=f"`modelhub undelete {head.name}@{number}` brings it back.",
        )
    return number


def require_unpurged(head: Head, number: int) -> None:
    """Refuse a version whose bytes may be gone.

    Raises:
        NotFound: its retention has ended.
    """
    if is_purged(head.state, number):
        raise NotFound(
            f"{head.name}@{number} was deleted, and its retention has ended",
            remedy=f"`modelhub log {head.name}` says when; only a backup can have it still.",
        )


def _named(head: Head, ref: str, *, when: str = "") -> int:
    """The version that a branch, tag or alias means."""
    if kind_of(head.state, ref) is None:
        raise unknown_ref(head, ref, when=when)
    number = named(head.state, ref)
    if number == 0:
        raise NotFound(
            f"every version on branch {ref} of {head.name} is deleted",
            remedy=f"`modelhub log {head.name}` lists them; `modelhub undelete` brings one back.",
        )
    return number


def unknown_ref(head: Head, ref: str, *, when: str = "") -> NotFound:
    """The error for a ref that the model has not, with those that it may have meant."""
    state = head.state
    known = sorted(state.branches | state.tags | state.aliases)
    near = get_close_matches(ref, known) or known[:_MOST_NAMED]
    return NotFound(
        f"{head.name} has no branch, tag or alias {ref}{when}",
        remedy=f"It has {', '.join(near)}{' and others' if len(near) < len(known) else ''}.",
    )


def _by_digest(rows: RowStore, head: Head, prefix: str) -> int:
    found = [
        sealed.entry.change.number
        for sealed in entries(rows, head.name, newest=head.seq)
        if sealed.digest.startswith(prefix) and isinstance(sealed.entry.change, Published)
    ]
    if not found:
        raise NotFound(
            f"{head.name} has no version whose commit digest begins with {prefix}",
            remedy=f"`modelhub log {head.name}` lists them.",
        )
    if len(found) > 1:
        raise InvalidInput(
            f"digest {prefix} fits versions {', '.join(map(str, found))} of {head.name}",
            remedy="Give more digits.",
        )
    return found[0]


def last_entry_at(rows: RowStore, head: Head, time: datetime) -> int:
    """The newest entry when ``time`` was now (0: none), by bisection: times never go back.

    An entry of that very time is one of them.
    """
    low, high = 0, head.seq
    while low < high:
        middle = (low + high + 1) // 2
        sealed = head.recent.get(middle) or entry_at(rows, head.name, middle)
        if sealed is None:
            raise CorruptData(
                f"the log of {head.name} lacks entry {middle}",
                remedy="Run `modelhub admin fsck`.",
            )
        low, high = (middle, high) if sealed.entry.time <= time else (low, middle - 1)
    return low


def _head_at_time(rows: RowStore, head: Head, time: datetime) -> Head:
    seq = last_entry_at(rows, head, time)
    then = read_head(rows, head.name, at=seq) if seq else None
    if then is None or not exists(then.state):
        raise NotFound(
            f"{head.name} did not exist at {time.isoformat()}",
            remedy=f"`modelhub log {head.name}` shows when it began.",
        )
    return then


def publication(rows: RowStore, head: Head, number: int) -> Sealed:
    """The entry that published version ``number``, which ``head`` says exists.

    The hint is one get; where it is absent or wrong the log itself is walked.

    Raises:
        CorruptData: the log does not hold it.
    """
    for sealed in head.recent.values():
        if _publishes(sealed, number):
            return sealed
    hinted = _hinted(rows, head.name, number)
    if hinted is not None and _publishes(hinted, number):
        return hinted
    for sealed in entries(rows, head.name, newest=head.seq):
        if _publishes(sealed, number):
            return sealed
    raise CorruptData(
        f"the log of {head.name} does not hold version {number}",
        remedy="Run `modelhub admin fsck`.",
    )


def _hinted(rows: RowStore, name: str, number: int) -> Sealed | None:
    """The entry that the version's hint leads to, if any does."""
    value = rows.get(keys.VERSIONS, keys.version(name, number))
    if value is None:
        return None
    try:
        hint = decode(value, VersionHint, f"the hint of {name}@{number}")
    except CorruptData:
        return None  # A hint that cannot be read is no hint.
    return entry_at(rows, name, hint.seq)


def _publishes(sealed: Sealed, number: int) -> bool:
    change = sealed.entry.change
    return isinstance(change, Published) and change.number == number


def metadata_row(rows: RowStore, head: Head, published: Sealed) -> MetadataRow:
    """A version's metadata as of ``head``; of a purged one there may be none any more.

    Every edit puts its row before its entry, so the rows of a version are a superset of what the
    log names; each says which entry was to name it, and the newest that the log agrees with counts.

    Raises:
        CorruptData: none does, or the one that does not match its digest.
    """
    assert isinstance(published.entry.change, Published)
    number = published.entry.change.number
    if is_purged(head.state, number):
        with suppress(CorruptData):
            return _metadata_row(rows, head, published, number)
        return MetadataRow(published.entry.seq, published.entry.txid, Metadata())
    return _metadata_row(rows, head, published, number)


def _metadata_row(rows: RowStore, head: Head, published: Sealed, number: int) -> MetadataRow:
    digest = _recent_metadata(head, published, number)
    if digest is not None:
        key = keys.metadata(head.name, number, digest)
        value = rows.get(keys.METADATA, key)
        return open_metadata(key, value)
    candidates = [
        (key, open_metadata(key, value))
        for key, value in rows.scan(keys.METADATA, *keys.metadata_range(head.name, number))
    ]
    named = rows.get_many(keys.LOG, [keys.log(head.name, row.seq) for _, row in candidates])
    best: MetadataRow | None = None
    for key, row in candidates:
        log_key = keys.log(head.name, row.seq)
        if row.seq > head.seq or log_key not in named:
            continue
        agrees = metadata_digest(open_row(log_key, named[log_key]).entry, number)
        if agrees is not None and key == keys.metadata(head.name, number, agrees):
            best = row if best is None or row.seq > best.seq else best
    if best is None:
        raise open_metadata_error(head.name, number)
    return best


def _recent_metadata(head: Head, published: Sealed, number: int) -> str | None:
    """The digest, where the entries at hand settle it: nothing newer can be elsewhere."""
    for seq in sorted(head.recent, reverse=True):
        digest = metadata_digest(head.recent[seq].entry, number)
        if digest is not None:
            return digest
    whole_log = 1 in head.recent or published.entry.seq in head.recent
    return metadata_digest(published.entry, number) if whole_log else None


def metadata_digest(entry: Entry, number: int) -> str | None:
    """The metadata row that ``entry`` gives to version ``number``, if it gives it one."""
    match entry.change:
        case Published(number=published, version=version) if published == number:
            return version.metadata
        case Edited(number=edited, metadata=digest) if edited == number:
            return digest
        case _:
            return None


def open_metadata(key: bytes, value: bytes | None) -> MetadataRow:
    """A metadata row, checked against the digest in its key.

    Raises:
        CorruptData: absent, or not what its key says.
    """
    name, number, digest = key.decode().split("\0")
    if value is None:
        raise open_metadata_error(name, int(number))
    subject = f"the metadata of {name}@{int(number)}"
    if hex_digest(value) != digest:
        raise CorruptData(
            f"{subject} does not match its digest", remedy="Run `modelhub admin fsck`."
        )
    return decode(value, MetadataRow, subject)


def open_metadata_error(name: str, number: int) -> CorruptData:
    """What a version without its metadata row is."""
    return CorruptData(
        f"the metadata of {name}@{number} is missing", remedy="Run `modelhub admin fsck`."
    )
