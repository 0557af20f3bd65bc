"""Progress on stderr, where that is a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from modelhub.cli.output import size

Advance = Callable[[str, int, int], None]

_INTERVAL_S = 0.1


@contextmanager
def progress(*, in_bytes: bool = True) -> Iterator[Advance]:
    """A function for Hub's ``progress`` that draws a bar a phase, if anybody watches.

    Without ``in_bytes`` the numbers are counts. A bar shows the rate and the time left, and moves
    ten times a second at most. Whatever ends the block, Ctrl-C included, the bars are wiped and the
    cursor is back.
    """
    if not sys.stderr.isatty():
        yield lambda _phase, _done, _total: None
        return
    from rich import progress as rich
    from rich.console import Console
    from rich.table import Column
    from rich.text import Text

    class Pace(rich.ProgressColumn):
        def render(self, task: rich.Task) -> Text:
            count = size if in_bytes else "{:,.0f}".format
            total = f" of {count(task.total)}" if task.total else ""
            rate = f"  {count(task.speed)}/s" if task.speed else ""
            return Text(f"{count(task.completed)}{total}{rate}")

    bars = rich.Progress(
        rich.TextColumn("{task.description}", markup=False),
        rich.BarColumn(bar_width=20),
        Pace(table_column=Column(no_wrap=True)),
        rich.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    tasks: dict[str, rich.TaskID] = {}
    due = 0.0

    def advance(phase: str, done: int, total: int) -> None:
        nonlocal due
        now = time.monotonic()
        if phase in tasks and now < due and done != total:
            return
        due = now + _INTERVAL_S
        if phase not in tasks:
            tasks[phase] = bars.add_task(phase, total=None)
        bars.update(tasks[phase], completed=done, total=total or None)

    with bars:
        yield advance
