"""Hubs on the real servers, for the suites that need an empty one again and again."""

from __future__ import annotations

import itertools
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.request import Request, urlopen

import msgspec

from modelhub.connect import open_stores
from modelhub.coordinator import keys
from modelhub.coordinator.context import Context, Stores
from modelhub.coordinator.index import read_targets
from modelhub.errors import NotFound
from modelhub.settings import Profile
from tests.live.stack import LiveStack


def profile(stack: LiveStack, name: str) -> Profile:
    """A hub of its own on the servers: its tables, folder and indices are named after it."""
    return Profile(
        weights=f"{stack.hdfs_url}/tests/{name}",
        rows=f"hbase://{stack.thrift_host}:{stack.thrift_port}",
        rows_prefix=f"{name}_",
        search=stack.search_url,
        search_ca=None if stack.search_ca is None else str(stack.search_ca),
        search_user=stack.search_user,
        search_password=stack.search_password,
    )


def as_toml(stores: Profile, name: str) -> str:
    """A ``modelhub.toml`` with this profile."""
    told = {key: value for key, value in msgspec.to_builtins(stores).items() if value is not None}
    # What JSON writes of texts and numbers is TOML as well.
    lines = [f"{key} = {json.dumps(value)}" for key, value in told.items()]
    return "\n".join([f"[profile.{name}]", *lines, ""])


def new_name() -> str:
    """A name that no hub on the servers has."""
    return f"t{secrets.token_hex(4)}"


class LiveHubs:
    """Empty stores, as often as they are asked for; the ones before are emptied and closed.

    Tables are made once: in HBase that takes seconds. Folders are made anew: emptying takes longer.
    """

    def __init__(self, stack: LiveStack) -> None:
        self._stack = stack
        self._folders = itertools.count()
        self._stores: Stores | None = None
        self.name = new_name()
        self.profile = profile(stack, self.name)
        stores = open_stores(self.profile)
        stores.rows.create_tables(keys.TABLES)
        close(stores)

    def __call__(self) -> Stores:
        """Empty stores."""
        self.empty()
        folder = f"{self._stack.hdfs_url}/tests/{self.name}/{next(self._folders)}"
        self.profile = msgspec.structs.replace(self.profile, weights=folder)
        self._stores = open_stores(self.profile)
        return self._stores

    def again(self) -> Stores:
        """The same stores once more, as another process opens them; to be closed by the caller."""
        return open_stores(self.profile)

    def empty(self) -> None:
        """Remove every row and document."""
        if self._stores is not None:
            close(self._stores)
            self._stores = None
        stores = open_stores(self.profile)
        with suppress(NotFound):
            for target in read_targets(Context(stores, "tester")).targets:
                stores.search.drop_target(target)
        for table in keys.TABLES:
            doomed = [key for key, _ in stores.rows.scan(table, b"\0", b"\xff")]
            stores.rows.delete_many(table, doomed)
        close(stores)


@contextmanager
def live_hubs(stack: LiveStack) -> Iterator[LiveHubs]:
    """Hubs for as long as somebody needs them."""
    hubs = LiveHubs(stack)
    yield hubs
    hubs.empty()
    remove_folder(stack, f"/tests/{hubs.name}")


def remove_folder(stack: LiveStack, path: str) -> None:
    """Remove a folder of HDFS with all that is in it."""
    url = f"{stack.webhdfs_url}/webhdfs/v1{path}?op=DELETE&recursive=true&user.name=root"
    urlopen(Request(url, method="DELETE")).close()


def close(stores: Stores) -> None:
    """Close all three."""
    for store in (stores.rows, stores.search, stores.weights):
        store.close()
