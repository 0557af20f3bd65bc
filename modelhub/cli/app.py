"""The root command: its settings, its verbs, and every way to end."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import click

from modelhub.cli.admin import admin
from modelhub.cli.door import example_text, settings
from modelhub.cli.exits import EXIT_CODES, INTERRUPTED, Bug, exit_code
from modelhub.cli.output import complain, note
from modelhub.cli.reading import (
    cat,
    diff,
    export,
    lineage,
    log,
    ls,
    pull,
    search,
    show,
    tensors,
    verify,
)
from modelhub.cli.refs import alias, branch, protect, tag, unprotect
from modelhub.cli.writing import delete, edit, merge, push, restore, rollback, undelete
from modelhub.errors import InvalidInput, ModelhubError


class App(click.Group):
    """A group whose ``main`` turns whatever happens into a message and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The verbs in the order in which somebody meets them."""
        return list(self.commands)

    def main(self, args: Sequence[str] | None = None, *rest: Any, **kwargs: Any) -> Any:
        """Run the command line and exit the interpreter with its code."""
        args = sys.argv[1:] if args is None else args
        try:
            status = super().main(args, *rest, **kwargs | {"standalone_mode": False})
        except click.exceptions.NoArgsIsHelpError as help_page:
            note(help_page.format_message())
            status = EXIT_CODES[InvalidInput]
        except click.Abort:
            note("modelhub: interrupted")
            status = INTERRUPTED
        except Exception as exc:  # noqa: BLE001 - the last handler there is
            error = _explained(exc)
            complain(error, as_json=_wants_json(args))
            status = exit_code(error)
        sys.exit(status)


def _wants_json(args: Sequence[str]) -> bool:
    """Whether ``--format json`` stands anywhere: errors come up before it was reached, too."""
    return "--format=json" in args or ("--format", "json") in pairwise(args)


def _explained(exc: Exception) -> ModelhubError:
    if isinstance(exc, ModelhubError):
        return exc
    if isinstance(exc, click.ClickException):
        page = exc.ctx.command_path if isinstance(exc, click.UsageError) and exc.ctx else "modelhub"
        return InvalidInput(exc.format_message(), remedy=f"See `{page} --help`.")
    if os.environ.get("MODELHUB_TRACEBACK") == "1":
        traceback.print_exception(exc)
    return Bug(
        f"this is a bug in modelhub: {type(exc).__name__}: {exc}",
        remedy="Please report it; MODELHUB_TRACEBACK=1 shows where it happens.",
    )


app = App(
    "modelhub",
    help="Large AI models under version control.\n\n"
    "A revision is NAME, or NAME@ and 3, a branch, tag, alias, digest or {2026-05-01T12:00Z}; a "
    "bare name means the newest version of its main branch. The options may also follow the verb.",
    epilog=example_text("push nlp.sentiment ./model -m 'first try'", "pull nlp.sentiment@1 ./copy"),
    params=settings(),
    commands={
        verb.name or "": verb
        for verb in (
            push,
            pull,
            export,
            ls,
            show,
            cat,
            tensors,
            log,
            search,
            diff,
            lineage,
            edit,
            delete,
            undelete,
            merge,
            rollback,
            restore,
            branch,
            tag,
            alias,
            protect,
            unprotect,
            verify,
            admin,
        )
    },
)


def main() -> None:
    """The ``modelhub`` command."""
    app(prog_name="modelhub")
