"""How a command ends: one table from error class to exit code.

Beside the table: 0 is success, ``FINDINGS`` a check that found something or a question answered
with no. ``INTERRUPTED`` and ``PIPE_CLOSED`` are what a shell reports for SIGINT and SIGPIPE.
"""

from __future__ import annotations

from collections.abc import Mapping

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


class Bug(ModelhubError):
    """An error that modelhub did not foresee."""

    kind = "bug"


FINDINGS = 1
INTERRUPTED = 130
PIPE_CLOSED = 141

EXIT_CODES: Mapping[type[ModelhubError], int] = {
    InvalidInput: 2,
    NotFound: 3,
    AlreadyExists: 4,
    Conflict: 5,
    Unavailable: 6,
    OutcomeUnknown: 7,
    CorruptData: 8,
    Forbidden: 9,
    NotInstalled: 10,
    Bug: 70,
}


def exit_code(error: ModelhubError) -> int:
    """The code of the error's class, or of the nearest class above it that has one."""
    return next(
        (EXIT_CODES[cls] for cls in type(error).__mro__ if cls in EXIT_CODES), EXIT_CODES[Bug]
    )
