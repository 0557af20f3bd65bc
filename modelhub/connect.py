"""Opening a hub: the only code that names backends.

Backends, and with them the hub, are imported when one is opened: what only prints help or reports a
usage error does not wait for them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from modelhub.settings import read_settings

if TYPE_CHECKING:
    from modelhub.coordinator.context import Stores
    from modelhub.hub import Hub


def connect(url: str | os.PathLike[str] | None = None, *, principal: str | None = None) -> Hub:
    """Open a hub.

    Args:
        url: a folder or ``file:///PATH``, the embedded hub; by default ``$MODELHUB_HOME``, else
            ``~/.modelhub``. It is made by the first push, or by ``Hub.init``.
        principal: who is recorded as the author of changes; by default ``$MODELHUB_USER``, else the
            login name.

    Raises:
        InvalidInput: the URL is not one of these. Nothing is read or written by this call.
    """
    settings = read_settings(url, principal=principal)
    from modelhub.coordinator.context import Context
    from modelhub.hub import Hub

    ctx = Context(embedded_stores(settings.home), settings.principal)
    return Hub(ctx, address=str(settings.home), cache=settings.cache)


def embedded_stores(home: Path) -> Stores:
    """The stores of the hub in folder ``home``, which need nothing but this machine."""
    from modelhub.backends.files import LocalWeights
    from modelhub.backends.sqlite_rows import SqliteRows
    from modelhub.backends.sqlite_search import SqliteSearch
    from modelhub.coordinator.context import Stores

    return Stores(
        weights=LocalWeights(home / "weights"),
        rows=SqliteRows(home / "rows.sqlite"),
        search=SqliteSearch(home / "search.sqlite"),
    )
