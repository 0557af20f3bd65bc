"""How an Elasticsearch cluster is reached: addresses, credentials, one client a process."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from modelhub.errors import InvalidInput, NotInstalled
from modelhub.names import shown

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

_FORM = "Write https://HOST:PORT; Elasticsearch's own port is 9200."
_HOST = re.compile(r"[\w.:%-]+")
_PATH = re.compile(r"[A-Za-z0-9._~/-]*")

# The client's pool makes a thread wait without limit for a free connection, so there are more of
# them than threads that would search at once. They are opened as they are needed.
_CONNECTIONS = 64


class Server:
    """The cluster at one or several URLs, as one principal.

    Nothing is imported or opened before the first call. Each process has a client of its own: a
    fork inherits its parent's sockets and must not speak on them.

    Raises:
        InvalidInput: a URL, the credentials or the authority's certificate cannot be used.
        NotInstalled: the driver is missing.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        user: str | None,
        password: str | None,
        api_key: str | None,
        ca: Path | None,
        timeout_s: float,
    ) -> None:
        if find_spec("elasticsearch") is None:
            raise NotInstalled(
                "the driver of Elasticsearch is not installed",
                remedy="Run `pip install 'modelhub[elasticsearch]'`.",
            )
        if not urls:
            raise InvalidInput("search has no URL", remedy=_FORM)
        schemes = {_checked_url(url).scheme for url in urls}
        _check_credentials(user, password, api_key)
        if ca is not None:
            _check_authority(ca, schemes)
        self.timeout_s = timeout_s
        self.address = ", ".join(urls)
        self.plain = "http" in schemes
        self.principal = "an anonymous caller"
        self._options: dict[str, Any] = {"hosts": [url.rstrip("/") for url in urls]}
        if ca is not None:
            self._options["ca_certs"] = str(ca)
        if api_key:
            self.principal = "an API key"
            self._options["api_key"] = api_key
        elif user:
            self.principal = f"user {shown(user)}"
            # Encoded here, because the driver can encode nothing but ASCII.
            login = f"{user}:{password}".encode()
            self._options["basic_auth"] = b64encode(login).decode()
        self._clients: dict[int, Elasticsearch] = {}

    def client(self, timeout_s: float | None = None) -> Elasticsearch:
        """This process's client; a request of it takes ``timeout_s`` at most."""
        # Without a lock, which a fork could copy while another thread holds it. A parent's client
        # stays in the dictionary, so that it is never finalised in a child.
        client = self._clients.get(os.getpid())
        if client is None:
            made = self._connect()
            client = self._clients.setdefault(os.getpid(), made)
            if client is not made:
                made.close()
        return client.options(request_timeout=self.timeout_s if timeout_s is None else timeout_s)

    def close(self) -> None:
        """Close this process's connections; a later call opens new ones."""
        client = self._clients.pop(os.getpid(), None)
        if client is not None:
            client.close()

    def _connect(self) -> Elasticsearch:
        from elasticsearch import Elasticsearch

        return Elasticsearch(
            **self._options,
            connections_per_node=_CONNECTIONS,
            # A write whose reply was lost must not be sent again behind the caller's back.
            max_retries=0,
            retry_on_timeout=False,
        )


def _checked_url(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")
    except ValueError as exc:
        raise InvalidInput(f"{shown(url)} is not a URL: {exc}", remedy=_FORM) from exc
    if parts.username is not None or parts.password is not None:
        # Not shown: it may hold a password.
        raise InvalidInput(
            f"the URL of search at {shown(str(host))} holds a user",
            remedy="Give user and password beside the URL.",
        )
    known = parts.scheme in {"http", "https"} and not parts.query and not parts.fragment
    named = host and port and _HOST.fullmatch(host) and _PATH.fullmatch(parts.path)
    if not known or not named:
        raise InvalidInput(f"{shown(url)} is not the address of an Elasticsearch", remedy=_FORM)
    return parts


def _check_credentials(user: str | None, password: str | None, api_key: str | None) -> None:
    if api_key and (user or password):
        raise InvalidInput("search has both a user and an API key", remedy="Leave out one of them.")
    if bool(user) != bool(password):
        given, missing = ("user", "password") if user else ("password", "user")
        raise InvalidInput(
            f"search has a {given} without a {missing}", remedy=f"Add the {missing}."
        )
    if api_key and not api_key.isascii():
        raise InvalidInput(
            "the API key of search is not one",
            remedy="Give the key's `encoded` form, as Elasticsearch printed it.",
        )


def _check_authority(ca: Path, schemes: set[str]) -> None:
    import ssl

    if "http" in schemes:
        raise InvalidInput(
            f"search has an authority's certificate ({ca}), but its URL is http://",
            remedy="Write https://, or leave the certificate out.",
        )
    try:
        ssl.create_default_context(cafile=str(ca))
    except OSError as exc:  # SSLError is one, too.
        reason = "holds no PEM certificate" if isinstance(exc, ssl.SSLError) else exc.strerror
        raise InvalidInput(
            f"the authority's certificate of search, {ca}: {reason}",
            remedy="Name the file with the certificate of the authority that signed the server's.",
        ) from exc
