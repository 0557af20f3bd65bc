"""Opening a hub: the only code that names backends.

Backends, and with them the hub, are imported when one is opened: what only prints help or reports a
usage error does not wait for them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

from modelhub.errors import InvalidInput
from modelhub.names import shown
from modelhub.settings import Profile, Settings, embedded, read_settings

if TYPE_CHECKING:
    from modelhub.coordinator.context import Context, Stores
    from modelhub.hub import Hub
    from modelhub.stores import Folder, RowStore, SearchIndex, WeightStore


def connect(
    url: str | os.PathLike[str] | None = None,
    *,
    principal: str | None = None,
    offline: bool | None = None,
) -> Hub:
    """Open a hub.

    Args:
        url: a folder or ``file:///PATH``, the embedded hub; or the name of a profile in
            ``modelhub.toml``. By default ``$MODELHUB_HOME``, else ``~/.modelhub``. A hub is made by
            the first push, or by ``Hub.init``.
        principal: who is recorded as the author of changes; by default ``$MODELHUB_USER``, else the
            login name.
        offline: take snapshots from the cache, and refuse everything else; by default
            ``$MODELHUB_OFFLINE``.

    Raises:
        InvalidInput: the URL is not one of these, or the profile is not valid. No store is asked
            for anything by this call.
        NotInstalled: the profile's stores need an extra that is missing.
    """
    settings = read_settings(url, principal=principal, offline=offline)
    from modelhub.coordinator.cache import Cache
    from modelhub.hub import Hub

    stores = settings.stores
    cache = Cache(
        settings.cache,
        # Two clusters may go by one name, at different times or on different machines.
        hub=f"{settings.address} {stores.rows} {stores.rows_prefix}",
        limit_bytes=settings.cache_limit_bytes,
        offline=settings.offline,
    )
    return Hub(_context(settings), address=settings.address, cache=cache)


def _context(settings: Settings) -> Context:
    from modelhub.coordinator.context import Context
    from modelhub.coordinator.offline import offline_context

    if settings.offline:
        return offline_context(settings.address, settings.principal)
    stores = settings.stores
    return Context(
        open_stores(stores),
        settings.principal,
        folders=lambda url: open_folder(url, stores),
        storage_policy=stores.storage_policy,
    )


def embedded_stores(home: Path) -> Stores:
    """The stores of the hub in folder ``home``, which need nothing but this machine."""
    return open_stores(embedded(home))


def open_stores(profile: Profile) -> Stores:
    """The stores that a profile names; none is asked for anything yet.

    Raises:
        InvalidInput: a URL is of a kind that no backend opens, or not complete.
        NotInstalled: a backend's package is missing.
    """
    from modelhub.coordinator.context import Stores

    return Stores(
        weights=_weights(profile),
        rows=_rows(profile),
        search=_search(profile),
    )


def hbase_script(url: str | os.PathLike[str] | None = None) -> str:
    """What a DBA runs in ``hbase shell -n`` to make a hub's tables, in place of ``Hub.init``.

    Args:
        url: the name of a profile whose rows are in HBase; as in ``connect``.

    Raises:
        InvalidInput: its rows are elsewhere, or the profile is not valid.
    """
    profile = read_settings(url).stores
    if _parts("rows", profile.rows).scheme != "hbase":
        raise InvalidInput(
            f"this hub's rows are in {shown(profile.rows)}, not in HBase",
            remedy='Name a profile with rows = "hbase://HOST:PORT" by --hub or MODELHUB_HOME.',
        )
    from modelhub.backends.hbase_schema import shell_script
    from modelhub.coordinator.keys import TABLES

    return shell_script(profile.rows_prefix, TABLES)


def open_folder(url: str, profile: Profile) -> Folder:
    """A folder of plain files, with the user and the timeout of the profile's weights.

    Raises:
        InvalidInput: the URL is of a kind that no backend opens.
        NotInstalled: a backend's package is missing.
    """
    from modelhub.backends.remote import remote_files

    scheme = _parts("the folder", url).scheme
    user = profile.weights_user if scheme in {"hdfs", "webhdfs", "swebhdfs"} else None
    return remote_files(url, user=user, timeout_s=profile.weights_timeout_s)


def _weights(profile: Profile) -> WeightStore:
    parts = _parts("weights", profile.weights)
    if parts.scheme == "file":
        from modelhub.backends.files import LocalWeights

        return LocalWeights(_local(parts, profile.weights))
    _port(parts, "weights", profile.weights)
    from modelhub.backends.remote import remote_weights

    return remote_weights(
        profile.weights,
        user=profile.weights_user,
        replication=profile.weights_replication,
        permission=profile.weights_permission,
        timeout_s=profile.weights_timeout_s,
    )


def _rows(profile: Profile) -> RowStore:
    parts = _parts("rows", profile.rows)
    if parts.scheme == "sqlite":
        from modelhub.backends.sqlite_rows import SqliteRows

        return SqliteRows(_local(parts, profile.rows))
    if parts.scheme != "hbase" or not parts.hostname or parts.path.strip("/"):
        raise _unopened("rows", profile.rows, "hbase://HOST:PORT or sqlite:///FILE")
    from modelhub.backends.hbase_rows import HBaseRows

    return HBaseRows(
        parts.hostname,
        _port(parts, "rows", profile.rows) or 9090,
        prefix=profile.rows_prefix,
        transport=profile.rows_transport,
        protocol=profile.rows_protocol,
        timeout_s=profile.rows_timeout_s,
    )


def _search(profile: Profile) -> SearchIndex:
    parts = _parts("search", profile.search)
    if parts.scheme == "sqlite":
        from modelhub.backends.sqlite_search import SqliteSearch

        return SqliteSearch(_local(parts, profile.search))
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise _unopened("search", profile.search, "https://HOST:PORT or sqlite:///FILE")
    _port(parts, "search", profile.search)
    from modelhub.backends.elastic_search import ElasticIndex

    return ElasticIndex(
        profile.search,
        user=profile.search_user,
        password=profile.search_password,
        api_key=profile.search_api_key,
        ca=None if profile.search_ca is None else Path(profile.search_ca),
        timeout_s=profile.search_timeout_s,
    )


def _parts(store: str, url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError as exc:
        raise _unopened(store, url, "one with a host, such as hdfs://HOST:PORT/PATH") from exc
    if parts.password is not None:
        raise InvalidInput(
            f"the URL of {store} holds a password, which would be seen wherever it is shown",
            remedy=f"Leave it out of the URL; set MODELHUB_{store.upper()}_PASSWORD where the "
            "store has one.",
        )
    return parts


def _local(parts: SplitResult, url: str) -> Path:
    path = unquote(parts.path)
    if parts.netloc not in {"", "localhost"} or not path or "\0" in path:
        raise InvalidInput(
            f"{shown(url)} names no file of this machine",
            remedy=f"Write {parts.scheme}:///PATH, with three slashes.",
        )
    return Path(path)


def _port(parts: SplitResult, store: str, url: str) -> int | None:
    try:
        return parts.port
    except ValueError as exc:
        raise _unopened(store, url, "one with a port from 1 to 65535") from exc


def _unopened(store: str, url: str, form: str) -> InvalidInput:
    return InvalidInput(
        f"{shown(url)} is not a URL of {store} that this release opens", remedy=f"Write {form}."
    )
