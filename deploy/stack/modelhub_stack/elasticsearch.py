"""Elasticsearch: one node, as its own user, with TLS and passwords where that is asked for."""

from __future__ import annotations

import base64
import os
import re
import secrets
import shutil
from functools import partial
from pathlib import Path

from modelhub_stack import artifacts, tools
from modelhub_stack.probe import NotReadyError, get_json
from modelhub_stack.servers import Launch, Server
from modelhub_stack.settings import HOST, SOURCES, Settings, write_whole

USER = "elastic"
_NOBODY = 65534  # it refuses to run as root
_HEAP_MB = 512


def elasticsearch(settings: Settings) -> Server:
    """The index of texts."""
    return Server("elasticsearch", settings, partial(_prepare, settings), partial(_check, settings))


def password(settings: Settings) -> str:
    """The password of the user ``elastic`` of a stack made with ``--secure``."""
    return (settings.home / "elasticsearch.password").read_text()


def authority(settings: Settings) -> Path:
    """The certificate of the authority that vouches for the server."""
    return settings.home / "elasticsearch-ca.pem"


def _prepare(settings: Settings) -> Launch:
    node = settings.home / "elasticsearch"
    java, version = tools.newest_java()
    release = artifacts.ELASTICSEARCH_9 if version >= 21 else artifacts.ELASTICSEARCH_8
    install = _install(node, artifacts.elasticsearch(release))
    for folder in ("config", "tmp", "data", "logs"):
        (node / folder).mkdir(exist_ok=True)
    _configure(settings, node / "config", install)
    environ = {
        "PATH": os.defpath,
        "HOME": str(node),
        "HOSTNAME": "localhost",
        "LANG": "C.UTF-8",
        "ES_JAVA_HOME": str(java),
        "ES_PATH_CONF": str(node / "config"),
        "ES_TMPDIR": str(node / "tmp"),
    }
    if settings.secure:
        _secure(settings, node, install, environ)
    _hand_over(node)
    command = [*_as_its_user(), "bash", str(install / "bin" / "elasticsearch")]
    return Launch(command, node, environ)


def _install(node: Path, unpacked: Path) -> Path:
    """A copy of the program that its user can read, which the cache folder may be closed to."""
    install = node / unpacked.name
    if not install.exists():
        beside = node / "install.part"
        shutil.rmtree(beside, ignore_errors=True)
        shutil.copytree(unpacked, beside)
        beside.rename(install)
    return install


def _configure(settings: Settings, config: Path, install: Path) -> None:
    node, ports = config.parent, settings.ports
    lines = [
        "cluster.name: modelhub-stack",
        f"network.host: {HOST}",
        f"http.port: {ports['elasticsearch']}",
        f"transport.port: {ports['elasticsearch-transport']}",
        "discovery.type: single-node",
        # A disk that others fill must not turn the indices read-only.
        "cluster.routing.allocation.disk.threshold_enabled: false",
        f"path.data: {node}/data",
        f"path.logs: {node}/logs",
        f"xpack.security.enabled: {'true' if settings.secure else 'false'}",
    ]
    if settings.secure:
        lines += [
            "xpack.security.http.ssl.enabled: true",
            "xpack.security.http.ssl.key: server.key",
            "xpack.security.http.ssl.certificate: server.pem",
        ]
    write_whole(config / "elasticsearch.yml", "\n".join(lines) + "\n")
    options = (install / "config" / "jvm.options").read_text()
    options = re.sub(r"(?m)^.*-Xlog:.*$", "", options)
    options += f"\n-Xms{_HEAP_MB}m\n-Xmx{_HEAP_MB}m\n-XX:TieredStopAtLevel=1\n"
    write_whole(config / "jvm.options", options)
    write_whole(config / "log4j2.properties", (SOURCES / "log4j2.properties").read_text())


def _secure(settings: Settings, node: Path, install: Path, environ: dict[str, str]) -> None:
    """Make the certificates and the password, once."""
    if (settings.home / "elasticsearch.password").exists():
        return
    _certify(settings, node / "config")
    secret = secrets.token_urlsafe(18)
    keystore = {**environ, "CLI_NAME": "keystore", "CLI_LIBS": "lib/tools/keystore-cli"}
    (node / "config" / "elasticsearch.keystore").unlink(missing_ok=True)
    _hand_over(node)
    for arguments in ("create", "add --stdin bootstrap.password"):
        script = f'printf %s "$SECRET" | bash {install}/bin/elasticsearch-cli {arguments}'
        tools.run(
            [*_as_its_user(), "bash", "-c", script],
            environ={**keystore, "SECRET": secret},
        )
    write_whole(settings.home / "elasticsearch.password", secret, mode=0o600)


def _certify(settings: Settings, config: Path) -> None:
    openssl = tools.program("openssl", package="openssl")
    ca, ca_key = authority(settings), config / "ca.key"
    make = [
        *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
        *("-nodes", "-days", "3650"),
    ]
    tools.run(
        [
            *(*make, "-subj", "/CN=modelhub stack authority", "-keyout", str(ca_key)),
            *("-out", str(ca), "-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        ]
    )
    tools.run(
        [
            *(*make, "-subj", "/CN=localhost", "-keyout", str(config / "server.key")),
            *("-CA", str(ca), "-CAkey", str(ca_key), "-out", str(config / "server.pem")),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
            *("-addext", f"subjectAltName=IP:{HOST},DNS:localhost"),
        ]
    )
    ca_key.unlink()  # so that nobody can ever vouch for another server
    ca.chmod(0o644)


def _as_its_user() -> list[str]:
    if os.geteuid() != 0:
        return []
    setpriv = tools.program("setpriv", package="util-linux")
    return [setpriv, f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]


def _hand_over(node: Path) -> None:
    """Give its folder to its user."""
    if os.geteuid() != 0:
        return
    for path in (node, *node.rglob("*")):
        os.chown(path, _NOBODY, _NOBODY, follow_symlinks=False)


def _check(settings: Settings) -> None:
    scheme, ca, authorization = "http", None, None
    if settings.secure:
        scheme, ca = "https", str(authority(settings))
        login = f"{USER}:{password(settings)}".encode()
        authorization = "Basic " + base64.b64encode(login).decode()
    url = f"{scheme}://{HOST}:{settings.ports['elasticsearch']}"
    health = get_json(f"{url}/_cluster/health", authorization=authorization, ca=ca)
    if health["status"] == "red":
        raise NotReadyError("has shards that are missing")
