"""Where a stack lives, on which ports, and what belongs to it."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

HOST = "127.0.0.1"
PREFIX = "MODELHUB_STACK_"

# Where the servers' own configuration comes from.
SOURCES = Path(__file__).resolve().parents[1]

_PORTS = (
    "namenode",
    "webhdfs",
    "hbase",
    "hbase-region",
    "zookeeper",
    "thrift",
    "elasticsearch",
    "elasticsearch-transport",
)
_FIRST_PORT = 28000  # below the range from which Linux gives out ports of its own accord
_RECORD = "stack.json"


class StackError(Exception):
    """The stack can't be what was asked; the message says why and what to do."""


@dataclass(frozen=True)
class Settings:
    """One stack. What is fixed when it is made stands in ``stack.json`` in its folder."""

    home: Path
    datanodes: int
    secure: bool
    ports: Mapping[str, int]

    def record(self) -> None:
        """Make the folder and write these settings there, which marks it as made by us.

        Raises:
            StackError: the folder has files in it and no such mark.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        if recorded(self.home) is None and any(self.home.iterdir()):
            raise StackError(
                f"{self.home} is not empty and was not made by this command; "
                f"name another folder in {PREFIX}HOME"
            )
        # Elasticsearch runs under another user here, and must be able to pass.
        self.home.chmod(0o711)
        fields = {**asdict(self), "home": str(self.home)}
        write_whole(self.home / _RECORD, json.dumps(fields, indent=2) + "\n")


def home_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder for the stack's data, logs and process ids."""
    named = environ.get(PREFIX + "HOME") or f"/var/tmp/modelhub-stack-{os.getuid()}"  # noqa: S108
    return Path(named).expanduser().resolve()


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder for what was downloaded, which every stack of this user shares."""
    caches = environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(caches).expanduser() / "modelhub" / "stack"


def wait_limit_s(environ: Mapping[str, str] = os.environ) -> int:
    """How long a server may take to answer after its start, in seconds.

    Raises:
        StackError: the environment says something that is not a number.
    """
    return _number("WAIT_S", 240, environ)


def recorded(home: Path) -> Settings | None:
    """The stack that was made in folder ``home``, if any.

    Raises:
        StackError: the folder is another user's, who could make us end any process.
    """
    try:
        owner = home.stat().st_uid
        fields = json.loads((home / _RECORD).read_text())
    except FileNotFoundError:
        return None
    if owner != os.getuid():
        raise StackError(f"{home} belongs to another user; name another folder in {PREFIX}HOME")
    return Settings(**{**fields, "home": home})


def requested(
    *, datanodes: int | None, secure: bool, environ: Mapping[str, str] = os.environ
) -> Settings:
    """The stack that is asked for: what stands already, or else what the arguments say.

    Raises:
        StackError: the folder holds a stack that was made otherwise, or a port is no number.
    """
    home = home_folder(environ)
    made = recorded(home)
    if made is None:
        count = datanodes or 1
        return Settings(home, count, secure, _ports(count, environ))
    ports = _ports(made.datanodes, environ) if _names_ports(environ) else made.ports
    if (datanodes or made.datanodes, secure or made.secure, ports) != (
        made.datanodes,
        made.secure,
        made.ports,
    ):
        raise StackError(
            f"{home} holds a stack with {made.datanodes} DataNode(s), "
            f"{'with' if made.secure else 'without'} --secure, on ports from "
            f"{min(made.ports.values())}; wipe it first, or make another stack beside it with "
            f"{PREFIX}HOME and {PREFIX}PORTS"
        )
    return made


def _names_ports(environ: Mapping[str, str]) -> bool:
    return any(key.startswith(PREFIX) and "PORT" in key for key in environ)


def _ports(datanodes: int, environ: Mapping[str, str]) -> dict[str, int]:
    names = [*_PORTS]
    for number in range(1, datanodes + 1):
        names += [f"datanode-{number}", f"datanode-{number}-http", f"datanode-{number}-ipc"]
    first = _number("PORTS", _FIRST_PORT, environ)
    return {
        name: _number(port_variable(name), first + at, environ) for at, name in enumerate(names)
    }


def port_variable(name: str) -> str:
    """The variable of the environment for the port ``name``, without its prefix."""
    return f"{name.upper().replace('-', '_')}_PORT"


def _number(variable: str, default: int, environ: Mapping[str, str]) -> int:
    said = environ.get(PREFIX + variable)
    try:
        return int(said) if said else default
    except ValueError as exc:
        raise StackError(f"{PREFIX}{variable}={said} is not a number") from exc


def write_whole(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Write ``path`` so that a reader sees the old text or the new one, never a part."""
    beside = path.with_name(f"{path.name}.{threading.get_native_id()}")
    beside.touch(mode)
    beside.chmod(mode)
    beside.write_text(text)
    beside.replace(path)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder against every other command; it is free again when the holder ends."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def say(what: str) -> None:
    """Tell the person at the keyboard."""
    print(what, file=sys.stderr, flush=True)
