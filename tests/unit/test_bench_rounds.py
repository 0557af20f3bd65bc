"""How the benchmarks pair what they compare.

Tier: CI runs all of it.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.bench.peers import Copier, cp, cp_synced, dd, tar, tar_synced
from tests.bench.report import Row
from tests.bench.rounds import STEPS, Figures, Round, run_round, stored, time_row
from tests.bench.series import MODEL


@dataclass
class Keeper:
    """Copies what it is given, and says so."""

    name: str
    said: list[str]
    damages: bool = False
    _place: Path = field(default=Path(), init=False)

    def prepare(self, place: Path) -> None:
        self._place = place

    def store(self, version: str, source: Path) -> float:
        self.said.append(f"{self.name} push {version}")
        shutil.copytree(source, self._place / version)
        return 1.0

    def restore(self, version: str, dest: Path) -> float:
        self.said.append(f"{self.name} pull {version}")
        shutil.copytree(self._place / version, dest, dirs_exist_ok=True)
        if self.damages:
            (dest / MODEL).write_bytes(b"other")
        return 2.0

    def stored_bytes(self) -> int:
        return len(list(self._place.iterdir()))


@pytest.fixture
def versions(tmp_path: Path) -> dict[str, Path]:
    made = {name: tmp_path / name for name in ("first", "unchanged", "part", "full")}
    for name, folder in made.items():
        folder.mkdir()
        (folder / MODEL).write_bytes(name.encode() * 100)
    return made


def test_each_step_is_done_by_all_in_turn_and_the_order_turns_round(
    versions: dict[str, Path], tmp_path: Path
) -> None:
    said: list[str] = []
    pair = [Keeper("a", said), Keeper("b", said)]
    for number in range(2):
        run_round(number, pair, versions, tmp_path / "data")
    expected = [f"{name} {step}" for step in STEPS for name in "ab"]
    expected += [f"{name} {step}" for step in STEPS for name in "ba"]
    assert said == expected
    assert not list((tmp_path / "data").iterdir())


def test_figures_are_those_of_each_step(versions: dict[str, Path], tmp_path: Path) -> None:
    figures = run_round(0, [Keeper("a", [])], versions, tmp_path / "data")
    assert tuple(figures["a"]) == STEPS
    assert figures["a"]["push first"] == Figures(1.0, 1)
    assert figures["a"]["pull full"] == Figures(2.0, 4)


def test_what_comes_back_damaged_ends_the_program(
    versions: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match="did not come back"):
        run_round(0, [Keeper("a", [], damages=True)], versions, tmp_path / "data")


@pytest.mark.parametrize("copier", [cp(), cp_synced(), dd(), tar(), tar_synced()])
def test_a_copier_brings_the_first_version_back(
    copier: Copier, versions: dict[str, Path], tmp_path: Path
) -> None:
    figures = run_round(0, [copier], versions, tmp_path / "data")
    assert tuple(figures[copier.name]) == STEPS[:2]
    assert figures[copier.name]["push first"].stored_bytes >= 500


def test_ratios_are_taken_within_a_round() -> None:
    seconds = [(1.0, 2.0), (30.0, 10.0), (8.0, 16.0)]
    rounds: list[Round] = [
        {"mine": {"step": Figures(mine, 0)}, "other": {"step": Figures(other, 0)}}
        for mine, other in seconds
    ]
    row = time_row(rounds, "step", "mine", "other", goal=0.5)
    assert row.figure == 0.5
    assert row.detail == "8.00 s / 10.00 s"
    assert row.holds


def test_what_a_step_stored_is_the_growth_of_its_round() -> None:
    rounds: list[Round] = [
        {"mine": {"before": Figures(0, size), "step": Figures(0, size + more)}}
        for size, more in ((10, 3), (20, 5), (30, 4))
    ]
    assert stored(rounds, "mine", "step") == 25
    assert stored(rounds, "mine", "step", "before") == 4


def test_a_figure_above_its_goal_does_not_hold() -> None:
    assert Row("bytes", 1.0, 1.0).holds
    assert Row("bytes", 1.1, 1.0).holds is False
    assert Row("bytes", 1.1).holds is None
