"""A hub as plain dictionaries: what the state machine holds a real one against.

Nothing here knows of logs, packs, pins or leases. An operation says what it does to a model's
history, which is a value, and how it is done on a hub.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

from modelhub.coordinator.context import Context, Stores
from modelhub.coordinator.log import entries, read_head
from modelhub.coordinator.relatives import read_manifest
from modelhub.coordinator.state import deleted_numbers, subject
from modelhub.coordinator.versions import publication
from modelhub.describe.facts import Facts
from modelhub.errors import Conflict, ModelhubError, NotFound
from modelhub.hub import Hub
from modelhub.names import DEFAULT_BRANCH
from modelhub.records import Fence, Published, to_builtins
from modelhub.results import Version
from modelhub.stores import RowStore


class File(NamedTuple):
    """A file's bytes and permission bits."""

    data: bytes
    mode: int

    def __repr__(self) -> str:
        told = self.data if len(self.data) < 16 else f"{len(self.data)} bytes"
        return f"File({told!r}, {self.mode:#o})"


Files = Mapping[str, File]
"""A folder: files by their path in it."""


@dataclass(frozen=True)
class Kept:
    """A version as it must be. ``parent`` 0: it has none; ``facts`` are the fields that are set."""

    number: int
    branch: str
    parent: int
    files: Files
    facts: Mapping[str, Any]
    message: str
    request: str
    bases: tuple[str, ...]


class Past(NamedTuple):
    """An entry of a model's log; ``head`` is that of the default branch from then on (0: none)."""

    op: str
    number: int
    message: str
    head: int


class Outline(NamedTuple):
    """What a model's log says, but for bytes and metadata: equal outlines are equal histories.

    ``past`` holds each entry's op, version and message, ``versions`` number, branch, parents,
    request and bases of each.
    """

    past: list[tuple[str, int, str]]
    heads: dict[str, int]
    deleted: set[int]
    versions: list[tuple[int, str, tuple[int, ...], str, tuple[str, ...]]]


@dataclass(frozen=True)
class History:
    """A model: its versions by number, and ``tips``, the newest version put on each branch."""

    versions: Mapping[int, Kept] = field(default_factory=dict)
    deleted: frozenset[int] = frozenset()
    tips: Mapping[str, int] = field(default_factory=dict)
    past: tuple[Past, ...] = ()

    def head(self, branch: str = DEFAULT_BRANCH) -> int:
        """The branch's nearest version that is not deleted; 0 where there is none."""
        number = self.tips.get(branch, 0)
        while number in self.deleted:
            number = self.versions[number].parent
        return number

    def parent_on(self, branch: str) -> int:
        """What a push to ``branch`` follows: a new branch starts at the default branch's head."""
        return self.head(branch if branch in self.tips else DEFAULT_BRANCH)

    def heads_at(self, number: int) -> tuple[str, ...]:
        """The branches whose head is ``number``, sorted."""
        return tuple(sorted(branch for branch in self.tips if self.head(branch) == number))

    def live(self) -> list[int]:
        """The numbers that are not deleted, ascending."""
        return [number for number in self.versions if number not in self.deleted]

    def outline(self) -> Outline:
        """What the log of such a model says."""
        return Outline(
            [(past.op, past.number, past.message) for past in self.past],
            {branch: self.head(branch) for branch in self.tips},
            set(self.deleted),
            [
                (kept.number, kept.branch, parents(kept), kept.request, kept.bases)
                for kept in self.versions.values()
            ],
        )

    def after(self, op: str, number: int, message: str, **changes: Any) -> History:
        """This history with ``changes`` made to it by an entry."""
        changed = replace(self, **changes)
        return replace(changed, past=(*self.past, Past(op, number, message, changed.head())))


def parents(kept: Kept) -> tuple[int, ...]:
    """The version's parents as a hub shows them."""
    return (kept.parent,) if kept.parent else ()


def outline_of(rows: RowStore, name: str) -> Outline:
    """The outline of a stored model, from its log alone."""
    head = read_head(rows, name)
    outline = Outline([], dict(head.state.branches), deleted_numbers(head.state), [])
    log = list(entries(rows, name, newest=head.seq)) if head.seq else []
    for entry in (sealed.entry for sealed in reversed(log)):
        change = entry.change
        if isinstance(change, Fence):
            continue
        op = str(change.__struct_config__.tag)
        outline.past.append((op, subject(change) or 0, entry.message))
        if isinstance(change, Published):
            request, bases = change.version.request, change.version.bases
            outline.versions.append((change.number, change.branch, change.parents, request, bases))
    return outline


def stored_files(stores: Stores, name: str, number: int) -> dict[str, File]:
    """A stored version's files, deleted or not, from log and packs."""
    head = read_head(stores.rows, name)
    ctx = Context(stores, "reader")
    manifest = read_manifest(ctx, publication(stores.rows, head, number))
    return {
        file.path: File(b"".join(ctx.reader.file(manifest, file)), file.mode)
        for file in manifest.files
    }


def check_version(version: Version, history: History) -> None:
    """See that a hub shows a version as it must be.

    Raises:
        AssertionError: it does not.
    """
    kept = history.versions[version.number]
    assert version.branch == kept.branch
    assert version.branches == history.heads_at(kept.number)
    assert version.parents == parents(kept)
    assert version.bases == kept.bases
    assert version.message == kept.message
    assert version.deleted == (kept.number in history.deleted)
    assert version.files == len(kept.files)
    assert version.total_bytes == sum(len(file.data) for file in kept.files.values())
    assert exact(to_builtins(version.metadata)) == exact(kept.facts)


Ending = int | str
"""How an operation ended: the number that it returned, or an error's kind."""


class Operation(Protocol):
    """A change of one model that somebody asks for."""

    @property
    def name(self) -> str:
        """The model."""

    def after(self, history: History) -> tuple[History, int]:
        """What becomes of the model's history, and which version the hub returns.

        Raises:
            Conflict, NotFound: the hub raises the same, and changes nothing.
        """

    def run(self, hub: Hub) -> Version:
        """Ask ``hub`` for it."""


@dataclass(frozen=True)
class Push:
    """A publish of ``files``, laid out in a folder of their own below ``scratch``.

    ``bases`` are written ``name@number``. ``expect`` is the number that the head must have.
    """

    name: str
    scratch: Path
    files: Files
    facts: Mapping[str, Any]
    message: str
    branch: str = DEFAULT_BRANCH
    expect: int | None = None
    request: str = ""
    bases: tuple[str, ...] = ()

    def after(self, history: History) -> tuple[History, int]:
        """One version more, unless an earlier push had the same request id."""
        for kept in history.versions.values():
            if self.request and kept.request == self.request:
                return history, kept.number
        parent = history.parent_on(self.branch)
        if self.expect is not None and self.expect != parent:
            raise Conflict(f"{self.name} is at {parent}")
        number = len(history.versions) + 1
        kept = Kept(
            number,
            self.branch,
            parent,
            self.files,
            merged({}, self.facts),
            self.message,
            self.request,
            self.bases,
        )
        versions, tips = {**history.versions, number: kept}, {**history.tips, self.branch: number}
        after = history.after("publish", number, self.message, versions=versions, tips=tips)
        return after, number

    def run(self, hub: Hub) -> Version:
        """Lay the files out, and push them."""
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            write_files(Path(folder), self.files)
            return hub.push(
                self.name,
                folder,
                message=self.message,
                branch=self.branch,
                bases=self.bases,
                expect=None if self.expect is None else str(self.expect),
                request_id=self.request or None,
                **cast(Facts, dict(self.facts)),
            )


@dataclass(frozen=True)
class Edit:
    """A change of a version's metadata."""

    name: str
    number: int
    facts: Mapping[str, Any]
    message: str

    def after(self, history: History) -> tuple[History, int]:
        """The version with its facts merged; nothing, where that changes none."""
        kept = history.versions.get(self.number)
        if kept is None or self.number in history.deleted:
            raise NotFound(f"{self.name} has no version {self.number}")
        facts = merged(kept.facts, self.facts)
        if exact(facts) == exact(kept.facts):
            return history, self.number
        versions = {**history.versions, self.number: replace(kept, facts=facts)}
        return history.after("edit", self.number, self.message, versions=versions), self.number

    def run(self, hub: Hub) -> Version:
        """Edit."""
        facts = cast(Facts, dict(self.facts))
        return hub.edit(f"{self.name}@{self.number}", message=self.message, **facts)


@dataclass(frozen=True)
class Retire:
    """A deletion, or with ``deleted`` False its undoing. ``ref`` is what follows the ``@``."""

    name: str
    number: int
    deleted: bool
    message: str
    ref: str = ""

    def after(self, history: History) -> tuple[History, int]:
        """The version deleted or back; nothing, where it is so already."""
        if self.number not in history.versions:
            raise NotFound(f"{self.name} has no version {self.number}")
        if (self.number in history.deleted) == self.deleted:
            return history, self.number
        op = "delete" if self.deleted else "undelete"
        deleted = history.deleted ^ {self.number}
        return history.after(op, self.number, self.message, deleted=deleted), self.number

    def run(self, hub: Hub) -> Version:
        """Delete or undelete."""
        verb = hub.delete if self.deleted else hub.undelete
        return verb(f"{self.name}@{self.ref or self.number}", message=self.message)


def run(operation: Operation, hub: Hub) -> Ending:
    """Ask ``hub`` for an operation."""
    try:
        return operation.run(hub).number
    except ModelhubError as error:
        return error.kind


def in_turn(history: History, operations: Sequence[Operation]) -> tuple[History, list[Ending]]:
    """What becomes of ``history`` by ``operations``, one after the other, and how each ends."""
    endings: list[Ending] = []
    for operation in operations:
        try:
            history, number = operation.after(history)
        except ModelhubError as error:
            endings.append(error.kind)
        else:
            endings.append(number)
    return history, endings


def merged(held: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Facts laid over others: mappings key by key, and what is None or empty is not set."""
    facts = dict(held)
    for name, value in given.items():
        facts[name] = {**facts.get(name, {}), **value} if isinstance(value, dict) else value
        if isinstance(facts[name], dict):
            facts[name] = {key: part for key, part in facts[name].items() if part is not None}
    return {name: value for name, value in facts.items() if value}


def exact(facts: Mapping[str, Any]) -> str:
    """Facts as a text that tells 1, 1.0 and True apart, which Python holds to be equal."""
    return json.dumps(facts, sort_keys=True)


def write_files(folder: Path, files: Files) -> None:
    """Lay ``files`` out in ``folder``."""
    for path, file in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.data)
        target.chmod(file.mode)


def read_files(folder: Path) -> dict[str, File]:
    """Every file below ``folder``."""
    return {
        path.relative_to(folder).as_posix(): File(path.read_bytes(), path.stat().st_mode & 0o7777)
        for path in folder.rglob("*")
        if path.is_file()
    }
