"""Merging one line of versions into a branch: three-way, by file and by tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from modelhub.content.blend import Blend
from modelhub.content.merge_tensors import Side, merge_tensors, merged_texts
from modelhub.content.stored_file import StoredSource
from modelhub.content.tree import Source
from modelhub.coordinator import versions
from modelhub.coordinator.log import Head, entries, require
from modelhub.coordinator.publish import Push
from modelhub.coordinator.restore import Content, content_of, folders_that_are_files
from modelhub.coordinator.state import purged_numbers
from modelhub.describe.facts import apply as apply_facts
from modelhub.errors import Conflict, InvalidInput, NotFound
from modelhub.names import Revision
from modelhub.records import Metadata, Published, Scalar, to_builtins
from modelhub.stores import RowStore

_SUFFIX = ".safetensors"
_MOST_NAMED = 20
_RECORD = "merge."
"""What begins the facts that say how a merge was made."""
_STALE = (_RECORD, "weights.")
"""Facts of what was merged that are none of the merge."""


@dataclass
class Merge(Push):
    """Publish what ``target`` changed since the lines parted, on top of a branch (a ``Plan``).

    A file, or a tensor of a safetensors file, that one side left alone is taken from the other.
    What both changed is a conflict: ``blend`` settles weights, ``prefer`` whatever else. Metadata
    is merged field by field; where both changed one, ours stands.
    """

    target: Revision | None = None
    blend: Blend | None = None
    prefer: Side | None = None
    op: str = "merge"
    _merged_of: tuple[int, int, Metadata, Metadata] | None = None

    def choose(self, head: Head, parent: int) -> bool:
        """Find where the lines parted, and merge.

        Raises:
            NotFound: the branch, or what is to be merged, is not there.
            Conflict: both sides changed the same, and nothing settles it; all of it is named.
        """
        assert self.target is not None
        rows = self.ctx.stores.rows
        require(rows, head)
        if self.branch not in head.state.branches:
            raise versions.unknown_ref(head, self.branch)
        source = versions.resolve_live(rows, head, self.target)
        if not parent:
            raise NotFound(
                f"every version on branch {self.branch} of {head.name} is deleted",
                remedy="Bring one back, or undelete it.",
            )
        parents = _parents(rows, head)
        ours, theirs = _ancestors(parents, parent), _ancestors(parents, source)
        current = content_of(self.ctx, head, parent)
        if source in ours:
            self.published, self.known = current.published, {parent: current.metadata}
            return False
        # Of a purged one there is nothing to compare with; what it was made of will do.
        common = max((ours & theirs) - purged_numbers(head.state), default=0)
        base = content_of(self.ctx, head, common) if common else None
        other = content_of(self.ctx, head, source)
        settled = (parent, source, current.metadata, other.metadata)
        if settled == self._merged_of:
            return True  # Other entries came first, which leave this as it is.
        self.sources = self._merged(base, current, other)
        before = Metadata() if base is None else base.metadata
        merged = merged_metadata(before, current.metadata, other.metadata)
        self.metadata = self._recorded(merged, head.name, common, source)
        self.bases = tuple(dict.fromkeys((*current.bases, *other.bases)))
        self.merged = (source,)
        self._merged_of = settled
        self.forget()
        return True

    def _merged(self, base: Content | None, ours: Content, theirs: Content) -> list[Source]:
        chosen: list[Source] = []
        conflicts: list[str] = []
        before = {} if base is None else base.files
        for path in sorted({*ours.files, *theirs.files}):
            was, x, y = before.get(path), ours.files.get(path), theirs.files.get(path)
            if _alike(x, y) or _alike(y, was):
                found: Source | None = x
            elif _alike(x, was):
                found = y
            else:
                found, unsettled = self._settled(path, was, x, y)
                conflicts += unsettled
            if found is not None:
                chosen.append(found)
        both = folders_that_are_files([source.path for source in chosen])
        conflicts += [f"{path} (below the file {folder})" for folder, path in both]
        if conflicts:
            raise _conflict(ours, theirs, conflicts)
        if not chosen:
            raise InvalidInput(
                f"nothing is left of {head_name(ours)} and {head_name(theirs)} together",
                remedy="Each removed what the other kept; push what is wanted.",
            )
        return chosen

    def _settled(
        self, path: str, was: StoredSource | None, x: StoredSource | None, y: StoredSource | None
    ) -> tuple[Source | None, list[str]]:
        """A file that both sides changed, and what of it stays a conflict."""
        if x is not None and y is not None and path.endswith(_SUFFIX):
            merged = merge_tensors(was, x, y, blend=self.blend, prefer=self.prefer)
            if merged is not None:
                return merged.source, [f"{path}: {name}" for name in merged.conflicts]
        if self.prefer is None:
            return None, [path]
        return (x if self.prefer == "ours" else y), []

    def _recorded(self, merged: Metadata, name: str, common: int, source: int) -> Metadata:
        """With the facts that the merge can be repeated by."""
        facts: dict[str, Scalar] = {"source": f"{name}@{source}"}
        if common:
            facts["base"] = f"{name}@{common}"
        if self.blend is not None:
            facts["strategy"] = self.blend.strategy
            facts["weight"], facts["scale"] = self.blend.weight, self.blend.scale
        if self.prefer is not None:
            facts["prefer"] = self.prefer
        kept = {key: said for key, said in merged.extra.items() if not key.startswith(_STALE)}
        told = {_RECORD + key: said for key, said in facts.items()}
        extra = {**dict.fromkeys(merged.extra), **kept, **told}
        # Each side's facts have their limits, and together they might not.
        checked = {"params": merged.params, "metrics": merged.metrics, "extra": extra}
        return apply_facts(merged, checked)


def merged_metadata(base: Metadata, ours: Metadata, theirs: Metadata) -> Metadata:
    """Field by field, and key by key, what the side has that changed it; ours, where both did."""
    sides: list[dict[str, Any]] = [to_builtins(each) for each in (base, ours, theirs)]
    found: dict[str, Any] = merged_texts(*sides)
    for field in Metadata.__struct_fields__:
        values = [side.get(field) for side in sides]
        if any(isinstance(value, dict) for value in values):
            found[field] = merged_texts(*(value or {} for value in values))
    return msgspec.convert(found, Metadata)


def _alike(one: StoredSource | None, other: StoredSource | None) -> bool:
    if one is None or other is None:
        return one is other
    return (one.file.digest, one.mode) == (other.file.digest, other.mode)


def _parents(rows: RowStore, head: Head) -> dict[int, tuple[int, ...]]:
    """Every version's parents, from the whole log."""
    found = {}
    for sealed in entries(rows, head.name, newest=head.seq):
        if isinstance(sealed.entry.change, Published):
            found[sealed.entry.change.number] = sealed.entry.change.parents
    return found


def _ancestors(parents: Mapping[int, tuple[int, ...]], number: int) -> set[int]:
    """A version with all before it.

    Of two versions' common ones the highest is the nearest: a version is higher than all before it.
    """
    return set(_walk(parents, number))


def _walk(parents: Mapping[int, tuple[int, ...]], number: int) -> Iterator[int]:
    seen, pending = {number}, [number]
    while pending:
        here = pending.pop()
        yield here
        further = set(parents.get(here, ())) - seen
        seen |= further
        pending += further


def head_name(content: Content) -> str:
    """``NAME@N`` of the version that has the content."""
    change = content.published.entry.change
    assert isinstance(change, Published)
    return f"{content.published.entry.model}@{change.number}"


def _conflict(ours: Content, theirs: Content, names: list[str]) -> Conflict:
    shown = ", ".join(names[:_MOST_NAMED])
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return Conflict(
        f"{head_name(ours)} and {head_name(theirs)} both changed {shown}{more}",
        remedy="Prefer ours or theirs; weights can also be averaged or blended by a strategy.",
    )
