"""Errors, named after what the caller does next.

::

    ModelhubError
    ├── InvalidInput      correct the call
    ├── NotFound          name something that exists
    ├── AlreadyExists     choose another name, or use what is there
    ├── Conflict          read again, then decide
    ├── Unavailable       try again: nothing was changed by this call
    ├── OutcomeUnknown    read back first: the change may have landed
    ├── CorruptData       run ``modelhub admin fsck``
    ├── Forbidden         ask whoever grants permissions
    └── NotInstalled      install the named extra

Every class has a stable ``kind`` for JSON and metrics. A door turns classes into its own terms
(exit codes, HTTP statuses) by one table that a test holds complete. All survive pickling, because
Spark ships them between processes.
"""

from __future__ import annotations

from typing import ClassVar


class ModelhubError(Exception):
    """Root of all errors that modelhub raises on purpose.

    Args:
        message: what is wrong, naming the thing.
        remedy: what to do about it, as one sentence; empty where the class says it all.
    """

    kind: ClassVar[str] = "error"

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __reduce__(self) -> tuple[object, ...]:
        # Exception's own pickling replays positional arguments alone and would lose the keywords.
        return (_rebuild, (type(self), self.__dict__.copy()))


def _rebuild(cls: type[ModelhubError], state: dict[str, object]) -> ModelhubError:
    error = cls.__new__(cls)
    Exception.__init__(error, state["message"])
    error.__dict__.update(state)
    return error


class InvalidInput(ModelhubError):
    """The call itself is wrong; nothing was read or written because of it."""

    kind = "invalid_input"


class NotFound(ModelhubError):
    """The named model, version, file or target is not there."""

    kind = "not_found"


class AlreadyExists(ModelhubError):
    """The name is taken by something else; nothing was overwritten."""

    kind = "already_exists"


class Conflict(ModelhubError):
    """Somebody else's change came first; read again and decide."""

    kind = "conflict"


class Unavailable(ModelhubError):
    """A store did not take the call, and never will have: the same call may be repeated."""

    kind = "unavailable"


class OutcomeUnknown(ModelhubError):
    """A change may have been applied, or may be applied later; read back before repeating it.

    Args:
        txid: the transaction whose fate is open; empty for a single store call.
    """

    kind = "outcome_unknown"

    def __init__(self, message: str, *, remedy: str = "", txid: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.txid = txid


class CorruptData(ModelhubError):
    """Stored bytes do not match their hash or are not what they should be; they were not served."""

    kind = "corrupt_data"


class Forbidden(ModelhubError):
    """The principal may not do this."""

    kind = "forbidden"


class NotInstalled(ModelhubError):
    """An optional package is missing; the remedy is the pip command."""

    kind = "not_installed"
