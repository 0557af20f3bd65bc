"""Java programs on the classpath of ``deploy/stack``: a second gateway, and HBase's own client."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from tests.live.stack import DEPLOY, OWN, LiveStack

sys.path.insert(0, str(DEPLOY / "stack"))

from modelhub_stack import hdfs, settings
from modelhub_stack.servers import Launch

HOST = "127.0.0.1"
STARTS_IN_S = 120


@contextmanager
def second_gateway(stack: LiveStack, log: Path, *flags: str) -> Iterator[int]:
    """A Thrift gateway of its own, started with ``flags``; its port. It takes about 4 s."""
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    main = "org.apache.hadoop.hbase.thrift.ThriftServer"
    where = ["--port", str(port), "--bind", HOST, "--infoport", "-1", "start"]
    with log.open("w") as out:
        process = _start(_program(stack, main, *flags, *where), stdout=out)
        try:
            _wait_for(process, port, log)
            yield port
        finally:
            process.terminate()
            process.wait()


def run_java(stack: LiveStack, source: Path, *arguments: str) -> str:
    """Compile and run one file of Java with HBase's own client; what it printed. About 4 s."""
    process = _start(_program(stack, str(source), *arguments), stdout=subprocess.PIPE)
    out, _ = process.communicate(timeout=STARTS_IN_S)
    assert process.returncode == 0, out
    return str(out)


def _program(stack: LiveStack, main: str, *arguments: str) -> Launch:
    for home in (settings.home_folder(OWN | dict(os.environ)), settings.home_folder()):
        ours = settings.recorded(home)
        if ours is not None and ours.ports["thrift"] == stack.thrift_port:
            break
    else:
        pytest.skip("the servers are not those of deploy/stack here, so their jars are not either")
    conf = home / "hbase" / "conf"
    return hdfs.java(conf, main, *arguments, jars="hbase", options=hdfs.small(192))


def _start(launch: Launch, stdout: IO[str] | int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        launch.command,
        cwd=launch.folder,
        env=dict(launch.environ),
        stdout=stdout,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _wait_for(process: subprocess.Popen[str], port: int, log: Path) -> None:
    deadline = time.monotonic() + STARTS_IN_S
    while True:
        try:
            socket.create_connection((HOST, port), 1).close()
            break
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
