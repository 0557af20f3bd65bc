"""Results as text for people: each function makes the lines for one kind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from modelhub.cli.output import clean, columns, size, table, time
from modelhub.records import Metadata
from modelhub.results import (
    BackedUp,
    Collected,
    Diff,
    FileInfo,
    Health,
    Lineage,
    Listing,
    LogEntry,
    Made,
    ModelSummary,
    Ref,
    RefChange,
    Reindexed,
    Restored,
    SearchHit,
    SearchLag,
    SearchResult,
    Status,
    Sweep,
    TensorChange,
    TensorInfo,
    Version,
    WeightDistance,
)


def revision(version: Version) -> str:
    """``NAME@N`` alone, for scripts."""
    return f"{version.name}@{version.number}"


def version(result: Version) -> str:
    """Everything about a version but its files and its card."""
    facts = {
        "version": revision(result) + ("  (deleted)" if result.deleted else ""),
        "digest": result.digest,
        "content": result.content,
        "branch": result.branch,
        "head of": ", ".join(result.branches),
        "tags": ", ".join(result.tags),
        "aliases": ", ".join(result.aliases),
        "parents": ", ".join(map(str, result.parents)),
        "derived from": ", ".join(result.bases),
        "brings back": str(result.origin or ""),
        "message": result.message,
        "published": f"{time(result.created)} by {result.actor}",
        "files": f"{result.files:,}, {size(result.total_bytes)}, {size(result.new_bytes)} new",
    }
    return _facts([*facts.items(), *_metadata(result.metadata)])


def _metadata(metadata: Metadata) -> Iterator[tuple[str, str]]:
    yield "title", metadata.title
    yield "description", metadata.description
    yield "card", f"{len(metadata.card):,} characters" if metadata.card else ""
    yield "owner", metadata.owner
    yield "creator", metadata.creator
    yield "created", time(metadata.created)
    yield "datasets", ", ".join(metadata.datasets)
    yield "labels", ", ".join(metadata.labels)
    yield "licence", metadata.licence
    yield "framework", metadata.framework
    yield "bases", ", ".join(metadata.bases)
    for field in ("params", "metrics", "extra"):
        for key, value in getattr(metadata, field).items():
            yield f"{field}.{key}", _value(value)


def files(listing: Listing[FileInfo]) -> str:
    """A version's files, with modes as ``ls`` writes them in octal."""
    heads = ("MODE", "SIZE", "DIGEST", "PATH")
    return table(
        heads,
        (
            (f"{file.mode:o}", size(file.size_bytes), file.digest[:12], file.path)
            for file in listing
        ),
    )


def tensors(listing: Listing[TensorInfo]) -> str:
    """A version's tensors, with shapes as numpy writes them, but without spaces."""
    heads = ("DTYPE", "SHAPE", "SIZE", "FILE", "NAME")
    return table(
        heads,
        (
            (found.dtype, _shape(found.shape), size(found.size_bytes), found.file, found.name)
            for found in listing
        ),
    )


def _shape(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"


def models(listing: Listing[ModelSummary]) -> str:
    """Models with their head, one a row."""
    return table(
        ("NAME", "HEAD", "VERSIONS", "SIZE", "UPDATED", "TITLE"),
        (
            (
                model.name,
                str(model.head or ""),
                str(model.versions),
                size(model.total_bytes),
                time(model.updated),
                model.title,
            )
            for model in listing
        ),
    )


def log(listing: Listing[LogEntry]) -> str:
    """A model's history, newest first."""
    return table(
        ("VERSION", "CHANGE", "REF", "TIME", "ACTOR", "DIGEST", "MESSAGE"),
        (
            (
                str(entry.number or ""),
                entry.op,
                entry.ref,
                time(entry.created),
                entry.actor,
                entry.digest[:12],
                entry.message,
            )
            for entry in listing
        ),
    )


def ref(result: Ref) -> str:
    """What a name means, alone, for scripts."""
    return f"{result.name}@{result.number or ''}"


def refs(listing: Listing[Ref]) -> str:
    """Names with the versions that they mean, one a row."""
    return table(
        ("NAME", "VERSION", "PROTECTED"),
        ((found.ref, str(found.number or ""), "yes" * found.protected) for found in listing),
    )


def ref_history(listing: Listing[RefChange]) -> str:
    """What a name meant since when, newest first."""
    return table(
        ("VERSION", "CHANGE", "TIME", "ACTOR", "MESSAGE"),
        (
            (str(found.number or ""), found.op, time(found.created), found.actor, found.message)
            for found in listing
        ),
    )


def search(result: SearchResult) -> str:
    """The hits of one page, best first, with their words marked; counts; a better spelling."""
    marked = any(hit.highlight for hit in result.hits)
    parts = [
        table(
            ("VERSION", "CREATED", "TITLE", "MATCH" if marked else "DESCRIPTION"),
            (
                (f"{hit.name}@{hit.number}", time(hit.created), hit.title, _marked(hit))
                for hit in result.hits
            ),
        )
    ]
    for field, counts in result.facets.items():
        rows = ((count.value, str(count.count)) for count in counts)
        parts.append(table((field.upper(), "VERSIONS"), rows))
    if result.suggestion is not None:
        parts.append(f"Did you mean: {clean(result.suggestion)}")
    return "\n\n".join(parts)


def _marked(hit: SearchHit) -> str:
    """What shows why it was found, the words between asterisks; else its description."""
    if hit.highlight is None:
        return hit.description
    text, parts, end = hit.highlight.text, list[str](), 0
    for start, stop in hit.highlight.marks:
        parts += [text[end:start], "*", text[start:stop], "*"]
        end = stop
    return "".join(parts) + text[end:]


def diff(result: Diff) -> str:
    """Changed files, then changed fields; a line where nothing differs."""
    parts = []
    if result.files:
        rows = (
            (change.path, change.status, _size(change.old_bytes), _size(change.new_bytes))
            for change in result.files
        )
        parts.append(table(("FILE", "STATUS", result.a, result.b), rows))
    if result.metadata:
        fields = (
            (change.field, _value(change.old), _value(change.new)) for change in result.metadata
        )
        parts.append(table(("FIELD", result.a, result.b), fields))
    if result.tensors:
        heads = ("TENSOR", "STATUS", "L2", "RELATIVE", "COSINE", "MAX", "CHANGED", "NOTE")
        parts.append(table(heads, map(_tensor_change, result.tensors)))
    if result.overall is not None and result.overall.elements:
        parts.append(_overall(result.overall))
    return "\n\n".join(parts) or f"{result.a} and {result.b} do not differ"


def lineage(result: Lineage) -> str:
    """Two trees: what a version was made of, and what was made of it."""
    titles = {node.id: node.title + "  (deleted)" * node.deleted for node in result.nodes}
    sources: dict[str, list[tuple[str, str]]] = {}
    targets: dict[str, list[tuple[str, str]]] = {}
    for edge in result.edges:
        sources.setdefault(edge.target, []).append((edge.source, edge.relation))
        targets.setdefault(edge.source, []).append((edge.target, edge.relation))
    lines = [f"{result.root}  {titles[result.root]}".rstrip()]
    for head, links in (("made of", sources), ("went into", targets)):
        if result.root in links:
            lines += ["", f"{head}:", *_tree(result.root, links, titles)]
    return "\n".join(map(clean, lines))


def _tree(
    root: str, links: Mapping[str, list[tuple[str, str]]], titles: Mapping[str, str]
) -> Iterator[str]:
    """What hangs below ``root``; what is there already is not unfolded again."""
    seen = {root}
    pending = [(link, 1) for link in reversed(links.get(root, []))]
    while pending:
        (other, relation), level = pending.pop()
        title = "" if titles.get(other, "") in other else titles[other]
        again = " …" if other in seen and other in links else ""
        yield f"{'  ' * level}{relation} {other}  {title}".rstrip() + again
        if other not in seen:
            seen.add(other)
            pending += [(link, level + 1) for link in reversed(links.get(other, []))]


def _tensor_change(change: TensorChange) -> tuple[str, ...]:
    return (
        change.name,
        change.status,
        _decimal(change.l2),
        _decimal(change.relative_l2),
        _decimal(change.cosine, "9.7f"),
        _decimal(change.max_abs),
        _percent(change.fraction_changed),
        _note(change),
    )


def _note(change: TensorChange) -> str:
    notes = []
    if change.old_dtype and change.new_dtype and change.old_dtype != change.new_dtype:
        notes.append(f"{change.old_dtype} to {change.new_dtype}")
    if change.old_shape is not None and change.new_shape is not None:
        if change.old_shape != change.new_shape:
            notes.append(f"{_shape(change.old_shape)} to {_shape(change.new_shape)}")
    elif (shape := change.new_shape if change.old_shape is None else change.old_shape) is not None:
        notes.append(f"{change.new_dtype or change.old_dtype} {_shape(shape)}")
    if change.not_finite:
        notes.append(f"{change.not_finite:,} not finite, left out")
    return ", ".join(notes)


def _overall(found: WeightDistance) -> str:
    return (
        f"weights: L2 {_decimal(found.l2)}, relative {_decimal(found.relative_l2)}, "
        f"cosine {_decimal(found.cosine, '.7f')}, largest change {_decimal(found.max_abs)}, "
        f"{_percent(found.fraction_changed)} of {found.elements:,} elements changed"
    )


def _decimal(value: float | None, form: str = ".4g") -> str:
    return "" if value is None else format(value, form).strip()


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.3g} %"


def health(result: Health) -> str:
    """What is wrong and what to do about it, then what was looked at."""
    looked = ", ".join(f"{count:,} {what}" for what, count in result.checked.items())
    rows = (
        (
            "repaired" if finding.repaired else finding.severity,
            *(finding.kind, finding.subject, finding.cause, finding.repair),
        )
        for finding in result.findings
    )
    heads = ("SEVERITY", "KIND", "SUBJECT", "CAUSE", "REPAIR")
    found = f"{table(heads, rows)}\n\n" if result.findings else ""
    repaired = f", of which repaired: {result.repaired}" if result.repaired else ""
    return f"{found}findings: {len(result.findings)}{repaired}; checked: {looked}"


def made(result: Made) -> str:
    """Whether the hub is new, else what of it was."""
    if result.hub:
        return "made"
    tables = f"; made its missing tables {', '.join(result.tables)}" if result.tables else ""
    return f"was there already{tables}"


def sweep(result: Sweep) -> str:
    """What a sweep did."""
    return _facts((name, f"{getattr(result, name):,}") for name in result.__struct_fields__)


def reindexed(result: Reindexed) -> str:
    """What a re-index did, and what was lost or cannot be shown."""
    facts = [
        ("mode", result.mode),
        ("target", result.target),
        ("documents", f"{result.documents:,}"),
        ("written", f"{result.written:,}"),
        ("dropped", "\n".join(result.dropped)),
        ("lost", f"{result.documents_lost:,}"),
        ("", "\n".join(document.id for document in result.lost)),
        ("damaged", "\n".join(result.damaged)),
    ]
    return _facts(facts)


def collected(result: Collected) -> str:
    """What a collection did, or would do, and to which versions."""
    rows = ((one.fate, f"{one.name}@{one.number}", size(one.size_bytes)) for one in result.listed)
    listed = f"{table(('FATE', 'VERSION', 'SIZE'), rows)}\n\n" if result.listed else ""
    facts = [
        ("expired", f"{result.expired:,} versions deleted, which no rule keeps"),
        ("purged", f"{result.versions:,} versions that can never come back"),
        ("packs", f"{result.packs:,} to the trash, {size(result.bytes_trashed)}"),
        ("orphans", f"{result.orphans:,} of them, which no push finished"),
        ("revived", f"{result.revived:,} packs that are in use after all"),
        ("rewritten", f"{result.rewritten:,} packs, which saves {size(result.bytes_saved)}"),
        ("freed", f"{size(result.bytes_freed)} out of the trash"),
    ]
    dry = "would be done; nothing was changed:\n" if result.dry_run else ""
    return f"{listed}{dry}{_facts(facts)}"


def backed_up(result: BackedUp) -> str:
    """What a backup added."""
    return _facts(
        [
            ("backup", result.point),
            ("as of", f"{result.cut:%Y-%m-%d %H:%M:%S} UTC"),
            ("stands", "by itself" if result.whole else "on the one before"),
            ("models", f"{result.models:,}"),
            ("entries", f"{result.entries:,} new, of {result.versions:,} new versions"),
            ("packs", f"{result.packs:,} copied, {size(result.new_bytes)}"),
            ("missing", "\n".join(result.missing)),
        ]
    )


def restored(result: Restored) -> str:
    """What came back, or would, and what did not."""
    dry = "would be done; nothing was changed:\n" if result.dry_run else ""
    facts = [
        ("backup", result.point),
        ("as of", f"{result.cut:%Y-%m-%d %H:%M:%S} UTC"),
        ("models", f"{result.models:,} with {result.versions:,} versions"),
        ("packs", f"{result.packs:,} copied, {size(result.bytes)}"),
        ("there", f"{len(result.current):,} models had everything"),
        ("differ", "\n".join(result.differ)),
        ("unreadable", "\n".join(result.unreadable)),
        ("taken", "\n".join(result.taken)),
    ]
    return f"{dry}{_facts(facts)}"


def status(result: Status) -> str:
    """The hub, then each store's own words."""
    facts = [
        ("hub", result.hub),
        ("format", str(result.format or "")),
        ("models", "" if result.models is None else f"{result.models:,}"),
        ("intents", "" if result.intents is None else f"{result.intents:,}"),
        ("search lag", "" if result.search_lag is None else _lag(result.search_lag)),
        ("problem", result.problem),
    ]
    return _facts([*facts, *_words("", result.stores)])


def _lag(lag: SearchLag) -> str:
    if not lag.changes:
        return "none"
    return f"{lag.changes:,} changes of {lag.models:,} models, the oldest {lag.seconds:,.0f} s old"


def _words(name: str, value: object) -> Iterator[tuple[str, str]]:
    """Nested mappings as dotted names, sizes in units."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _words(f"{name}.{key}" if name else key, inner)
    elif isinstance(value, int) and any(part.endswith("bytes") for part in name.split(".")):
        yield name, size(value)
    else:
        yield name, _value(value)


def _facts(pairs: Iterable[tuple[str, str]]) -> str:
    return columns(
        [
            ("" if index else clean(name), clean(line))
            for name, value in pairs
            for index, line in enumerate(value.splitlines())
        ]
    )


def _size(size_bytes: int | None) -> str:
    return "" if size_bytes is None else size(size_bytes)


def _value(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return time(value)
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
