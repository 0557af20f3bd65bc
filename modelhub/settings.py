"""Where the hub is, who asks, and where to cache: read once, in ``connect``."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec
import platformdirs

from modelhub.errors import InvalidInput
from modelhub.names import shown


class Settings(msgspec.Struct, frozen=True):
    """What a hub is opened with. ``home`` is the embedded hub's folder."""

    home: Path
    cache: Path
    principal: str


def read_settings(
    url: str | os.PathLike[str] | None = None,
    *,
    principal: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Settings from arguments, then the environment, then defaults.

    ``MODELHUB_HOME`` names the hub, ``MODELHUB_CACHE`` the folder for snapshots, ``MODELHUB_USER``
    the principal.

    Raises:
        InvalidInput: the URL is of a kind that this release does not open, or a setting is not
            valid.
    """
    if url is None:
        url = environ.get("MODELHUB_HOME", "~/.modelhub")
    if principal is None:
        principal = environ.get("MODELHUB_USER") or _login()
    cache = environ.get("MODELHUB_CACHE") or platformdirs.user_cache_dir("modelhub")
    return Settings(_home(os.fspath(url)), Path(cache).expanduser(), _checked(principal))


def _home(url: str) -> Path:
    path = url
    if "://" in url:
        parts = urlsplit(url)
        if parts.scheme != "file" or parts.netloc not in {"", "localhost"}:
            raise InvalidInput(
                f"{shown(url)} is not a hub that this release opens",
                remedy="Give a folder, or file:///PATH.",
            )
        path = unquote(parts.path)
    if not path or "\0" in path:
        raise InvalidInput(f"{shown(url)} names no folder", remedy="Give the hub's folder.")
    return Path(path).expanduser().absolute()


def _checked(principal: str) -> str:
    if not 0 < len(principal) <= 256 or not principal.isprintable():
        raise InvalidInput(
            f"{shown(principal)} is not a principal",
            remedy="Use 1 to 256 printable characters (argument, or MODELHUB_USER).",
        )
    return principal


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a uid that no user has.
        return f"uid-{os.getuid()}"
