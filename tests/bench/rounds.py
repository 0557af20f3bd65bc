"""Rounds in which every contender does the same with the same bytes, in alternating order."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from rich.table import Table

from tests.bench.measure import check_equal, warm
from tests.bench.peers import Contender, Copier
from tests.bench.report import Row, console
from tests.bench.series import MIB

STEPS = ("push first", "pull first", "push unchanged", "push part", "push full", "pull full")
"""Verb and version. A copier does the first two: the others would tell the same again."""


@dataclass(frozen=True)
class Figures:
    """What a step took, and what the repository held after it."""

    seconds: float
    stored_bytes: int


Round = dict[str, dict[str, Figures]]
"""Figures by contender and step."""


@contextmanager
def folder_in(root: Path) -> Iterator[Path]:
    """A new folder that is gone afterwards, on the disk of ``root``."""
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix="run-") as name:
        yield Path(name)


def run_round(
    number: int,
    contenders: Sequence[Contender],
    versions: Mapping[str, Path],
    root: Path,
    *,
    steps: Sequence[str] = STEPS,
    after: Callable[[], None] = lambda: None,
) -> Round:
    """All steps, each by one contender after the other; ``after`` is called at their end."""
    order = contenders if number % 2 == 0 else contenders[::-1]
    with folder_in(root) as place:
        figures: Round = {}
        for contender in order:
            (place / contender.name).mkdir()
            contender.prepare(place / contender.name)
            figures[contender.name] = {}
        for step in steps:
            verb, version = step.split()
            for contender in order:
                if isinstance(contender, Copier) and version != "first":
                    continue
                seconds = _done(contender, verb, version, versions[version], place / "restored")
                figures[contender.name][step] = Figures(seconds, contender.stored_bytes())
                if isinstance(contender, Copier) and verb == "pull":
                    shutil.rmtree(place / contender.name)
        after()
        return figures


def _done(contender: Contender, verb: str, version: str, source: Path, dest: Path) -> float:
    warm(source)
    if verb == "push":
        return contender.store(version, source)
    dest.mkdir()
    seconds = contender.restore(version, dest)
    check_equal(source, dest)
    shutil.rmtree(dest)
    return seconds


def seconds(rounds: Sequence[Round], name: str, step: str) -> float:
    """The median over the rounds."""
    return median(one[name][step].seconds for one in rounds)


def stored(rounds: Sequence[Round], name: str, step: str, before: str | None = None) -> float:
    """The median of the bytes that were stored after a step, or since the step ``before`` it."""
    return median(
        one[name][step].stored_bytes - (one[name][before].stored_bytes if before else 0)
        for one in rounds
    )


def time_row(
    rounds: Sequence[Round], step: str, name: str, peer: str, *, goal: float | None, of: str = ""
) -> Row:
    """The median of how long ``name`` took to how long ``peer`` took in the same round."""
    mine, theirs = seconds(rounds, name, step), seconds(rounds, peer, step)
    return Row(
        f"{of}{step}, {name} : {peer}",
        median(one[name][step].seconds / one[peer][step].seconds for one in rounds),
        goal,
        detail=f"{mine:.2f} s / {theirs:.2f} s",
    )


def show_medians(rounds: Sequence[Round]) -> None:
    """Print what every contender took for every step."""
    table = Table(title="medians: seconds, and MiB in the repository afterwards")
    table.add_column("")
    for step in STEPS:
        table.add_column(step, justify="right")
    for name, done in rounds[0].items():
        cells = [
            f"{seconds(rounds, name, step):.2f} s, {stored(rounds, name, step) / MIB:,.0f}"
            if step in done
            else "–"
            for step in STEPS
        ]
        table.add_row(name, *cells)
    console().print(table)


def plain(rounds: Sequence[Round]) -> object:
    """The figures as JSON has them."""
    return [
        {name: {step: asdict(one) for step, one in done.items()} for name, done in figures.items()}
        for figures in rounds
    ]
