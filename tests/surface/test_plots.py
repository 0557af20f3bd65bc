"""Pictures: what stands in them, and what is said where none can be drawn."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

import modelhub

Run = Callable[..., Result]


@pytest.fixture
def versions(hub: modelhub.Hub) -> modelhub.Hub:
    """Twelve layers, of which each moved further than the one before; one stays as it is."""
    random = np.random.default_rng(0)
    old = {
        f"model.layers.{layer}.{part}": random.normal(size=(20, 30)).astype(np.float32)
        for layer in range(12)
        for part in ("up", "down")
    }
    new = {name: array * (1 + int(name.split(".")[2]) / 100) for name, array in old.items()}
    hub.push("nlp.a", old, title="a $title$", datasets=["reviews"])
    hub.push("nlp.a", new, bases=["nlp.a@1"])
    hub.delete("nlp.a@1", force=True)
    hub.undelete("nlp.a@1")
    return hub


def texts(svg: Path) -> list[str]:
    """What is written in a picture, by the comments that name each text."""
    return re.findall(r"<!-- (.*?) -->", svg.read_text(encoding="utf-8"), re.S)


def test_a_comparison_is_drawn_by_layer(run: Run, versions: modelhub.Hub, tmp_path: Path) -> None:
    picture = tmp_path / "distance.svg"
    done = run("diff", "nlp.a@1", "nlp.a@2", "--plot", picture)
    assert done.exit_code == 0, done.stderr
    written = texts(picture)
    layers = [text for text in written if text.startswith("model.layers.")]
    assert layers == [f"model.layers.{layer}" for layer in range(11, 0, -1)], "0 stayed"
    assert "nlp.a@1 to nlp.a@2" in written


@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".PDF", b"%PDF")])
def test_the_ending_says_in_which_format(
    run: Run, versions: modelhub.Hub, tmp_path: Path, suffix: str, magic: bytes
) -> None:
    picture = tmp_path / f"lineage{suffix}"
    assert run("lineage", "nlp.a", "--plot", picture).exit_code == 0
    assert picture.read_bytes().startswith(magic)


def test_a_lineage_is_drawn_with_all_that_takes_part(
    run: Run, versions: modelhub.Hub, tmp_path: Path
) -> None:
    picture = tmp_path / "lineage.svg"
    assert run("lineage", "nlp.a", "--plot", picture).exit_code == 0
    written = " ".join(texts(picture))
    for name in ("nlp.a@1", "nlp.a@2", "a $title$", "dataset:reviews"):
        assert name in written


def test_equal_versions_make_a_picture_too(
    run: Run, versions: modelhub.Hub, tmp_path: Path
) -> None:
    picture = tmp_path / "none.svg"
    assert run("diff", "nlp.a@1", "nlp.a@1", "--plot", picture).exit_code == 0
    assert any("no weights differ" in text for text in texts(picture))


def test_what_cannot_be_drawn_is_refused_before_anything_is_read(
    run: Run, versions: modelhub.Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("picture", "picture.jpg", "picture.py"):
        refused = run("diff", "nlp.absent@1", "nlp.absent@2", "--plot", tmp_path / name)
        assert refused.exit_code == 2
        assert name in refused.stderr
    nowhere = run("lineage", "nlp.a", "--plot", tmp_path / "absent" / "picture.png")
    assert nowhere.exit_code == 9
    assert nowhere.stdout == ""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    missing = run("lineage", "nlp.a", "--plot", tmp_path / "picture.png")
    assert missing.exit_code == 10
    assert "modelhub[plot]" in missing.stderr
