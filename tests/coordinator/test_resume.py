"""A push that was broken off goes on from the packs that it had completed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from modelhub import connect
from modelhub.content import windows
from modelhub.content.pack import read_trailer
from modelhub.coordinator import keys, storing
from modelhub.hub import Hub

KILLS = 20
PACK_BYTES = 4 << 20
FILE_BYTES = 96 << 20

PUSH = """
import signal
import sys
from modelhub import connect
from modelhub.content import windows
from modelhub.coordinator import storing

windows._WINDOW_BYTES = 1 << 20
storing.PACK_TARGET_BYTES = storing._LARGE_PACK_BYTES = 4 << 20

def progress(phase, done, total):
    print(done, flush=True)
    if done > total * 3 // 4:
        signal.pause()  # whoever is to kill this process may be late

connect(sys.argv[1]).push("big", sys.argv[2], progress=progress)
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    with (folder / "weights.bin").open("wb") as file:
        noise = random.Random(0)
        for _ in range(FILE_BYTES >> 20):
            file.write(noise.randbytes(1 << 20))
    return folder


@pytest.fixture
def small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "_WINDOW_BYTES", 1 << 20)
    monkeypatch.setattr(storing, "PACK_TARGET_BYTES", PACK_BYTES)
    monkeypatch.setattr(storing, "_LARGE_PACK_BYTES", PACK_BYTES)


def stored_chunks(hub: Hub) -> Counter[bytes]:
    """How often each chunk is in a registered pack."""
    rows = hub._ctx.stores.rows.scan(keys.PACKS, b"\0", b"\xff")
    return Counter(
        record.digest
        for key, _ in rows
        for record in read_trailer(hub._ctx.stores.weights, key.decode())
    )


def killed_pushes(home: Path, source: Path, kills: int) -> Iterator[int]:
    """Pushes that end by SIGKILL at random moments; how far each came, in bytes."""
    moments = random.Random(1)
    for _ in range(kills):
        lines = moments.randrange(1, 30)
        with subprocess.Popen(
            [sys.executable, "-c", PUSH, str(home), str(source)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            came = "0"
            for line in islice(process.stdout, lines):
                came = line
            process.kill()
        assert process.returncode == -signal.SIGKILL
        yield int(came)


@pytest.mark.usefixtures("small_packs")
def test_a_push_killed_at_random_moments_stores_no_chunk_twice(
    tmp_path: Path, source: Path
) -> None:
    undisturbed = connect(tmp_path / "undisturbed").push("big", source)
    reached = list(killed_pushes(tmp_path / "hub", source, KILLS))
    assert max(reached) > PACK_BYTES
    hub = connect(tmp_path / "hub")
    before = stored_chunks(hub)
    assert before, "no killed push completed a pack"
    version = hub.push("big", source)
    assert (version.number, version.content) == (1, undisturbed.content)
    assert version.new_bytes < undisturbed.new_bytes - PACK_BYTES
    assert set(stored_chunks(hub).values()) == {1}
    hub.pull("big", tmp_path / "out")
    assert (tmp_path / "out" / "weights.bin").read_bytes() == (source / "weights.bin").read_bytes()
    assert not [found for found in hub.fsck().findings if found.severity == "error"]


@pytest.mark.usefixtures("small_packs")
def test_an_interrupted_push_keeps_the_pack_that_it_was_writing(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "PACK_TARGET_BYTES", 1 << 30)
    hub = connect(tmp_path / "hub")

    def interrupt(_phase: str, done: int, _total: int) -> None:
        if done > FILE_BYTES // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hub.push("big", source, progress=interrupt)
    kept = sum(stored_chunks(hub).values())
    assert kept > 0
    version = hub.push("big", source)
    assert version.new_bytes < FILE_BYTES * 0.6
    assert set(stored_chunks(hub).values()) == {1}
    assert not hub.verify("big").findings
