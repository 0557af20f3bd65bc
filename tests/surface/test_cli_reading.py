"""The verbs that read parts of a version, and the settings of the cache."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import Result
from safetensors.numpy import save_file

import modelhub

Run = Callable[..., Result]


@pytest.fixture
def pushed(run: Run, model: Path) -> Path:
    """``nlp.x`` with two files of tensors."""
    (model / "text").mkdir()
    save_file({"w": np.zeros((20, 30), np.float32)}, model / "text" / "model.safetensors")
    save_file({"scale": np.array(1, np.int8)}, model / "model.safetensors")
    assert run("push", "nlp.x", model).exit_code == 0
    return model


def test_cat_writes_every_byte_and_nothing_else(run: Run, pushed: Path) -> None:
    for path in ("weights.bin", "config.json", "tokenizer/词表.txt"):
        result = run("cat", "nlp.x@1", path)
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout_bytes == (pushed / path).read_bytes()


def test_cat_names_the_file_that_is_not_there(run: Run, pushed: Path) -> None:
    for path in ("absent.json", "tokenizer", "../config.json", ""):
        result = run("cat", "nlp.x", path)
        assert (result.exit_code, result.stdout) == (3, "")
        assert path in result.stderr


def test_cat_into_a_pipe_that_closes_ends_as_other_programs_do(pushed: Path) -> None:
    command = [sys.executable, "-m", "modelhub", "cat", "nlp.x", "weights.bin"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(3) == b"\0\1\2"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_tensors_are_listed_with_dtypes_shapes_sizes_and_files(
    run: Run, pushed: Path, hub: modelhub.Hub
) -> None:
    result = run("tensors", "nlp.x")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["DTYPE", "SHAPE", "SIZE", "FILE", "NAME"],
        ["I8", "[]", "1", "B", "model.safetensors", "scale"],
        ["F32", "[20,30]", "2.3", "KiB", "text/model.safetensors", "w"],
    ]
    listed = run("tensors", "nlp.x", "--include", "text/*", "--format", "json")
    expected = hub.tensors("nlp.x", include=["text/*"]).listing()
    assert json.loads(listed.stdout) == json.loads(msgspec.json.encode(list(expected)))


def test_a_version_without_tensors_says_where_to_look(run: Run, model: Path) -> None:
    assert run("push", "nlp.x", model).exit_code == 0
    result = run("tensors", "nlp.x")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "modelhub show --files" in result.stderr


def test_offline_the_cached_copy_is_printed_and_all_else_refused(
    run: Run, pushed: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = run("pull", "nlp.x").stdout
    monkeypatch.setenv("MODELHUB_OFFLINE", "1")
    home.rename(home.with_name("gone"))
    assert run("pull", "nlp.x").stdout == run("pull", "nlp.x@1").stdout == cached
    for args in (["show", "nlp.x"], ["cat", "nlp.x", "config.json"], ["pull", "nlp.x", "copy"]):
        result = run(*args)
        assert (result.exit_code, result.stdout) == (6, "")
        assert "MODELHUB_OFFLINE" in result.stderr
    assert run("pull", "nlp.y").exit_code == 3


def test_a_limit_that_is_no_size_is_a_wrong_call(
    run: Run, pushed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELHUB_CACHE_LIMIT", "plenty")
    result = run("pull", "nlp.x")
    assert result.exit_code == 2
    assert "plenty" in result.stderr
