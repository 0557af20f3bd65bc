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
from modelhub.coordinator.state import deleted_numbers, purged_numbers, subject
from modelhub.coordinator.versions import publication
from modelhub.coordinator.views import op
from modelhub.describe.facts import Facts
from modelhub.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    InvalidInput,
    ModelhubError,
    NotFound,
)
from modelhub.hub import Hub
from modelhub.names import DEFAULT_BRANCH
from modelhub.records import Fence, Published, to_builtins
from modelhub.results import Ref, Version
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
    """A version as it must be. ``parent`` 0: it has none; ``facts`` are the fields that are set.

    ``merged`` is the other parent of a merge.
    """

    number: int
    branch: str
    parent: int
    files: Files
    facts: Mapping[str, Any]
    message: str
    request: str
    bases: tuple[str, ...]
    merged: int = 0


class Past(NamedTuple):
    """An entry of a model's log; ``named`` is what each branch, tag and alias means from then on.

    A branch means 0 where it has no live version.
    """

    op: str
    number: int
    message: str
    named: Mapping[str, int]


class Outline(NamedTuple):
    """What a model's log says, but for bytes and metadata: equal outlines are equal histories.

    ``past`` holds each entry's op, version and message, ``named`` what each branch, tag and alias
    means, ``versions`` number, branch, parents, request and bases of each.
    """

    past: list[tuple[str, int, str]]
    named: dict[str, int]
    protected: set[str]
    deleted: set[int]
    purged: set[int]
    versions: list[tuple[int, str, tuple[int, ...], str, tuple[str, ...]]]


@dataclass(frozen=True)
class History:
    """A model: its versions by number, and ``tips``, the version last put on each branch.

    ``tags`` and ``aliases`` map names to numbers; ``retired`` are deleted tags.
    """

    versions: Mapping[int, Kept] = field(default_factory=dict)
    deleted: frozenset[int] = frozenset()
    purged: frozenset[int] = frozenset()
    tips: Mapping[str, int] = field(default_factory=dict)
    tags: Mapping[str, int] = field(default_factory=dict)
    aliases: Mapping[str, int] = field(default_factory=dict)
    retired: Mapping[str, int] = field(default_factory=dict)
    protected: frozenset[str] = frozenset()
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

    def named(self) -> dict[str, int]:
        """What each branch, tag and alias means; 0 for a branch without a live version."""
        return {**{branch: self.head(branch) for branch in self.tips}, **self.tags, **self.aliases}

    def kind(self, ref: str) -> str:
        """``branch``, ``tag``, ``alias``, or nothing."""
        kinds = {"branch": self.tips, "tag": self.tags, "alias": self.aliases}
        return next((kind for kind, refs in kinds.items() if ref in refs), "")

    def guard(self, *refs: str) -> None:
        """See that neither ``refs`` nor the whole model is protected.

        Raises:
            Forbidden: one of them is.
        """
        if self.protected.intersection(("", *refs)):
            raise Forbidden("it is protected")

    def live(self) -> list[int]:
        """The numbers that are not deleted, ascending."""
        return [number for number in self.versions if number not in self.deleted]

    def outline(self) -> Outline:
        """What the log of such a model says."""
        return Outline(
            [(past.op, past.number, past.message) for past in self.past],
            self.named(),
            set(self.protected),
            set(self.deleted),
            set(self.purged),
            [
                (kept.number, kept.branch, parents(kept), kept.request, kept.bases)
                for kept in self.versions.values()
            ],
        )

    def after(self, op: str, number: int, message: str, **changes: Any) -> History:
        """This history with ``changes`` made to it by an entry."""
        changed = replace(self, **changes)
        return replace(changed, past=(*self.past, Past(op, number, message, changed.named())))


def parents(kept: Kept) -> tuple[int, ...]:
    """The version's parents as a hub shows them."""
    return tuple(parent for parent in (kept.parent, kept.merged) if parent)


def outline_of(rows: RowStore, name: str) -> Outline:
    """The outline of a stored model, from its log alone."""
    head = read_head(rows, name)
    state = head.state
    named = state.branches | state.tags | state.aliases
    deleted, purged = deleted_numbers(state), purged_numbers(state)
    outline = Outline([], named, set(state.protected), deleted, purged, [])
    log = list(entries(rows, name, newest=head.seq)) if head.seq else []
    for entry in (sealed.entry for sealed in reversed(log)):
        change = entry.change
        if isinstance(change, Fence):
            continue
        outline.past.append((op(change), subject(change) or 0, entry.message))
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
    for names, refs in ((version.tags, history.tags), (version.aliases, history.aliases)):
        assert list(names) == sorted(ref for ref, number in refs.items() if number == kept.number)
    assert version.parents == parents(kept)
    assert version.bases == kept.bases
    assert version.message == kept.message
    assert version.deleted == (kept.number in history.deleted)
    assert version.files == len(kept.files)
    assert version.total_bytes == sum(len(file.data) for file in kept.files.values())
    shown = exact(to_builtins(version.metadata))
    # A purge that was cut off may have left the metadata of a version that is purged.
    erased = kept.number in history.purged and shown == exact({})
    assert erased or shown == exact(kept.facts)


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

    def run(self, hub: Hub) -> Version | Ref | None:
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
        if history.kind(self.branch) in {"tag", "alias"} or self.branch in history.retired:
            raise AlreadyExists(f"{self.branch} is none of its branches")
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
class Restore:
    """A version that is published again; or with ``path`` the head, with one file of it."""

    name: str
    to: int
    branch: str
    message: str
    path: str = ""

    def after(self, history: History) -> tuple[History, int]:
        """One version more, unless the head is like it already."""
        if history.kind(self.branch) in {"tag", "alias"} or self.branch in history.retired:
            raise AlreadyExists(f"{self.branch} is none of its branches")
        old, parent = history.versions.get(self.to), history.head(self.branch)
        if self.branch not in history.tips or old is None or self.to in history.deleted:
            raise NotFound(f"{self.name} has no such branch or version")
        head, message = history.versions.get(parent), self.message
        wanted = replace(
            old, branch=self.branch, parent=parent, message=message, request="", merged=0
        )
        if self.path:
            if head is None or self.path not in old.files:
                raise NotFound("there is no such file")
            files = {**head.files, self.path: old.files[self.path]}
            wanted = replace(wanted, files=files, facts=head.facts, bases=head.bases)
        if head is not None and _alike(wanted, head):
            return history, parent
        number = len(history.versions) + 1
        versions = {**history.versions, number: replace(wanted, number=number)}
        tips = {**history.tips, self.branch: number}
        return history.after("publish", number, message, versions=versions, tips=tips), number

    def run(self, hub: Hub) -> Version:
        """Roll back, or restore the file."""
        options: dict[str, Any] = {"branch": self.branch, "message": self.message}
        if self.path:
            return hub.restore(f"{self.name}@{self.to}", [f"/{self.path}"], **options)
        return hub.rollback(self.name, to=self.to, **options)


@dataclass(frozen=True)
class Merge:
    """What ``source`` changed, merged into a branch; ``prefer`` settles what both changed."""

    name: str
    source: int
    branch: str
    prefer: str | None
    message: str

    def after(self, history: History) -> tuple[History, int]:
        """One version more, with two parents, unless the branch has it all already."""
        if history.kind(self.branch) in {"tag", "alias"} or self.branch in history.retired:
            raise AlreadyExists(f"{self.branch} is none of its branches")
        versions, parent = history.versions, history.head(self.branch)
        live = self.source in versions and self.source not in history.deleted
        if self.branch not in history.tips or not live or not parent:
            raise NotFound(f"{self.name} has no such branch or version")
        ours, theirs = _all_before(versions, parent), _all_before(versions, self.source)
        if self.source in ours:
            return history, parent
        common = max((ours & theirs) - history.purged, default=0)
        was, x, y = versions.get(common), versions[parent], versions[self.source]
        told = {"source": f"{self.name}@{self.source}", "prefer": self.prefer}
        told |= {"base": f"{self.name}@{common}"} if common else {}
        facts = _merged_facts(was.facts if was else {}, x.facts, y.facts)
        extra = {key: said for key, said in facts.get("extra", {}).items() if key[:6] != "merge."}
        record = {f"merge.{key}": said for key, said in told.items() if said is not None}
        number = len(versions) + 1
        kept = Kept(
            number,
            self.branch,
            parent,
            self._files(was.files if was else {}, x.files, y.files),
            {**facts, "extra": {**extra, **record}},
            self.message,
            "",
            tuple(dict.fromkeys((*x.bases, *y.bases))),
            self.source,
        )
        changes = {
            "versions": {**versions, number: kept},
            "tips": {**history.tips, self.branch: number},
        }
        return history.after("publish", number, self.message, **changes), number

    def _files(self, was: Files, ours: Files, theirs: Files) -> dict[str, File]:
        chosen = {}
        for path in ours.keys() | theirs.keys():
            before, x, y = was.get(path), ours.get(path), theirs.get(path)
            if x != y and before not in (x, y) and self.prefer is None:
                raise Conflict(f"both changed {path}")
            if x != y and before not in (x, y):
                x = y if self.prefer == "theirs" else x
            elif x == before:
                x = y
            if x is not None:
                chosen[path] = x
        return chosen

    def run(self, hub: Hub) -> Version:
        """Merge."""
        return hub.merge(
            self.name,
            str(self.source),
            into=self.branch,
            prefer=self.prefer,
            message=self.message,
        )


def _all_before(versions: Mapping[int, Kept], number: int) -> set[int]:
    """A version and all that it was made of."""
    found = {number}
    for parent in parents(versions[number]):
        found |= _all_before(versions, parent)
    return found


def _merged_facts(
    was: Mapping[str, Any], ours: Mapping[str, Any], theirs: Mapping[str, Any]
) -> dict[str, Any]:
    """Field by field what the side has that changed it; ours, where both did."""
    facts: dict[str, Any] = {}
    for name in ours.keys() | theirs.keys():
        sides = [each.get(name) for each in (was, ours, theirs)]
        if any(isinstance(side, dict) for side in sides):
            facts[name] = _merged_facts(*(side or {} for side in sides))
        else:
            facts[name] = sides[2] if exact({"": sides[1]}) == exact({"": sides[0]}) else sides[1]
    return {name: value for name, value in facts.items() if value is not None and value != {}}


def _alike(one: Kept, other: Kept) -> bool:
    same = one.files == other.files and one.bases == other.bases
    return same and exact(one.facts) == exact(other.facts)


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
    """A deletion, or with ``deleted`` False its undoing. ``ref`` is what follows the ``@``.

    ``is_base``: another live version is based on it.
    """

    name: str
    number: int
    deleted: bool
    message: str
    ref: str = ""
    force: bool = False
    is_base: bool = False

    def after(self, history: History) -> tuple[History, int]:
        """The version deleted or back; nothing, where it is so already."""
        if self.number not in history.versions:
            raise NotFound(f"{self.name} has no version {self.number}")
        if not self.deleted and self.number in history.purged:
            raise NotFound(f"nothing brings version {self.number} of {self.name} back")
        if (self.number in history.deleted) == self.deleted:
            return history, self.number
        op = "delete" if self.deleted else "undelete"
        deleted = history.deleted ^ {self.number}
        after = history.after(op, self.number, self.message, deleted=deleted)
        if self.deleted:
            aliases = [ref for ref, number in history.aliases.items() if number == self.number]
            if not self.force and (aliases or self.number in history.tags.values()):
                raise Conflict("a tag or alias names it")
            moved = [ref for ref in history.tips if history.head(ref) != after.head(ref)]
            history.guard(*aliases, *moved)
            if not self.force and self.is_base:
                raise Conflict("another version is based on it")
        return after, self.number

    def run(self, hub: Hub) -> Version:
        """Delete or undelete."""
        revision = f"{self.name}@{self.ref or self.number}"
        if self.deleted:
            return hub.delete(revision, message=self.message, force=self.force)
        return hub.undelete(revision, message=self.message)


@dataclass(frozen=True)
class Purge:
    """The end of a version; one that somebody brought back is deleted again."""

    name: str
    number: int
    message: str
    is_base: bool = False

    def after(self, history: History) -> tuple[History, int]:
        """Only its number and place are left; nothing more, where it is so already."""
        deletion = Retire(self.name, self.number, True, self.message, is_base=self.is_base)
        history, _ = deletion.after(history)
        if self.number in history.purged:
            return history, self.number
        purged = history.purged | {self.number}
        return history.after("purge", self.number, self.message, purged=purged), self.number

    def run(self, hub: Hub) -> Version:
        """Purge."""
        return hub.purge(f"{self.name}@{self.number}", message=self.message)


@dataclass(frozen=True)
class MoveRef:
    """A branch, tag or alias that is created, set, moved or deleted (``to`` is not looked at).

    ``expect`` is the number that it must mean before.
    """

    name: str
    kind: str
    ref: str
    act: str
    to: int
    message: str
    expect: int | None = None

    def after(self, history: History) -> tuple[History, int]:
        """The name with its new meaning, or without any; nothing, where it has that already."""
        if self.ref == DEFAULT_BRANCH and self.kind != "branch":
            raise InvalidInput("it is the default branch")
        if not history.versions:
            raise NotFound(f"there is no {self.name}")
        came = history.named().get(self.ref, 0)
        if self.expect is not None and (self.expect != came or came not in history.versions):
            raise Conflict(f"{self.ref} is at {came}")
        deletes = self.act == "delete"
        if not deletes and (self.to not in history.versions or self.to in history.deleted):
            raise NotFound(f"{self.name} has no version {self.to}")
        found = self._found(history)
        tip = history.tips.get(self.ref, self.to) if self.kind == "branch" else self.to
        if found and not deletes and came == self.to == tip:
            return history, self.to
        if found and self.act == "create":
            raise AlreadyExists("it is taken")
        back = self.kind == "tag" and history.retired.get(self.ref) == self.to
        if not deletes and not back and self.ref in history.retired:
            raise AlreadyExists("it was a tag")
        if found:
            history.guard(self.ref)
        return self._changed(history), 0 if deletes else self.to

    def _found(self, history: History) -> bool:
        """Whether it is there; that something else has the name is refused."""
        found = history.kind(self.ref)
        if not found and self.act in {"move", "delete"}:
            raise NotFound(f"{self.name} has no {self.ref}")
        if found not in {"", self.kind}:
            sets = self.act in {"create", "set"}
            raise AlreadyExists("it is taken") if sets else InvalidInput(f"it is a {found}")
        if self.act == "delete" and self.ref == DEFAULT_BRANCH:
            raise InvalidInput("it is the default branch")
        return bool(found)

    def _changed(self, history: History) -> History:
        fields = {"branch": "tips", "tag": "tags", "alias": "aliases"}
        refs = dict(getattr(history, fields[self.kind]))
        retired = dict(history.retired)
        deletes = self.act == "delete"
        if deletes:
            gone = refs.pop(self.ref)
            if self.kind == "tag":
                retired[self.ref] = gone
        else:
            refs[self.ref] = self.to
            if self.kind == "tag":
                retired.pop(self.ref, None)
        told = f"delete-{self.kind}" if deletes else self.kind
        changes: dict[str, Any] = {fields[self.kind]: refs, "retired": retired}
        return history.after(told, 0 if deletes else self.to, self.message, **changes)

    def run(self, hub: Hub) -> Ref:
        """Ask for it by the verb of its kind."""
        verb = getattr(getattr(hub, self.kind), self.act)
        options: dict[str, Any] = {"message": self.message}
        if self.expect is not None:
            options["expect"] = str(self.expect)
        if self.act == "delete":
            return cast(Ref, verb(self.name, self.ref, **options))
        if self.kind == "branch" and self.act == "create":
            return cast(Ref, verb(self.name, self.ref, at=str(self.to), **options))
        return cast(Ref, verb(self.name, self.ref, str(self.to), **options))


@dataclass(frozen=True)
class Protect:
    """A branch, an alias or (without ``ref``) the model protected, or no longer."""

    name: str
    ref: str
    on: bool
    message: str

    def after(self, history: History) -> tuple[History, int]:
        """With one guard more or fewer; nothing, where it is so already."""
        if not history.versions:
            raise NotFound(f"there is no {self.name}")
        kind = history.kind(self.ref)
        if self.ref and not kind:
            raise NotFound(f"{self.name} has no {self.ref}")
        if kind == "tag":
            raise InvalidInput("it never moves")
        if (self.ref in history.protected) == self.on:
            return history, 0
        protected = history.protected ^ {self.ref}
        told = "protect" if self.on else "unprotect"
        return history.after(told, 0, self.message, protected=protected), 0

    def run(self, hub: Hub) -> None:
        """Protect or unprotect."""
        verb = hub.protect if self.on else hub.unprotect
        verb(self.name, self.ref or None, message=self.message)


def run(operation: Operation, hub: Hub) -> Ending:
    """Ask ``hub`` for an operation."""
    try:
        return number_of(operation.run(hub))
    except ModelhubError as error:
        return error.kind


def number_of(result: Version | Ref | None) -> int:
    """The version that an operation came to; 0 where it is none."""
    return 0 if result is None else result.number or 0


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
