"""The errors of pyarrow's file systems, which are built-in classes and many texts."""

from __future__ import annotations

import errno
import re
from pathlib import Path

from modelhub.backends.filesystem import io_error
from modelhub.backends.remote.files import absent, taken
from modelhub.backends.remote.hadoop import lost
from modelhub.backends.remote.hadoop import unreachable as hdfs_unreachable
from modelhub.backends.remote.wording import brief
from modelhub.errors import Forbidden, InvalidInput, ModelhubError, NotFound, Unavailable

_REFUSED = re.compile(
    r"ACCESS_DENIED|AccessDenied|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|HTTP status 40[13]"
    r"|Permission denied"
)
_NO_BUCKET = re.compile(r"NO_SUCH_BUCKET|NoSuchBucket|Bucket '[^']*' (?:not found|does not exist)")


def translated(exc: Exception, where: str, *, writes: bool) -> ModelhubError:
    """The error for what pyarrow raised about ``where``.

    Args:
        exc: an ``OSError``, or one of Arrow's own.
        where: the address and path.
        writes: whether it may have changed something.
    """
    said = reason(exc)
    if _NO_BUCKET.search(said):
        return NotFound(f"{where}: {said}", remedy="Make the bucket first, or name another.")
    if isinstance(exc, FileNotFoundError) or "is a directory" in said:
        return absent(where)
    if isinstance(exc, NotADirectoryError | FileExistsError):
        return taken(where) if writes else absent(where)
    if _REFUSED.search(said):
        return Forbidden(
            f"{where}: {said}",
            remedy="Check the credentials, and that they may read and write there.",
        )
    if isinstance(exc, OSError) and exc.errno is not None:
        return _from_disk(exc.errno, where, said)
    return lost(where, said) if writes else unreachable(where, said)


def _from_disk(number: int, where: str, said: str) -> ModelhubError:
    if number == errno.ENAMETOOLONG:
        return InvalidInput(f"{where}: the name is too long", remedy="Use a shorter name.")
    return io_error(OSError(number, said), Path(where))


def unreachable(where: str, said: str) -> Unavailable:
    """The error for a file system that did not answer a call that changes nothing."""
    if where.startswith("arrow+hdfs:"):
        return hdfs_unreachable(where, said)
    return Unavailable(
        f"{where} does not answer: {said}",
        remedy="Check the URL's endpoint and region, the proxy and the network, then repeat.",
    )


def reason(exc: BaseException) -> str:
    """What it says, fit for one line."""
    return brief(str(exc).partition("\n")[0]) or type(exc).__name__
