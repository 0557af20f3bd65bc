"""The verbs that look and fetch: nothing in the hub changes."""

from __future__ import annotations

import os

import click

from modelhub.cli import text
from modelhub.cli.door import Door, verb
from modelhub.cli.output import emit_bytes, note
from modelhub.cli.progress import progress
from modelhub.errors import InvalidInput


@verb("pull nlp.sentiment ./copy", "pull nlp.sentiment@3 ./copy --include '*.json'")
@click.argument("revision")
@click.argument("dest", required=False)
@click.option("--include", metavar="GLOB", multiple=True, help="Only files that match; repeatable.")
@click.option("--overwrite", is_flag=True, help="Replace files that are there with other bytes.")
def pull(
    door: Door, revision: str, dest: str | None, include: tuple[str, ...], overwrite: bool
) -> None:
    """Fetch a version's files into DEST and print it.

    DEST is a folder, or the URL of one such as hdfs://HOST/PATH. Without it the files come from a
    verified, read-only copy in the cache. A pull that was interrupted goes on where it stopped.
    """
    if dest == "":
        raise InvalidInput("the destination is empty", remedy="Name a folder, or leave it out.")
    with door.hub() as hub, progress() as advance:
        if dest is None:
            path: os.PathLike[str] | str = hub.snapshot(revision, include=include, progress=advance)
        else:
            path = hub.pull(revision, dest, include=include, overwrite=overwrite, progress=advance)
    door.answer({"path": os.fsencode(path).decode("utf-8", "replace")}, lambda _: str(path))


@verb("export nlp.sentiment@3 hdfs://namenode:8020/models", "export nlp.sentiment /srv/models")
@click.argument("revision")
@click.argument("root")
def export(door: Door, revision: str, root: str) -> None:
    """Write a version's plain files to ROOT/NAME/N.

    The folder appears in one step, for programs that know nothing of the hub. ROOT is a folder, or
    the URL of one.
    """
    with door.hub() as hub, progress() as advance:
        path = hub.export(revision, root, progress=advance)
    door.answer({"path": path}, lambda _: path)


@verb("ls", "ls 'nlp.*'")
@click.argument("pattern", default="*")
def ls(door: Door, pattern: str) -> None:
    """List models, or those whose name matches PATTERN."""
    with door.hub() as hub:
        door.answer(hub.list(pattern=pattern), text.models)


@verb("show nlp.sentiment", "show nlp.sentiment@3 --files")
@click.argument("revision")
@click.option("--files", is_flag=True, help="List the version's files instead.")
def show(door: Door, revision: str, files: bool) -> None:
    """Show a version: its metadata, digests and sizes."""
    with door.hub() as hub:
        if files:
            door.answer(hub.files(revision), text.files)
        else:
            door.answer(hub.show(revision), text.version)


@verb("cat nlp.sentiment config.json", "cat nlp.sentiment@3 vocab.txt")
@click.argument("revision")
@click.argument("file")
def cat(door: Door, revision: str, file: str) -> None:
    """Write one file of a version to standard output, as it is."""
    with door.hub() as hub, hub.open(revision, file) as stored:
        emit_bytes(stored)


@verb("tensors nlp.sentiment", "tensors nlp.sentiment@3 --include 'encoder/*'")
@click.argument("revision")
@click.option("--include", metavar="GLOB", multiple=True, help="Only files that match; repeatable.")
def tensors(door: Door, revision: str, include: tuple[str, ...]) -> None:
    """List the tensors of a version: dtypes, shapes, sizes, files.

    Looked into are safetensors and GGUF files, else ONNX's, else numpy's; only headers are read.
    """
    with door.hub() as hub:
        door.answer(hub.tensors(revision, include=include).listing(), text.tensors)


@verb("log nlp.sentiment --limit 10", "log nlp.sentiment --since 2026-05-01 --until 2026-06-01")
@click.argument("name")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), help="The newest N alone.")
@click.option("--since", metavar="TIME", help="Changes from then on, as in 2026-05-01T12:00Z.")
@click.option("--until", metavar="TIME", help="Changes up to then, that moment included.")
def log(door: Door, name: str, limit: int | None, since: str | None, until: str | None) -> None:
    """Show every change of a model, newest first."""
    with door.hub() as hub:
        door.answer(hub.log(name, limit=limit, since=since, until=until), text.log)


@verb("search 'sentiment label:zh size:<2GB'", "search --like nlp.sentiment@3")
@click.argument("words", nargs=-1)
@click.option("--sort", metavar="F", default="score", help="name, size, -created, param.KEY …")
@click.option("--facet", metavar="F", multiple=True, help="Count a field's values; repeatable.")
@click.option("--like", metavar="REV", help="Models like this one.")
@click.option("--after", metavar="CURSOR", help="The page behind another one.")
@click.option("--limit", metavar="N", default=20, type=click.IntRange(min=1), help="At most N.")
@click.option("--all-versions", is_flag=True, help="Not only each model's newest version.")
def search(
    door: Door,
    words: tuple[str, ...],
    *,
    sort: str,
    facet: tuple[str, ...],
    like: str | None,
    after: str | None,
    limit: int,
    all_versions: bool,
) -> None:
    """Find versions by words and by what their fields hold.

    Besides words: "a phrase", owner:ops, name:nlp.*, size:<2GB, created:>=2026-05,
    param.lr:0.01..0.1, joined by AND, OR, NOT (or -) and parentheses. One or two words must both
    occur, of more a third.
    """
    if not words and like is None:
        raise click.UsageError("Missing argument 'WORDS...'; '' finds everything.")
    with door.hub() as hub:
        result = hub.search(
            " ".join(words),
            limit=limit,
            after=after,
            all_versions=all_versions,
            sort=sort,
            facets=facet,
            like=like,
        )
    door.answer(result, text.search)
    if not door.as_json and result.next is not None:
        note(f"{len(result.hits)} of {result.total}; --after {result.next} shows more")


@verb("diff nlp.sentiment@1 nlp.sentiment", "diff nlp.small nlp.sentiment --no-weights")
@click.argument("a")
@click.argument("b")
@click.option("--no-weights", is_flag=True, help="Leave out tensors: files are not read.")
@click.option("--plot", metavar="FILE", help="Draw the distance by layer: .png, .svg or .pdf")
def diff(door: Door, a: str, b: str, no_weights: bool, plot: str | None) -> None:
    """Show what changes from revision A to B.

    That is files, metadata and tensors, with how far their weights are apart.
    """
    picture = door.picture(plot)
    with door.hub() as hub, progress() as advance:
        found = hub.diff(a, b, weights=not no_weights, progress=advance)
    picture(found)
    door.answer(found, text.diff)


@verb("lineage nlp.sentiment", "lineage nlp.sentiment@3 --depth 2 --dot")
@click.argument("revision")
@click.option("--depth", metavar="N", type=click.IntRange(min=0), help="At most N steps away.")
@click.option("--dot", is_flag=True, help="Write the graph for Graphviz.")
@click.option("--plot", metavar="FILE", help="Draw the graph: .png, .svg or .pdf")
def lineage(door: Door, revision: str, depth: int | None, dot: bool, plot: str | None) -> None:
    """Show what a version was made of, and what was made of it."""
    picture = door.picture(plot)
    with door.hub() as hub:
        found = hub.lineage(revision, depth=depth)
    picture(found)
    door.answer(found, lambda found: found.to_dot() if dot else text.lineage(found))


@verb("verify nlp.sentiment@3")
@click.argument("revision")
def verify(door: Door, revision: str) -> None:
    """Read and check every byte of a version.

    Exits 1 where something is wrong.
    """
    with door.hub() as hub, progress() as advance:
        health = hub.verify(revision, progress=advance)
    door.judge(health, text.health, well=not health.findings)
