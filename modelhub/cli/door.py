"""What every verb shares: the hub it talks to, the format it answers in, and its shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click

from modelhub.cli.exits import FINDINGS
from modelhub.cli.output import emit, emit_json
from modelhub.results import Diff, Lineage

if TYPE_CHECKING:
    from modelhub.hub import Hub

T = TypeVar("T")


class Door:
    """The settings that stand before or after a verb."""

    def __init__(self) -> None:
        self.hub_url: str | None = None
        self.as_json = False

    def hub(self) -> Hub:
        """The hub, to be closed by ``with``; nothing is read before it is asked for something."""
        # Connecting brings in the stores and Arrow, which help and usage errors do without.
        from modelhub.cli.memory import keep_buffers
        from modelhub.connect import connect

        keep_buffers()
        return connect(self.hub_url)

    def hbase_script(self) -> str:
        """What makes the hub's tables in HBase's own shell."""
        from modelhub.connect import hbase_script

        return hbase_script(self.hub_url)

    def picture(self, path: str | None) -> Callable[[Diff | Lineage], None]:
        """What draws a result into the file; nothing where none is named.

        Whether it can is known before anything is read.
        """
        if path is None:
            return lambda _: None
        from modelhub.plots import picture_path, plot

        file = picture_path(path)
        return lambda result: plot(result, file)

    def answer(self, result: T, as_text: Callable[[T], str]) -> None:
        """Write ``result`` as JSON, or what ``as_text`` makes of it."""
        if self.as_json:
            emit_json(result)
        else:
            emit(as_text(result))

    def judge(self, result: T, as_text: Callable[[T], str], *, well: bool) -> None:
        """Write what was found, and end with ``FINDINGS`` where not all is well."""
        self.answer(result, as_text)
        if not well:
            raise click.exceptions.Exit(FINDINGS)


def _set_hub(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.ensure_object(Door).hub_url = value


def _set_format(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.ensure_object(Door).as_json = value == "json"


_with_door = click.make_pass_decorator(Door, ensure=True)


def settings(*, hidden: bool = False) -> list[click.Parameter]:
    """``--hub`` and ``--format``; a verb takes them too, but its help is kept for its own."""
    return [
        click.Option(
            ["--hub"],
            metavar="URL",
            help="A folder, file:///path or a profile of modelhub.toml  [default: $MODELHUB_HOME, "
            "else ~/.modelhub]",
            expose_value=False,
            hidden=hidden,
            callback=_set_hub,
        ),
        click.Option(
            ["--format"],
            type=click.Choice(["text", "json"]),
            help="What to answer in  [default: text]",
            expose_value=False,
            hidden=hidden,
            callback=_set_format,
        ),
    ]


def verb(*examples: str) -> Callable[[Callable[..., None]], click.Command]:
    """Make a command of a function that takes the ``Door`` and its own arguments.

    The function's docstring is the help; ``examples`` are command lines without the leading
    ``modelhub``.
    """

    def command(function: Callable[..., None]) -> click.Command:
        made = click.command(epilog=example_text(*examples))(_with_door(function))
        made.params += settings(hidden=True)
        return made

    return command


def example_text(*examples: str) -> str:
    """The lines that close a help page."""
    return f"\b\nExample{'s' * (len(examples) > 1)}:\n" + "\n".join(
        f"  modelhub {example}" for example in examples
    )
