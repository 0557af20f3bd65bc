"""Places and servers' words, cut to what one line of a message can hold."""

from __future__ import annotations

from modelhub.names import shown

_WHOLE_CHARS = 200
_END_CHARS = 120


def place(address: str, path: str) -> str:
    """Where a file is; an address or a path that would fill the message is shortened."""
    parts = [part for part in (address, path) if part]
    return "/".join(part if len(part) <= _WHOLE_CHARS else shown(part) for part in parts)


def brief(said: str) -> str:
    """What a server said, without its middle where that is long: names stand there."""
    if len(said) <= 2 * _END_CHARS:
        return said
    return f"{said[:_END_CHARS]} … {said[-_END_CHARS:]}"
