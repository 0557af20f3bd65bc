"""Rows of chunks that were lost are put again, from the trailers of the packs."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from modelhub import connect
from modelhub.content.pack import pack_path
from modelhub.coordinator import keys
from modelhub.hub import Hub
from tests.coordinator.tensor_files import drawn, safetensors, tuned, write


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    """Chunks that are raw, encoded and differences, in three packs."""
    hub = connect(tmp_path / "hub")
    tensors = drawn(0, count=2)
    noise = random.Random(0).randbytes(3 << 20)
    for number, version in enumerate((tensors, tuned(tensors, 1)), 1):
        files = {"m.safetensors": safetensors(version), "noise.bin": noise * number}
        hub.push("a", write(tmp_path / f"{number}", files))
    hub.push("b", write(tmp_path / "3", {"words.txt": b"words " * 300_000}))
    return hub


def chunk_rows(hub: Hub) -> dict[bytes, bytes]:
    return dict(hub._ctx.stores.rows.scan(keys.CHUNKS, b"\0", b"\xff"))


def test_lost_rows_of_chunks_come_back_as_they_were(hub: Hub, tmp_path: Path) -> None:
    rows = hub._ctx.stores.rows
    before = chunk_rows(hub)
    rows.delete_many(keys.CHUNKS, list(before))
    assert not chunk_rows(hub)
    assert hub.sweep(chunks=True).chunks == len(before)
    assert chunk_rows(hub) == before
    for number in (1, 2, 3):
        again = hub.push(f"again.{number}", tmp_path / f"{number}")
        assert again.new_bytes < 10_000, "its chunks were not found again"
        assert not hub.verify(f"again.{number}").findings


def test_a_pack_that_cannot_be_read_keeps_no_other_from_being_found(hub: Hub) -> None:
    rows, weights = hub._ctx.stores.rows, hub._ctx.stores.weights
    before = chunk_rows(hub)
    packs = sorted(key.decode() for key, _ in rows.scan(keys.PACKS, b"\0", b"\xff"))
    sizes = {pack: weights.size(pack_path(pack)) or 0 for pack in packs}
    weights.remove(pack_path(min(packs, key=sizes.__getitem__)))
    rows.delete_many(keys.CHUNKS, list(before))
    found = hub.sweep(chunks=True).chunks
    assert 0 < found < len(before)
    assert chunk_rows(hub).items() < before.items()


def test_without_being_asked_to_a_sweep_leaves_the_rows_of_chunks_alone(hub: Hub) -> None:
    rows = hub._ctx.stores.rows
    rows.delete_many(keys.CHUNKS, list(chunk_rows(hub)))
    assert hub.sweep().chunks == 0
    assert not chunk_rows(hub)
