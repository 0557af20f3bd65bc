"""What else keeps versions of files: each makes a repository, stores versions, and restores them.

    python -m tests.bench.peers

says which of them are installed here; ``tests/bench/install_peers.sh`` installs the others. None
compresses; restic encrypts, for it cannot do without. Each keeps its caches beside its repository,
so that a new one is cold.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.bench.measure import run, size_bytes


class Contender(Protocol):
    """Whatever keeps versions; seconds are of wall time, the start of its processes included."""

    @property
    def name(self) -> str: ...
    def prepare(self, place: Path) -> None:
        """Begin a new repository in the empty folder ``place``."""

    def store(self, version: str, source: Path) -> float:
        """Store a folder; in seconds."""

    def restore(self, version: str, dest: Path) -> float:
        """Write a version's files below the empty folder ``dest``; in seconds."""

    def stored_bytes(self) -> int:
        """Bytes of the repository."""


@dataclass
class Copier:
    """Copies files and remembers nothing: what the hardware and the system make possible.

    ``put`` and ``get`` are shell commands on source and target.
    """

    name: str
    put: str
    get: str
    _place: Path = field(default=Path(), init=False)

    def prepare(self, place: Path) -> None:
        self._place = place

    def store(self, version: str, source: Path) -> float:
        return run("sh", "-ec", self.put, "sh", source, self._place / version).seconds

    def restore(self, version: str, dest: Path) -> float:
        return run("sh", "-ec", self.get, "sh", self._place / version, dest).seconds

    def stored_bytes(self) -> int:
        return size_bytes(self._place)


_SYNC = 'find "$2" -type f -exec sync {} +'
_COPY = 'cp -r "$1"/. "$2"'
_DD = "bs=4M conv=fsync status=none"


def cp() -> Copier:
    return Copier("cp", _COPY, _COPY)


def cp_synced() -> Copier:
    return Copier("cp+fsync", f"{_COPY}; {_SYNC}", f"{_COPY}; {_SYNC}")


def dd() -> Copier:
    """For folders with ``model.safetensors`` alone."""
    file = "model.safetensors"
    return Copier("dd", f'dd if="$1"/{file} of="$2" {_DD}', f'dd if="$1" of="$2"/{file} {_DD}')


def tar() -> Copier:
    return Copier("tar", 'tar -cf "$2" -C "$1" .', 'tar -xf "$1" -C "$2"')


def tar_synced() -> Copier:
    return Copier(
        "tar+fsync", 'tar -cf "$2" -C "$1" .; sync "$2"', f'tar -xf "$1" -C "$2"; {_SYNC}'
    )


@dataclass
class Borg:
    """BorgBackup without compression."""

    name: str = "borg"
    _repository: Path = field(default=Path(), init=False)
    _variables: Mapping[str, str] = field(default_factory=dict, init=False)

    def prepare(self, place: Path) -> None:
        self._repository = place / "repository"
        self._variables = {"BORG_BASE_DIR": str(place)}
        run("borg", "init", "--encryption", "none", self._repository, variables=self._variables)

    def store(self, version: str, source: Path) -> float:
        archive = f"{self._repository}::{version}"
        create = ("borg", "create", "--compression", "none", archive, ".")
        return run(*create, cwd=source, variables=self._variables).seconds

    def restore(self, version: str, dest: Path) -> float:
        archive = f"{self._repository}::{version}"
        return run("borg", "extract", archive, cwd=dest, variables=self._variables).seconds

    def stored_bytes(self) -> int:
        return size_bytes(self._repository)


@dataclass
class Restic:
    """restic without compression, where it has any."""

    name: str = "restic"
    _place: Path = field(default=Path(), init=False)
    _options: tuple[str, ...] = field(default=(), init=False)

    def prepare(self, place: Path) -> None:
        self._place = place
        if "--compression" in run("restic", "help").output:
            self._options = ("--compression", "off")
        self._run("init")

    def store(self, version: str, source: Path) -> float:
        return self._run("backup", "--tag", version, ".", cwd=source)

    def restore(self, version: str, dest: Path) -> float:
        return self._run("restore", "latest", "--tag", version, "--target", dest)

    def _run(self, *arguments: str | Path, cwd: Path | None = None) -> float:
        variables = {
            "RESTIC_REPOSITORY": str(self._place / "repository"),
            "RESTIC_CACHE_DIR": str(self._place / "cache"),
            "RESTIC_PASSWORD": "bench",
        }
        command = ("restic", "--quiet", *self._options, *arguments)
        return run(*command, cwd=cwd, variables=variables).seconds

    def stored_bytes(self) -> int:
        return size_bytes(self._place / "repository")


@dataclass
class Dvc:
    """DVC with a folder as its remote; what is counted is the remote, not the cache beside it."""

    name: str = "dvc"
    _place: Path = field(default=Path(), init=False)

    def prepare(self, place: Path) -> None:
        self._place = place
        (place / "work").mkdir()
        self._run("init", "--no-scm")
        self._run("remote", "add", "--default", "store", place / "remote")

    def store(self, version: str, source: Path) -> float:
        model = self._place / "work" / "model"
        shutil.rmtree(model, ignore_errors=True)
        shutil.copytree(source, model)
        seconds = self._run("add", "model") + self._run("push")
        shutil.copy(model.with_suffix(".dvc"), self._place / version)
        return seconds

    def restore(self, version: str, dest: Path) -> float:
        model = self._place / "work" / "model"
        shutil.rmtree(model)
        shutil.rmtree(self._place / "work" / ".dvc" / "cache")
        shutil.copy(self._place / version, model.with_suffix(".dvc"))
        seconds = self._run("pull")
        shutil.copytree(model, dest, dirs_exist_ok=True)
        return seconds

    def _run(self, *arguments: str | Path) -> float:
        variables = {"DVC_SITE_CACHE_DIR": str(self._place / "site"), "DVC_NO_ANALYTICS": "1"}
        work = self._place / "work"
        return run("dvc", "--quiet", *arguments, cwd=work, variables=variables).seconds

    def stored_bytes(self) -> int:
        return size_bytes(self._place / "remote")


PEERS: dict[str, Callable[[], Contender]] = {
    "dd": dd,
    "cp": cp,
    "cp+fsync": cp_synced,
    "borg": Borg,
    "restic": Restic,
    "dvc": Dvc,
}


def installed(names: Sequence[str]) -> dict[str, str]:
    """Those peers that are here, each with its version."""
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise SystemExit(f"{', '.join(unknown)}: known are {', '.join(PEERS)}")
    here = {}
    for name in names:
        program = name.partition("+")[0]
        if shutil.which(program):
            ask = "version" if program == "restic" else "--version"
            found = re.search(r"\d[\w.]*", run(program, ask).output)
            here[name] = f"{name} {found[0] if found else '?'}"
    return here


def main() -> None:
    """Say which peers are here."""
    here = installed(list(PEERS))
    for name in PEERS:
        sys.stdout.write(f"{here.get(name, f'{name}: not installed')}\n")


if __name__ == "__main__":
    main()
