"""HDFS that is in no state to take anything: a server of its own, which the tests may break."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modelhub.backends.remote import remote_weights
from modelhub.backends.remote.weights import RemoteWeights
from modelhub.errors import ModelhubError, OutcomeUnknown, Unavailable
from modelhub.stores import NoSpace
from tests.live.stack import DEPLOY, LiveStack

if TYPE_CHECKING:
    from modelhub_stack.servers import Launch, Server

SCHEMES = ["hdfs", "webhdfs"]
NAMES = ["namenode", "webhdfs", "datanode-1", "datanode-1-http", "datanode-1-ipc"]
ALL_RESERVED = ["-D", f"dfs.datanode.du.reserved={1 << 60}"]


@dataclass(frozen=True)
class SmallHdfs:
    """A NameNode and a DataNode."""

    home: Path
    ports: dict[str, int]
    namenode: Server
    datanode: Server

    def open(self, scheme: str, *, timeout_s: float = 20) -> RemoteWeights:
        port = self.ports["namenode" if scheme == "hdfs" else "webhdfs"]
        user = None if scheme == "hdfs" else "root"
        return remote_weights(f"{scheme}://127.0.0.1:{port}/models", user=user, timeout_s=timeout_s)

    def admin(self, *arguments: str) -> None:
        """Hadoop's own ``hdfs dfsadmin``."""
        subprocess.run(
            [DEPLOY / "stack" / "hdfs", "dfsadmin", *arguments],
            env={"MODELHUB_STACK_HOME": str(self.home), "PATH": "/usr/bin:/bin"},
            check=True,
            capture_output=True,
        )


@pytest.fixture(scope="module")
def small(_servers: LiveStack | Exception) -> Iterator[SmallHdfs]:
    if not isinstance(_servers, LiveStack) or not (DEPLOY / "stack").exists():
        pytest.skip("there are no servers to make another one like")
    sys.path.append(str(DEPLOY / "stack"))
    from modelhub_stack import hdfs
    from modelhub_stack.settings import Settings

    home = Path(tempfile.mkdtemp(prefix="modelhub-hdfs-"))
    settings = Settings(home, 1, False, free_ports())
    settings.record()
    (datanode,) = hdfs.datanodes(settings)
    made = SmallHdfs(home, dict(settings.ports), hdfs.namenode(settings), datanode)
    with ExitStack() as ended:
        ended.callback(shutil.rmtree, home, ignore_errors=True)
        for server in (made.namenode, made.datanode):
            server.spawn()
            ended.callback(server.kill)
        for server in (made.namenode, made.datanode):
            server.wait_ready()
        yield made


def free_ports() -> dict[str, int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in NAMES]
        return {name: held.getsockname()[1] for name, held in zip(NAMES, sockets, strict=True)}


def write(store: RemoteWeights, path: str) -> None:
    writer = store.create(path)
    writer.write(b"x" * 100_000)
    writer.commit()


def refusal(store: RemoteWeights, path: str, *cls: type[ModelhubError]) -> ModelhubError:
    with pytest.raises(cls) as caught:
        write(store, path)
    assert "127.0.0.1" in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.remedy.endswith(".")
    return caught.value


def test_safe_mode_is_named_and_reading_goes_on(small: SmallHdfs) -> None:
    for scheme in SCHEMES:
        with closing(small.open(scheme)) as store:
            write(store, f"{scheme}-before")
    small.admin("-safemode", "enter")
    for scheme in SCHEMES:
        with closing(small.open(scheme)) as store:
            error = refusal(store, "file", Unavailable)
            assert "safe mode" in error.message
            assert "safemode" in error.remedy
            assert store.read(f"{scheme}-before", 0, 5) == b"xxxxx"
            with pytest.raises(Unavailable, match="safe mode"):
                store.move(f"{scheme}-before", "trash/file")
            with pytest.raises(Unavailable, match="safe mode"):
                store.remove(f"{scheme}-before")
    small.admin("-safemode", "leave")


def test_a_name_node_that_comes_back_is_found_again(small: SmallHdfs) -> None:
    with closing(small.open("hdfs")) as native, closing(small.open("webhdfs")) as web:
        for store in (native, web):
            assert store.size("again") is None
        small.namenode.kill()
        for store in (native, web):
            with pytest.raises(Unavailable, match="does not answer"):
                store.size("again")
        # The driver repeats what it sent over a connection that broke, so nobody knows.
        refusal(native, "again", OutcomeUnknown)
        refusal(web, "again", Unavailable)
        small.namenode.start()
        for store in (native, web):
            assert store.size("again") is None
    # Until its DataNode has told of its blocks the NameNode lets nobody write.
    small.admin("-safemode", "wait")


def test_a_data_node_that_died_is_not_waited_for(small: SmallHdfs) -> None:
    # The driver itself looks for another copy of a block for 15 seconds.
    with (
        closing(small.open("hdfs", timeout_s=5)) as native,
        closing(small.open("webhdfs", timeout_s=5)) as web,
    ):
        write(native, "kept")
        small.datanode.kill()
        for store in (native, web):
            refusal(store, f"lost-{store is web}", Unavailable, OutcomeUnknown)
            with pytest.raises(Unavailable, match=r"127\.0\.0\.1"):
                store.read("kept", 0, 10)
        small.datanode.start()
        for store in (native, web):
            assert store.read("kept", 0, 5) == b"xxxxx"
            write(store, f"anew-{store is web}")


def test_full_data_nodes_are_named(small: SmallHdfs) -> None:
    """A DataNode that keeps all its disk for others has no room, as if it were full."""
    small.datanode.stop()
    full = type(small.datanode)(
        small.datanode.name,
        small.datanode.settings,
        lambda: with_options(small.datanode.prepare(), ALL_RESERVED),
        small.datanode.check,
    )
    full.start()
    for scheme in SCHEMES:
        with closing(small.open(scheme)) as store:
            # Over HTTP a NameNode does not say whether they are full or away.
            error = refusal(store, f"{scheme}-full", NoSpace if scheme == "hdfs" else Unavailable)
            assert "full" in error.message
            assert "space" in error.remedy
    full.stop()


def with_options(launch: Launch, options: list[str]) -> Launch:
    return type(launch)([*launch.command, *options], launch.folder, launch.environ)
