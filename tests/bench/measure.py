"""Timing a command, and what lies in a folder afterwards."""

from __future__ import annotations

import filecmp
import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

READ_BYTES = 16 << 20


@dataclass(frozen=True)
class Ran:
    """A command that ended well."""

    seconds: float
    output: str
    errors: str


def run(
    *command: str | Path, cwd: Path | None = None, variables: Mapping[str, str] | None = None
) -> Ran:
    """Run a command to its good end.

    What was written before is brought to the disk first, so that nobody waits for others' bytes.
    """
    os.sync()
    began_s = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=cwd,
        env=dict(os.environ) | dict(variables or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    took_s = time.perf_counter() - began_s
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{done.stderr or done.stdout}")
    return Ran(took_s, done.stdout, done.stderr)


def warm(folder: Path) -> None:
    """Read every file, so that it comes from memory for whoever is first as well."""
    buffer = bytearray(READ_BYTES)
    for path in files(folder):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def files(folder: Path) -> list[Path]:
    """Every file in a folder, or the file itself."""
    if folder.is_file():
        return [folder]
    return sorted(path for path in folder.rglob("*") if path.is_file())


def size_bytes(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in files(folder))


def check_equal(folder: Path, restored: Path) -> None:
    """Every file of ``folder`` came back with its bytes, at whatever depth of ``restored``."""
    found = {path.relative_to(restored).as_posix(): path for path in files(restored)}
    for path in files(folder):
        name = path.relative_to(folder).as_posix()
        match = [file for at, file in found.items() if f"/{at}".endswith(f"/{name}")]
        if not match or not filecmp.cmp(path, match[0], shallow=False):
            raise SystemExit(f"{name} did not come back from {restored} with its bytes")
