"""Runs seeds again: ``python -m modelhub.testing.simulation SEED...``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from modelhub.testing.simulation import Violation, simulate


def main(seeds: list[str]) -> int:
    """Run each seed; 1 where one went wrong."""
    wrong = 0
    with tempfile.TemporaryDirectory() as scratch:
        for seed in map(int, seeds):
            try:
                print(f"seed {seed}: {dict(simulate(seed, Path(scratch)))}")
            except Violation as violation:
                print(violation)
                wrong = 1
    return wrong


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
