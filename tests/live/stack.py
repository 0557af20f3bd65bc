"""Finding the real servers: named in the environment, in Docker, or those of ``deploy/stack``.

``python -m tests.live.stack up`` starts them before the tests do, and ``wipe`` ends them again. The
servers of ``deploy/stack`` are the tests' own, apart from those that somebody works with.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
OWN = {
    "MODELHUB_STACK_HOME": f"/var/tmp/modelhub-tests-{os.getuid()}",
    "MODELHUB_STACK_PORTS": "29000",
}
ENDPOINTS = ("HDFS", "WEBHDFS", "HBASE", "ELASTICSEARCH")
"""``MODELHUB_TEST_HDFS=hdfs://…`` and so on: all four, or none."""

REQUIRED = "MODELHUB_REQUIRE_CLUSTER"
"""Set to 1, no server is a failure; without it, the tests that need one are skipped."""


@dataclass(frozen=True)
class LiveStack:
    """Where the servers are."""

    hdfs_url: str
    webhdfs_url: str
    thrift_host: str
    thrift_port: int
    search_url: str
    search_ca: Path | None = None
    search_user: str | None = None
    search_password: str | None = None


class NoStackError(Exception):
    """There are no servers; the message says why."""


@contextmanager
def found() -> Iterator[LiveStack]:
    """The servers, for as long as this process needs them.

    Raises:
        NoStackError: there are none, and none could be started.
    """
    if (named := from_environment(os.environ)) is not None:
        yield named
    elif _docker_answers():
        with _in_docker() as stack:
            yield stack
    else:
        yield _on_this_machine()


def from_environment(environ: Mapping[str, str]) -> LiveStack | None:
    """The servers that the environment names, if it names any."""
    said = {name: environ.get(f"MODELHUB_TEST_{name}", "") for name in ENDPOINTS}
    if not any(said.values()):
        return None
    missing = [f"MODELHUB_TEST_{name}" for name, url in said.items() if not url]
    if missing:
        raise NoStackError(f"the environment names some servers, but not {', '.join(missing)}")
    return _stack(said["HDFS"], said["WEBHDFS"], said["HBASE"], said["ELASTICSEARCH"])


def _stack(hdfs: str, webhdfs: str, hbase: str, elasticsearch: str) -> LiveStack:
    gateway = urlsplit(hbase)
    assert gateway.hostname, f"{hbase} is not hbase://HOST:PORT"
    return LiveStack(hdfs, webhdfs, gateway.hostname, gateway.port or 9090, elasticsearch)


def _docker_answers() -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    return subprocess.run([docker, "info"], capture_output=True, check=False).returncode == 0


@contextmanager
def _in_docker() -> Iterator[LiveStack]:
    """The servers of ``deploy/compose.yaml``, started by testcontainers and left to the next run.

    Every worker of a run comes here, so the first one starts them and none of them ends them.
    """
    from testcontainers.compose import DockerCompose

    with _one_at_a_time():
        compose = DockerCompose(DEPLOY, compose_file_name="compose.yaml", wait=True)
        compose.start()
    yield _stack(
        "hdfs://127.0.0.1:28000",
        "http://127.0.0.1:28001",
        "hbase://127.0.0.1:28005",
        "http://127.0.0.1:28006",
    )


def _on_this_machine() -> LiveStack:
    """The servers of ``deploy/stack``, started where they do not run yet, and left running."""
    with _one_at_a_time():
        up = command("up", "--datanodes", "3")
    if up.returncode:
        raise NoStackError(f"deploy/stack/up failed:\n{up.stderr}")
    return read_stack(Path(up.stdout.strip()).parent)


def command(name: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command of ``deploy/stack`` on the tests' own servers, or those of ``variables``."""
    return subprocess.run(
        [DEPLOY / "stack" / name, *arguments],
        env=OWN | dict(os.environ) | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def read_stack(home: Path) -> LiveStack:
    """The servers of the stack in a folder, from the record that ``deploy/stack/up`` keeps."""
    record = json.loads((home / "stack.json").read_text())
    ports = record["ports"]
    assert not record["secure"], f"{home} has a stack with --secure; the tests want one without"
    return _stack(
        *(
            f"{scheme}://127.0.0.1:{ports[server]}"
            for scheme, server in (
                ("hdfs", "namenode"),
                ("http", "webhdfs"),
                ("hbase", "thrift"),
                ("http", "elasticsearch"),
            )
        )
    )


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Workers of one run, and runs of one user, take turns."""
    lock = Path(tempfile.gettempdir()) / f"modelhub-tests-{os.getuid()}.lock"
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def absent(reason: object) -> None:
    """Fail where a cluster is required; skip the test otherwise."""
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(f"{REQUIRED}=1, but there is no cluster: {reason}", pytrace=False)
    pytest.skip(f"no cluster ({REQUIRED}=1 makes this a failure): {reason}")


def main(verb: str) -> None:
    """Start the servers that the tests would, or end them."""
    if from_environment(os.environ) is not None or _docker_answers():
        return
    if verb == "wipe":
        command("wipe")
        return
    try:
        with found() as stack:
            print(f"== real servers answer: {stack.hdfs_url} and others", file=sys.stderr)
    except NoStackError as error:
        print(f"== no real servers: {error}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1])
