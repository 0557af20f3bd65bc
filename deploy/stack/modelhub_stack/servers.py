"""What a server is to the stack: how it is started, and when it answers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelhub_stack import process
from modelhub_stack.probe import NotReadyError, port_open
from modelhub_stack.process import Process
from modelhub_stack.settings import (
    PREFIX,
    Settings,
    StackError,
    port_variable,
    say,
    wait_limit_s,
)

_STOP_S = 45.0
_PORT_S = 10.0  # what a server has started may be a little slower to end than the server
_POLL_S = 0.2


@dataclass(frozen=True)
class Launch:
    """A command line, where it runs, and all of its environment."""

    command: Sequence[str]
    folder: Path
    environ: Mapping[str, str]


@dataclass(frozen=True)
class Server:
    """One server of a stack.

    ``prepare`` makes all that a start needs; ``check`` raises ``NotReadyError`` until it answers.
    """

    name: str
    settings: Settings
    prepare: Callable[[], Launch]
    check: Callable[[], None]

    @property
    def port(self) -> int:
        """Where its clients connect."""
        return self.settings.ports[self.name]

    @property
    def log(self) -> Path:
        """What it has written since its last start; what came before is in ``NAME.log.1``."""
        return self.settings.home / "logs" / f"{self.name}.log"

    def process(self) -> Process | None:
        """The process that was started for it, if it runs."""
        return process.load(self._record)

    def start(self) -> None:
        """Start it where it doesn't run, and wait until it answers.

        Raises:
            StackError: it does not within the limit, or it ended; its log stands in the message.
        """
        begun = time.monotonic()
        if self.process() is None:
            self.spawn()
        self.wait_ready()
        running = self.process()
        if running is not None:
            took_s = time.monotonic() - begun
            say(f"{self.name} answers on port {self.port} (pid {running.pid}, {took_s:.1f} s)")

    def spawn(self) -> None:
        """Start its process; it does not answer yet when this returns.

        Raises:
            StackError: another program has its port.
        """
        deadline = time.monotonic() + _PORT_S
        while port_open(self.port):
            if time.monotonic() > deadline:
                raise StackError(
                    f"{self.name} can't have port {self.port}: another program listens there. "
                    f"Stop that, or set {PREFIX}{port_variable(self.name)}, or "
                    f"{PREFIX}PORTS for all of them, and wipe this stack if it was made before"
                )
            time.sleep(_POLL_S)
        launch = self.prepare()
        self.log.parent.mkdir(exist_ok=True)
        self._record.parent.mkdir(exist_ok=True)
        if self.log.exists():
            self.log.replace(self.log.with_name(self.log.name + ".1"))
        running = process.spawn(
            launch.command, environ=launch.environ, folder=launch.folder, log=self.log
        )
        process.save(running, self._record)

    def wait_ready(self) -> None:
        """Wait until it answers.

        Raises:
            StackError: it does not within the limit, or it ended; its log stands in the message.
        """
        limit_s = wait_limit_s()
        deadline = time.monotonic() + limit_s
        while True:
            running = self.process()
            try:
                self.check()
            except NotReadyError as exc:
                if running is None:
                    raise StackError(self._with_log("ended when it was started")) from exc
                if time.monotonic() > deadline:
                    raise StackError(self._with_log(f"{exc}, after {limit_s} s")) from exc
                time.sleep(_POLL_S)
            else:
                if running is not None:
                    return
                raise StackError(self._with_log("ended, and another program has its port"))

    def stop(self) -> None:
        """End its process, by force where it doesn't end when it is asked."""
        running = self.process()
        if running is not None and not running.end(wait_s=_STOP_S):
            say(f"{self.name} had not ended after {_STOP_S:g} s and was killed")
        self._record.unlink(missing_ok=True)

    def kill(self) -> None:
        """End its process at once, as a crash would."""
        running = self.process()
        if running is not None:
            running.kill()

    @property
    def _record(self) -> Path:
        return self.settings.home / "pids" / f"{self.name}.pid"

    def _with_log(self, what: str) -> str:
        lines = [line[:200] for line in self.log.read_text(errors="replace").splitlines()[-25:]]
        return "\n  ".join([f"{self.name} {what}; the end of {self.log}:", *lines])


def java_environ(home: Path) -> dict[str, str]:
    """An environment in which no setting of the caller's changes a Java program."""
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(home), "LANG": "C.UTF-8"}
