"""New chunks are stored as differences from what they are most like, and come back whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from modelhub import connect
from modelhub.content import architecture
from modelhub.coordinator import keys, relatives
from modelhub.errors import InvalidInput
from modelhub.hub import Hub
from tests.coordinator.tensor_files import drawn, safetensors, tuned, write


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return connect(tmp_path / "hub")


@pytest.fixture
def small_models_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(architecture, "WORTHWHILE_BYTES", 1 << 20)


def check(hub: Hub, revision: str, files: Mapping[str, bytes], folder: Path) -> None:
    hub.pull(revision, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == dict(files)
    assert not hub.verify(revision).findings
    assert not hub.fsck().findings


def test_a_fine_tune_is_stored_as_differences_from_its_parent(hub: Hub, tmp_path: Path) -> None:
    first = drawn(0)
    versions = [first, tuned(first, 1), tuned(tuned(first, 1), 2)]
    stored = []
    for number, tensors in enumerate(versions, 1):
        files = {"model.safetensors": safetensors(tensors)}
        stored.append(hub.push("a", write(tmp_path / "model", files)).new_bytes)
        check(hub, f"a@{number}", files, tmp_path / f"out{number}")
    # A difference from a difference builds on what that one builds on.
    assert max(stored[1:]) < 0.75 * stored[0]


def test_what_is_not_alike_is_stored_by_itself(hub: Hub, tmp_path: Path) -> None:
    first = hub.push("a", write(tmp_path / "a", {"m.safetensors": safetensors(drawn(0))}))
    files = {"m.safetensors": safetensors(drawn(1))}
    second = hub.push("a", write(tmp_path / "a", files))
    assert second.new_bytes == pytest.approx(first.new_bytes, rel=0.01)
    published = hub._ctx.stores.rows
    check(hub, "a@2", files, tmp_path / "out")
    assert len(list(published.scan(keys.PACKS, b"\0", b"\xff"))) == 2


def test_tensors_are_found_again_in_other_files(hub: Hub, tmp_path: Path) -> None:
    tensors = drawn(0)
    whole = hub.push("a", write(tmp_path / "a", {"model.safetensors": safetensors(tensors)}))
    changed = tuned(tensors, 1)
    shards = [dict(list(changed.items())[at::2]) for at in range(2)]
    files = {f"model-{at}.safetensors": safetensors(shard) for at, shard in enumerate(shards)}
    second = hub.push("a", write(tmp_path / "a", files))
    assert second.new_bytes < 0.75 * whole.new_bytes
    check(hub, "a@2", files, tmp_path / "out")


def test_a_first_version_builds_on_the_base_that_it_names(hub: Hub, tmp_path: Path) -> None:
    tensors = drawn(0)
    base = hub.push("base", write(tmp_path / "a", {"m.safetensors": safetensors(tensors)}))
    files = {"other.safetensors": safetensors(tuned(tensors, 1))}
    named = hub.push("tuned", write(tmp_path / "a", files), bases=["base"])
    assert named.new_bytes < 0.75 * base.new_bytes
    check(hub, "tuned@1", files, tmp_path / "out")


@pytest.mark.usefixtures("small_models_count")
def test_a_first_version_builds_on_the_model_of_the_same_architecture(
    hub: Hub, tmp_path: Path
) -> None:
    tensors = drawn(0)
    hub.push("another", write(tmp_path / "a", {"m.safetensors": safetensors(drawn(5, count=7))}))
    alike = hub.push("alike", write(tmp_path / "a", {"m.safetensors": safetensors(tensors)}))
    shards = {
        f"{name}.safetensors": safetensors({name: tensor})
        for name, tensor in tuned(tensors, 1).items()
    }
    found = hub.push("unnamed", write(tmp_path / "a", shards))
    assert found.new_bytes < 0.75 * alike.new_bytes
    check(hub, "unnamed@1", shards, tmp_path / "out")


@pytest.mark.usefixtures("small_models_count")
def test_a_deleted_or_wrongly_listed_version_is_no_relative(hub: Hub, tmp_path: Path) -> None:
    tensors = drawn(0)
    folder = write(tmp_path / "a", {"m.safetensors": safetensors(tensors)})
    hub.push("gone", folder)
    record = hub.show("gone@1")
    hub.delete("gone@1")
    rows = hub._ctx.stores.rows
    ((key, value),) = rows.scan(keys.LOOKUP, b"architecture\0", b"architecture\1")
    _, architecture_id, *_ = keys.parse_lookup(key)
    other = hub.push("other", write(tmp_path / "b", {"a.bin": b"x" * 100}))
    rows.put(keys.LOOKUP, keys.lookup("architecture", architecture_id, "other", 1), value)
    stray = keys.lookup("architecture", architecture_id, "never", 1)
    rows.put(keys.LOOKUP, stray, value)
    assert relatives.relatives(hub._ctx, (), architecture_id) == []
    assert (record.number, other.number) == (1, 1)
    files = {"m.safetensors": safetensors(tuned(tensors, 1))}
    hub.push("new", write(tmp_path / "a", files))
    rows.delete_many(keys.LOOKUP, [stray])  # which a check would name
    check(hub, "new@1", files, tmp_path / "out")


def test_fast_stores_bytes_as_they_are_and_auto_fewer(hub: Hub, tmp_path: Path) -> None:
    data = safetensors(drawn(0))
    folder = write(tmp_path / "a", {"m.safetensors": data})
    fast = hub.push("fast", folder, policy="fast").new_bytes
    assert len(data) < fast < len(data) + 10_000
    changed = write(tmp_path / "a", {"m.safetensors": safetensors(drawn(1))})
    assert hub.push("auto", changed, policy="auto").new_bytes < 0.9 * len(data)


def test_an_unknown_policy_is_refused_before_anything_is_stored(hub: Hub, tmp_path: Path) -> None:
    folder = write(tmp_path / "a", {"a.bin": b"x"})
    with pytest.raises(InvalidInput, match="'best' is not a storage policy") as refused:
        hub.push("a", folder, policy="best")  # type: ignore[arg-type]
    assert "auto, fast or small" in refused.value.remedy
    assert not (tmp_path / "hub").exists()
