"""The verbs about branches, tags and aliases, and what protects them."""

from __future__ import annotations

import click

from modelhub.cli import text
from modelhub.cli.door import Door, example_text, verb

message = click.option("-m", "--message", metavar="TEXT", default="", help="Why, for the log.")
_PLURALS = {"branch": "branches", "tag": "tags", "alias": "aliases"}

expect = click.option("--expect", metavar="REV", help="Only if it names this now.")


@verb("branch create nlp.sentiment quantised", "branch create nlp.sentiment fix --from 3")
@click.argument("name")
@click.argument("branch")
@click.option("--from", "at", metavar="REV", help="Begin here  [default: the head of main]")
@message
def create_branch(door: Door, name: str, branch: str, at: str | None, message: str) -> None:
    """Begin a branch; `push --branch` puts versions on it."""
    with door.hub() as hub:
        door.answer(hub.branch.create(name, branch, at=at, message=message), text.ref)


@verb("branch move nlp.sentiment main 3", "branch move nlp.sentiment main 3 --expect 5")
@click.argument("name")
@click.argument("branch")
@click.argument("revision")
@expect
@message
def move_branch(
    door: Door, *, name: str, branch: str, revision: str, expect: str | None, message: str
) -> None:
    """Make a version the head of a branch; no version is changed or lost."""
    with door.hub() as hub:
        moved = hub.branch.move(name, branch, revision, expect=expect, message=message)
    door.answer(moved, text.ref)


@verb("tag create nlp.sentiment v1.0 3", "tag create nlp.sentiment paper champion")
@click.argument("name")
@click.argument("tag")
@click.argument("revision")
@message
def create_tag(door: Door, name: str, tag: str, revision: str, message: str) -> None:
    """Give a version a name that never means another one."""
    with door.hub() as hub:
        door.answer(hub.tag.create(name, tag, revision, message=message), text.ref)


@verb("alias set nlp.sentiment champion 3", "alias set nlp.sentiment champion 4 --expect 3")
@click.argument("name")
@click.argument("alias")
@click.argument("revision")
@expect
@message
def set_alias(
    door: Door, *, name: str, alias: str, revision: str, expect: str | None, message: str
) -> None:
    """Make an alias name a version, whether or not it is there.

    Of several who move it with the same --expect, one succeeds.
    """
    with door.hub() as hub:
        moved = hub.alias.set(name, alias, revision, expect=expect, message=message)
    door.answer(moved, text.ref)


@verb("protect nlp.sentiment", "protect nlp.sentiment champion")
@click.argument("name")
@click.argument("ref", required=False)
@message
def protect(door: Door, name: str, ref: str | None, message: str) -> None:
    """Protect a branch or alias, or the whole model.

    A protected branch takes new versions, but is not moved or deleted, nor is its head. A protected
    alias stays where it is. Of a protected model nothing is moved or deleted.
    """
    with door.hub() as hub:
        hub.protect(name, ref, message=message)
    _tell(door, name, ref, protected=True)


@verb("unprotect nlp.sentiment champion -m 'new champion'")
@click.argument("name")
@click.argument("ref", required=False)
@message
def unprotect(door: Door, name: str, ref: str | None, message: str) -> None:
    """Lift the protection of a branch, an alias or the whole model."""
    with door.hub() as hub:
        hub.unprotect(name, ref, message=message)
    _tell(door, name, ref, protected=False)


def _tell(door: Door, name: str, ref: str | None, *, protected: bool) -> None:
    done = "protected" if protected else "no longer protected"
    result = {"name": name, "ref": ref or "", "protected": protected}
    door.answer(result, lambda _: f"{name}@{ref} is {done}" if ref else f"{name} is {done}")


def _lists(kind: str) -> click.Command:
    @verb(f"{kind} list nlp.sentiment")
    @click.argument("name")
    def listing(door: Door, name: str) -> None:
        with door.hub() as hub:
            door.answer(getattr(hub, kind).list(name), text.refs)

    return _described(
        listing, "list", f"List the {_PLURALS[kind]} of a model, and what each names."
    )


def _history(kind: str, example: str) -> click.Command:
    @verb(f"{kind} history nlp.sentiment {example}")
    @click.argument("name")
    @click.argument("ref", metavar=kind.upper())
    def history(door: Door, name: str, ref: str) -> None:
        with door.hub() as hub:
            door.answer(getattr(hub, kind).history(name, ref), text.ref_history)

    about = f"Show what the {kind} named and since when, newest first."
    return _described(history, "history", about)


def _deletes(kind: str, example: str) -> click.Command:
    @verb(f"{kind} delete nlp.sentiment {example}")
    @click.argument("name")
    @click.argument("ref", metavar=kind.upper())
    @expect
    @message
    def delete(door: Door, name: str, ref: str, expect: str | None, message: str) -> None:
        with door.hub() as hub:
            getattr(hub, kind).delete(name, ref, expect=expect, message=message)
        done = f"deleted {kind} {ref} of {name}"
        door.answer({"name": name, "ref": ref, "deleted": True}, lambda _: done)

    return _described(delete, "delete", f"Delete the name; the versions of the {kind} stay.")


def _described(command: click.Command, name: str, about: str) -> click.Command:
    command.name, command.help = name, about
    return command


def _group(kind: str, about: str, example: str, **own: click.Command) -> click.Group:
    commands = {
        **{name: _described(command, name, command.help or "") for name, command in own.items()},
        "list": _lists(kind),
        "history": _history(kind, example),
        "delete": _deletes(kind, example),
    }
    listing = example_text(f"{kind} list nlp.sentiment")
    return click.Group(kind, help=about, epilog=listing, commands=commands)


branch = _group(
    "branch",
    "Names that move with each version published onto them.",
    "quantised",
    create=create_branch,
    move=move_branch,
)
tag = _group("tag", "Names of versions that never move.", "v1.0", create=create_tag)
alias = _group("alias", "Names of versions that are moved by hand.", "champion", set=set_alias)
