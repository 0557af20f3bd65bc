"""Asking before something is taken away."""

from __future__ import annotations

import sys

import click

from modelhub.cli.exits import FINDINGS
from modelhub.cli.output import note
from modelhub.errors import InvalidInput


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
