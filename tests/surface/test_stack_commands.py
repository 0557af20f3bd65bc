"""The commands that run the real servers, as far as they can be seen without any server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

COMMANDS = Path(__file__).parents[2] / "deploy/stack"


class Stack:
    """The commands on a stack in ``home``, on a machine that has neither Java nor Maven."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.empty = folder / "empty"
        self.empty.mkdir()
        self.cache = folder / "cache"

    def run(self, name: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, COMMANDS / name, *arguments],
            env={
                "PATH": str(self.empty),
                "XDG_CACHE_HOME": str(self.cache),
                "MODELHUB_STACK_HOME": str(self.home),
                "MODELHUB_STACK_JVMS": str(self.empty),
                "MODELHUB_STACK_PORTS": "27000",  # not those of a stack that really runs
                **variables,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def record(self, server: str, pid: int, *, ticks_later: int = 0) -> None:
        """Note ``pid`` as the process of ``server``, with a start that may not be its own."""
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        (self.home / "pids").mkdir(exist_ok=True)
        started = int(fields[19]) + ticks_later
        (self.home / "pids" / f"{server}.pid").write_text(f"{pid} {started} {boot}")


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(tmp_path)


@pytest.fixture
def made(stack: Stack) -> Stack:
    """A stack whose folder was made, and none of whose servers could be started."""
    assert stack.run("up").returncode == 1
    return stack


@contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, which is over at the end."""
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_missing_java_or_maven_is_named_with_the_command_that_installs_it(stack: Stack) -> None:
    done = stack.run("up")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "sudo apt-get install maven" in done.stderr
    assert "sudo apt-get install openjdk-17-jre-headless" in done.stderr


def test_where_no_stack_was_made_every_command_says_so(stack: Stack) -> None:
    for command in (["status"], ["down"], ["wipe"], ["server", "hbase", "kill"], ["hdfs", "dfs"]):
        done = stack.run(*command)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"no stack in {stack.home}" in done.stderr


def test_status_fails_where_a_server_does_not_run(made: Stack) -> None:
    done = made.run("status")
    assert done.returncode == 1
    assert done.stdout.count("not running") == len(done.stdout.splitlines()) - 1 == 5


def test_down_ends_the_process_that_was_recorded(made: Stack) -> None:
    with running("sleep", "60") as process:
        made.record("hbase", process.pid)
        assert str(process.pid) in made.run("status").stdout
        assert made.run("down").returncode == 0
        assert process.wait(10) == -15


def test_a_process_that_only_has_the_id_of_a_recorded_one_is_left_alone(made: Stack) -> None:
    with running("sleep", "60") as process:
        made.record("hbase", process.pid, ticks_later=1)
        assert str(process.pid) not in made.run("status").stdout
        for command in (["server", "hbase", "kill"], ["down"], ["wipe"]):
            assert made.run(*command).returncode == 0
        assert process.poll() is None


def test_kill_ends_what_the_server_started_too(made: Stack) -> None:
    with running("bash", "-c", "sleep 60 >/dev/null & echo $!; wait") as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        made.record("elasticsearch", process.pid)
        assert made.run("server", "elasticsearch", "kill").returncode == 0
        assert process.wait(10) == -9
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_wipe_deletes_the_folder_that_up_made(made: Stack) -> None:
    assert made.run("wipe").returncode == 0
    assert not made.home.exists()


def test_a_folder_that_was_not_made_by_up_is_neither_used_nor_wiped(stack: Stack) -> None:
    stack.home.mkdir()
    (stack.home / "thesis.txt").write_text("ten years")
    for command in ("up", "down", "wipe"):
        assert stack.run(command).returncode == 1
    assert [path.name for path in stack.home.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        (["--datanodes", "3"], {}),
        (["--secure"], {}),
        ([], {"MODELHUB_STACK_PORTS": "29000"}),
        ([], {"MODELHUB_STACK_THRIFT_PORT": "29000"}),
    ],
)
def test_a_stack_is_not_turned_into_another_one(
    made: Stack, arguments: list[str], variables: dict[str, str]
) -> None:
    before = (made.home / "stack.json").read_bytes()
    done = made.run("up", *arguments, **variables)
    assert done.returncode == 1
    assert "wipe it first" in done.stderr
    assert (made.home / "stack.json").read_bytes() == before


def test_ports_follow_the_first_one_unless_they_are_named(stack: Stack) -> None:
    ports = {"MODELHUB_STACK_PORTS": "29000", "MODELHUB_STACK_THRIFT_PORT": "30000"}
    stack.run("up", "--datanodes", "3", **ports)
    rows = [line.split() for line in stack.run("status").stdout.splitlines()[1:]]
    assert {row[0]: int(row[2]) for row in rows} == {
        "namenode": 29000,
        "hbase": 29002,
        "thrift": 30000,
        "elasticsearch": 29006,
        "datanode-1": 29008,
        "datanode-2": 29011,
        "datanode-3": 29014,
    }


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make another user's folder")
def test_a_stack_of_another_user_is_not_touched(made: Stack) -> None:
    os.chown(made.home, 65534, 65534)
    for command in ("up", "status", "down", "wipe"):
        done = made.run(command)
        assert done.returncode == 1
        assert "belongs to another user" in done.stderr
