"""Java, Maven and other programs of this machine; what is missing is installed where we may."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from modelhub_stack.settings import PREFIX, StackError, say

_JVM_FOLDERS = "/usr/lib/jvm:/usr/java:/opt"
_HADOOP_JAVA = range(17, 22)
_installing = threading.Lock()


def run(command: Sequence[str], *, environ: Mapping[str, str] | None = None) -> None:
    """Run ``command`` to its end.

    Raises:
        StackError: it failed; the message ends with what it wrote.
    """
    done = subprocess.run(  # noqa: S603 (our own command line)
        command,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        last = "\n".join(done.stdout.splitlines()[-30:])
        raise StackError(f"this command failed with {done.returncode}: {' '.join(command)}\n{last}")


def program(name: str, *, package: str) -> str:
    """The path of a program, which Debian has in ``package``.

    Raises:
        StackError: it is missing, and can't be installed by this user.
    """
    with _installing:
        if shutil.which(name) is None:
            _install(package, what=name)
        found = shutil.which(name)
    if found is None:
        raise StackError(f"{name} is missing although the package {package} is installed")
    return found


def hadoop_java() -> Path:
    """The home of a Java that Hadoop and HBase run on.

    Raises:
        StackError: there is none, and none can be installed by this user.
    """
    with _installing:
        found = _find(_HADOOP_JAVA)
        if found is None:
            packages = ("openjdk-17-jre-headless", "openjdk-21-jre-headless")
            _install(*packages, what=f"a Java 17 to 21 under {_folders()}")
            found = _find(_HADOOP_JAVA)
    if found is None:
        raise StackError(f"found no Java 17 to 21 under {_folders()}")
    return found


def newest_java() -> tuple[Path, int]:
    """The home of the newest Java, and its major version."""
    hadoop_java()  # so that there is one
    version, home = max(_homes(), key=lambda found: found[0])
    return home, version


def _find(versions: range) -> Path | None:
    fitting = [(version, home) for version, home in _homes() if version in versions]
    return min(fitting)[1] if fitting else None


def _homes() -> Iterator[tuple[int, Path]]:
    named = os.environ.get(PREFIX + "JVMS")
    homes = [home for folder in _folders().split(":") for home in sorted(Path(folder).glob("*"))]
    if named is None:
        homes += [Path(os.environ[name]) for name in ["JAVA_HOME"] if os.environ.get(name)]
        on_path = shutil.which("java")
        homes += [Path(on_path).resolve().parents[1]] if on_path else []
    for home in homes:
        release = home / "release"
        if (home / "bin" / "java").exists() and release.exists():
            version = re.search(r'^JAVA_VERSION="(\d+)', release.read_text(), re.MULTILINE)
            if version:
                yield int(version[1]), home


def _folders() -> str:
    return os.environ.get(PREFIX + "JVMS") or _JVM_FOLDERS


def _install(*packages: str, what: str) -> None:
    """Install the first of ``packages`` that this release of Debian has."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise StackError(
            f"the stack needs {what}, which was not found; Debian has it in its package "
            f"{' or '.join(packages)}. Install it and run this again:\n"
            f"    sudo apt-get install {packages[0]}"
        )
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "-qq"], environ=environ)
    for package in packages:
        say(f"installing {package}")
        install = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", package]
        try:
            run(install, environ=environ)
        except StackError:
            if package == packages[-1]:
                raise
        else:
            return
