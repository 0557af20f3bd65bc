"""What a version was made of, and what was made of it: a graph, read from the logs.

Versions refer only to versions that were there before them, so the graph has no cycles; what a
damaged row says is followed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from modelhub.coordinator import keys, versions
from modelhub.coordinator.context import Context
from modelhub.coordinator.log import Head, entries, read_head
from modelhub.coordinator.state import is_deleted, is_live
from modelhub.errors import CorruptData, NotFound
from modelhub.names import Number, revision
from modelhub.records import Metadata, Published
from modelhub.results import Lineage, LineageEdge, LineageNode, Listing
from modelhub.stores import RowStore

_COMMITS = ("commit", "git_commit", "code_commit")
"""Free facts that name the code of a version."""

Version = tuple[str, int]


def trace(ctx: Context, head: Head, number: int, *, depth: int | None, down: bool) -> Lineage:
    """The ancestors of a version and, with ``down``, its descendants, ``depth`` steps away.

    What takes part by itself is connected whichever way it came in.
    """
    root = (head.name, number)
    tracing = _Tracing(ctx, {head.name: head})
    tracing.up(root, depth)
    if down:
        tracing.down(root, depth)
    return tracing.lineage(root)


def derived(ctx: Context, name: str, number: int) -> Iterator[Version]:
    """The live versions, of any model, that name this one as a base.

    Best effort: a model whose log cannot be read is passed over.
    """
    wanted = _id((name, number))
    for key, _ in ctx.stores.rows.scan(keys.LOOKUP, *keys.lookup_range("base", wanted)):
        with suppress(CorruptData):
            *_, child, made = keys.parse_lookup(key)
            if _is_based(ctx.stores.rows, child, made, wanted):
                yield child, made


def _is_based(rows: RowStore, name: str, number: int, base: str) -> bool:
    """Whether there is such a live version: a row is put before its entry, which may not come."""
    head = read_head(rows, name)
    if not is_live(head.state, number):
        return False
    change = versions.publication(rows, head, number).entry.change
    return isinstance(change, Published) and base in change.version.bases


@dataclass
class _Tracing:
    """``found`` are the versions that take part, ``whole`` those whose every origin does too."""

    ctx: Context
    heads: dict[str, Head]
    found: dict[Version, tuple[Published, Metadata] | None] = field(default_factory=dict)
    whole: set[Version] = field(default_factory=set)
    _nodes: dict[str, LineageNode] = field(default_factory=dict)
    _followers: dict[str, dict[int, list[int]]] = field(default_factory=dict)

    def up(self, root: Version, depth: int | None) -> None:
        """From a version to what it was made of, nearest first."""
        self._walk(root, depth, self._made_of, self.whole)

    def down(self, root: Version, depth: int | None) -> None:
        """From a version to what was made of it."""
        self._walk(root, depth, self._children, set())

    def lineage(self, root: Version) -> Lineage:
        """All that was found, and how it hangs together."""
        edges: dict[LineageEdge, None] = {}
        for version in self.found:
            for relation, other in self._origins(version):
                if version in self.whole or other in self.found:
                    edges[_edge(version, relation, _id(other))] = None
            if version in self.whole:
                for relation, node in self._outside(version):
                    self._nodes.setdefault(node.id, node)
                    edges[_edge(version, relation, node.id)] = None
        return Lineage(
            root=_id(root),
            nodes=Listing(LineageNode, list(self._nodes.values())),
            edges=Listing(LineageEdge, list(edges)),
        )

    def _walk(
        self,
        root: Version,
        depth: int | None,
        further: Callable[[Version], list[Version]],
        expanded: set[Version],
    ) -> None:
        pending, seen, level = [root], {root}, 0
        self._visit(root)
        while pending and level != depth:
            expanded |= set(pending)
            following = [other for version in pending for other in further(version)]
            pending = [other for other in dict.fromkeys(following) if other not in seen]
            seen |= set(pending)
            for version in pending:
                self._visit(version)
            level += 1

    def _made_of(self, version: Version) -> list[Version]:
        return [other for _, other in self._origins(version)]

    def _origins(self, version: Version) -> list[tuple[str, Version]]:
        """The versions that one was made of, and how."""
        found = self.found[version]
        if found is None:
            return []
        change, _ = found
        origins = [("parent", (version[0], number)) for number in change.parents]
        origins += [("base", _parsed(base)) for base in change.version.bases]
        if change.version.origin:
            origins.append(("origin", (version[0], change.version.origin)))
        return origins

    def _outside(self, version: Version) -> list[tuple[str, LineageNode]]:
        """What a version was made of that is none, and how."""
        found = self.found[version]
        if found is None:
            return []
        _, metadata = found
        named = [("base", "model", base) for base in metadata.bases]
        named += [("dataset", "dataset", name) for name in metadata.datasets]
        extra = metadata.extra
        named += [("code", "commit", str(extra[key])) for key in _COMMITS if key in extra]
        return [
            (relation, LineageNode(id=f"{kind}:{name}", kind=kind, title=name, deleted=False))
            for relation, kind, name in named
        ]

    def _children(self, version: Version) -> list[Version]:
        name, number = version
        if name not in self._followers:
            self._followers[name] = self._followers_in(name)
        mine = [(name, child) for child in self._followers[name].get(number, ())]
        return mine + sorted(derived(self.ctx, name, number))

    def _followers_in(self, name: str) -> dict[int, list[int]]:
        """For each version those that have it as a parent or origin: one scan of the log."""
        head = self._head(name)
        followers: dict[int, list[int]] = {}
        for sealed in entries(self.ctx.stores.rows, name, newest=head.seq):
            change = sealed.entry.change
            if isinstance(change, Published):
                for number in {*change.parents, change.version.origin} - {0}:
                    followers.setdefault(number, []).insert(0, change.number)
        return followers

    def _visit(self, version: Version) -> None:
        """Read a version, once; it takes part as unknown where it cannot be read."""
        if version in self.found:
            return
        name, number = version
        rows = self.ctx.stores.rows
        deleted, title, found = False, "", None
        try:
            head = self._head(name)
            versions.resolve(rows, head, revision(_id(version)))
            published = versions.publication(rows, head, number)
            metadata = versions.metadata_row(rows, head, published).metadata
        except (CorruptData, NotFound):
            title = "cannot be read"
        else:
            assert isinstance(published.entry.change, Published)
            deleted, title = is_deleted(head.state, number), metadata.title
            found = published.entry.change, metadata
        self.found[version] = found
        node = LineageNode(id=_id(version), kind="version", title=title, deleted=deleted)
        self._nodes[node.id] = node

    def _head(self, name: str) -> Head:
        if name not in self.heads:
            self.heads[name] = read_head(self.ctx.stores.rows, name)
        return self.heads[name]


def _edge(version: Version, relation: str, source: str) -> LineageEdge:
    return LineageEdge(source=source, target=_id(version), relation=relation)


def _id(version: Version) -> str:
    return f"{version[0]}@{version[1]}"


def _parsed(base: str) -> Version:
    """A base of a record, which is always ``NAME@N``."""
    parsed = revision(base)
    assert isinstance(parsed.selector, Number)
    return parsed.model, parsed.selector.number
