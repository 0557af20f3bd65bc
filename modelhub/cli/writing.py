"""The verbs that change a model: each puts an entry into its log."""

from __future__ import annotations

from typing import Any

import click

from modelhub.cli import text
from modelhub.cli.asking import Verb, take_away
from modelhub.cli.door import Door, verb
from modelhub.cli.facts import cleared, describing, given
from modelhub.cli.output import note
from modelhub.cli.progress import progress
from modelhub.errors import InvalidInput
from modelhub.names import shown

_NAMED = 3

message = click.option("-m", "--message", metavar="TEXT", default="", help="Why, for the log.")


@verb(
    "push nlp.sentiment ./model -m 'first try'",
    "push nlp.sentiment ./model --param lr=1e-4 --metric f1=0.91",
)
@click.argument("name")
@click.argument("path")
@message
@describing
@click.option(
    "--base", "bases", metavar="REV", multiple=True, help="Derived from this; repeatable."
)
@click.option("--branch", metavar="NAME", default="main", help="Publish here  [default: main]")
@click.option("--expect", metavar="REV", help="Only if the branch's head is this.")
@click.option("--request-id", metavar="ID", help="Repeating an ID makes no second version.")
@click.option("--skip-identical", is_flag=True, help="None, if the branch's head has these files.")
@click.option("--wait-search", is_flag=True, help="Return when searches find it.")
@click.option(
    "--exclude", metavar="PATTERN", multiple=True, help="As in .modelhubignore; repeatable."
)
@click.option(
    "--policy",
    type=click.Choice(["auto", "fast", "small"]),
    help="Work spent on storing fewer bytes  [default: the hub's, auto]",
)
@click.option("--follow-symlinks", is_flag=True, help="Store what links point to.")
def push(door: Door, name: str, path: str, **options: Any) -> None:
    """Publish the file or folder PATH as the next version of NAME.

    Prints NAME@N alone. A VALUE that reads as a number, true or false is one; quotes inside
    the argument, as in '"3"', make it text.
    """
    with door.hub() as hub, progress() as advance:
        version = hub.push(name, path, progress=advance, **given(options))
    door.answer(version, text.revision)
    if version.identical and not door.as_json:
        some, more = version.identical[:_NAMED], len(version.identical) - _NAMED
        others = f" and {more} others" if more > 0 else ""
        note(f"modelhub: the same files are in {', '.join(some)}{others}")


@verb("edit nlp.sentiment@3 --title 'Mood of a text' --unset params.lr")
@click.argument("revision")
@message
@describing
@click.option(
    "--unset", metavar="FIELD", multiple=True, help="Drop this, as in params.lr; repeatable."
)
def edit(door: Door, revision: str, message: str, unset: tuple[str, ...], **options: Any) -> None:
    """Change what describes a version; its files stay as they are.

    Texts, datasets and labels are replaced, KEY=VALUE pairs merged.
    """
    facts = cleared(given(options), unset)
    if not facts:
        raise InvalidInput(
            f"nothing is to be changed in {shown(revision)}",
            remedy="Say what, as in --title TEXT; see `modelhub edit --help`.",
        )
    with door.hub() as hub:
        version = hub.edit(revision, message=message, **facts)
    door.answer(version, text.revision)


@verb("delete nlp.sentiment@3 --dry-run", "delete nlp.sentiment@3 --yes -m 'wrong data'")
@click.argument("revision")
@message
@click.option("--dry-run", is_flag=True, help="Check and show, change nothing.")
@click.option("--force", is_flag=True, help="Also where a tag or alias names it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(
    door: Door, *, revision: str, message: str, dry_run: bool, force: bool, yes: bool
) -> None:
    """Delete one version, named with its @REV.

    Its number stays taken, and `undelete` takes it back until its retention ends.
    """
    deleted = take_away(
        door,
        Verb("Delete", "deleting", "deleted"),
        revision,
        lambda hub, named: hub.delete(named, message=message, dry_run=dry_run, force=force),
        ask=not (dry_run or yes),
    )
    done = "would delete" if dry_run else "deleted"
    door.answer(deleted, lambda version: f"{done} {text.revision(version)}")


@verb("rollback nlp.sentiment --to 3", "rollback nlp.sentiment --at 2026-05-01T12:00Z")
@click.argument("name")
@click.option("--to", metavar="REV", help="The version to go back to.")
@click.option("--at", metavar="TIME", help="Back to what the branch was then.")
@click.option("--branch", metavar="NAME", default="main", help="Publish here  [default: main]")
@message
def rollback(
    door: Door, *, name: str, to: str | None, at: str | None, branch: str, message: str
) -> None:
    """Publish an old version's content as the newest version.

    Nothing is stored again, and no version is changed or lost.
    """
    with door.hub() as hub:
        version = hub.rollback(name, to=to, at=at, branch=branch, message=message)
    door.answer(version, text.revision)


@verb("restore nlp.sentiment@3 config.json", "restore nlp.sentiment@3 'tokenizer/*'")
@click.argument("revision")
@click.argument("files", nargs=-1, required=True)
@click.option("--branch", metavar="NAME", default="main", help="Publish here  [default: main]")
@message
def restore(
    door: Door, *, revision: str, files: tuple[str, ...], branch: str, message: str
) -> None:
    """Publish the newest version with some files as a version had them.

    FILES are paths or patterns.
    """
    with door.hub() as hub:
        version = hub.restore(revision, files, branch=branch, message=message)
    door.answer(version, text.revision)


@verb("merge nlp.sentiment fix", "merge nlp.sentiment fix --strategy slerp --weight 0.3 --ours")
@click.argument("name")
@click.argument("source")
@click.option("--into", metavar="BRANCH", default="main", help="Publish here  [default: main]")
@click.option("--ours", is_flag=True, help="What both changed stays the branch's.")
@click.option("--theirs", is_flag=True, help="What both changed is SOURCE's.")
@click.option(
    "--strategy",
    type=click.Choice(["average", "weighted", "slerp", "task-arithmetic"]),
    help="Weights that both changed are blended.",
)
@click.option("--weight", type=float, default=0.5, help="SOURCE's share  [default: 0.5]")
@click.option("--scale", type=float, default=1.0, help="Of task arithmetic  [default: 1]")
@message
def merge(door: Door, *, name: str, source: str, ours: bool, theirs: bool, **options: Any) -> None:
    """Merge a branch or any version SOURCE, by file and by tensor.

    What only one side changed is taken from it; what both did is a conflict.
    """
    if ours and theirs:
        raise InvalidInput("both --ours and --theirs", remedy="Prefer one side.")
    prefer = "ours" if ours else "theirs" if theirs else None
    with door.hub() as hub:
        version = hub.merge(name, source, prefer=prefer, **options)
    door.answer(version, text.revision)


@verb("undelete nlp.sentiment@3 -m 'deleted by mistake'")
@click.argument("revision")
@message
def undelete(door: Door, revision: str, message: str) -> None:
    """Take a deleted version back."""
    with door.hub() as hub:
        version = hub.undelete(revision, message=message)
    door.answer(version, lambda version: f"undeleted {text.revision(version)}")
