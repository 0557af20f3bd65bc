"""What HDFS says when it refuses, in the same words through every one of its doors."""

from __future__ import annotations

import re

from modelhub.backends.remote.files import absent, taken
from modelhub.backends.remote.wording import brief
from modelhub.errors import Forbidden, InvalidInput, ModelhubError, OutcomeUnknown, Unavailable
from modelhub.stores import NoSpace

_RPC_PORT = "Name the NameNode's RPC port, not a DataNode's."
_REMEDIES: dict[str, tuple[type[ModelhubError], str]] = {
    "SafeModeException": (
        Unavailable,
        "Wait until HDFS leaves safe mode (`hdfs dfsadmin -safemode get`), then repeat.",
    ),
    "NSQuotaExceededException": (
        NoSpace,
        "Have the folder's name quota raised (`hdfs dfsadmin -setQuota`), then repeat.",
    ),
    "DSQuotaExceededException": (
        NoSpace,
        "Have the folder's space quota raised (`hdfs dfsadmin -setSpaceQuota`), then repeat.",
    ),
    "StandbyException": (
        Unavailable,
        "Name the active NameNode, or the nameservice with HADOOP_CONF_DIR set.",
    ),
    "RetriableException": (Unavailable, "Wait until the NameNode has started, then repeat."),
    "RpcNoSuchMethodException": (Unavailable, _RPC_PORT),
    "RpcNoSuchProtocolException": (Unavailable, _RPC_PORT),
    "AccessControlException": (
        Forbidden,
        "Ask the folder's owner for permission to read and write it, or act as another user.",
    ),
    "AuthorizationException": (Forbidden, "Ask who runs HDFS to let this user act as the other."),
    "SecurityException": (Forbidden, "Log in (`kinit`), or name a user whom HDFS accepts."),
    "InvalidToken": (Forbidden, "Log in again (`kinit`), or have a new delegation token made."),
    "InvalidPathException": (InvalidInput, "Use a name without ':' and '//'."),
    "IllegalArgumentException": (
        InvalidInput,
        "Check that this is the NameNode's WebHDFS port, and the options of the store.",
    ),
}

_NO_DATANODE = re.compile("could only be (?:written|replicated) to|Failed to find datanode")
_INVALID = {
    re.compile("maximum path component name limit|Pathname too long"): "Use a shorter name.",
    re.compile("Requested replication factor|Specified block size"): "Correct the options of the "
    "store.",
}
_SOME_RUN = re.compile(r"There are [1-9]\d* datanode\(s\) running")
_ABSENT = frozenset({"FileNotFoundException"})
_TAKEN = frozenset({"FileAlreadyExistsException", "AlreadyBeingCreatedException"})


def is_below_a_file(java_class: str, message: str) -> bool:
    """Whether the path's parent is a file; for that HDFS has more than one exception."""
    return java_class.endswith("ParentNotDirectoryException") or "(is not a directory)" in message


def hadoop_error(java_class: str, message: str, where: str, *, writes: bool) -> ModelhubError:
    """The error for an exception of HDFS about ``where``.

    Args:
        java_class: the exception, with or without its package.
        message: its text, with the trace that may follow.
        where: the address and path.
        writes: whether the path was to be written; else it was to be read.
    """
    name = java_class.rpartition(".")[2].rpartition("$")[2]
    told = message.partition("\n")[0].strip() or name
    said = brief(told)
    below = is_below_a_file(name, message)
    if name in _ABSENT or (below and not writes):
        return absent(where)
    if name in _TAKEN or below or "must both be directories" in message:
        return taken(where)
    if name in _REMEDIES:
        cls, remedy = _REMEDIES[name]
        return cls(f"{where}: {said}", remedy=remedy)
    if _NO_DATANODE.search(told):
        cls = NoSpace if _SOME_RUN.search(told) else Unavailable
        return cls(
            f"{where}: the DataNodes are full or away: {said}",
            remedy="Have space freed or added (`hdfs dfsadmin -report`), then repeat.",
        )
    for invalid, remedy in _INVALID.items():
        if invalid.search(told):
            return InvalidInput(f"{where}: {said}", remedy=remedy)
    return Unavailable(f"{where}: {said}", remedy="Look at the NameNode's log, then repeat.")


def unreachable(where: str, said: str) -> Unavailable:
    """The error for a server that did not take, or did not answer, a call that changes nothing."""
    return Unavailable(
        f"{where} does not answer: {said}",
        remedy="Check the host, the port and that HDFS runs there, then repeat.",
    )


def lost(where: str, said: str) -> OutcomeUnknown:
    """The error for a call that was sent and whose answer did not come."""
    return OutcomeUnknown(
        f"{where}: the answer to a change was lost: {said}",
        remedy="Look at what is there before you repeat it.",
    )


def given_up(exc: BaseException) -> BaseException:
    """The error of a writer: what was wrong, whatever it would mean for another call."""
    if not isinstance(exc, ModelhubError) or isinstance(exc, Unavailable):
        return exc
    return Unavailable(exc.message, remedy=exc.remedy)
