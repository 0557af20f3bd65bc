"""What a command writes: results to stdout, as text or JSON, and its errors to stderr.

Text is for people and safe on a terminal: whatever could move the cursor or reorder letters is
escaped. Piped, it is plain columns of whole values. JSON carries the exact values.
"""

from __future__ import annotations

import contextlib
import os
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from modelhub.cli.exits import PIPE_CLOSED
from modelhub.errors import ModelhubError, OutcomeUnknown

_MESSAGE_LIMIT = 1000
_DRAWN_ROWS = 500
"""Up to here a terminal gets a drawn table: rich takes 0.4 ms a row."""


def clean(text: str) -> str:
    """``text`` with all escaped that has no shape: controls, direction marks, lone surrogates."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or unicodedata.category(char) == "Zs" else ascii(char)[1:-1]
        for char in text
    )


def size(size_bytes: float) -> str:
    """A number of bytes as people read it: ``17 B``, ``4.2 MiB``."""
    if size_bytes < 1024:
        return f"{size_bytes:.0f} B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        size_bytes /= 1024
        if round(size_bytes, 1) < 1024:
            return f"{size_bytes:.1f} {unit}"
    return f"{size_bytes / 1024:.1f} PiB"


def time(moment: datetime | None) -> str:
    """A moment in UTC to the second; empty where there is none."""
    if moment is None:
        return ""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows under their heads: drawn to fit a terminal, else columns as wide as their values."""
    cells = [[clean(cell) for cell in row] for row in rows]
    if sys.stdout.isatty() and len(cells) <= _DRAWN_ROWS:
        return _drawn(heads, cells)
    return columns([[head.upper() for head in heads], *cells])


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of clean cells in aligned columns, two spaces apart."""
    from rich.cells import cell_len

    def width(cell: str) -> int:
        return len(cell) if cell.isascii() else cell_len(cell)

    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell + " " * (wide - width(cell)) for cell, wide in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    )


def _drawn(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Text, never str: square brackets in a user's text are no markup.
    drawn = Table(*heads, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        drawn.add_row(*map(Text, row))
    console = Console()
    with console.capture() as captured:
        console.print(drawn)
    return captured.get().strip("\n")


def emit(text: str) -> None:
    """Write ``text`` and a line end to stdout, at once.

    Raises:
        OutcomeUnknown: stdout takes no more; what the command did is done.
    """
    # A path must come out as it is, whatever the locale.
    _write(text.encode("utf-8", "surrogateescape"))


def emit_json(result: Any) -> None:
    """Write ``result`` as one line of JSON to stdout; else as ``emit``."""
    _write(msgspec.json.encode(result, enc_hook=list))


def _write(line: bytes) -> None:
    try:
        sys.stdout.buffer.write(line + b"\n")
        sys.stdout.buffer.flush()
    except OSError as exc:
        # What is still buffered would fail a second time when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(exc, BrokenPipeError):
            raise click.exceptions.Exit(PIPE_CLOSED) from exc
        raise OutcomeUnknown(
            f"the result could not be written to standard output: {exc.strerror}",
            remedy="If the command changes something, that may be done: look with `modelhub log`.",
        ) from exc


def complain(error: ModelhubError, *, as_json: bool) -> None:
    """Write ``error`` to stderr: a line for the message and one for the remedy, or JSON."""
    message, remedy = clean(error.message), clean(error.remedy)
    if len(message) > _MESSAGE_LIMIT:
        message = f"{message[:_MESSAGE_LIMIT]}…"
    if as_json:
        fields = {"kind": error.kind, "message": message, "remedy": remedy}
        note(msgspec.json.encode({"error": fields}).decode())
    else:
        note(f"modelhub: {message}" + (f"\n  {remedy}" if remedy else ""))


def note(text: str) -> None:
    """Write a line to stderr, where it does not mix with results."""
    with contextlib.suppress(OSError):
        click.echo(text, err=True)
