"""HDFS and S3 for the contract of weights: a folder of its own for each test."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from functools import cache
from http.client import HTTPConnection
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, urlsplit

from hdfs_native import Client, WriteOptions
from moto.server import ThreadedMotoServer

from modelhub.backends.remote import remote_weights
from modelhub.backends.remote.weights import RemoteWeights
from modelhub.testing.contracts import WeightBackend

BUCKET = "models"
NO_HEADERS: Mapping[str, str] = {}
S3_LOGIN = {"Authorization": "AWS key:secret"}


class HdfsStack(Protocol):
    """Where an HDFS is."""

    @property
    def hdfs_url(self) -> str: ...
    @property
    def webhdfs_url(self) -> str: ...


def hdfs_weights(stack: HdfsStack) -> Iterator[WeightBackend]:
    """HDFS by its own protocol, looked into over HTTP."""
    folder = new_folder()

    def raw_get(path: str) -> bytes | None:
        status, body = over_http(stack, "GET", f"{folder}/{path}", "OPEN")
        return None if status == 404 else body

    def raw_set(path: str, data: bytes) -> None:
        status, body = over_http(stack, "PUT", f"{folder}/{path}", "CREATE", data=data)
        assert status == 201, body

    yield WeightBackend(
        open=lambda: remote_weights(stack.hdfs_url + folder), raw_get=raw_get, raw_set=raw_set
    )
    remove_folder(stack, folder)


def webhdfs_weights(stack: HdfsStack) -> Iterator[WeightBackend]:
    """HDFS over HTTP, looked into by its own protocol."""
    folder = new_folder()
    client = Client(stack.hdfs_url)

    def raw_get(path: str) -> bytes | None:
        try:
            return client.read(f"{folder}/{path}").read()
        except FileNotFoundError:
            return None

    def raw_set(path: str, data: bytes) -> None:
        file = client.create(f"{folder}/{path}", WriteOptions(overwrite=False))
        file.write(data)
        file.close()

    def open_store() -> RemoteWeights:
        return remote_weights(web_url(stack) + folder, user="root")

    yield WeightBackend(open=open_store, raw_get=raw_get, raw_set=raw_set)
    remove_folder(stack, folder)


def s3_weights() -> Iterator[WeightBackend]:
    """S3 of a moto server in this process, looked into by plain HTTP."""
    host = moto_server()
    folder = f"/{BUCKET}{new_folder()}"

    def raw_get(path: str) -> bytes | None:
        status, body = request(host, "GET", f"{folder}/{path}", headers=S3_LOGIN)
        return None if status == 404 else body

    def raw_set(path: str, data: bytes) -> None:
        status, body = request(host, "PUT", f"{folder}/{path}", data, headers=S3_LOGIN)
        assert status == 200, body

    yield WeightBackend(
        open=lambda: remote_weights(s3_url(folder)), raw_get=raw_get, raw_set=raw_set
    )


def arrow_file_weights(folder: Path) -> Iterator[WeightBackend]:
    """A local folder as pyarrow sees it."""
    root = folder / "arrow weights"

    def raw_get(path: str) -> bytes | None:
        return (root / path).read_bytes() if (root / path).exists() else None

    def raw_set(path: str, data: bytes) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)

    yield WeightBackend(
        open=lambda: remote_weights(root.as_uri()), raw_get=raw_get, raw_set=raw_set
    )


def new_folder() -> str:
    """A folder of HDFS, or of a bucket, that is not there yet."""
    return f"/tests/weights/{secrets.token_hex(8)}"


def web_url(stack: HdfsStack) -> str:
    """The address of WebHDFS with its own scheme."""
    return stack.webhdfs_url.replace("http", "webhdfs", 1)


def over_http(
    stack: HdfsStack, method: str, path: str, op: str, *, data: bytes = b"", **params: str
) -> tuple[int, bytes]:
    """One call of WebHDFS as root, past the driver: status and body."""
    query = "".join(f"&{key}={quote(value)}" for key, value in params.items())
    host = urlsplit(stack.webhdfs_url).netloc
    target = f"/webhdfs/v1{quote(path)}?op={op}&user.name=root{query}"
    return request(host, method, target, data)


def remove_folder(stack: HdfsStack, path: str) -> None:
    """Remove a folder of HDFS with all that is in it."""
    status, body = over_http(stack, "DELETE", path, "DELETE", recursive="true")
    assert status == 200, body
    assert "boolean" in json.loads(body)


def request(
    host: str,
    method: str,
    target: str,
    data: bytes = b"",
    *,
    headers: Mapping[str, str] = NO_HEADERS,
) -> tuple[int, bytes]:
    """One HTTP request; what the answer redirects to gets the data."""
    connection = HTTPConnection(host, timeout=60)
    try:
        connection.request(method, target, data, dict(headers))
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status != 307:
        return answer.status, body
    place = urlsplit(answer.headers["Location"])
    return request(place.netloc, method, f"{place.path}?{place.query}", data)


@cache
def moto_server() -> str:
    """The one S3 server of this process, with a bucket: its host and port."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    address, port = server.get_host_and_port()
    host = f"{address}:{port}"
    status, body = request(host, "PUT", f"/{BUCKET}", headers=S3_LOGIN)
    assert status == 200, body
    return host


def s3_url(folder: str, *, host: str | None = None) -> str:
    """The URL of a folder, bucket first, on moto's server or another one."""
    return (
        f"s3://key:secret@{folder.strip('/')}?scheme=http&region=us-east-1"
        f"&endpoint_override={quote(host or moto_server())}"
    )
