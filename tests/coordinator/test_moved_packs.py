"""Readers follow packs that were rewritten to where their chunks are now."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from modelhub import connect
from modelhub.content.pack import PackMissing, PackWriter, new_pack_id, pack_path, read_trailer
from modelhub.content.read import placed
from modelhub.coordinator import keys
from modelhub.errors import CorruptData
from modelhub.hub import Hub
from modelhub.records import PackRow, decode, encode
from tests.coordinator.tensor_files import drawn, safetensors, tuned, write


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    """Two versions; the second one's tensors are differences from the first one's."""
    hub = connect(tmp_path / "hub")
    tensors = drawn(0, count=2)
    noise = random.Random(0).randbytes(1 << 20)
    for number, version in enumerate((tensors, tuned(tensors, 1)), 1):
        files = {"m.safetensors": safetensors(version), "noise.bin": noise}
        hub.push("a", write(tmp_path / f"{number}", files))
    return hub


def live_packs(hub: Hub) -> list[str]:
    rows = hub._ctx.stores.rows.scan(keys.PACKS, b"\0", b"\xff")
    return [key.decode() for key, value in rows if decode(value, PackRow, "it").state == "live"]


def has_differences(hub: Hub, pack: str) -> bool:
    return any(record.base for record in read_trailer(hub._ctx.stores.weights, pack))


def first_pack(hub: Hub) -> str:
    """That of the first version, which the second one's differences build on."""
    return min(live_packs(hub), key=lambda pack: has_differences(hub, pack))


def put_row(hub: Hub, pack: str, state: str, successors: Sequence[str] = ()) -> None:
    size_bytes = hub._ctx.stores.weights.size(pack_path(pack)) or 0
    row = PackRow(state=state, size_bytes=size_bytes, token="t", successors=tuple(successors))  # type: ignore[arg-type]
    hub._ctx.stores.rows.put(keys.PACKS, keys.pack(pack), encode(row))


def rewrite(hub: Hub, pack: str, count: int = 2) -> list[str]:
    """As a collector will: the chunks, raw, in new packs and another order; the old file goes.

    Differences stay differences, from the base that they had.
    """
    weights, reader = hub._ctx.stores.weights, hub._ctx.reader
    records = read_trailer(weights, pack)[::-1]
    successors = [new_pack_id() for _ in range(count)]
    for at, successor in enumerate(successors):
        writer = PackWriter(weights, successor)
        for record in records[at::count]:
            if record.base is None:
                writer.add(record.digest, reader.chunk(placed(pack, record, None)))
            else:
                stored = weights.read(pack_path(pack), record.offset, record.stored)
                writer.add(
                    record.digest,
                    stored,
                    length=record.length,
                    encoding=record.encoding,
                    base=record.base,
                )
        writer.finish()
        put_row(hub, successor, "live")
    put_row(hub, pack, "moved", successors)
    weights.remove(pack_path(pack))
    return successors


def check(hub: Hub, tmp_path: Path) -> None:
    for number in (1, 2):
        folder = tmp_path / f"out{random.random()}"
        hub.pull(f"a@{number}", folder)
        for path in (tmp_path / f"{number}").iterdir():
            assert (folder / path.name).read_bytes() == path.read_bytes()
        assert not hub.verify(f"a@{number}").findings


def test_chunks_and_manifests_are_read_where_their_pack_went(hub: Hub, tmp_path: Path) -> None:
    rewrite(hub, first_pack(hub))
    check(hub, tmp_path)


def test_packs_that_moved_twice_are_followed_twice(hub: Hub, tmp_path: Path) -> None:
    for successor in rewrite(hub, first_pack(hub)):
        rewrite(hub, successor)
    check(hub, tmp_path)


def test_differences_that_moved_build_on_what_they_built_on(hub: Hub, tmp_path: Path) -> None:
    differences = max(live_packs(hub), key=lambda pack: has_differences(hub, pack))
    rewrite(hub, differences)
    check(hub, tmp_path)


def test_rows_that_lead_in_a_circle_lead_nowhere(hub: Hub, tmp_path: Path) -> None:
    pack = first_pack(hub)
    (successor,) = rewrite(hub, pack, count=1)
    hub._ctx.stores.weights.remove(pack_path(successor))
    put_row(hub, successor, "moved", [pack])
    with pytest.raises(CorruptData, match="is not there"):
        hub.pull("a@1", tmp_path / "out")


def test_a_successor_that_is_missing_is_named(hub: Hub, tmp_path: Path) -> None:
    successors = rewrite(hub, first_pack(hub))
    hub._ctx.stores.weights.remove(pack_path(successors[1]))
    with pytest.raises(PackMissing, match=successors[1]):
        hub.pull("a@1", tmp_path / "out")
