"""What Elasticsearch and its driver report, in modelhub's terms."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from modelhub.backends.elastic_server import Server
from modelhub.errors import (
    CorruptData,
    Forbidden,
    InvalidInput,
    ModelhubError,
    NotFound,
    OutcomeUnknown,
    Unavailable,
)
from modelhub.names import shown

if TYPE_CHECKING:
    from elasticsearch import ApiError, TransportError

E = TypeVar("E", bound=BaseException)

_ABSENT = "index_not_found_exception"
# Turned away before anything was done, as far as one document or one whole request goes.
_REFUSED = {
    "cluster_block_exception",
    "es_rejected_execution_exception",
    "circuit_breaking_exception",
}
# These come while shaking hands; other errors of TLS may cut off a request that was sent.
_HANDSHAKE = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"}

INDEX_PRIVILEGES = ("read", "write", "manage")
"""What a user needs on the indices, besides the cluster privilege ``monitor``."""

_PRIVILEGES = (
    f"Ask for the index privileges {', '.join(INDEX_PRIVILEGES)} on modelhub-*, and for the cluster"
    " privilege monitor."
)
_SHARDS = "See GET /_cluster/allocation/explain, start the nodes that hold it, then try again."
_REINDEX = "Run `modelhub admin reindex`, which makes a new one."


@contextmanager
def reading(server: Server, target: str = "") -> Iterator[None]:
    """Translate the driver's errors about a call that changes nothing."""
    with _translating(server, target, writes=False):
        yield


@contextmanager
def writing(server: Server, target: str) -> Iterator[None]:
    """Translate the driver's errors about a call that changes something."""
    with _translating(server, target, writes=True):
        yield


@contextmanager
def _translating(server: Server, target: str, *, writes: bool) -> Iterator[None]:
    from elasticsearch import ApiError, TransportError

    try:
        yield
    except ApiError as exc:
        raise _answered(exc, server, target, writes=writes) from exc
    except TransportError as exc:
        raise _unanswered(exc, server, writes=writes) from exc


def absent(server: Server, target: str) -> NotFound:
    """The error for a target that is not there."""
    return NotFound(
        f"there is no search target {shown(target)} at {server.address}",
        remedy="Run `modelhub admin reindex`.",
    )


def no_shard(server: Server, target: str, reason: str) -> Unavailable:
    """The error for a target that cannot be read completely."""
    return Unavailable(f"{_named(server)} cannot read {shown(target)}: {reason}", remedy=_SHARDS)


def unread(server: Server, target: str, error: Mapping[str, Any]) -> ModelhubError:
    """The error for one document of several that could not be read."""
    if error["type"] == _ABSENT:
        return absent(server, target)
    return no_shard(server, target, str(error.get("reason")))


def failed_items(
    server: Server, target: str, items: Sequence[dict[str, Any]], *, stored: bool
) -> ModelhubError | None:
    """The error for a bulk request of which some documents were not taken, if there are such.

    A version conflict is none: a newer document is there. ``stored`` says that documents of the
    same write were stored before.
    """
    failed: list[tuple[str, str]] = []
    for item in items:
        result = item["index"]
        error = result.get("error")
        if error is None or result["status"] == 409:
            stored = stored or error is None
        else:
            failed.append((_kind(result), f"{shown(result['_id'])}: {error.get('reason')}"))
    for kind in ("unknown", "absent", "forbidden", "damaged", "refused"):
        reason = next((reason for found, reason in failed if found == kind), None)
        if reason is not None:
            return _item_error(server, target, kind, reason, stored=stored)
    return None


def _kind(result: dict[str, Any]) -> str:
    status, kind = result["status"], result["error"]["type"]
    if kind == _ABSENT:
        return "absent"
    if kind in _REFUSED:
        return "refused"
    if status == 403:
        return "forbidden"
    return "damaged" if status == 400 else "unknown"


def _item_error(
    server: Server, target: str, kind: str, reason: str, *, stored: bool
) -> ModelhubError:
    what = f"{_named(server)} did not take the document {reason}"
    if kind == "absent":
        return absent(server, target)
    if kind == "forbidden":
        return Forbidden(f"{what} ({server.principal})", remedy=_PRIVILEGES)
    if kind == "damaged":
        return CorruptData(
            f"{what}; the target {target} is not as this release makes it", remedy=_REINDEX
        )
    if kind == "refused" and not stored:
        return Unavailable(what, remedy=_lift(reason))
    remedy = _lift(reason) if kind == "refused" else _SHARDS
    return OutcomeUnknown(f"{what}; others may have been stored", remedy=remedy)


def _named(server: Server) -> str:
    return f"the search index at {server.address}"


def _lift(reason: str) -> str:
    if "flood-stage" in reason or "read-only-allow-delete" in reason:
        return "Free disk space on its data nodes; Elasticsearch then lifts the block by itself."
    if "blocked by" in reason:
        return "Lift that block (or wait until the cluster has recovered), then try again."
    return "Try again later, when it has less to do."


def _answered(exc: ApiError, server: Server, target: str, *, writes: bool) -> ModelhubError:
    """The error for an answer that is not a success."""
    status, (kind, reason) = exc.meta.status, _error(exc.body)
    its_own = exc.meta.headers.get("x-elastic-product") == "Elasticsearch"
    what = f"{_named(server)}: {reason or f'HTTP status {status}'}"
    if kind in _REFUSED:
        return Unavailable(what, remedy=_lift(reason))
    if status in {401, 403, 407}:
        return _forbidden(server, what, known=status == 403)
    if status == 413:
        return InvalidInput(
            f"{_named(server)} takes no request of this size",
            remedy="Raise its http.max_content_length, or the limit of the proxy before it.",
        )
    if status >= 500 or status in {408, 429} or kind == "search_context_missing_exception":
        error = OutcomeUnknown if writes else Unavailable
        return error(what, remedy=_SHARDS if its_own else "Try again when it has recovered.")
    if not its_own:
        return Unavailable(
            f"what answers at {server.address} is not Elasticsearch (HTTP status {status})",
            remedy="Correct the URL of search.",
        )
    return _objected(server, target, kind, what)


def _forbidden(server: Server, what: str, *, known: bool) -> Forbidden:
    if known:
        return Forbidden(f"{what} ({server.principal})", remedy=_PRIVILEGES)
    return Forbidden(
        f"{_named(server)} does not let {server.principal} in",
        remedy="Correct search_user and search_password, or search_api_key.",
    )


def _objected(server: Server, target: str, kind: str, what: str) -> ModelhubError:
    """The error for a request that Elasticsearch understood and does not want."""
    if kind == _ABSENT:
        return absent(server, target)
    if "clause" in what:
        return InvalidInput(what, remedy="Search for fewer words.")
    if kind == "search_phase_execution_exception":
        return CorruptData(f"{what}; {target} is not as this release makes it", remedy=_REINDEX)
    return InvalidInput(what, remedy="Correct what is named here.")


def _error(body: Any) -> tuple[str, str]:
    """Type and reason of an error as Elasticsearch writes it; both empty if it is another's."""
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return "", error if isinstance(error, str) else ""
    causes = error.get("root_cause") or [error]
    return error.get("type") or "", causes[0].get("reason") or error.get("reason") or ""


def _unanswered(exc: TransportError, server: Server, *, writes: bool) -> ModelhubError:
    """The error for a call that got no answer, or one that cannot be read."""
    sent, reason, remedy = _diagnosed(exc, server)
    what = f"{_named(server)} {reason}"
    if writes and sent:
        return OutcomeUnknown(f"{what}; the change may have been made", remedy=remedy)
    return Unavailable(what, remedy=remedy)


def _diagnosed(exc: TransportError, server: Server) -> tuple[bool, str, str]:
    """Whether the request may have been sent, what happened, and what to do."""
    from elastic_transport import ConnectionTimeout, SerializationError

    unreached, tls = _unreached(exc) or _untrusted(exc), _caused(exc, ssl.SSLError)
    if unreached is not None:
        return False, *unreached
    if isinstance(exc, ConnectionTimeout):
        remedy = "See GET /_cluster/health, then try again, or raise search_timeout_s."
        return True, "did not answer in time", remedy
    if isinstance(exc, SerializationError):
        return True, "answers as Elasticsearch never does", "Correct the URL of search."
    if tls is not None:
        remedy = "Write http:// if it does not speak TLS; else look at its TLS settings."
        return tls.reason not in _HANDSHAKE, f"fails at TLS: {tls.reason or tls}", remedy
    remedy = "Write https:// if it speaks TLS; else try again." if server.plain else "Try again."
    return True, "closed the connection before it answered", remedy


def _unreached(exc: TransportError) -> tuple[str, str] | None:
    """What happened and what to do, where there was no connection to send anything on."""
    from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

    if _caused(exc, socket.gaierror):
        return "has a host name that cannot be resolved", "Correct the URL of search."
    if _caused(exc, NewConnectionError):
        system = _caused(exc, OSError)
        reason = system.strerror if system is not None and system.strerror else str(exc)
        return f"cannot be reached: {reason}", "Start Elasticsearch, or correct the URL of search."
    if _caused(exc, ConnectTimeoutError):
        remedy = "Check that it is up and that no firewall is between, or correct the URL."
        return "did not accept a connection in time", remedy
    return None


def _untrusted(exc: TransportError) -> tuple[str, str] | None:
    """What is wrong with the server's certificate and what to do; nothing was sent to it."""
    from urllib3.util.ssl_match_hostname import CertificateError

    chain, name = _caused(exc, ssl.SSLCertVerificationError), _caused(exc, CertificateError)
    if chain is not None:
        remedy = "Set search_ca to the certificate of the authority that signed the server's."
        return f"has a certificate that is not trusted: {chain.verify_message}", remedy
    if name is not None:
        remedy = "Name it in the URL of search as its certificate does."
        return f"has a certificate that is not trusted: {name}", remedy
    return None


def _caused(exc: BaseException, kind: type[E]) -> E | None:
    """The error of a kind that ``exc`` was raised from: the driver keeps it only as its cause."""
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, kind):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None
