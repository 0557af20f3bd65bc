"""A push of files that are there already says so, and may leave it at that.

Tier: CI runs all of it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from modelhub.coordinator import keys
from modelhub.coordinator.context import Stores
from modelhub.hub import Hub


@pytest.fixture
def hub(memory_hub: Hub) -> Hub:
    return memory_hub


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(b"weights" * 999)
    return folder


def test_the_same_files_are_named_wherever_they_are(hub: Hub, model: Path) -> None:
    assert hub.push("nlp.a", model).identical == ()
    assert hub.push("nlp.a", model, title="again").identical == ("nlp.a@1",)
    assert hub.push("nlp.b", model).identical == ("nlp.a@1", "nlp.a@2")
    (model / "more.txt").write_text("more")
    assert hub.push("nlp.b", model).identical == ()
    (model / "more.txt").unlink()
    hub.delete("nlp.a@1")
    assert hub.push("nlp.b", model).identical == ("nlp.a@2", "nlp.b@1")
    (model / "weights.bin").chmod(0o600)
    assert hub.push("nlp.b", model).identical == (), "modes are part of a version"


def test_an_identical_head_is_returned_and_nothing_is_written(
    hub: Hub, model: Path, stores: Stores
) -> None:
    first = hub.push("nlp.a", model, title="first", skip_identical=True)
    before = len(hub.log("nlp.a"))
    again = hub.push("nlp.a", model, title="second", skip_identical=True)
    assert (again.number, again.digest, again.metadata.title) == (1, first.digest, "first")
    assert len(hub.log("nlp.a")) == before
    assert not list(stores.rows.scan(keys.INTENTS, *keys.intents_range()))
    (model / "weights.bin").write_bytes(b"other")
    assert hub.push("nlp.a", model, skip_identical=True).number == 2
    (model / "weights.bin").write_bytes(b"weights" * 999)
    third = hub.push("nlp.a", model, skip_identical=True)
    assert (third.number, third.identical) == (3, ("nlp.a@1",)), "only the head counts"
    assert hub.push("nlp.a", model, branch="fix", skip_identical=True).number == 4, "a new branch"
    assert hub.push("nlp.a", model, branch="fix", skip_identical=True).number == 4
    assert hub.push("nlp.b", model, skip_identical=True).number == 1


def test_what_cannot_be_read_of_others_fails_no_push(hub: Hub, model: Path, stores: Stores) -> None:
    hub.push("nlp.a", model)
    key = keys.log("nlp.a", 1)
    stores.rows.delete_many(keys.LOG, [key])
    stores.rows.put(keys.LOG, key, b"damaged")
    version = hub.push("nlp.b", model)
    assert (version.number, version.identical) == (1, ())
