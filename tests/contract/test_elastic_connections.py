"""Which Elasticsearch is spoken to, as whom, and what is said where it cannot be reached."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from modelhub.backends.elastic_search import ElasticIndex
from modelhub.errors import InvalidInput, ModelhubError, NotInstalled, Unavailable
from modelhub.stores import Document, Query
from tests.live.stand_in import HITS, Answer, StandIn, serving

TARGET = "modelhub-t"
DOCUMENTS = [Document("a", 1, {"name": "a"}), Document("b", 1, None)]


def raised(call: Callable[[], object]) -> ModelhubError:
    with pytest.raises(ModelhubError) as caught:
        call()
    return caught.value


@pytest.mark.parametrize("call", ["search", "write"])
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:1", "refused"),
        ("http://no-such-host.invalid:9200", "cannot be resolved"),
    ],
)
def test_what_cannot_be_reached_was_never_asked(
    opened: Callable[..., ElasticIndex], url: str, reason: str, call: str
) -> None:
    index = opened(url)
    calls = {
        "search": lambda: index.search(TARGET, Query()),
        "write": lambda: index.write(TARGET, DOCUMENTS),
    }
    found = raised(calls[call])
    assert type(found) is Unavailable
    assert url in found.message
    assert reason in found.message
    assert "URL" in found.remedy


def test_a_connection_that_is_never_accepted_is_given_up_in_time(
    opened: Callable[..., ElasticIndex],
) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, ExitStack() as crowd:
        for _ in range(4):  # What the backlog has no room for is left without an answer.
            client = crowd.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        index = opened(f"http://127.0.0.1:{server.getsockname()[1]}", timeout_s=0.5)
        started = time.monotonic()
        found = raised(lambda: index.write(TARGET, DOCUMENTS))
        assert time.monotonic() - started < 2
    assert type(found) is Unavailable
    assert "firewall" in found.remedy


def test_another_node_is_asked_once_one_is_away(
    stand_in: StandIn, opened: Callable[..., ElasticIndex]
) -> None:
    stand_in.answer = lambda _: Answer(body=HITS)
    index = opened(["http://127.0.0.1:1", stand_in.url])
    for _ in range(4):
        with suppress(Unavailable):
            index.search(TARGET, Query())
    assert len(stand_in.asked) >= 2


@dataclass
class Certificates:
    """Two authorities, and a server's certificate for each."""

    folder: Path

    def authority(self, name: str) -> Path:
        return self.folder / f"{name}-ca.pem"

    def context(self, name: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        return context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    openssl = shutil.which("openssl")
    assert openssl, "this test needs the openssl command"
    folder = tmp_path_factory.mktemp("certificates")
    make = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    make += ["-nodes", "-days", "2"]
    for name, address in (("here", "IP:127.0.0.1"), ("elsewhere", "DNS:elsewhere")):
        ca = ["-subj", f"/CN={name}", "-keyout", f"{name}-ca.key", "-out", f"{name}-ca.pem"]
        ca += ["-addext", "keyUsage=critical,keyCertSign"]
        server = ["-subj", "/CN=server", "-keyout", f"{name}.key", "-out", f"{name}.pem"]
        server += ["-CA", f"{name}-ca.pem", "-CAkey", f"{name}-ca.key"]
        server += ["-addext", f"subjectAltName={address}"]
        server += ["-addext", "basicConstraints=critical,CA:FALSE"]
        for arguments in (ca, server):
            subprocess.run([*make, *arguments], cwd=folder, check=True, capture_output=True)
    return Certificates(folder)


@pytest.fixture
def secured(
    certificates: Certificates, request: pytest.FixtureRequest
) -> Iterator[tuple[StandIn, str]]:
    """A stand-in that speaks TLS with the certificate that the test names, and its URL."""
    stand_in = StandIn()
    context = certificates.context(request.param)
    stand_in.socket = context.wrap_socket(stand_in.socket, server_side=True)
    stand_in.answer = lambda _: Answer(body=HITS)
    with serving(stand_in):
        yield stand_in, stand_in.url.replace("http:", "https:")


@pytest.mark.parametrize("secured", ["here"], indirect=True)
@pytest.mark.parametrize(
    ("options", "header"),
    [
        ({"user": "user", "password": "geheim:密码"}, "Basic dXNlcjpnZWhlaW065a+G56CB"),
        ({"api_key": "aWQ6a2V5"}, "ApiKey aWQ6a2V5"),
        ({}, None),
    ],
    ids=["user", "key", "nobody"],
)
def test_a_trusted_server_gets_the_credentials(
    secured: tuple[StandIn, str],
    certificates: Certificates,
    opened: Callable[..., ElasticIndex],
    options: dict[str, str],
    header: str | None,
) -> None:
    stand_in, url = secured
    index = opened(url, ca=certificates.authority("here"), **options)
    assert index.search(TARGET, Query()).total == 0
    assert stand_in.asked[0].headers.get("Authorization") == header


@pytest.mark.parametrize(
    ("secured", "authority"),
    [("here", "elsewhere"), ("here", None), ("elsewhere", "elsewhere")],
    indirect=["secured"],
    ids=["another authority", "no authority", "another host"],
)
def test_a_server_that_is_not_trusted_gets_nothing(
    secured: tuple[StandIn, str],
    certificates: Certificates,
    opened: Callable[..., ElasticIndex],
    authority: str | None,
) -> None:
    stand_in, url = secured
    ca = None if authority is None else certificates.authority(authority)
    index = opened(url, ca=ca, user="user", password="geheim")
    for call in (
        lambda: index.search(TARGET, Query()),
        lambda: index.write(TARGET, DOCUMENTS),
    ):
        found = raised(call)
        assert type(found) is Unavailable
        assert f"{url} has a certificate that is not trusted" in found.message
        assert "certificate" in found.remedy
    assert stand_in.asked == []


@pytest.mark.parametrize("secured", ["here"], indirect=True)
def test_the_wrong_scheme_is_said_to_be_wrong(
    secured: tuple[StandIn, str], stand_in: StandIn, opened: Callable[..., ElasticIndex]
) -> None:
    found = raised(lambda: opened(secured[1].replace("https:", "http:")).search(TARGET, Query()))
    assert "Write https://" in found.remedy
    index = opened(stand_in.url.replace("http:", "https:"))
    for call in (
        lambda: index.search(TARGET, Query()),
        lambda: index.write(TARGET, DOCUMENTS),
    ):
        found = raised(call)
        assert type(found) is Unavailable
        assert "Write http://" in found.remedy
    assert stand_in.asked == secured[0].asked == []


@pytest.mark.parametrize(
    ("url", "options", "named"),
    [
        ("", {}, "HOST:PORT"),
        ([], {}, "HOST:PORT"),
        ("127.0.0.1:9200", {}, "HOST:PORT"),
        ("http://127.0.0.1", {}, "HOST:PORT"),
        ("ftp://127.0.0.1:9200", {}, "HOST:PORT"),
        ("http://127.0.0.1:99999", {}, "HOST:PORT"),
        ("http://h x:9200", {}, "HOST:PORT"),
        (f"http://{'a' * 70}:9200", {}, "HOST:PORT"),
        ("http://h:9200/?x=1", {}, "HOST:PORT"),
        (["http://h:9200", "h"], {}, "HOST:PORT"),
        ("http://user:geheim@h:9200", {}, "beside the URL"),
        ("http://h:9200", {"user": "user"}, "Add the password"),
        ("http://h:9200", {"password": "geheim"}, "Add the user"),
        ("http://h:9200", {"user": "u", "password": "geheim", "api_key": "k"}, "Leave out"),
        ("http://h:9200", {"api_key": "密"}, "encoded"),
        ("http://h:9200", {"ca": Path(__file__)}, "https://"),
        ("https://h:9200", {"ca": Path(__file__)}, "certificate of the authority"),
        ("https://h:9200", {"ca": Path("/no/such/file")}, "certificate of the authority"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_asked(
    url: Any, options: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        ElasticIndex(url, **options)
    assert named in caught.value.remedy
    assert "geheim" not in str(caught.value) + caught.value.remedy


def test_a_missing_driver_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "elasticsearch", None)
    with pytest.raises(NotInstalled) as caught:
        ElasticIndex("http://127.0.0.1:9200")
    assert "pip install 'modelhub[elasticsearch]'" in caught.value.remedy


def test_the_driver_is_imported_by_the_first_call_and_says_nothing_of_its_own() -> None:
    script = f"""
import sys
from modelhub.backends.elastic_search import ElasticIndex
from modelhub.errors import Unavailable
from modelhub.stores import Query
index = ElasticIndex("http://127.0.0.1:1", user="u", password="p")
assert "elasticsearch" not in sys.modules and "urllib3" not in sys.modules
for _ in range(3):
    try:
        index.search("{TARGET}", Query())
    except Unavailable:
        assert "elasticsearch" in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
