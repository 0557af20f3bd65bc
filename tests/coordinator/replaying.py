"""Walks of a model and their replay, many at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from modelhub.testing.protocol.explore import Step
from modelhub.testing.protocol.replay import Drift

C = TypeVar("C")


class Model(Protocol):
    """Where a walk begins, and where it may go from each state."""

    def initial(self) -> Any: ...

    def all_steps(self, state: Any) -> Iterable[Step[Any]]: ...


@dataclass(frozen=True)
class Replays(Generic[C]):
    """How walks of a model's configurations are made, and taken by the coordinator."""

    model: Callable[[C], Model]
    walk: Callable[[C, int], list[Step[Any]]]
    replay: Callable[[C, Sequence[Step[Any]], Path], set[str]]
    configurations: Mapping[str, C]

    def replayed(self, name: str, seeds: Iterable[int], folder: Path) -> tuple[str, set[str]]:
        """Walk and replay; how many steps there were, in words, and which calls."""
        configuration = self.configurations[name]
        walks, count, calls = 0, 0, set()
        for seed in seeds:
            steps = self.walk(configuration, seed)
            try:
                calls |= self.replay(configuration, steps, folder)
            except Drift as error:
                raise AssertionError(f"{name}, seed {seed}: {error}") from error
            walks, count = walks + 1, count + len(steps)
        return f"{name}: {walks} walks, {count:,} steps", calls

    def not_taken(self, walks: int) -> set[tuple[str, str]]:
        """Steps with their outcomes that were possible somewhere, and that no walk takes.

        Of crashes, of which there is one for every place that an actor can be in, any will do.
        """
        possible, taken = set(), set()
        for configuration in self.configurations.values():
            model = self.model(configuration)
            for seed in range(walks):
                state = model.initial()
                for step in self.walk(configuration, seed):
                    possible |= {(one.action, one.outcome) for one in model.all_steps(state)}
                    taken.add((step.action, step.outcome))
                    state = step.state
        absent = {outcome for _, outcome in possible} - {outcome for _, outcome in taken}
        return {step for step in possible - taken if step[1] != "crash" or "crash" in absent}

    def noticed(self, name: str, walks: int, folder: Path) -> str:
        """What is said of a changed coordinator, which some walk must notice."""
        try:
            self.replayed(name, range(walks), folder)
        except AssertionError as error:
            return str(error).splitlines()[-1].strip()
        raise AssertionError(f"no walk of {name} noticed it")
