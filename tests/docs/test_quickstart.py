"""The README's first command: what it shows, how long it takes, and that its checks can fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "deploy/quickstart.sh"


def run(script: Path, *arguments: str | Path, path: Path | None = None, home: Path) -> str:
    """What ``script`` printed, with commands from ``path`` first and this interpreter's next."""
    first = [str(path)] if path else []
    done = subprocess.run(
        [script, *arguments],
        env={
            **{name: value for name, value in os.environ.items() if name[:9] != "MODELHUB_"},
            "PATH": os.pathsep.join([*first, str(Path(sys.executable).parent), os.environ["PATH"]]),
            "HOME": str(home),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return f"{done.stdout}\nexit code {done.returncode}"


def shim(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/bash\n{text}\n")
    (folder / name).chmod(0o755)


def test_the_quickstart_does_the_main_job_within_90_s_and_a_second_time(tmp_path: Path) -> None:
    folder = "a tour 巡"
    for _ in range(2):
        start = time.monotonic()
        printed = run(QUICKSTART, "--no-install", tmp_path / folder, home=tmp_path)
        assert printed.endswith("exit code 0"), printed
        assert time.monotonic() - start < 90, printed
        expected = [
            str(tmp_path / folder / "hub"),
            "$ modelhub push vision.digits ",
            "vision.digits@1",
            "$ python deploy/digits.py finetune ",
            "vision.digits@2",
            "$ modelhub log vision.digits",
            "fine-tuned on all images",
            "first training",
            "$ modelhub search handwritten digits",
            "vision.digits@2",
            "$ modelhub search 手写数字",
            "vision.digits@2",
            "$ modelhub diff vision.digits@1 vision.digits@2",
            "model.safetensors",
            "$ modelhub pull vision.digits@1 ",
            "no difference",
            "exactly as well",
            "Done after ",
        ]
        position = 0
        for text in expected:
            position = printed.find(text, position)
            assert position >= 0, f"no {text!r} in its place:\n{printed}"
    assert not (tmp_path / ".modelhub").exists()
    pulled = tmp_path / folder / "pulled/model.safetensors"
    assert pulled.read_bytes() == (tmp_path / folder / "digits/model.safetensors").read_bytes()


def test_a_pull_that_brings_other_bytes_fails_the_quickstart(tmp_path: Path) -> None:
    shim(
        tmp_path / "bin",
        "modelhub",
        f"""'{sys.executable}' -m modelhub "$@" && [[ $1 != pull ]] || echo >>"$3/config.json" """,
    )
    printed = run(
        QUICKSTART, "--no-install", tmp_path / "tour", path=tmp_path / "bin", home=tmp_path
    )
    assert "config.json" in printed
    assert printed.endswith("quickstart: that command ended with exit code 1\n\nexit code 1")


def test_a_folder_that_the_quickstart_did_not_make_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/work").write_text("years of it")
    printed = run(QUICKSTART, "--no-install", tmp_path / "mine", home=tmp_path)
    assert "was not made by the quickstart" in printed
    assert printed.endswith("exit code 1")
    assert (tmp_path / "mine/work").read_text() == "years of it"


def test_a_missing_venv_module_is_named_with_its_package(tmp_path: Path) -> None:
    bin = tmp_path / "bin"
    shim(
        bin,
        "python3",
        f"""case $2 in
            *realpath*) echo "$0" ;;
            *ensurepip*) exit 1 ;;
            *) exec '{sys.executable}' "$@" ;;
        esac""",
    )
    for command in ("bash", "dirname"):
        (bin / command).symlink_to(shutil.which(command) or "")
    (tmp_path / "deploy").mkdir()
    shutil.copy(ROOT / "deploy/venv.sh", tmp_path / "deploy")
    done = subprocess.run(
        [tmp_path / "deploy/venv.sh", "quickstart"],
        env={"PATH": str(bin)},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    major, minor = sys.version_info[:2]
    assert done.returncode == 1
    assert f"sudo apt-get install python{major}.{minor}-venv" in done.stderr
    assert not (tmp_path / ".venv").exists()


@pytest.mark.full
def test_a_fresh_clone_is_set_up_and_shown_within_two_minutes(tmp_path: Path) -> None:
    made_here = (".git", ".venv", ".*_cache", "*.egg-info", "__pycache__", "quickstart")
    shutil.copytree(ROOT, tmp_path / "clone", ignore=shutil.ignore_patterns(*made_here))
    start = time.monotonic()
    printed = run(tmp_path / "clone/deploy/quickstart.sh", home=tmp_path)
    assert printed.endswith("exit code 0"), printed
    assert time.monotonic() - start < 120
    again = run(tmp_path / "clone/deploy/quickstart.sh", home=tmp_path)
    assert again.endswith("exit code 0"), again
    assert "Installing" in printed
    assert "Installing" not in again
