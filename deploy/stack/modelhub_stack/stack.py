"""All servers of a stack together: which need which, and the profile that names them."""

from __future__ import annotations

import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from modelhub_stack import artifacts, elasticsearch, hbase, hdfs
from modelhub_stack.servers import Server
from modelhub_stack.settings import HOST, Settings, StackError, write_whole


def servers(settings: Settings) -> list[Server]:
    """The servers of a stack, each after those that it needs."""
    return [*_files(settings), *_rows(settings), elasticsearch.elasticsearch(settings)]


def up(settings: Settings) -> Path:
    """Start what doesn't run, wait until all of it answers, and return the profile's file.

    Raises:
        StackError: not all of it does; the message has a part for each that does not.
    """
    settings.record()
    files, rows = _files(settings), _rows(settings)
    search = elasticsearch.elasticsearch(settings)
    with ThreadPoolExecutor(max_workers=len(files) + len(rows) + 3) as pool:
        hdfs_jars = pool.submit(artifacts.jars, "hdfs")
        hbase_jars = pool.submit(artifacts.jars, "hbase")
        starts = [pool.submit(_start, server, hdfs_jars) for server in files]
        needed: list[Future[Any]] = [hbase_jars, *starts]
        starts += [pool.submit(_start, server, *needed) for server in rows]
        starts.append(pool.submit(_start, search))
        failures = [start.exception() for start in starts]
    for failure in failures:
        if failure is not None and not isinstance(failure, StackError):
            raise failure
    if any(failures):
        # What several servers need and don't have is the same message for each of them.
        raise StackError("\n".join(dict.fromkeys(str(failure) for failure in failures if failure)))
    return _write_profile(settings)


def down(settings: Settings) -> None:
    """End all servers, each before those that it needs."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        search = pool.submit(elasticsearch.elasticsearch(settings).stop)
        for server in reversed([*_files(settings), *_rows(settings)]):
            server.stop()
        search.result()


def wipe(settings: Settings) -> None:
    """End all servers and delete the stack's folder with all that is in it."""
    down(settings)
    shutil.rmtree(settings.home)


def _start(server: Server, *needs: Future[Any]) -> None:
    for need in needs:
        need.result()
    server.start()


def _files(settings: Settings) -> list[Server]:
    return [hdfs.namenode(settings), *hdfs.datanodes(settings)]


def _rows(settings: Settings) -> list[Server]:
    return [hbase.hbase(settings), hbase.thrift(settings)]


def _write_profile(settings: Settings) -> Path:
    ports = settings.ports
    scheme = "https" if settings.secure else "http"
    lines = [
        "[profile.stack]",
        f'weights = "hdfs://{HOST}:{ports["namenode"]}/modelhub"',
        f'rows = "hbase://{HOST}:{ports["thrift"]}"',
        f'search = "{scheme}://{HOST}:{ports["elasticsearch"]}"',
    ]
    if settings.secure:
        lines += [
            f'search_ca = "{elasticsearch.authority(settings)}"',
            f'search_user = "{elasticsearch.USER}"',
            f'search_password = "{elasticsearch.password(settings)}"',
        ]
    path = settings.home / "modelhub.toml"
    write_whole(path, "\n".join(lines) + "\n", mode=0o600)
    return path
