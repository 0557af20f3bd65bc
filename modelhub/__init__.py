"""Large AI models under version control inside a Hadoop estate.

``connect`` opens a hub; everything else is a method of what it returns.
"""

import typing

from modelhub.connect import connect
from modelhub.errors import (
    AlreadyExists,
    Conflict,
    CorruptData,
    Forbidden,
    InvalidInput,
    ModelhubError,
    NotFound,
    NotInstalled,
    OutcomeUnknown,
    Unavailable,
)
from modelhub.records import Metadata
from modelhub.results import (
    BackedUp,
    Collected,
    Diff,
    FieldChange,
    FileChange,
    FileInfo,
    Finding,
    Health,
    Listing,
    LogEntry,
    Made,
    ModelSummary,
    Reindexed,
    Restored,
    SearchHit,
    SearchResult,
    Status,
    Sweep,
    TensorInfo,
    Version,
)
from modelhub.rules import RetentionRule

if typing.TYPE_CHECKING:
    from modelhub.hub import Hub

__version__ = "0.1.0"

__all__ = [
    "AlreadyExists",
    "BackedUp",
    "Collected",
    "Conflict",
    "CorruptData",
    "Diff",
    "FieldChange",
    "FileChange",
    "FileInfo",
    "Finding",
    "Forbidden",
    "Health",
    "Hub",
    "InvalidInput",
    "Listing",
    "LogEntry",
    "Made",
    "Metadata",
    "ModelSummary",
    "ModelhubError",
    "NotFound",
    "NotInstalled",
    "OutcomeUnknown",
    "Reindexed",
    "Restored",
    "RetentionRule",
    "SearchHit",
    "SearchResult",
    "Status",
    "Sweep",
    "TensorInfo",
    "Unavailable",
    "Version",
    "connect",
]


def __getattr__(name: str) -> typing.Any:
    # The class brings in every layer below it; most programs only ever hold what connect returns.
    if name == "Hub":
        from modelhub.hub import Hub

        return Hub
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
