"""A hub without its stores: only what is in the local cache can be had."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from modelhub.coordinator.context import Context, Stores
from modelhub.errors import Unavailable
from modelhub.names import shown

_REMEDY = (
    "Only `snapshot` works offline. With a connection, unset MODELHUB_OFFLINE, or leave out "
    "offline=True."
)


def offline_context(address: str, principal: str) -> Context:
    """A context in which every change and every call of a store is refused at once.

    No backend is opened, so none needs to be installed.
    """
    absent: Any = _Absent(address)
    return Context(
        Stores(weights=absent, rows=absent, search=absent),
        principal,
        policy=absent.refuse,
        folders=absent.refuse,
    )


class _Absent:
    """Takes the place of a store: there is no method but one that refuses."""

    def __init__(self, address: str) -> None:
        self._address = address

    def close(self) -> None:
        """There is nothing to close."""

    def refuse(self, *_args: object, **_options: object) -> NoReturn:
        raise Unavailable(f"the hub {shown(self._address)} was opened offline", remedy=_REMEDY)

    def __getattr__(self, _name: str) -> Callable[..., NoReturn]:
        return self.refuse
