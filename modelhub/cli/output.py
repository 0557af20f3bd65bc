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
from typing import Any, BinaryIO

import click
import msgspec

from modelhub.cli.exits import PIPE_CLOSED
from modelhub.errors import ModelhubError, OutcomeUnknown

_BLOCK_BYTES = 1 << 20
_MESSAGE_LIMIT = 1000
_FOLDED_CHARS = 10
"""A column of words is folded no further than to this."""
_FOLDED_ROWS = 500
"""Longer tables are not folded: rich takes 0.4 ms a row."""


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
    """Rows under their heads: long texts folded to fit a terminal, else whole values in columns."""
    lines = [heads, *([clean(cell) for cell in row] for row in rows)]
    if sys.stdout.isatty() and len(lines) <= _FOLDED_ROWS:
        return _folded(lines)
    return columns(lines)


def columns(lines: Sequence[Sequence[str]]) -> str:
    """Lines of clean cells in aligned columns, two spaces apart."""
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell + " " * (wide - _width(cell)) for cell, wide in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def _folded(lines: Sequence[Sequence[str]]) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    drawn = Table(box=None, pad_edge=False)
    least = 0
    for column in zip(*lines, strict=True):
        # Only what has words is folded: a digest or a time in two parts is no use to anybody.
        words = any(" " in cell for cell in column)
        widest = max(map(_width, column))
        least += 2 + (min(widest, _FOLDED_CHARS) if words else widest)
        drawn.add_column(Text(column[0]), no_wrap=not words, overflow="fold")
    if least - 2 > console.width:
        return columns(lines)  # rich would leave columns out
    for line in lines[1:]:
        # Text, never str: square brackets in a user's text are no markup.
        drawn.add_row(*map(Text, line))
    with console.capture() as captured:
        console.print(drawn)
    return captured.get().rstrip("\n")


def _width(cell: str) -> int:
    if cell.isascii():
        return len(cell)
    from rich.cells import cell_len

    return cell_len(cell)


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


def emit_bytes(file: BinaryIO) -> None:
    """Write what ``file`` holds to stdout, as it is; else as ``emit``."""
    while block := file.read(_BLOCK_BYTES):
        _write(block, end=b"")


def _write(line: bytes, *, end: bytes = b"\n") -> None:
    try:
        sys.stdout.buffer.write(line + end)
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
        click.echo(text.encode("utf-8", "backslashreplace"), err=True)
