"""Whatever bit of a pack turns round: fsck finds it, and nobody is given a wrong byte."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from modelhub import connect
from modelhub.errors import CorruptData
from modelhub.hub import Hub
from tests.coordinator.tensor_files import drawn, safetensors, tuned, write

BITS = 300


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    """Two versions: raw, encoded and text chunks, and differences from them."""
    hub = connect(tmp_path / "hub")
    tensors = drawn(0, count=2)
    noise = random.Random(0).randbytes(50_000)
    for version in (tensors, tuned(tensors, 1)):
        files = {
            "model.safetensors": safetensors(version),
            "noise.bin": noise,
            "words.txt": b"all sorts of words " * 4_000,
        }
        hub.push("a", write(tmp_path / "model", files))
    assert not hub.fsck().findings
    return hub


def test_a_flipped_bit_anywhere_in_a_pack_is_found(hub: Hub, tmp_path: Path) -> None:
    packs = [path for path in (tmp_path / "hub" / "weights").rglob("packs/*/*/*") if path.is_file()]
    assert len(packs) == 2
    where = random.Random(0)
    refused = 0
    for _ in range(BITS):
        pack = where.choice(packs)
        whole = pack.read_bytes()
        bit = where.randrange(8 * len(whole))
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        pack.chmod(0o644)
        pack.write_bytes(damaged)
        assert [found.severity for found in hub.fsck().findings], f"bit {bit} of {pack}"
        try:
            hub.pull("a@2", tmp_path / "out")
        except CorruptData:
            refused += 1
        else:
            assert same(tmp_path / "out", tmp_path / "model")
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        pack.write_bytes(whole)
    assert refused > BITS // 2
    assert not hub.fsck().findings


def same(one: Path, other: Path) -> bool:
    def files(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    return files(one) == files(other)
