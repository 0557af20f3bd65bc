"""What the programs share: their options, and what was measured as a table and as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def in_bytes(text: str) -> int:
    """``64MiB`` in bytes."""
    match = re.fullmatch(r"(\d+)\s*(KiB|MiB|GiB|)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text} is no size such as 64MiB")
    return int(match[1]) * UNITS[match[2]]


OPTIONS: dict[str, dict[str, Any]] = {
    "data": {
        "type": Path,
        "default": Path(tempfile.gettempdir()) / "modelhub-bench",
        "help": "a folder for the data and, while it runs, the repositories",
    },
    "size": {"type": in_bytes, "default": "1GiB", "help": "of the series"},
    "shrink": {"type": int, "default": 1, "help": "what to divide the changed model's sides by"},
    "small_files": {"type": int, "default": 10_000, "help": "how many small files there are"},
    "rounds": {"type": int, "default": 5, "help": "how often; medians are shown"},
    "peers": {
        "type": lambda text: [name for name in text.split(",") if name],
        "default": "dd,cp,cp+fsync,borg,restic",
        "help": "of these and dvc, those to compare with where they are installed",
    },
    "policies": {
        "type": lambda text: text.split(","),
        "default": "fast,auto",
        "help": "the storage policies of modelhub to measure",
    },
    "replication": {"type": int, "default": 3, "help": "copies of each block on HDFS"},
    "json": {"type": Path, "default": None, "help": "where to write all that was measured"},
}


def parser(doc: str | None, *options: str) -> argparse.ArgumentParser:
    """The options of a program, which its docstring explains."""
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in options:
        made.add_argument(f"--{name.replace('_', '-')}", **OPTIONS[name])
    return made


@dataclass(frozen=True)
class Row:
    """One figure, and the most that it may be (None: only shown); ``detail`` says where it is
    from."""

    what: str
    figure: float
    goal: float | None = None
    unit: str = "×"
    detail: str = ""

    @property
    def holds(self) -> bool | None:
        return None if self.goal is None else self.figure <= self.goal


def show(
    title: str,
    rows: Sequence[Row],
    *,
    about: Mapping[str, object],
    rounds: object,
    file: Path | None,
) -> None:
    """Print the table, and write it to ``file`` with every round's figures."""
    table = Table(title=title, caption=", ".join(f"{key} {said}" for key, said in about.items()))
    for head in ("what", "measured", "goal", "holds", "from"):
        table.add_column(head, justify="right" if head in {"measured", "goal"} else "left")
    for row in rows:
        goal = "" if row.goal is None else f"≤ {row.goal:.4g} {row.unit}"
        holds = {None: "", True: "yes", False: "[bold red]NO[/]"}[row.holds]
        table.add_row(row.what, f"{_figure(row.figure)} {row.unit}", goal, holds, row.detail)
    console().print(table)
    if file is not None:
        told = {
            "title": title,
            "about": machine() | dict(about),
            "rows": [asdict(row) | {"holds": row.holds} for row in rows],
            "rounds": rounds,
        }
        file.write_text(json.dumps(told, indent=1) + "\n")


def console() -> Console:
    """Where tables go; wide enough for them where nobody's terminal says otherwise."""
    return Console(width=None if sys.stdout.isatty() else 140)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3f}"


def machine() -> dict[str, object]:
    """What ratios may depend on."""
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
    }
