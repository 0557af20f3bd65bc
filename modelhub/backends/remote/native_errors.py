"""The errors of hdfs-native, which are few classes and many texts."""

from __future__ import annotations

import re

from modelhub.backends.remote.files import absent, taken
from modelhub.backends.remote.hadoop import hadoop_error, unreachable
from modelhub.errors import Forbidden, ModelhubError, Unavailable

_RPC_ERROR = re.compile(r'(?:Fatal)?RPCError\("([^"]*)", "(.*)"\)', re.DOTALL)
_LOGIN_ERRORS = ("SASLError", "GSSAPIError", "NoSASLMechanism")


def translated(exc: BaseException, where: str, *, writes: bool) -> BaseException:
    """The error for an exception of the driver; any other is left as it is."""
    said = reason(exc)
    refused = _RPC_ERROR.match(str(exc))
    if isinstance(exc, FileNotFoundError):
        return absent(where)
    if isinstance(exc, FileExistsError):
        return taken(where)
    if isinstance(exc, OSError):
        return unreachable(where, said)
    if refused:
        text = refused[2].replace("\\n", "\n").replace('\\"', '"')
        return hadoop_error(refused[1], text, where, writes=writes)
    return _driver_error(where, said) if _is_drivers_own(exc) else exc


def _driver_error(where: str, said: str) -> ModelhubError:
    if said.startswith(_LOGIN_ERRORS):
        return Forbidden(f"{where}: {said}", remedy="Log in with `kinit`, then repeat.")
    return Unavailable(
        f"{where}: {said}", remedy="Check the DataNodes (`hdfs dfsadmin -report`), then repeat."
    )


def _is_drivers_own(exc: BaseException) -> bool:
    """Whether an exception is one that the driver raises; a panic in Rust is not an Exception."""
    return isinstance(exc, Exception) or type(exc).__name__ == "PanicException"


def reason(exc: BaseException) -> str:
    """What it says, without the trace of the server."""
    return str(exc).partition("\n")[0].partition("\\n")[0][:300] or type(exc).__name__
