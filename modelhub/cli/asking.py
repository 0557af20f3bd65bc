"""Asking before something is taken away, and the verbs that take versions away."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import click

from modelhub.cli import text
from modelhub.cli.door import Door
from modelhub.cli.exits import FINDINGS
from modelhub.cli.output import note, size
from modelhub.errors import InvalidInput
from modelhub.names import Head, shown
from modelhub.names import revision as parsed
from modelhub.results import Version

if TYPE_CHECKING:
    from modelhub.hub import Hub


class Verb(NamedTuple):
    """Its forms, as in "Delete", "deleting" and "deleted"."""

    infinitive: str
    gerund: str
    participle: str


def check_asked(doing: str, *, sure: bool) -> None:
    """Refuse, before anything is read, to ask where nobody can answer.

    Raises:
        InvalidInput: nobody is there, and not ``sure``.
    """
    if not (sure or sys.stdin.isatty()):
        raise InvalidInput(
            f"{doing} asks first, and nobody is there to answer",
            remedy="Add --yes, or --dry-run to look first.",
        )


def confirm(question: str, otherwise: str) -> None:
    """Ask; anything but yes ends the program, which says ``otherwise``."""
    if not click.confirm(question, err=True):
        note(f"modelhub: {otherwise}")
        raise click.exceptions.Exit(FINDINGS)


def take_away(
    door: Door, verb: Verb, revision: str, act: Callable[[Hub, str], Version], *, ask: bool
) -> Version:
    """Let ``act`` take one version away, which ``revision`` must name with its @REV.

    With ``ask`` somebody is asked first, and shown what it is about.
    """
    if isinstance(parsed(revision).selector, Head):
        raise InvalidInput(
            f"{shown(revision)} does not say which version to {verb.infinitive.lower()}",
            remedy=f"Name it, as in {revision}@3; `modelhub log {revision}` lists them.",
        )
    check_asked(f"{verb.gerund} {shown(revision)}", sure=not ask)
    with door.hub() as hub:
        if ask:
            version = hub.show(revision)
            # A branch may move while the question is open: the version that was shown goes.
            revision = text.revision(version)
            what = f"{revision} ({version.files} files, {size(version.total_bytes)})"
            confirm(f"{verb.infinitive} {what}?", f"nothing was {verb.participle}")
        return act(hub, revision)
