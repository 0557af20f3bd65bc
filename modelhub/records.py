"""What is stored in rows: frozen values, one JSON document each, decoded strictly.

A document carries the names of its fields, so that it reads well in a database shell; a field that
a newer release adds has a default, and one that this release does not know is ignored.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, TypeVar

import msgspec
from blake3 import blake3

from modelhub.errors import CorruptData, InvalidInput
from modelhub.names import shown

Scalar = str | int | float | bool
"""A parameter's or metric's value; its type is kept."""

ROW_LIMIT_BYTES = 256 * 1024

T = TypeVar("T")


class Metadata(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A version's descriptive metadata: changed by ``edit`` alone, never part of its bytes.

    ``created`` is when the model was made (UTC), which may be long before it was published.
    ``bases`` are models outside this hub that it was derived from, as its own card names them.
    ``card`` is the text of its model card.
    """

    title: str = ""
    description: str = ""
    card: str = ""
    owner: str = ""
    creator: str = ""
    created: datetime | None = None
    datasets: tuple[str, ...] = ()
    params: dict[str, Scalar] = {}
    metrics: dict[str, Scalar] = {}
    labels: tuple[str, ...] = ()
    licence: str = ""
    framework: str = ""
    bases: tuple[str, ...] = ()
    extra: dict[str, Scalar] = {}


class Address(msgspec.Struct, frozen=True):
    """Where a blob lies inside a pack, and the BLAKE3-256 of its raw bytes in hex."""

    pack: str
    offset: int
    length: int
    digest: str


class VersionRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The immutable part of a version, inside its log entry.

    ``content`` is the digest of its files (paths, modes, bytes), ``metadata`` that of its first
    metadata row. ``packs`` holds every pack that reading it needs, those of delta bases included.
    ``bases`` are versions of this hub (``name@number``) that it was derived from. Sizes in bytes:
    ``size_bytes`` of the files, ``new_bytes`` of what this publish had to store for them.
    ``architecture`` is a digest of the tensors' names, types and sizes, where they take much.
    ``origin`` is the version of the same model (its number) whose files it brings back; 0: none.
    """

    content: str
    manifest: Address
    metadata: str
    packs: tuple[str, ...]
    files: int
    size_bytes: int
    new_bytes: int
    bases: tuple[str, ...] = ()
    request: str = ""
    architecture: str = ""
    origin: int = 0


class Published(msgspec.Struct, frozen=True, tag_field="op", tag="publish"):
    """A new version, now the head of ``branch``. ``parents`` are versions of the same model."""

    number: int
    branch: str
    parents: tuple[int, ...]
    version: VersionRecord


class Deleted(msgspec.Struct, frozen=True, tag_field="op", tag="delete"):
    """Tombstones.

    ``heads`` are the branches that move because of it, and where to (0: no live version is left).
    """

    numbers: tuple[int, ...]
    heads: dict[str, tuple[int, int]] = {}


class Undeleted(msgspec.Struct, frozen=True, tag_field="op", tag="undelete"):
    """Tombstones taken back. ``heads`` as in ``Deleted``."""

    numbers: tuple[int, ...]
    heads: dict[str, tuple[int, int]] = {}


class Purged(msgspec.Struct, frozen=True, tag_field="op", tag="purge"):
    """The retention of deleted versions has ended: nothing brings them back.

    ``erased``: their metadata is removed as well, at somebody's demand.
    """

    numbers: tuple[int, ...]
    erased: bool = False


class Edited(msgspec.Struct, frozen=True, tag_field="op", tag="edit"):
    """A version's metadata is now the row with this digest."""

    number: int
    metadata: str


RefKind = Literal["branch", "tag", "alias"]


class RefMoved(msgspec.Struct, frozen=True, tag_field="op", tag="ref"):
    """A branch, tag or alias that named version ``came`` (0: it was not there) now names ``to``.

    0 for ``to``: it is gone.
    """

    kind: RefKind
    name: str
    came: int
    to: int


class Protected(msgspec.Struct, frozen=True, tag_field="op", tag="protect"):
    """A branch or alias, or (where ``ref`` is empty) the model, is protected, or no longer."""

    ref: str
    on: bool


class Floored(msgspec.Struct, frozen=True, tag_field="op", tag="floor"):
    """Numbers below ``next`` were given once, and their versions were lost in a disaster."""

    next: int


class Fence(msgspec.Struct, frozen=True, tag_field="op", tag="fence"):
    """Nothing, in the place of an attempt that was given up: it can never land any more."""


Change = Published | Deleted | Undeleted | Purged | Edited | RefMoved | Protected | Floored | Fence


class State(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a model's log adds up to.

    ``next`` is the next version's number. ``branches`` maps a branch to its head (0: all its
    versions are deleted); ``tips`` holds, where a deletion moved a head back, the version that it
    would return to. ``tags`` and ``aliases`` map names to versions; ``retired`` are deleted tags,
    whose names never mean another version. ``protected`` are branches and aliases, and an empty
    name for the model itself. ``deleted`` are closed ranges of numbers, ascending; so are those
    of them that are ``purged``.
    """

    next: int = 1
    branches: dict[str, int] = {}
    tips: dict[str, int] = {}
    tags: dict[str, int] = {}
    aliases: dict[str, int] = {}
    retired: dict[str, int] = {}
    protected: tuple[str, ...] = ()
    deleted: tuple[tuple[int, int], ...] = ()
    purged: tuple[tuple[int, int], ...] = ()


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One row of a model's log.

    ``previous`` is its predecessor's digest; ``state`` is there on every 32nd.
    """

    model: str
    seq: int
    txid: str
    actor: str
    time: datetime
    message: str = ""
    previous: str = ""
    change: Change
    state: State | None = None


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """A change is under way on top of ``base``. ``lease`` is until when nobody else need care."""

    base: int
    op: str
    actor: str
    lease: datetime


class Pin(msgspec.Struct, frozen=True):
    """The pack of this row's key is relied on by the attempt of this row's key."""

    base: int
    lease: datetime


class PackRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A pack's life.

    ``token`` is unique to each change of the row; ``key`` and ``nonce`` are for encryption at rest.
    ``successors`` are the packs that its chunks move to, or have moved to. ``trash`` is where its
    file goes once it is of no more use, as in ``trash_path``.
    """

    state: Literal["live", "condemned", "deleting", "gone", "moved"]
    size_bytes: int
    token: str
    successors: tuple[str, ...] = ()
    trash: str = ""
    key: int = 0
    nonce: str = ""


class BaseHint(msgspec.Struct, frozen=True):
    """Where the chunk may lie that another one is a difference from; ``digest`` in hex."""

    digest: str
    pack: str
    offset: int
    stored: int
    encoding: int


class ChunkHint(msgspec.Struct, frozen=True):
    """Where a chunk's bytes may lie. Believed only when they hash to the row's key."""

    pack: str
    offset: int
    stored: int
    length: int
    encoding: int = 0
    base: BaseHint | None = None


class VersionHint(msgspec.Struct, frozen=True):
    """Which log row publishes a version. Believed only when that row agrees."""

    seq: int
    txid: str


class ModelHint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model's summary for listings, as of ``seq``.

    ``seq`` 0: put before the first entry, no summary yet.
    """

    seq: int = 0
    head: int = 0
    versions: int = 0
    title: str = ""
    updated: datetime | None = None
    size_bytes: int = 0


class MetadataRow(msgspec.Struct, frozen=True):
    """Metadata, with the log row that is to name it: so two attempts never write the same row."""

    seq: int
    txid: str
    metadata: Metadata


class Format(msgspec.Struct, frozen=True):
    """The stored format, and an id that tells this hub from every other."""

    format: int
    hub: str


class Targets(msgspec.Struct, frozen=True):
    """The search targets that publishers write to.

    ``live`` answers searches, and has documents of form ``layout``. ``epoch`` counts restores.
    No name of a target is used twice, and none comes back to the list, so the row never holds the
    same bytes twice.
    """

    live: str
    targets: tuple[str, ...]
    epoch: int = 0
    layout: int = 1


class Run(msgspec.Struct, frozen=True):
    """A run of which one is to be under way; without a ``run``, what the last one left.

    It may be taken over after ``lease``.
    """

    run: str
    actor: str
    lease: datetime


class Collecting(Run, frozen=True):
    """A collection. It begins afresh whatever the last one left."""


class Checking(Run, frozen=True):
    """A check of packs' bytes that goes on where the last one was broken off.

    ``at`` is the last pack done, in key order; ``wrong`` those before it that are to be looked at
    again. Both are of the chunks that ``part`` chooses.
    """

    at: str = ""
    wrong: tuple[str, ...] = ()
    part: str = ""


class Reindexing(Run, frozen=True):
    """A re-index.

    ``target`` (empty: none) is being filled with documents of form ``layout``, and has those of
    all models before ``at``; once ``filled``, of all.
    """

    target: str = ""
    layout: int = 1
    at: str = ""
    filled: bool = False


def _seal(digest: str) -> bytes:
    return f',"digest":"{digest}"}}'.encode()


_SEAL_BYTES = len(_seal("0" * 64))


def hex_digest(data: bytes) -> str:
    """BLAKE3-256 of ``data`` in 64 hex digits."""
    return blake3(data).hexdigest()


def encode(record: msgspec.Struct) -> bytes:
    """The row's bytes: one JSON document with its fields in declared order.

    Raises:
        InvalidInput: over 256 KiB, which no store has to take, or text that UTF-8 cannot hold.
    """
    return _checked_size(_json(record), type(record).__name__)


def decode(data: bytes, kind: type[T], subject: str) -> T:
    """The record in ``data``; ``subject`` names the row in the error.

    Raises:
        CorruptData: not such a record.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise CorruptData(
            f"{subject} is not readable: {exc}", remedy="Run `modelhub admin fsck`."
        ) from exc


def seal(entry: Entry) -> tuple[bytes, str]:
    """The bytes of a log row, and the entry's digest, which they end with.

    The digest is BLAKE3-256 of the entry's own JSON, so a reader needs no second encoding to check
    it.

    Raises:
        InvalidInput: over 256 KiB, or text that UTF-8 cannot hold.
    """
    body = _json(entry)
    digest = hex_digest(body)
    return _checked_size(body[:-1] + _seal(digest), "log entry"), digest


def unseal(data: bytes, subject: str) -> tuple[Entry, str]:
    """The entry in a log row, checked against the digest it carries, and that digest.

    Raises:
        CorruptData: the digest does not match, or it is no entry.
    """
    body, seal = data[:-_SEAL_BYTES] + b"}", data[-_SEAL_BYTES:]
    digest = hex_digest(body)
    if seal != _seal(digest):
        raise CorruptData(
            f"{subject} does not match its digest", remedy="Run `modelhub admin fsck`."
        )
    return decode(body, Entry, subject), digest


def _json(record: msgspec.Struct) -> bytes:
    try:
        return msgspec.json.encode(record)
    except UnicodeEncodeError as exc:
        raise InvalidInput(
            f"{shown(exc.object)} is not text that UTF-8 can hold",
            remedy="Write it again; it was probably read with a wrong encoding.",
        ) from exc


def _checked_size(data: bytes, what: str) -> bytes:
    if len(data) > ROW_LIMIT_BYTES:
        raise InvalidInput(
            f"the {what} would take {len(data):,} bytes in one row; "
            f"the limit is {ROW_LIMIT_BYTES:,}",
            remedy="Shorten the card, description or parameters, or put long texts into files of "
            "the version.",
        )
    return data


def to_builtins(record: Any) -> Any:
    """``record`` as JSON-ready dictionaries and lists."""
    return msgspec.to_builtins(record)
