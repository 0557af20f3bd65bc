"""Weights, and plain files, on HDFS and every other file system that has a URL.

Drivers are imported when a store that needs them is opened.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from modelhub.backends.remote.files import Files
from modelhub.backends.remote.weights import RemoteWeights
from modelhub.errors import InvalidInput
from modelhub.names import shown

ARROW_SCHEMES = frozenset({"abfs", "abfss", "arrow+hdfs", "file", "gcs", "gs", "s3"})
"""What pyarrow opens; ``arrow+hdfs`` is its own HDFS client, which needs Java and libhdfs."""

_TIMEOUT_S = 60.0


def remote_weights(
    url: str,
    *,
    user: str | None = None,
    replication: int | None = None,
    permission: str | None = None,
    timeout_s: float = _TIMEOUT_S,
) -> RemoteWeights:
    """The weight store in a folder that a URL names; see ``remote_files``."""
    return RemoteWeights(
        remote_files(
            url,
            user=user,
            replication=replication,
            permission=permission,
            timeout_s=timeout_s,
        )
    )


def remote_files(
    url: str,
    *,
    user: str | None = None,
    replication: int | None = None,
    permission: str | None = None,
    timeout_s: float = _TIMEOUT_S,
) -> Files:
    """The files below the folder that a URL names; nothing is asked of the server yet.

    Args:
        url: ``hdfs://HOST:PORT/FOLDER`` or ``hdfs://NAMESERVICE/FOLDER``, ``webhdfs://`` or
            ``swebhdfs://`` (HTTPS), or one of pyarrow's (``ARROW_SCHEMES``). Percent-encoded where
            a folder's name needs it.
        user: whom to act as where the server takes the client's word for it.
        replication: copies of each block of HDFS; by default what the server says.
        permission: octal, of new folders; new files get the same without execution.
        timeout_s: how long the server may keep silent; a large transfer may take longer.

    Raises:
        InvalidInput: the URL is of another kind, or an option does not apply to its kind.
        NotInstalled: the package that drives it is missing.
    """
    parts = urlsplit(url)
    scheme = parts.scheme
    if scheme in {"hdfs", "webhdfs", "swebhdfs"} and (parts.query or parts.fragment):
        raise InvalidInput(
            f"{shown(url)} has a part behind '?' or '#', which no folder has",
            remedy="Write %3F and %23 where a folder's name has these signs.",
        )
    if scheme == "hdfs":
        from modelhub.backends.remote.native import NativeFiles

        return NativeFiles(
            url,
            user=user,
            replication=replication,
            permission=permission,
            timeout_s=timeout_s,
        )
    if scheme in {"webhdfs", "swebhdfs"}:
        from modelhub.backends.remote.webhdfs import WebFiles

        return WebFiles(
            url,
            user=user,
            replication=replication,
            permission=permission,
            timeout_s=timeout_s,
        )
    if scheme in ARROW_SCHEMES:
        from modelhub.backends.remote.arrow import ArrowFiles

        if permission is not None:
            raise InvalidInput(
                f"{shown(url)} takes no permission for what is written",
                remedy="Leave the permission out; set it where the store keeps its own rules.",
            )
        return ArrowFiles(url, user=user, replication=replication, timeout_s=timeout_s)
    known = ", ".join(sorted({"hdfs", "swebhdfs", "webhdfs", *ARROW_SCHEMES}))
    raise InvalidInput(
        f"{shown(url)} is not the URL of a file system that this release opens",
        remedy=f"Use one of {known}, such as hdfs://HOST:PORT/FOLDER.",
    )
