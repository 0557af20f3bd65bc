"""What a Hub hands back: frozen values, and listings that turn into tables.

Times are UTC, sizes are bytes, digests are hex.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar, overload

import msgspec

from modelhub.errors import NotInstalled
from modelhub.records import Metadata, RefKind, Scalar
from modelhub.stores import Count, Highlight

T = TypeVar("T", bound=msgspec.Struct)


class Listing(Sequence[T], Generic[T]):
    """An immutable list of results that can become a table; in a notebook it shows as one."""

    def __init__(self, kind: type[T], items: Sequence[T]) -> None:
        self._kind = kind
        self._items = tuple(items)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Listing[T]: ...
    def __getitem__(self, index: int | slice) -> T | Listing[T]:
        if isinstance(index, slice):
            return Listing(self._kind, self._items[index])
        return self._items[index]

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        return iter(self._items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash(self._items)

    def __repr__(self) -> str:
        return f"Listing({list(self._items)!r})"

    def to_arrow(self) -> Any:
        """A ``pyarrow.Table`` with a column a field; mappings become JSON text."""
        import pyarrow as pa

        rows = [_flat(msgspec.to_builtins(item, builtin_types=(datetime,))) for item in self._items]
        names = [field.encode_name for field in msgspec.structs.fields(self._kind)]
        return pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame`` with a column a field.

        Raises:
            NotInstalled: pandas is missing.
        """
        try:
            import pandas  # noqa: F401
        except ImportError as exc:
            raise NotInstalled(
                "to_pandas needs pandas", remedy="pip install 'modelhub[pandas]'"
            ) from exc
        return self.to_arrow().to_pandas()

    def _repr_html_(self) -> str:
        names = [field.encode_name for field in msgspec.structs.fields(self._kind)]
        head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
        body = "".join(
            "<tr>"
            + "".join(f"<td>{html.escape(_cell(getattr(item, name)))}</td>" for name in names)
            + "</tr>"
            for item in self._items
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    return {
        key: msgspec.json.encode(value).decode() if isinstance(value, dict) else value
        for key, value in row.items()
    }


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    return str(value) if not isinstance(value, tuple) else ", ".join(map(str, value))


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """A published version.

    ``digest`` is its commit digest, ``content`` that of its files alone: equal contents are equal
    bytes, whatever the name. ``new_bytes`` is what its publish had to store. ``branches`` are those
    whose head it is now, ``tags`` and ``aliases`` those that name it. ``origin`` is the version
    whose files it brought back, if it did. ``identical`` are other versions with the same files,
    which ``push`` alone says.
    """

    name: str
    number: int
    digest: str
    content: str
    branch: str
    branches: tuple[str, ...]
    tags: tuple[str, ...]
    aliases: tuple[str, ...]
    parents: tuple[int, ...]
    bases: tuple[str, ...]
    origin: int | None
    message: str
    actor: str
    created: datetime
    deleted: bool
    files: int
    total_bytes: int
    new_bytes: int
    metadata: Metadata
    identical: tuple[str, ...] = ()


class LogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One change in a model's history.

    ``number`` is the version that it is about, ``ref`` the branch, tag or alias. ``op`` is
    ``publish``, ``edit``, ``delete``, ``undelete``, ``protect`` or ``unprotect``; of refs
    ``branch``, ``tag`` or ``alias`` where one is set, and ``delete-branch`` and so on where one
    goes.
    """

    seq: int
    number: int | None
    op: str
    ref: str
    message: str
    actor: str
    created: datetime
    digest: str


class Ref(msgspec.Struct, frozen=True, kw_only=True):
    """A ``branch``, ``tag`` or ``alias`` of a model.

    ``number`` is the version that it names, None for a branch whose versions are all deleted.
    """

    name: str
    ref: str
    kind: RefKind
    number: int | None
    protected: bool


class RefChange(msgspec.Struct, frozen=True, kw_only=True):
    """When a ref came to name a version; None where it was deleted."""

    number: int | None
    op: str
    message: str
    actor: str
    created: datetime


class ModelSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A model in a listing.

    ``head`` is the head of the default branch, None where all its versions are deleted.
    """

    name: str
    head: int | None
    versions: int
    title: str
    updated: datetime
    total_bytes: int


class FileInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a version. ``mode`` holds the permission bits; equal digests are equal bytes."""

    path: str
    size_bytes: int
    mode: int
    digest: str


class TensorInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor of a version and the file that it is in; the outermost dimension comes first.

    ``dtype`` is as safetensors spells it, or the format's own name for what safetensors has not.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    size_bytes: int
    file: str


class SearchHit(msgspec.Struct, frozen=True, kw_only=True):
    """An answer to a search. Only the order of scores means something.

    ``highlight`` is the piece of its texts that shows best why, None where only its name does.
    """

    name: str
    number: int
    score: float
    title: str
    description: str
    created: datetime
    highlight: Highlight | None = None


class SearchResult(msgspec.Struct, frozen=True, kw_only=True):
    """A page of hits, best first, and how many there are in all.

    ``next``, given as ``after``, asks for the page behind it. ``facets`` hold the values of each
    field that was to be counted, over all pages. ``suggestion`` is another search, where this one
    found nothing and words that are spelt nearly alike would have.
    """

    total: int
    hits: Listing[SearchHit]
    next: str | None = None
    facets: dict[str, list[Count]] = {}
    suggestion: str | None = None


class FileChange(msgspec.Struct, frozen=True, kw_only=True):
    """A file that differs; a size is None where the file is absent.

    ``status`` is ``added``, ``removed``, ``changed`` or ``mode``.
    """

    path: str
    status: str
    old_bytes: int | None
    new_bytes: int | None


class FieldChange(msgspec.Struct, frozen=True, kw_only=True):
    """A metadata field that differs; None where it is absent.

    Fields of mappings are written ``params.lr``.
    """

    field: str
    old: Scalar | tuple[str, ...] | None
    new: Scalar | tuple[str, ...] | None


class TensorChange(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor that differs.

    ``status`` is ``added``, ``removed``, ``reshaped``, ``retyped`` or ``changed``. Distances are
    those of ``modelhub.content.distance``; None where there is none. ``not_finite`` elements (NaN
    or infinite on either side) are left out of them.
    """

    name: str
    status: str
    old_shape: tuple[int, ...] | None
    new_shape: tuple[int, ...] | None
    old_dtype: str | None
    new_dtype: str | None
    l2: float | None
    relative_l2: float | None
    cosine: float | None
    max_abs: float | None
    fraction_changed: float | None
    not_finite: int | None


class WeightDistance(msgspec.Struct, frozen=True, kw_only=True):
    """How far two versions' weights are apart, over all tensors that differ and have a distance.

    Equal tensors add nothing to ``l2`` and ``max_abs``, which are those of the whole model; the
    others are relative to the ``elements`` of the tensors that differ.
    """

    elements: int
    l2: float
    relative_l2: float | None
    cosine: float | None
    max_abs: float
    fraction_changed: float
    not_finite: int


class Diff(msgspec.Struct, frozen=True, kw_only=True):
    """What changes from revision ``a`` to ``b``, each written ``name@number``.

    ``tensors`` and ``overall`` are None where weights were left out. ``bytes_read`` counts the
    stored bytes that were read to find out.
    """

    a: str
    b: str
    files: Listing[FileChange]
    metadata: Listing[FieldChange]
    tensors: Listing[TensorChange] | None
    overall: WeightDistance | None
    bytes_read: int


class LineageNode(msgspec.Struct, frozen=True, kw_only=True):
    """What takes part in a lineage.

    ``kind`` is ``version`` (``id`` is ``name@number``), ``model`` (one that this hub does not
    have), ``dataset`` or ``commit``.
    """

    id: str
    kind: str
    title: str
    deleted: bool


class LineageEdge(msgspec.Struct, frozen=True, kw_only=True):
    """``target`` was made of ``source``.

    ``relation`` is ``parent`` (the version before it, or one that was merged), ``base``,
    ``origin`` (whose files it brought back), ``dataset`` or ``code``.
    """

    source: str
    target: str
    relation: str


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """What a version, the ``root``, was made of, and what was made of it."""

    root: str
    nodes: Listing[LineageNode]
    edges: Listing[LineageEdge]

    @property
    def version_set(self) -> tuple[str, ...]:
        """V(v) = {v} ∪ V(parents of v): the root and all before it in the same model, sorted."""
        parents: dict[str, list[str]] = {}
        for edge in self.edges:
            if edge.relation == "parent":
                parents.setdefault(edge.target, []).append(edge.source)
        found, pending = {self.root}, [self.root]
        while pending:
            further = set(parents.get(pending.pop(), ())) - found
            found |= further
            pending += further
        return tuple(sorted(found, key=lambda id: int(id.rpartition("@")[2])))

    def to_dot(self) -> str:
        """The graph in Graphviz's language; what a version was made of points to it."""
        shapes = {"version": "box", "model": "component", "dataset": "cylinder", "commit": "note"}
        lines = ["digraph lineage {", "  rankdir=LR;"]
        for node in self.nodes:
            label = f"{node.id}\n{node.title}" if node.kind == "version" and node.title else node.id
            style = ", style=dashed" if node.deleted else ", style=bold" * (node.id == self.root)
            lines.append(
                f"  {_quoted(node.id)} [label={_quoted(label)}, shape={shapes[node.kind]}{style}];"
            )
        lines += [
            f"  {_quoted(edge.source)} -> {_quoted(edge.target)} [label={edge.relation}];"
            for edge in self.edges
        ]
        return "\n".join([*lines, "}"])


def _quoted(text: str) -> str:
    """A text in DOT, where a backslash and n part two lines."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not as it should be.

    ``severity`` is ``error`` where a reader is harmed, else ``warning``. ``repair`` is what to do
    about it; where that was tried, what came of it, and ``repaired`` whether it is right now.
    """

    kind: str
    severity: str
    subject: str
    cause: str
    repair: str
    repaired: bool = False


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """What a check found, and how many things of each kind it looked at.

    ``repaired`` of the findings are right now.
    """

    findings: Listing[Finding]
    checked: dict[str, int]
    repaired: int = 0

    @property
    def remaining(self) -> int:
        """How many findings there are still to see to."""
        return len(self.findings) - self.repaired

    def to_metrics(self) -> str:
        """For Prometheus: what remains by kind and severity, what was repaired and looked at."""
        left = Counter((one.kind, one.severity) for one in self.findings if not one.repaired)
        lines = [
            "# TYPE modelhub_fsck_remaining gauge",
            f"modelhub_fsck_remaining {self.remaining}",
            "# TYPE modelhub_fsck_repaired gauge",
            f"modelhub_fsck_repaired {self.repaired}",
            "# TYPE modelhub_fsck_findings gauge",
            *(
                f'modelhub_fsck_findings{{kind="{kind}",severity="{severity}"}} {count}'
                for (kind, severity), count in sorted(left.items())
            ),
            "# TYPE modelhub_fsck_checked gauge",
            *(
                f'modelhub_fsck_checked{{what="{what}"}} {count}'
                for what, count in self.checked.items()
            ),
        ]
        return "\n".join(lines) + "\n"


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a call made the hub, which is what its truth says too, and which tables it made."""

    hub: bool
    tables: tuple[str, ...]

    def __bool__(self) -> bool:
        return self.hub


class Sweep(msgspec.Struct, frozen=True, kw_only=True):
    """What a sweep did: intents looked at, attempts fenced off, documents written, rows removed.

    ``chunks`` are the rows of chunks that were put again, where that was asked for.
    """

    intents: int
    fenced: int
    documents: int
    removed: int
    chunks: int = 0


ReindexMode = Literal["whole", "incremental", "scheduled"]


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """A document that ``target`` should have had: nothing said that it was still to come."""

    target: str
    id: str


class Reindexed(msgspec.Struct, frozen=True, kw_only=True):
    """What a re-index did.

    ``mode`` is ``whole`` or ``incremental``, ``target`` the one that answers searches now.
    ``documents`` were compared and ``written`` written; ``documents_lost`` were neither there nor
    to come, and are there again: ``lost`` has the first 1,000 of them. ``damaged`` says what could
    not be read and so is not in search, ``dropped`` which targets were removed.
    """

    mode: str
    target: str
    documents: int
    written: int
    documents_lost: int
    lost: Listing[Lost]
    damaged: tuple[str, ...]
    dropped: tuple[str, ...]


TRASH_HOURS = 24.0
"""How long a pack that is of no more use stays in the trash."""

Fate = Literal["delete", "purge"]


class Doomed(msgspec.Struct, frozen=True, kw_only=True):
    """A version that a collection deletes, or whose deletion it makes final.

    ``size_bytes`` are those of its files; what other versions share with it stays.
    """

    name: str
    number: int
    fate: Fate
    size_bytes: int


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """What a collection did; after a dry run, what it would do.

    ``versions`` were purged for good, ``expired`` deleted because no rule keeps them; ``listed``
    has the first 1,000 of both. ``packs`` with ``bytes_trashed`` in them went to the trash, among
    them ``orphans``, files that nobody finished; ``bytes_freed`` were in files of the trash whose
    time was over, and which are gone. ``revived`` packs were condemned, and are in use after all.
    ``rewritten`` packs were small or mostly dead and gave way to new ones, which take
    ``bytes_saved`` less.
    """

    versions: int
    expired: int
    packs: int
    orphans: int
    revived: int
    rewritten: int
    bytes_saved: int
    bytes_trashed: int
    bytes_freed: int
    dry_run: bool
    listed: Listing[Doomed]


class BackedUp(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup added.

    ``cut`` is the moment up to which every model's log is in it, ``whole`` whether it stands by
    itself. ``packs`` with ``new_bytes`` were copied; those ``missing`` were not to be had.
    """

    point: str
    cut: datetime
    whole: bool
    models: int
    entries: int
    versions: int
    packs: int
    new_bytes: int
    missing: tuple[str, ...]


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What a restore brought back, or after a dry run would.

    ``models`` with ``versions`` and ``entries`` came back; those ``current`` had everything
    already, and those that ``differ`` went on otherwise than the backup, and are left as they are.
    ``packs`` with ``bytes`` were copied. ``unreadable`` are versions whose packs the backup lacks,
    ``taken`` numbers that were given once and are not in the backup: nobody gets them again.
    """

    point: str
    cut: datetime
    dry_run: bool
    models: int
    versions: int
    entries: int
    packs: int
    bytes: int
    current: tuple[str, ...]
    differ: tuple[str, ...]
    unreadable: tuple[str, ...]
    taken: tuple[str, ...]


class SearchLag(msgspec.Struct, frozen=True, kw_only=True):
    """How far search may be behind the log: models and changes, and the age of the oldest change.

    All are 0 where search has everything; a change that is being made counts until it is done.
    """

    models: int
    changes: int
    seconds: float


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The hub and its stores.

    ``models``, ``intents`` and ``search_lag`` are None where they cannot be told; ``problem`` says
    why, or what is damaged.

    Each store says whether it is ``reachable``, with ``latency_ms``, ``kind``, ``address`` and what
    else it tells of itself, or with ``error`` and ``remedy``.
    """

    hub: str
    format: int | None
    models: int | None
    intents: int | None
    search_lag: SearchLag | None
    problem: str
    stores: dict[str, dict[str, Any]]
