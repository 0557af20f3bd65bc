"""What a push is given, as a path on this machine."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeGuard
from urllib.parse import unquote

from modelhub.errors import InvalidInput, NotInstalled
from modelhub.names import shown

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_ONE_SLASH = re.compile(r"(hdfs|s?webhdfs|s3|gs|abfss?):/?(?!/)")


def is_remote(path: str | os.PathLike[str]) -> TypeGuard[str]:
    """Whether ``path`` is the URL of something that is not on this machine's file systems."""
    return isinstance(path, str) and bool(_URL.match(path)) and not path.startswith("file://")


def local_path(path: str | os.PathLike[str]) -> Path:
    """``path``, with ``~`` for the home folder; of ``file:///PATH``, the path.

    Raises:
        InvalidInput: it is none: empty, with a NUL, or a URL.
    """
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else path
    if isinstance(text, str) and text.startswith("file:///"):
        text = unquote(text.removeprefix("file://"))
    if isinstance(text, str) and (slip := _ONE_SLASH.match(text)):
        raise InvalidInput(
            f"{shown(text)} is neither a path nor a URL",
            remedy=f"Write {slip[1]}://HOST/PATH, or ./{text} for a folder of that name.",
        )
    if not isinstance(text, str) or not text or "\0" in text or _URL.match(text):
        raise InvalidInput(
            f"{shown(str(path))} is not a path on this machine", remedy="Give a file or folder."
        )
    return Path(text).expanduser()


@contextmanager
def as_path(path: str | os.PathLike[str] | Mapping[str, Any]) -> Iterator[Path]:
    """A file or folder as it is; arrays by name as a folder with ``model.safetensors``.

    Raises:
        InvalidInput: no path, no arrays, or arrays that safetensors cannot hold.
        NotInstalled: arrays were given, and safetensors is missing.
    """
    if not isinstance(path, Mapping):
        yield local_path(path)
        return
    if not path:
        raise InvalidInput("there are no arrays to push", remedy="Give at least one.")
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import save_file
    except ImportError as exc:
        raise NotInstalled(
            "pushing arrays needs safetensors", remedy="pip install 'modelhub[tensors]'"
        ) from exc
    with tempfile.TemporaryDirectory(prefix="modelhub-") as folder:
        try:
            save_file(dict(path), Path(folder) / "model.safetensors")
        except (SafetensorError, TypeError, ValueError, AttributeError, KeyError) as exc:
            raise InvalidInput(
                f"the arrays cannot be stored: {exc}", remedy="Give numpy arrays by name."
            ) from exc
        yield Path(folder)
