"""Large AI models under version control inside a Hadoop estate.

``connect`` opens a hub; everything else is a method of what it returns.
"""

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
from modelhub.hub import Hub
from modelhub.records import Metadata
from modelhub.results import (
    Diff,
    FieldChange,
    FileChange,
    FileInfo,
    Finding,
    Health,
    Listing,
    LogEntry,
    ModelSummary,
    SearchHit,
    SearchResult,
    Status,
    Sweep,
    Version,
)

__version__ = "0.1.0"

__all__ = [
    "AlreadyExists",
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
    "Metadata",
    "ModelSummary",
    "ModelhubError",
    "NotFound",
    "NotInstalled",
    "OutcomeUnknown",
    "SearchHit",
    "SearchResult",
    "Status",
    "Sweep",
    "Unavailable",
    "Version",
    "connect",
]
