"""Servers that one test has for itself, because it kills them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.live.stack import absent, command


class Own:
    """Runs commands of ``deploy/stack`` on these servers: ``own("server", "thrift", "kill")``."""

    def __init__(self, name: str, first_port: int) -> None:
        self.home = Path(f"/var/tmp/modelhub-{name}-{os.getuid()}")
        self._environment = {
            "MODELHUB_STACK_HOME": str(self.home),
            "MODELHUB_STACK_PORTS": str(first_port),
        }

    def __call__(self, *arguments: str) -> None:
        done = command(*arguments, **self._environment)
        assert done.returncode == 0, done.stderr

    @contextmanager
    def up(self, *arguments: str) -> Iterator[Own]:
        """The servers for as long as somebody needs them."""
        started = command("up", *arguments, **self._environment)
        if started.returncode:
            absent(started.stderr)
        try:
            yield self
        finally:
            command("wipe", **self._environment)
