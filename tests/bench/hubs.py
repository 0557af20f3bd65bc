"""modelhub as a contender: its command line in a process of its own, and its calls counted."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelhub.connect import embedded_stores
from modelhub.content.encoder import storage_policy
from modelhub.coordinator.context import Context
from modelhub.hub import Hub
from modelhub.testing.faults import Faults
from tests.bench.measure import files, run, size_bytes

MEASURED = Path(__file__).parents[1] / "coordinator" / "measured.py"
"""The command line, which says on stderr how much memory its process had at most."""

MODEL = "bench"


@dataclass
class Modelhub:
    """The embedded hub under a storage policy."""

    policy: str
    peak_mb: float = field(default=0.0, init=False)
    """Of all its processes so far, in units of 10^6 bytes."""

    hub: str = field(default="", init=False)
    _variables: dict[str, str] = field(default_factory=dict, init=False)
    _numbers: dict[str, int] = field(default_factory=dict, init=False)

    @property
    def name(self) -> str:
        return f"modelhub {self.policy}"

    def prepare(self, place: Path) -> None:
        self.begin(str(place / "hub"), place)

    def begin(self, hub: str, place: Path, **variables: str) -> None:
        """Make the hub of this address; what it keeps on this machine goes into ``place``."""
        self.hub, self._numbers = hub, {}
        self._variables = {
            "MODELHUB_CACHE": str(place / "cache"),
            "MODELHUB_USER": "bench",
            **variables,
        }
        self._run("admin", "init")

    def store(self, version: str, source: Path) -> float:
        seconds, answer = self._run("push", MODEL, source, "--policy", self.policy)
        self._numbers[version] = answer["number"]
        return seconds

    def restore(self, version: str, dest: Path) -> float:
        return self._run("pull", f"{MODEL}@{self._numbers[version]}", dest)[0]

    def stored_bytes(self) -> int:
        """Of the files with weights: rows and search documents are small."""
        return size_bytes(Path(self.hub) / "weights")

    def stored_files(self) -> int:
        return len(files(Path(self.hub) / "weights"))

    def _run(self, *arguments: str | Path) -> tuple[float, Any]:
        options = ("--hub", self.hub, "--format", "json")
        ran = run(sys.executable, MEASURED, *options, *arguments, variables=self._variables)
        self.peak_mb = max(self.peak_mb, int(ran.errors.split()[-1]) * 1024 / 1e6)
        return ran.seconds, json.loads(ran.output)


@dataclass(frozen=True)
class Counts:
    """What a push asked of the stores, and how many files with weights there are after it."""

    row_calls: int
    weight_writes: int
    files: int


def counts_of_push(home: Path, source: Path, policy: str) -> Counts:
    """Push into an embedded hub, as a process that is new to it."""
    faults = Faults(embedded_stores(home))
    hub = Hub(Context(faults.stores, "bench"), address=str(home), cache=home / "cache")
    hub.push(MODEL, source, policy=storage_policy(policy))
    return Counts(
        row_calls=sum(call.store == "rows" for call in faults.calls),
        weight_writes=sum(call.store == "weights" and call.writes for call in faults.calls),
        files=len(files(home / "weights")),
    )
