"""What an exchange with HBase's Thrift gateway that failed means to the caller.

The gateway answers a call only when its own HBase client has given up, which tries again for
minutes, also after whoever called the gateway has gone. So for a write hardly any failure is
certain:

======================================  ===========  ===========================================
what happened                           a write was  why
======================================  ===========  ===========================================
no connection, no answer to a greeting  not applied  nothing was sent
the request did not leave whole         not applied  the gateway runs a call when it has read its
                                                     last byte, and that was not sent
no answer in time, the connection cut,  unknown      the gateway may be at it, now and later
an answer that cannot be read
UNKNOWN_METHOD                          not applied  answered before anything is run
IllegalArgument                         not applied  the gateway's client checks a request whole
                                                     before it sends any of it
TableNotFoundException                  not applied  an earlier try may have reached the table, but
                                                     its rows went with it; a new one under the name
                                                     has other regions
NoSuchColumnFamilyException             not applied  the same with the column family
AccessDeniedException                   not applied  every try is checked before it writes
TableNotEnabledException                unknown      an earlier try may have come before
other IOErrors: timeouts, conflicts,    unknown      HBase may have applied an earlier try whose
retries exhausted, DoNotRetryIOException             reply was lost, or may apply it later
INTERNAL_ERROR                          unknown      anything may have run before it
======================================  ===========  ===========================================

A read was never applied, so all of these are ``Unavailable`` but those that say what is missing,
forbidden or wrong. Of the second batch of a write and those behind it nothing is certain but a
missing table: the first was applied.

A batch on a missing table says just that its retries are exhausted: whoever gets that asks for one
row of the table to know (seen with HBase 2.6.1, ``Failed 2 actions: NAME: 2 times``).
"""

from __future__ import annotations

import re

from modelhub.backends.hbase_wire import (
    AnsweredError,
    Endpoint,
    NoReplyError,
    NotSentError,
    UnreachableError,
)
from modelhub.errors import (
    Forbidden,
    InvalidInput,
    ModelhubError,
    NotFound,
    OutcomeUnknown,
    Unavailable,
)

DriverError = UnreachableError | NotSentError | NoReplyError | AnsweredError
DRIVER_ERRORS = (UnreachableError, NotSentError, NoReplyError, AnsweredError)

# A stack trace names exceptions where a line begins, and batches where they count failures. Row
# keys in it are escaped, so that no key can put a name in either place.
_EXCEPTION = re.compile(
    r"(?:^|^Caused by: |Failed \d+ actions?: )(?:[a-z][\w$]*\.)+(\w+Exception)\b", re.MULTILINE
)
_PACKAGE = re.compile(r"\b(?:[a-z]\w*\.)+(?=[A-Z])")
_REMEDY = "Check the gateway and HBase's region servers, then try again."
_READ_BACK = "Check the gateway and HBase's region servers, then read back what is there."
_SHOWN = 200


def names(exc: AnsweredError) -> set[str]:
    """The Java exceptions in an answer."""
    return set(_EXCEPTION.findall(exc.text))


def may_hide_a_missing_table(exc: AnsweredError) -> bool:
    """Whether an answer is that of a batch, which does not always say why it failed."""
    return "RetriesExhaustedWithDetailsException" in names(exc)


def error(
    exc: DriverError,
    endpoint: Endpoint,
    table: str,
    *,
    writes: bool = False,
    begun: bool = False,
) -> ModelhubError:
    """The error that an exchange about ``table`` ends with.

    Args:
        exc: what came of the exchange.
        endpoint: whom it was with.
        table: the table's full name.
        writes: whether it was to change something.
        begun: whether an earlier part of the same write was acknowledged.
    """
    found = _certain(exc, endpoint, table)
    if isinstance(found, NotFound) or (found is not None and not begun):
        return found
    message = f"{_gateway(endpoint)} {_told(exc, table)}"
    if writes:
        return OutcomeUnknown(message, remedy=_READ_BACK)
    return Unavailable(message, remedy=_remedy(exc, endpoint))


def _certain(exc: DriverError, endpoint: Endpoint, table: str) -> ModelhubError | None:
    """The error if the exchange certainly changed nothing."""
    if isinstance(exc, UnreachableError):
        return Unavailable(
            f"{_gateway(endpoint)} {exc}",
            remedy=f"Check that it runs there, with {_manner(endpoint)}; then try again.",
        )
    if isinstance(exc, NotSentError):
        return Unavailable(f"{_gateway(endpoint)} {exc}", remedy=_REMEDY)
    if isinstance(exc, AnsweredError):
        return _refusal(exc, endpoint, table)
    return None


def _refusal(exc: AnsweredError, endpoint: Endpoint, table: str) -> ModelhubError | None:
    if exc.kind == "method":
        return Unavailable(
            f"{_gateway(endpoint)} does not know the calls of HBase's Thrift 1 gateway",
            remedy="Name the port of one that `hbase thrift start` runs, not `hbase thrift2`.",
        )
    if exc.kind == "argument":
        return InvalidInput(
            f"{_gateway(endpoint)} refused a request about the table {table}: {_first_line(exc)}",
            remedy="Correct the key, the value or the table's name.",
        )
    if "AccessDeniedException" in names(exc):
        return Forbidden(
            f"HBase behind {endpoint} denies access to the table {table}: {_first_line(exc)}",
            remedy="Ask its administrator to grant the gateway's user R and W on the table, and C "
            "to make it.",
        )
    return _missing(names(exc), endpoint, table)


def _missing(said: set[str], endpoint: Endpoint, table: str) -> NotFound | None:
    if "NamespaceNotFoundException" in said:
        namespace = table.partition(":")[0]
        return NotFound(
            f"HBase behind {endpoint} has no namespace {namespace} for the table {table}",
            remedy=f"Have `create_namespace '{namespace}'` run in an hbase shell, then repeat.",
        )
    if "TableNotFoundException" in said:
        return NotFound(
            f"HBase behind {endpoint} has no table {table}", remedy="Run `modelhub admin init`."
        )
    if "NoSuchColumnFamilyException" in said:
        return NotFound(
            f"the table {table} of HBase behind {endpoint} has no column family m",
            remedy="Have it made anew, as the script for the hbase shell has it.",
        )
    return None


def _gateway(endpoint: Endpoint) -> str:
    return f"HBase's Thrift gateway at {endpoint}"


def _manner(endpoint: Endpoint) -> str:
    return f"{endpoint.transport} transport and {endpoint.protocol} protocol as this profile says"


def _told(exc: DriverError, table: str) -> str:
    if not isinstance(exc, AnsweredError):
        return str(exc)
    if "TableNotEnabledException" in names(exc):
        return f"says that the table {table} is disabled"
    return f"failed on the table {table}: {_first_line(exc)}"


def _remedy(exc: DriverError, endpoint: Endpoint) -> str:
    if isinstance(exc, AnsweredError) and "TableNotEnabledException" in names(exc):
        return "Have `enable` run on it in an hbase shell, then try again."
    if isinstance(exc, NoReplyError):
        return f"Check that it works, with {_manner(endpoint)}; then try again."
    return _REMEDY


def _first_line(exc: AnsweredError) -> str:
    """What the stack trace says first, without the packages that its names begin with."""
    line = _PACKAGE.sub("", exc.text.partition("\n")[0])
    printable = "".join(char if char.isprintable() else "?" for char in line)
    return printable if len(printable) <= _SHOWN else f"{printable[:_SHOWN]}…"
