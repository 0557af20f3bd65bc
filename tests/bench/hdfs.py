"""A hub on HDFS, HBase and Elasticsearch beside Hadoop's own shell on the same HDFS.

    python -m tests.bench.hdfs --json hdfs.json                    # 1 GiB, five rounds
    python -m tests.bench.hdfs --replication 1 --size 256MiB

The servers are those of the tests (``tests.live.stack``): named by ``MODELHUB_TEST_HDFS`` and the
others, in Docker, or those of ``deploy/stack``, whose Hadoop also brings the shell. Rounds are
those of ``tests.bench.local``: the same bytes, step by step, in alternating order, for modelhub's
command line and for ``hdfs dfs -put`` and ``-get``; each begins with an empty hub.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import msgspec

from modelhub.connect import open_stores
from modelhub.settings import Profile
from modelhub.stores import FileInfo
from tests.bench.hubs import Modelhub
from tests.bench.measure import run
from tests.bench.report import Row, parser, show
from tests.bench.rounds import STEPS, Round, plain, run_round, show_medians, time_row
from tests.bench.series import MIB, Data
from tests.live.hubs import LiveHubs, as_toml, close, live_hubs, new_name, remove_folder
from tests.live.stack import DEPLOY, OWN, LiveStack, found

GOALS = {"push first": 1.0, "pull first": 1.0, "pull full": 1.0}
"""How long a step may take beside the shell's; the others are only shown."""


@dataclass
class FsShell:
    """``hdfs dfs``: copies files, and starts a JVM for it."""

    stack: LiveStack
    replication: int
    name: str = "FsShell"
    _path: str = field(default="", init=False)

    def prepare(self, place: Path) -> None:  # noqa: ARG002 - the place is on HDFS
        self._path = f"/tests/{new_name()}-shell"
        self._run("-mkdir", "-p", self._url())

    def store(self, version: str, source: Path) -> float:
        return self._run("-put", source, self._url(version))

    def restore(self, version: str, dest: Path) -> float:
        return self._run("-get", self._url(version), dest)

    def stored_bytes(self) -> int:
        """Of one copy of each block, as modelhub's are counted."""
        asked = f"/webhdfs/v1{self._path}?op=GETCONTENTSUMMARY&user.name=root"
        with urlopen(self.stack.webhdfs_url + asked) as answer:
            return int(json.load(answer)["ContentSummary"]["length"])

    def remove(self) -> None:
        """Leave nothing behind."""
        remove_folder(self.stack, self._path)

    def _url(self, version: str = "") -> str:
        return f"{self.stack.hdfs_url}{self._path}/{version}"

    def _run(self, *arguments: str | Path) -> float:
        copies = f"dfs.replication={self.replication}"
        command = (DEPLOY / "stack/hdfs", "dfs", "-D", copies, *arguments)
        return run(*command, variables=OWN | dict(os.environ)).seconds


@dataclass
class ClusterHub(Modelhub):
    """A hub whose stores are real servers."""

    hubs: LiveHubs
    stack: LiveStack
    replication: int
    _profile: Profile = field(init=False)

    def prepare(self, place: Path) -> None:
        close(self.hubs())
        self._profile = msgspec.structs.replace(
            self.hubs.profile, weights_replication=self.replication
        )
        config = place / "modelhub.toml"
        config.write_text(as_toml(self._profile, self.hubs.name))
        self.begin(self.hubs.name, place, MODELHUB_CONFIG=str(config))

    def stored_bytes(self) -> int:
        return sum(info.size_bytes for info in self._packs())

    def stored_files(self) -> int:
        return len(self._packs())

    def _packs(self) -> list[FileInfo]:
        stores = open_stores(self._profile)
        packs = list(stores.weights.list("packs"))
        close(stores)
        return packs

    def remove(self) -> None:
        """Free the disks for the next round."""
        remove_folder(self.stack, urlsplit(self._profile.weights).path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write JSON."""
    names = ("data", "size", "rounds", "policies", "replication", "json")
    options = parser(__doc__, *names).parse_args(arguments)
    versions = Data(options.data).series(options.size)
    with ExitStack() as held:
        stack = held.enter_context(found())
        shell = FsShell(stack, options.replication)
        hubs = [
            ClusterHub(policy, held.enter_context(live_hubs(stack)), stack, options.replication)
            for policy in options.policies
        ]
        packs: list[int] = []

        def clean() -> None:
            packs.extend(hub.stored_files() for hub in hubs)
            shell.remove()
            for hub in hubs:
                hub.remove()

        rounds = [
            run_round(number, [*hubs, shell], versions, options.data, after=clean)
            for number in range(options.rounds)
        ]
    show_medians(rounds)
    about = {
        "size": f"{options.size / MIB:.0f} MiB",
        "rounds": options.rounds,
        "copies": options.replication,
    }
    rows = _rows(rounds, hubs, max(packs))
    show("modelhub on HDFS", rows, about=about, rounds=plain(rounds), file=options.json)


def _rows(rounds: Sequence[Round], hubs: Sequence[ClusterHub], packs: int) -> list[Row]:
    rows = [
        time_row(rounds, step, hub.name, "FsShell", goal=GOALS.get(step))
        for step in STEPS
        for hub in hubs
    ]
    rows += [Row(f"peak memory, {hub.name}", hub.peak_mb, 700, "MB") for hub in hubs]
    return [*rows, Row("files on the store for four versions", packs, unit="")]


if __name__ == "__main__":
    main()
