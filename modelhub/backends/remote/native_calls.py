"""Calls of hdfs-native: within a deadline, and with what their errors mean."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from modelhub.backends.remote.files import absent
from modelhub.backends.remote.hadoop import given_up, lost, unreachable
from modelhub.backends.remote.native_errors import reason, translated
from modelhub.backends.remote.processes import DeadlinePassedError, Forks, PerProcess, Threads
from modelhub.backends.remote.silence import Silence
from modelhub.backends.remote.wording import place
from modelhub.errors import InvalidInput, NotInstalled, Unavailable

if TYPE_CHECKING:
    from hdfs_native import Client
    from hdfs_native import FileReader as Reader

T = TypeVar("T")

_CACHED_S = 3.5
"""For three seconds the driver keeps a DataNode's connection, in a cache that a fork duplicates."""


class _LastRead:
    """When this process, or the one that it was forked from, last read from a DataNode."""

    at = -_CACHED_S


class NativeCalls:
    """One user's calls to one HDFS, made in threads: the driver has no deadline for silence.

    Args:
        server: the NameNode's URL, or a nameservice's.
        address: what errors name: the URL of the folder.
        config: the driver's own settings.
        timeout_s: how long a NameNode, and apart from it the DataNodes, may keep silent.

    Raises:
        NotInstalled: the driver is missing.
    """

    def __init__(
        self, server: str, address: str, config: Mapping[str, str], *, timeout_s: float
    ) -> None:
        self._server = server
        self._address = address
        self._config = dict(config)
        self._timeout_s = timeout_s
        self._names = Silence(timeout_s)
        self._data = Silence(timeout_s)
        self._answered = False
        try:
            import hdfs_native
        except ImportError as exc:
            raise NotInstalled(
                f"{self._server} needs the package hdfs-native",
                remedy="pip install 'modelhub[hdfs]'",
            ) from exc
        self.driver = hdfs_native
        self._clients = PerProcess(self._connect)
        self._threads = PerProcess(Threads)

    def ask(self, path: str, call: Callable[[Client], T]) -> T:
        """Run a call to a NameNode that changes nothing."""
        return self._ask(self._names, path, call)

    def open_reader(self, path: str, full: str) -> Reader:
        """What reads the file at ``full``."""
        _wait_for_cache()
        return self.ask(path, lambda client: client.read(full))

    def read_range(self, path: str, reader: Reader, offset: int, length: int) -> bytes:
        """Exactly this range; beyond the file's end the driver panics."""
        data = self._ask(self._data, path, lambda _: reader.read_range(offset, length))
        _LastRead.at = time.monotonic()
        return data

    def change(self, path: str, call: Callable[[Client], T], *, target: str | None = None) -> T:
        """Run a call that changes names.

        Args:
            path: what it is about.
            call: what is done with the driver's client.
            target: what is in the way where something is, if that is not ``path``.
        """
        client = self._clients.get()
        try:
            result = self._run(self._names, lambda: call(client))
        except DeadlinePassedError as exc:
            self._clients.forget()
            raise lost(self.where(path), str(exc)) from exc
        except FileExistsError as exc:
            at = path if target is None else target
            raise translated(exc, self.where(at), writes=True) from exc
        except FileNotFoundError as exc:
            raise absent(self.where(path)) from exc
        except OSError as exc:
            # Its first try may have been sent over a connection that then broke.
            if self._answered:
                raise lost(self.where(path), reason(exc)) from exc
            raise unreachable(self._server, reason(exc)) from exc
        except BaseException as exc:
            at = path if target is None else target
            raise translated(exc, self.where(at), writes=True) from exc
        self._answered = True
        return result

    def append(self, path: str, call: Callable[[], object]) -> None:
        """Run the step of a writer that sends bytes.

        Raises:
            Unavailable: it did not succeed; nothing refers to the file, and nothing ever will.
        """
        try:
            self._run(self._data, call)
        except DeadlinePassedError as exc:
            raise self._silent(path, exc) from exc
        except BaseException as exc:
            raise given_up(translated(exc, self.where(path), writes=True)) from exc

    def complete(self, path: str, call: Callable[[], object]) -> None:
        """Run the step of a writer that makes the file complete."""
        try:
            self._run(self._data, call)
        except DeadlinePassedError as exc:
            raise lost(self.where(path), str(exc)) from exc
        except FileNotFoundError as exc:
            raise given_up(translated(exc, self.where(path), writes=True)) from exc
        except OSError as exc:
            raise lost(self.where(path), reason(exc)) from exc
        except BaseException as exc:
            raise given_up(translated(exc, self.where(path), writes=True)) from exc

    def close(self) -> None:
        """Let go of the client, and with it of its connections, and of the threads."""
        self._clients.forget()
        threads = self._threads.forget()
        if threads is not None:
            threads.close()

    def where(self, path: str) -> str:
        """What an error about ``path`` names."""
        return place(self._address, path)

    def _connect(self) -> Client:
        try:
            return self.driver.Client(self._server, self._config)
        except Exception as exc:
            raise InvalidInput(
                f"{self._server} names no NameNode: {reason(exc)}",
                remedy="Name HOST:PORT, or set HADOOP_CONF_DIR to a configuration that knows this "
                "nameservice.",
            ) from exc

    def _ask(self, server: Silence, path: str, call: Callable[[Client], T]) -> T:
        client = self._clients.get()
        try:
            result = self._run(server, lambda: call(client))
        except DeadlinePassedError as exc:
            self._clients.forget()
            raise self._silent(path, exc) from exc
        except BaseException as exc:
            raise translated(exc, self.where(path), writes=False) from exc
        self._answered = True
        return result

    def _run(self, server: Silence, call: Callable[[], T]) -> T:
        threads = self._threads.get()
        return server.waiting(lambda timeout_s: threads.run(call, timeout_s), DeadlinePassedError)

    def _silent(self, path: str, exc: DeadlinePassedError) -> Unavailable:
        return unreachable(self.where(path), str(exc))


def _wait_for_cache() -> None:
    """In a forked child, wait until no connection of its parent's is in the driver's cache.

    Bytes that the one asked for would otherwise be read by the other.
    """
    if Forks.at is not None and Forks.at - _LastRead.at < _CACHED_S:
        time.sleep(max(0.0, Forks.at + _CACHED_S - time.monotonic()))
