"""What a version was made of, and what was made of it: a graph, read from the logs.

Versions refer only to versions that were there before them, so the graph has no cycles; what a
damaged row says is followed once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from modelhub.coordinator import keys, versions
from modelhub.coordinator.context import Context
from modelhub.coordinator.log import Head, entries, read_head
from modelhub.coordinator.state import exists, is_deleted
from modelhub.errors import CorruptData, NotFound
from modelhub.names import Number, revision
from modelhub.records import Metadata, Published
from modelhub.results import Lineage, LineageEdge, LineageNode, Listing

_COMMITS = ("commit", "git_commit", "code_commit")
"""Free facts that name the code of a version."""

Version = tuple[str, int]


def trace(ctx: Context, head: Head, number: int, *, depth: int | None, down: bool) -> Lineage:
    """The ancestors of a version and, with ``down``, its descendants, ``depth`` steps away.

    Raises:
        CorruptData: the version itself cannot be read.
    """
    root = (head.name, number)
    tracing = _Tracing(ctx, {head.name: head})
    tracing.up(root, depth)
    if down:
        tracing.down(root, depth)
    return Lineage(
        root=_id(root),
        nodes=Listing(LineageNode, list(tracing.nodes.values())),
        edges=Listing(LineageEdge, list(tracing.edges)),
    )


def derived(ctx: Context, name: str, number: int) -> Iterator[Version]:
    """The live versions, of any model, that name this one as a base."""
    rows = ctx.stores.rows
    wanted = _id((name, number))
    for key, _ in rows.scan(keys.LOOKUP, *keys.lookup_range("base", wanted)):
        *_, child, made = keys.parse_lookup(key)
        head = read_head(rows, child)
        # The row is put before its entry: only the log knows whether that came.
        if exists(head.state) and made < head.state.next and not is_deleted(head.state, made):
            change = versions.publication(rows, head, made).entry.change
            if isinstance(change, Published) and wanted in change.version.bases:
                yield child, made


@dataclass
class _Tracing:
    ctx: Context
    heads: dict[str, Head]
    nodes: dict[str, LineageNode] = field(default_factory=dict)
    edges: dict[LineageEdge, None] = field(default_factory=dict)

    def up(self, root: Version, depth: int | None) -> None:
        """From a version to what it was made of, nearest first."""
        pending, known, level = [root], {root}, 0
        while pending:
            further = []
            for version in pending:
                for parent in self._ancestors(version, shallow=level == depth):
                    if parent not in known:
                        known.add(parent)
                        further.append(parent)
            pending, level = further, level + 1

    def down(self, root: Version, depth: int | None) -> None:
        """From a version to what was made of it."""
        pending, known, level = [root], {root}, 0
        while pending and level != depth:
            further = []
            for version in pending:
                for child in self._children(version):
                    if child not in known:
                        known.add(child)
                        further.append(child)
                        self._ancestors(child, shallow=True)
            pending, level = further, level + 1

    def _ancestors(self, version: Version, *, shallow: bool) -> list[Version]:
        """Note a version, and what it was made of; the versions among those.

        ``shallow``: noted is only how it hangs together with versions that were noted before.
        """
        found = self._read(version)
        if found is None:
            return []
        change, metadata = found
        record = change.version
        made_of = [("parent", (version[0], number)) for number in change.parents]
        made_of += [("base", _parsed(base)) for base in record.bases]
        if record.origin:
            made_of.append(("origin", (version[0], record.origin)))
        for relation, other in made_of:
            if not shallow or _id(other) in self.nodes:
                self._edge(version, relation, _id(other))
        if shallow:
            return []
        outside = [("base", "model", base) for base in metadata.bases]
        outside += [("dataset", "dataset", name) for name in metadata.datasets]
        outside += [
            ("code", "commit", str(metadata.extra[key]))
            for key in _COMMITS
            if key in metadata.extra
        ]
        for relation, kind, name in outside:
            node = LineageNode(id=f"{kind}:{name}", kind=kind, title=name, deleted=False)
            self.nodes.setdefault(node.id, node)
            self._edge(version, relation, node.id)
        return [other for _, other in made_of]

    def _children(self, version: Version) -> list[Version]:
        name, number = version
        head = self._head(name)
        children = []
        published = versions.publication(self.ctx.stores.rows, head, number)
        newer = entries(self.ctx.stores.rows, name, newest=head.seq, oldest=published.entry.seq + 1)
        for sealed in newer if head.seq > published.entry.seq else ():
            change = sealed.entry.change
            if isinstance(change, Published) and number in (*change.parents, change.version.origin):
                children.append((name, change.number))
        return sorted(children) + sorted(derived(self.ctx, name, number))

    def _read(self, version: Version) -> tuple[Published, Metadata] | None:
        """A version's entry and metadata; noted as unknown where it cannot be read."""
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
        node = LineageNode(id=_id(version), kind="version", title=title, deleted=deleted)
        self.nodes.setdefault(node.id, node)
        return found

    def _head(self, name: str) -> Head:
        if name not in self.heads:
            self.heads[name] = read_head(self.ctx.stores.rows, name)
        return self.heads[name]

    def _edge(self, version: Version, relation: str, source: str) -> None:
        self.edges[LineageEdge(source=source, target=_id(version), relation=relation)] = None


def _id(version: Version) -> str:
    return f"{version[0]}@{version[1]}"


def _parsed(base: str) -> Version:
    """A base of a record, which is always ``NAME@N``."""
    parsed = revision(base)
    assert isinstance(parsed.selector, Number)
    return parsed.model, parsed.selector.number
