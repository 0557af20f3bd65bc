"""Elasticsearch with TLS, users and API keys: the contract, and who may do what.

A server with security takes its time and its memory, so this is for the full tier.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from modelhub.backends.elastic_errors import INDEX_PRIVILEGES
from modelhub.backends.elastic_search import ElasticIndex
from modelhub.errors import Forbidden, ModelhubError, Unavailable
from modelhub.query.parse import parse
from modelhub.stores import Document, Query, SearchIndex
from modelhub.testing.contracts import SearchBackend, SearchIndexContract
from tests.live.search import elastic_search, open_elastic, request
from tests.live.stack import LiveStack

pytestmark = pytest.mark.full

COMMANDS = Path(__file__).parents[2] / "deploy/stack"
TARGET = "modelhub-test-secure"
DOCUMENT = Document("a", 1, {"name": "alpha", "current": True})

Open = Callable[..., ElasticIndex]


@pytest.fixture(scope="module")
def secure() -> Iterator[LiveStack]:
    """Only the Elasticsearch of a stack made with ``--secure``, on a port that is free."""
    name = os.environ.get("PYTEST_XDIST_WORKER", "alone")
    home = Path(f"/var/tmp/modelhub-tests-secure-{os.getuid()}-{name}")
    ports = free_ports("ELASTICSEARCH", "ELASTICSEARCH_TRANSPORT")
    environ = {**os.environ, "MODELHUB_STACK_HOME": str(home), **ports}

    def run(command: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, COMMANDS / command, *arguments],
            env={**environ, **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    run("wipe")
    try:
        # Without programs on the path only the record of the stack is made, and nothing started.
        run("up", "--secure", PATH=os.devnull, JAVA_HOME="", MODELHUB_STACK_JVMS=os.devnull)
        started = run("server", "elasticsearch", "start")
        assert started.returncode == 0, started.stderr
        yield LiveStack(
            *("", "", "", 0, f"https://127.0.0.1:{ports['MODELHUB_STACK_ELASTICSEARCH_PORT']}"),
            search_ca=home / "elasticsearch-ca.pem",
            search_user="elastic",
            search_password=(home / "elasticsearch.password").read_text(),
        )
    finally:
        run("wipe")
        shutil.rmtree(home, ignore_errors=True)


def free_ports(*names: str) -> dict[str, str]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in names]
        return {
            f"MODELHUB_STACK_{name}_PORT": str(server.getsockname()[1])
            for name, server in zip(names, sockets, strict=True)
        }


@pytest.fixture
def search_backend(secure: LiveStack) -> Iterator[SearchBackend]:
    yield from elastic_search(secure)


class TestWithSecurity(SearchIndexContract):
    pass


@pytest.fixture
def admin(secure: LiveStack) -> Iterator[SearchIndex]:
    with closing(open_elastic(secure)) as index:
        index.create_target(TARGET)
        yield index
        index.drop_target(TARGET)


@pytest.fixture
def opened(secure: LiveStack) -> Iterator[Open]:
    with ExitStack() as held:
        yield lambda **options: held.enter_context(closing(open_elastic(secure, **options)))


@pytest.fixture
def raw(secure: LiveStack) -> Callable[..., Any]:
    def raw(method: str, path: str, body: object = None) -> Any:
        status, answer = request(secure, method, path, body)
        assert status < 300, answer
        return answer

    return raw


def raised(call: Callable[[], object]) -> ModelhubError:
    with pytest.raises(ModelhubError) as caught:
        call()
    return caught.value


def role(*privileges: str) -> dict[str, Any]:
    indices = [{"names": ["modelhub-*"], "privileges": list(privileges)}]
    return {"cluster": ["monitor"], "indices": indices}


@pytest.mark.parametrize("password", ["wrong", "密码"])
@pytest.mark.parametrize("user", ["elastic", "nobody"])
def test_a_wrong_login_is_forbidden_and_named_without_its_secret(
    secure: LiveStack, opened: Open, user: str, password: str
) -> None:
    index = opened(user=user, password=password)
    for call in (lambda: index.search(TARGET, Query()), lambda: index.write(TARGET, [DOCUMENT])):
        error = raised(call)
        assert type(error) is Forbidden
        assert user in error.message
        assert secure.search_url in error.message
        assert password not in error.message + error.remedy


def test_nobody_in_particular_is_forbidden(secure: LiveStack) -> None:
    with closing(ElasticIndex(secure.search_url, ca=secure.search_ca)) as index:
        assert type(raised(index.targets)) is Forbidden


def test_the_privileges_that_the_remedy_names_are_all_that_is_needed(
    raw: Callable[..., Any], opened: Open
) -> None:
    raw("PUT", "/_security/role/hub", role(*INDEX_PRIVILEGES))
    raw("PUT", "/_security/user/hub", {"password": "geheim-密码", "roles": ["hub"]})
    index = opened(user="hub", password="geheim-密码")
    index.create_target(TARGET)
    index.write(TARGET, [DOCUMENT, Document("b", 1, None)])
    index.refresh(TARGET)
    assert index.get(TARGET, ["a"]) == {"a": DOCUMENT}
    assert [document.id for document in index.scan(TARGET)] == ["a", "b"]
    assert index.search(TARGET, Query(where=parse("alpha"))).total == 1
    assert index.targets() == [TARGET]
    assert index.describe()["documents"] == {TARGET: 2}
    index.drop_target(TARGET)
    assert index.targets() == []


def test_who_may_only_read_is_told_what_is_missing(
    secure: LiveStack, admin: SearchIndex, raw: Callable[..., Any], opened: Open
) -> None:
    raw("PUT", "/_security/role/reader", role("read"))
    raw("PUT", "/_security/user/reader", {"password": "geheim", "roles": ["reader"]})
    index = opened(user="reader", password="geheim")
    admin.write(TARGET, [DOCUMENT])
    admin.refresh(TARGET)
    assert index.search(TARGET, Query(where=parse("alpha"))).total == 1
    for call in (
        lambda: index.write(TARGET, [DOCUMENT]),
        lambda: index.create_target(f"{TARGET}-2"),
        lambda: index.drop_target(TARGET),
        lambda: index.refresh(TARGET),
    ):
        error = raised(call)
        assert type(error) is Forbidden
        assert "reader" in error.message
        assert secure.search_url in error.message
        assert "index privileges read, write, manage on modelhub-*" in error.remedy
    assert admin.targets() == [TARGET]


def test_an_api_key_works_until_it_is_invalidated(
    admin: SearchIndex, raw: Callable[..., Any], opened: Open
) -> None:
    key = raw("POST", "/_security/api_key", {"name": "hub"})
    index = opened(api_key=key["encoded"])
    index.write(TARGET, [DOCUMENT])
    assert admin.get(TARGET, ["a"]) == {"a": DOCUMENT}
    raw("DELETE", "/_security/api_key", {"ids": [key["id"]]})
    for broken in (index, opened(api_key="bm8gc3VjaDprZXk="), opened(api_key="no key")):
        error = raised(lambda broken=broken: broken.write(TARGET, [DOCUMENT]))  # type: ignore[misc]
        assert type(error) is Forbidden
        assert "an API key" in error.message
        assert "search_api_key" in error.remedy
        assert key["encoded"] not in error.message


def test_an_api_key_with_less_power_is_told_what_is_missing(
    admin: SearchIndex, raw: Callable[..., Any], opened: Open
) -> None:
    roles = {"reader": role("read")}
    key = raw("POST", "/_security/api_key", {"name": "reader", "role_descriptors": roles})
    index = opened(api_key=key["encoded"])
    assert index.get(TARGET, ["a"]) == {}
    error = raised(lambda: index.write(TARGET, [DOCUMENT]))
    assert type(error) is Forbidden
    assert "index privileges" in error.remedy


def test_a_server_whose_authority_is_unknown_is_not_spoken_to(
    secure: LiveStack, opened: Open
) -> None:
    index = opened(ca=None)
    for call in (lambda: index.search(TARGET, Query()), lambda: index.write(TARGET, [DOCUMENT])):
        error = raised(call)
        assert type(error) is Unavailable
        assert "search_ca" in error.remedy


def test_the_name_of_the_server_is_checked(secure: LiveStack) -> None:
    names = {"127.0.0.1": True, "localhost": True, "127.0.0.2": False}
    for name, good in names.items():
        url = secure.search_url.replace("127.0.0.1", name)
        login = {"user": "elastic", "password": secure.search_password, "ca": secure.search_ca}
        with closing(ElasticIndex(url, **login)) as index:  # type: ignore[arg-type]
            if good:
                index.targets()
            else:
                assert type(raised(index.targets)) is Unavailable
