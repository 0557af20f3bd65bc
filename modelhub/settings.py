"""Where the hub is, who asks, and where to cache: read once, in ``connect``.

An argument wins over the environment, that over ``modelhub.toml``, that over defaults. The file is
the one that ``MODELHUB_CONFIG`` names, else ``modelhub/modelhub.toml`` where this user's settings
belong, else ``/etc/modelhub/modelhub.toml``; the first that is there is the only one read.
"""

from __future__ import annotations

import getpass
import os
import re
import tomllib
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

import msgspec
import platformdirs

from modelhub.errors import Forbidden, InvalidInput
from modelhub.names import shown

ENVIRONMENT = "environment"
"""The name of the profile that ``MODELHUB_WEIGHTS``, ``_ROWS`` and ``_SEARCH`` make."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?) ?(?:([kmgt])(i)?)?b?", re.ASCII | re.IGNORECASE)
_YES_OR_NO = dict.fromkeys(("1", "true", "yes", "on"), True) | dict.fromkeys(
    ("", "0", "false", "no", "off"), False
)
_URLS = ("weights", "rows", "search")
_SYSTEM_WIDE = Path("/etc/modelhub/modelhub.toml")

Seconds = Annotated[float, msgspec.Meta(gt=0, le=3600)]


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The stores of one hub: a table ``[profile.NAME]`` of ``modelhub.toml``.

    Each key but the three URLs can also stand in the environment, as ``MODELHUB_`` and its name in
    capitals, and wins there: a password does not belong in a file that others read.
    """

    weights: str
    rows: str
    search: str
    storage_policy: Literal["auto", "fast", "small"] = "auto"
    cache_limit: str | int | None = None
    weights_user: str | None = None
    weights_replication: Annotated[int, msgspec.Meta(ge=1, le=512)] | None = None
    weights_permission: Annotated[str, msgspec.Meta(pattern="^0?[0-7]{3}$")] | None = None
    weights_timeout_s: Seconds = 60.0
    rows_prefix: str = "modelhub_"
    rows_transport: Literal["buffered", "framed"] = "buffered"
    rows_protocol: Literal["binary", "compact"] = "binary"
    rows_timeout_s: Seconds = 10.0
    search_user: str | None = None
    search_password: str | None = None
    search_api_key: str | None = None
    search_ca: str | None = None
    search_timeout_s: Seconds = 10.0


class Settings(msgspec.Struct, frozen=True):
    """What a hub is opened with. ``address`` is what people know it by.

    ``cache_limit_bytes`` is None where the cache may become as large as it likes.
    """

    address: str
    stores: Profile
    cache: Path
    principal: str
    cache_limit_bytes: int | None = None
    offline: bool = False


def read_settings(
    url: str | os.PathLike[str] | None = None,
    *,
    principal: str | None = None,
    offline: bool | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Settings from arguments, then the environment, then ``modelhub.toml``, then defaults.

    ``MODELHUB_HOME`` names the hub, ``MODELHUB_CACHE`` the folder for snapshots,
    ``MODELHUB_CACHE_LIMIT`` how large that may become, ``MODELHUB_OFFLINE`` whether it is all that
    is used, ``MODELHUB_USER`` the principal.

    Raises:
        InvalidInput: the URL is of a kind that this release does not open, or a setting is not
            valid.
        Forbidden: the file may not be read.
    """
    if principal is None:
        principal = environ.get("MODELHUB_USER") or _login()
    cache = environ.get("MODELHUB_CACHE") or platformdirs.user_cache_dir("modelhub")
    address, stores = _hub(url, environ)
    limit = environ.get("MODELHUB_CACHE_LIMIT") or stores.cache_limit
    return Settings(
        address,
        stores,
        Path(cache).expanduser(),
        _checked(principal),
        cache_limit_bytes=None if limit is None else size_bytes(str(limit)),
        offline=_yes(environ.get("MODELHUB_OFFLINE", "")) if offline is None else offline,
    )


def size_bytes(text: str) -> int:
    """A size as people write it: ``50GB``, ``1.5 TiB``, ``1000000``.

    Raises:
        InvalidInput: it is none.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise InvalidInput(
            f"{shown(text)} is no size for the cache",
            remedy="Write MODELHUB_CACHE_LIMIT, or cache_limit in modelhub.toml, as in 50GB, "
            "1.5TiB or a number of bytes.",
        )
    number, unit, binary = found.groups()
    power = " kmgt".index(unit.lower()) if unit else 0
    return int(Decimal(number) * (1024 if binary else 1000) ** power)


def _yes(text: str) -> bool:
    try:
        return _YES_OR_NO[text.lower()]
    except KeyError:
        raise InvalidInput(
            f"MODELHUB_OFFLINE is {shown(text)}", remedy="Set it to 1 or 0, or unset it."
        ) from None


def embedded(home: Path) -> Profile:
    """The stores of the hub in the folder ``home``, which need nothing but this machine."""
    folder = home.expanduser().absolute()
    return Profile(
        weights=(folder / "weights").as_uri(),
        rows=_sqlite(folder / "rows.sqlite"),
        search=_sqlite(folder / "search.sqlite"),
    )


def _sqlite(file: Path) -> str:
    return file.as_uri().replace("file:", "sqlite:", 1)


def _hub(url: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> tuple[str, Profile]:
    """A hub's address and its stores."""
    if url is None:
        url = environ.get("MODELHUB_HOME")
    if url is None and any(_variable(key) in environ for key in _URLS):
        return ENVIRONMENT, _profile(ENVIRONMENT, {}, "the environment", environ, _URLS)
    text = "~/.modelhub" if url is None else os.fspath(url)
    if isinstance(url, str) and _NAME.fullmatch(url):
        file = _file(environ)
        profiles = {} if file is None else _profiles(file)
        if file is not None and url in profiles:
            return url, _profile(url, profiles[url], str(file), environ)
        if file is not None and not Path(url).exists():
            raise InvalidInput(
                f"{shown(url)} is neither a folder here nor a profile in {file}",
                remedy=f"Name a profile ({', '.join(sorted(profiles)) or 'there is none'}), or "
                f"write ./{url} for a new folder.",
            )
    home = _home(text)
    return str(home), embedded(home)


def _file(environ: Mapping[str, str]) -> Path | None:
    named = environ.get("MODELHUB_CONFIG")
    if named:
        file = Path(named).expanduser()
        if not file.is_file():
            raise InvalidInput(
                f"MODELHUB_CONFIG names {shown(named)}, which is no file",
                remedy="Name the modelhub.toml with your profiles.",
            )
        return file
    own = platformdirs.user_config_path("modelhub") / "modelhub.toml"
    return next((file for file in (own, _SYSTEM_WIDE) if file.is_file()), None)


def _profiles(file: Path) -> dict[str, Any]:
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise InvalidInput(f"{file} is not TOML: {exc}", remedy="Correct that line.") from exc
    except OSError as exc:
        raise Forbidden(
            f"{file}: {exc.strerror}", remedy="Ask its owner for permission to read it."
        ) from exc
    profiles = tables.get("profile", {})
    unknown = [key for key in tables if key != "profile"]
    if unknown or not isinstance(profiles, dict):
        raise InvalidInput(
            f"{file} has {shown(', '.join(unknown) or 'a profile without a name')}",
            remedy="It holds tables [profile.NAME] alone.",
        )
    return profiles


def _profile(
    name: str,
    table: object,
    source: str,
    environ: Mapping[str, str],
    urls: tuple[str, ...] = (),
) -> Profile:
    """The profile of a table, with what the environment says over it."""
    fields: dict[str, Any] = dict(table) if isinstance(table, dict) else {"profile": table}
    for key in Profile.__struct_fields__:
        said = environ.get(_variable(key))
        if said and (key not in _URLS or key in urls):
            fields[key] = said
    if isinstance(fields.get("search_ca"), str):
        authority = Path(fields["search_ca"]).expanduser()
        fields["search_ca"] = str(Path(source).parent / authority)
    try:
        # Not strict: the environment has only texts.
        return msgspec.convert(fields, Profile, strict=False)
    except msgspec.ValidationError as exc:
        raise InvalidInput(
            f"the profile {shown(name)} in {source} is not valid: {exc}",
            remedy=f"A profile needs {', '.join(_URLS)}, and may have "
            f"{', '.join(key for key in Profile.__struct_fields__ if key not in _URLS)}.",
        ) from exc


def _variable(key: str) -> str:
    return f"MODELHUB_{key.upper()}"


def _home(url: str) -> Path:
    path = url
    if "://" in url:
        parts = urlsplit(url)
        if parts.scheme != "file" or parts.netloc not in {"", "localhost"}:
            raise InvalidInput(
                f"{shown(url)} is not a hub that this release opens",
                remedy="Give a folder, file:///PATH, or the name of a profile in modelhub.toml.",
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
