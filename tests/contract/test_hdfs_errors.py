"""What goes wrong with HDFS names the store, its address and a remedy, within the timeout."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hdfs_native import Client, WriteOptions

from modelhub.backends.remote import remote_files, remote_weights
from modelhub.backends.remote.silence import Silence
from modelhub.backends.remote.weights import RemoteWeights
from modelhub.content.pack import read_pack
from modelhub.errors import (
    AlreadyExists,
    Forbidden,
    InvalidInput,
    ModelhubError,
    NotFound,
    OutcomeUnknown,
    Unavailable,
)
from modelhub.stores import NoSpace
from tests.live.stack import LiveStack
from tests.live.stand_in import Answer, StandIn, serving
from tests.live.weights import (
    hdfs_weights,
    new_folder,
    over_http,
    remove_folder,
    s3_url,
    web_url,
    webhdfs_weights,
)

TIMEOUT_S = 3.0
SCHEMES = ["hdfs", "webhdfs"]


@pytest.fixture
def folder(stack: LiveStack) -> Iterator[str]:
    """A new folder of HDFS that everybody may write to."""
    path = new_folder()
    over_http(stack, "PUT", path, "MKDIRS", permission="777")
    yield path
    remove_folder(stack, path)


def opened(stack: LiveStack, scheme: str, folder: str, user: str = "root") -> RemoteWeights:
    """A store in a folder; of hdfs-native's, one user a process."""
    if scheme == "hdfs":
        return remote_weights(stack.hdfs_url + folder, timeout_s=20)
    return remote_weights(web_url(stack) + folder, user=user, timeout_s=20)


def write(store: RemoteWeights, path: str, data: bytes) -> None:
    writer = store.create(path)
    writer.write(data)
    writer.commit()


def refused(
    cls: type[ModelhubError], call: Callable[[], object], *words: str, within_s: float = TIMEOUT_S
) -> ModelhubError:
    """The error of ``call``, which has these words and a remedy and came soon enough."""
    begun = time.monotonic()
    with pytest.raises(cls) as caught:
        call()
    assert time.monotonic() - begun < within_s + 2
    assert all(word in caught.value.message for word in words), caught.value.message
    assert "\n" not in caught.value.message
    assert "\tat " not in caught.value.message
    assert caught.value.remedy.endswith(".")
    return caught.value


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("host", ["no-such-host.invalid:8020", "127.0.0.1:1"])
def test_a_server_that_is_not_there_is_named(scheme: str, host: str) -> None:
    with closing(remote_weights(f"{scheme}://{host}/models", timeout_s=TIMEOUT_S)) as store:
        refused(Unavailable, lambda: store.size("file"), f"//{host}", "does not answer")
        refused(Unavailable, lambda: store.create("file"), f"//{host}", "does not answer")
        refused(Unavailable, lambda: list(store.list("")), f"//{host}")
        refused(Unavailable, store.describe, f"//{host}")


def test_an_object_store_that_is_not_there_is_named() -> None:
    url = s3_url("models/folder", host="127.0.0.1:1")
    with closing(remote_weights(url, timeout_s=TIMEOUT_S)) as store:
        error = refused(Unavailable, lambda: store.size("file"), "s3://models/folder/file")
    assert "endpoint" in error.remedy
    assert "HDFS" not in error.message + error.remedy


def test_a_bucket_that_is_not_there_is_named() -> None:
    with closing(remote_weights(s3_url("none-of-ours/folder"), timeout_s=30)) as store:
        refused(NotFound, lambda: store.create("file"), "none-of-ours", within_s=30)


@pytest.mark.parametrize("scheme", [*SCHEMES, "s3"])
def test_a_server_that_keeps_silent_is_given_up_in_time(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        url = s3_url("models/x", host=host) if scheme == "s3" else f"{scheme}://{host}/x"
        with closing(remote_weights(url, timeout_s=TIMEOUT_S)) as store:
            refused(Unavailable, lambda: store.size("file"), "does not answer", "file")
            if scheme != "s3":
                refused(OutcomeUnknown, lambda: store.create("file"), "was lost", "file")


PACK = "0" * 32


@pytest.mark.parametrize("scheme", [*SCHEMES, "s3"])
def test_several_tries_of_a_server_that_keeps_silent_do_not_add_up(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        url = s3_url("models/x", host=host) if scheme == "s3" else f"{scheme}://{host}/x"
        with closing(remote_weights(url, timeout_s=TIMEOUT_S)) as store:
            begun = time.monotonic()
            with pytest.raises(Unavailable, match=f"{PACK} does not answer"):
                read_pack(store, PACK, 0, 1)
            assert time.monotonic() - begun < 3.5 * TIMEOUT_S  # four in full, on a busy machine
            assert time.monotonic() - begun > TIMEOUT_S, "the first one is waited for in full"


def test_a_datanode_that_keeps_silent_is_waited_for_as_long_as_a_name_node() -> None:
    """Four tries to write, each of which is sent on to a server that takes it and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent, serving(StandIn()) as namenode:
        place = f"http://127.0.0.1:{silent.getsockname()[1]}/data"
        namenode.answer = lambda _: Answer(307, headers={"Location": place})
        url = namenode.url.replace("http", "webhdfs", 1)
        with closing(remote_weights(f"{url}/x", timeout_s=TIMEOUT_S)) as store:
            begun = time.monotonic()
            for path in ("a", "b", "c", "d"):
                with pytest.raises(OutcomeUnknown, match="was lost"):
                    store.create(path)
            assert time.monotonic() - begun < 3.5 * TIMEOUT_S  # four in full, on a busy machine


def test_who_answers_again_is_given_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    silence, clock, given = Silence(8), [100.0], list[float]()
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def call(raises: type[Exception] | None = None) -> None:
        def takes(timeout_s: float) -> None:
            given.append(timeout_s)
            if raises is not None:
                raise raises

        with suppress(TimeoutError, KeyError):
            silence.waiting(takes, TimeoutError)

    for answer in (TimeoutError, TimeoutError, None, TimeoutError, KeyError, TimeoutError):
        call(answer)
    clock[0] += 7
    call(TimeoutError)
    clock[0] += 2
    call(TimeoutError)
    assert given == [8, 1, 1, 8, 1, 8, 1, 8]


def test_the_http_port_is_no_place_for_the_rpc_client(stack: LiveStack) -> None:
    host = urlsplit(stack.webhdfs_url).netloc
    with closing(remote_weights(f"hdfs://{host}/models", timeout_s=TIMEOUT_S)) as store:
        error = refused(Unavailable, lambda: store.size("file"), f"hdfs://{host}/models/file")
        assert "port" in error.remedy
        refused(Unavailable, lambda: store.create("file"), f"hdfs://{host}")


def test_the_port_of_a_datanode_is_told_from_a_name_nodes(stack: LiveStack, folder: str) -> None:
    over_http(stack, "PUT", f"{folder}/file", "CREATE", data=b"data")
    _, body = over_http(stack, "GET", f"{folder}/file", "GET_BLOCK_LOCATIONS")
    port = json.loads(body)["LocatedBlocks"]["locatedBlocks"][0]["locations"][0]["ipcPort"]
    with closing(remote_weights(f"hdfs://127.0.0.1:{port}/models", timeout_s=TIMEOUT_S)) as store:
        for call in (lambda: store.size("file"), lambda: store.create("file")):
            error = refused(Unavailable, call, f":{port}", "Unknown protocol")
            assert error.remedy == "Name the NameNode's RPC port, not a DataNode's."


def test_the_rpc_port_is_no_place_for_http(stack: LiveStack) -> None:
    host = urlsplit(stack.hdfs_url).netloc
    with closing(remote_weights(f"webhdfs://{host}/models", timeout_s=TIMEOUT_S)) as store:
        error = refused(Unavailable, lambda: store.size("file"), host, "404", "IPC port")
        assert "port" in error.remedy
        refused(Unavailable, lambda: store.create("file"), host, "hadoop.ipc")


def test_a_nameservice_that_no_configuration_knows_is_invalid() -> None:
    with closing(remote_weights("hdfs://nowhere/models")) as store:
        error = refused(InvalidInput, lambda: store.size("file"), "hdfs://nowhere")
        assert "HADOOP_CONF_DIR" in error.remedy


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_folder_of_somebody_else_is_forbidden(
    stack: LiveStack, scheme: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    over_http(stack, "PUT", f"{folder}/theirs", "MKDIRS", permission="700")
    over_http(stack, "PUT", f"{folder}/theirs/file", "CREATE", data=b"data")
    monkeypatch.setenv("HADOOP_USER_NAME", "mallory")
    with closing(opened(stack, scheme, folder, "mallory")) as store:
        for call in (
            lambda: store.create("theirs/new"),
            lambda: store.read("theirs/file", 0, 1),
            lambda: store.size("theirs/file"),
            lambda: list(store.list("theirs")),
            lambda: store.remove("theirs/file"),
        ):
            error = refused(Forbidden, call, folder, "user=mallory", within_s=20)
            assert "permission" in error.remedy
        write(store, "own", b"data")
        refused(Forbidden, lambda: store.move("own", "theirs/own"), folder, within_s=20)
    assert over_http(stack, "GET", f"{folder}/theirs/file", "OPEN") == (200, b"data")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_read_only_folder_is_read_and_not_written(
    stack: LiveStack, scheme: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    over_http(stack, "PUT", f"{folder}/file", "CREATE", data=b"data")
    over_http(stack, "PUT", folder, "SETPERMISSION", permission="555")
    monkeypatch.setenv("HADOOP_USER_NAME", "mallory")
    with closing(opened(stack, scheme, folder, "mallory")) as store:
        assert store.read("file", 0, 9) == b"data"
        refused(Forbidden, lambda: store.create("new"), f"{folder}/new", within_s=20)
        refused(Forbidden, lambda: store.move("file", "trash"), folder, within_s=20)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_name_quota_is_named_with_its_remedy(stack: LiveStack, scheme: str, folder: str) -> None:
    quota(stack, folder, names=2)  # the folder itself, and one more
    with closing(opened(stack, scheme, folder)) as store:
        write(store, "first", b"data")
        error = refused(NoSpace, lambda: store.create("second"), folder, "quota", within_s=20)
        assert "-setQuota" in error.remedy
        refused(Unavailable, lambda: store.move("first", "a/b"), folder, "quota", within_s=20)
        assert store.read("first", 0, 9) == b"data"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_space_quota_is_named_with_its_remedy(stack: LiveStack, scheme: str, folder: str) -> None:
    # HDFS counts a whole block for each copy while one is written.
    quota(stack, folder, space_bytes=1 << 20)
    with closing(opened(stack, scheme, folder)) as store:
        error = refused(
            NoSpace, lambda: write(store, "file", b"x" * 100_000), folder, "quota", within_s=20
        )
        assert "-setSpaceQuota" in error.remedy
        assert store.describe()["bytes"] == 0


def quota(stack: LiveStack, folder: str, *, names: int = -1, space_bytes: int = -1) -> None:
    """Limit a folder; -1 is no limit."""
    status, body = over_http(
        stack,
        "PUT",
        folder,
        "SETQUOTA",
        namespacequota=str(names),
        storagespacequota=str(space_bytes),
    )
    assert status == 200, body


@pytest.mark.parametrize("weights", [hdfs_weights, webhdfs_weights])
def test_a_file_whose_writer_died_is_short_and_stays_taken(
    stack: LiveStack, weights: Callable[[LiveStack], Iterator[object]]
) -> None:
    folder = new_folder()
    client = Client(stack.hdfs_url)
    options = WriteOptions(block_size=1 << 20, replication=1)
    lost = client.create(f"{folder}/lost", options)
    lost.write(b"x" * (2 << 20))
    lost.write(b"y" * 1000)  # begins a third block
    scheme = "hdfs" if weights is hdfs_weights else "webhdfs"
    with closing(opened(stack, scheme, folder)) as store:
        assert store.size("lost") == 2 << 20  # the blocks that are complete
        assert len(store.read("lost", 0, 10 << 20)) in {2 << 20, (2 << 20) + 1000}
        with pytest.raises(AlreadyExists):
            store.create("lost")
        store.remove("lost")
        assert store.size("lost") is None
    remove_folder(stack, folder)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_file_that_is_removed_while_it_is_written_is_not_committed(
    stack: LiveStack, scheme: str, folder: str
) -> None:
    with closing(opened(stack, scheme, folder)) as store:
        writer = store.create("file")
        writer.write(b"x" * 1000)
        store.remove("file")
        # Where bytes were on their way to a DataNode, the connection may break without an answer.
        with pytest.raises((Unavailable, OutcomeUnknown), match=f"{folder}/file"):
            writer.commit()
        assert store.size("file") is None


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_name_that_hdfs_refuses_is_invalid(stack: LiveStack, scheme: str, folder: str) -> None:
    address = stack.hdfs_url if scheme == "hdfs" else web_url(stack)
    user = None if scheme == "hdfs" else "root"
    with closing(remote_files(address + folder, user=user)) as files:
        refused(InvalidInput, lambda: files.create("a:b"), "a:b", within_s=20)


@pytest.mark.parametrize("scheme", [*SCHEMES, "file"])
def test_a_name_that_is_too_long_is_invalid_and_shown_short(
    stack: LiveStack, scheme: str, folder: str, tmp_path: Path
) -> None:
    addresses = {"hdfs": stack.hdfs_url + folder, "webhdfs": web_url(stack) + folder}
    user = "root" if scheme == "webhdfs" else None
    url = addresses.get(scheme, tmp_path.as_uri())
    with closing(remote_files(url, user=user)) as files:
        error = refused(InvalidInput, lambda: files.create("a" * 300), "300 characters")
        assert len(error.message) < 600
        assert "a" * 150 not in error.message
        assert "shorter" in error.remedy


def test_a_replication_beyond_the_limit_is_invalid(stack: LiveStack, folder: str) -> None:
    with closing(remote_weights(stack.hdfs_url + folder, replication=513)) as store:
        refused(InvalidInput, lambda: store.create("file"), "513", within_s=20)


def test_the_description_says_what_is_held_and_free(stack: LiveStack, folder: str) -> None:
    quota(stack, folder, space_bytes=1 << 40)
    with closing(opened(stack, "hdfs", folder)) as store:
        assert store.describe()["free_bytes"] == 1 << 40
    _, body = over_http(stack, "GET", "/", "GETSTATUS")
    with closing(opened(stack, "webhdfs", folder)) as store:
        free = store.describe()["free_bytes"]
    assert abs(free - json.loads(body)["FsStatus"]["remaining"]) < 64 << 30
