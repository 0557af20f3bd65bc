"""Processes that outlive the command that starts them, and that only their own record can end."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from modelhub_stack.settings import write_whole

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Process:
    """The leader of a session of its own, known by more than its id, which may come again.

    ``started`` is its start in clock ticks after the boot named by ``boot``.
    """

    pid: int
    started: int
    boot: str

    def alive(self) -> bool:
        """Whether it runs, and is still the process that was started."""
        facts = _facts(self.pid)
        return (
            facts is not None
            and facts.started == self.started
            and self.boot == _BOOT.read_text().strip()
        )

    def resident_bytes(self) -> int:
        """The memory of it and of the processes that it started."""
        return sum(facts.resident_bytes for facts in self._session())

    def end(self, *, wait_s: float) -> bool:
        """Ask it to end, and after ``wait_s`` end it and all that it started.

        Returns:
            Whether all of them ended when it was asked.
        """
        with ExitStack() as files:
            handles = self._open(files)
            for handle in handles[:1]:
                _send(handle, signal.SIGTERM)
            asked = _all_gone(handles, wait_s=wait_s)
            if not asked:
                _kill(handles)
        return asked

    def kill(self) -> None:
        """End it and all that it started, with no chance to tidy up."""
        with ExitStack() as files:
            _kill(self._open(files))

    def _session(self) -> Iterator[_Facts]:
        if not self.alive():
            return
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                facts = _facts(int(entry.name))
                if facts is not None and facts.session == self.pid:
                    yield facts

    def _open(self, files: ExitStack) -> list[int]:
        """Handles of the session's processes, its own first; none if it ended before.

        A signal sent through one can't reach another process.
        """
        handles = []
        for facts in sorted(self._session(), key=lambda facts: facts.pid != self.pid):
            try:
                handle = os.pidfd_open(facts.pid)
            except ProcessLookupError:
                continue
            files.callback(os.close, handle)
            again = _facts(facts.pid)
            if again is not None and (again.session, again.started) == (self.pid, facts.started):
                handles.append(handle)
        return handles


def spawn(
    command: Sequence[str], *, environ: Mapping[str, str], folder: Path, log: Path
) -> Process:
    """Start ``command`` in ``folder``, with nothing but ``environ``, writing to ``log`` alone."""
    with log.open("ab") as output:
        child = subprocess.Popen(  # noqa: S603 (our own command line)
            command,
            env=dict(environ),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    child.returncode = 0  # it is meant to go on: no warning about a child that was left
    started = _started(child.pid)
    return Process(child.pid, started, _BOOT.read_text().strip())


def load(path: Path) -> Process | None:
    """The process recorded in ``path``, if it runs."""
    try:
        pid, started, boot = path.read_text().split()
    except FileNotFoundError:
        return None
    process = Process(int(pid), int(started), boot)
    return process if process.alive() else None


def save(process: Process, path: Path) -> None:
    """Record ``process`` in ``path``."""
    write_whole(path, f"{process.pid} {process.started} {process.boot}\n")


@dataclass(frozen=True)
class _Facts:
    pid: int
    session: int
    started: int
    resident_bytes: int


def _facts(pid: int) -> _Facts | None:
    fields = _stat(pid)
    if fields is None or fields[0] in {"Z", "X"}:
        return None
    return _Facts(pid, int(fields[3]), int(fields[19]), int(fields[21]) * _PAGE_BYTES)


def _started(pid: int) -> int:
    """The start of our own child, which has a line in /proc until somebody waits for it."""
    fields = _stat(pid)
    assert fields is not None
    return int(fields[19])


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the name, from the state on."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text[text.rindex(")") + 2 :].split()


def _send(handle: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # gone by itself
        signal.pidfd_send_signal(handle, number)


def _kill(handles: Sequence[int]) -> None:
    for handle in handles:
        _send(handle, signal.SIGKILL)
    _all_gone(handles, wait_s=30)


def _all_gone(handles: Sequence[int], *, wait_s: float) -> bool:
    deadline = time.monotonic() + wait_s
    for handle in handles:
        left_s = max(0.0, deadline - time.monotonic())
        if not select.select([handle], [], [], left_s)[0]:
            return False
    return True
