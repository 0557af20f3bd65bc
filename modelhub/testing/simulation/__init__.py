"""Many clients on one hub, in a world where nothing happens by chance but what a seed says.

Each client is a process of its own that runs verbs of ``Hub`` one after the other, and stops before
every store call. A scheduler says whose turn it is, how the call goes (see ``testing.faults``),
when time goes by and when what was late arrives. So a seed is a schedule, and can be run again step
by step. When a run is over it is held against what every client was told; one that went wrong is
made short and told in a few lines.

- ``world``: stores in memory, the one time, names that follow from the seed
- ``processes``: a process that waits for its turn
- ``verbs``: what clients do, in one table, and what their answers may be
- ``schedule``: steps, and how they are chosen
- ``run``: taking them, and the record of what clients were told
- ``oracle``: what must hold
- ``shrinking``: a failure, made short

``python -m modelhub.testing.simulation SEED`` runs one seed again.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from modelhub.testing.simulation.oracle import Violation, check
from modelhub.testing.simulation.run import perform
from modelhub.testing.simulation.schedule import Chance, drawn
from modelhub.testing.simulation.shrinking import shrunk, told

__all__ = ["Violation", "simulate"]


def simulate(seed: int, scratch: Path) -> Counter[str]:
    """Run a seed and check it; how many verbs, calls, faults and deaths there were.

    Args:
        seed: which run.
        scratch: a folder for files, best in memory, which many runs may share.

    Raises:
        Violation: something that always holds did not. The message is a short reproduction.
    """
    schedule = drawn(seed)
    run = perform(schedule, scratch, Chance(seed))
    try:
        check(run)
    except Violation as violation:
        short = shrunk(replace(schedule, steps=run.steps), scratch, violation.rule)
        raise Violation(violation.rule, told(short, scratch)) from violation
    return run.counts()
