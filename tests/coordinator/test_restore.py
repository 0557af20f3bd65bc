"""Going back: to a version, to a time, or with some files; nothing is stored for it.

Tier: CI runs all of it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from modelhub.backends.memory import MemoryWeights
from modelhub.coordinator import keys
from modelhub.coordinator.context import Context, Stores
from modelhub.errors import InvalidInput, NotFound
from modelhub.hub import Hub
from modelhub.records import PackRow, decode, encode
from modelhub.testing.faults import Call, Faults, Outcome

NAME = "nlp.mood"
MIB = 1 << 20


@pytest.fixture
def hub(memory_hub: Hub) -> Hub:
    return memory_hub


def contents(number: int) -> dict[str, bytes]:
    """Version ``number``: weights of its own, a configuration that changes, a constant card."""
    return {
        "weights.bin": random.Random(number).randbytes(3 * MIB),
        "config.json": b'{"number": %d}' % number,
        "sub/only.txt" if number % 2 else "sub/even.txt": b"here",
        "vocabulary.txt": b"words" * 1000,
    }


@pytest.fixture
def pushed(hub: Hub, tmp_path: Path) -> None:
    """Three versions, which differ in files, metadata and modes."""
    for number in (1, 2, 3):
        folder = tmp_path / f"v{number}"
        for path, data in contents(number).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        (folder / "config.json").chmod(0o600 if number == 1 else 0o644)
        hub.push(NAME, folder, title=f"title {number}", metrics={"f1": number / 10})


def files(hub: Hub, revision: str) -> dict[str, bytes]:
    root = hub.snapshot(revision)
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def weight_calls(faults: Faults) -> list[str]:
    return [call.method for call in faults.calls if call.store == "weights"]


@pytest.mark.usefixtures("pushed")
def test_a_rollback_is_a_new_version_that_stores_and_reads_no_chunk(
    hub: Hub, stores: Stores, tmp_path: Path
) -> None:
    assert isinstance(stores.weights, MemoryWeights)
    before = set(stores.weights._files)
    faults = Faults(stores)
    watched = Hub(Context(faults.stores, "tester"), address="test", cache=tmp_path / "cache")
    version = watched.rollback(NAME, to=1)
    assert (version.number, version.parents, version.origin) == (4, (3,), 1)
    assert version.new_bytes == 0
    assert set(weight_calls(faults)) <= {"size", "read"}
    assert weight_calls(faults).count("read") <= 3, "manifests alone"
    assert set(stores.weights._files) == before
    assert files(hub, NAME) == contents(1)
    diff = hub.diff(f"{NAME}@1", f"{NAME}@4")
    assert not diff.files
    assert not diff.metadata
    assert hub.show(NAME).content == hub.show(f"{NAME}@1").content
    assert hub.log(NAME)[0].message == f"back to {NAME}@1"
    assert not hub.fsck().findings


@pytest.mark.usefixtures("pushed")
def test_a_rollback_to_what_is_there_already_does_nothing(hub: Hub) -> None:
    hub.rollback(NAME, to="2")
    before = len(hub.log(NAME))
    assert hub.rollback(NAME, to="2").number == 4
    assert hub.rollback(NAME, to=f"{NAME}@4").number == 4
    assert len(hub.log(NAME)) == before
    hub.edit(f"{NAME}@2", title="other")
    assert hub.rollback(NAME, to="2").number == 5
    assert hub.show(NAME).metadata.title == "other"


@pytest.mark.usefixtures("pushed")
def test_a_rollback_to_a_time_and_on_a_branch(hub: Hub) -> None:
    second = hub.show(f"{NAME}@2").created.isoformat()
    assert files(hub, f"{NAME}@{hub.rollback(NAME, at=second).number}") == contents(2)
    hub.branch.create(NAME, "fix", at="3")
    version = hub.rollback(NAME, to="1", branch="fix", message="why")
    assert (version.branch, version.parents, version.message) == ("fix", (3,), "why")
    assert hub.show(NAME).number == 4
    for wrong in ({}, {"to": "1", "at": second}):
        with pytest.raises(InvalidInput):
            hub.rollback(NAME, **wrong)
    hub.delete(f"{NAME}@2")
    for absent in ({"to": "2"}, {"to": "99"}, {"at": "2001-01-01"}, {"to": "1", "branch": "none"}):
        with pytest.raises(NotFound):
            hub.rollback(NAME, **absent)
    with pytest.raises(InvalidInput, match=r"nlp\.other"):
        hub.rollback(NAME, to="nlp.other@1")


@pytest.mark.usefixtures("pushed")
def test_some_files_come_back_and_the_rest_stays(hub: Hub) -> None:
    version = hub.restore(f"{NAME}@1", ["config.json", "sub/"])
    assert (version.number, version.parents, version.origin) == (4, (3,), 1)
    assert files(hub, NAME) == {
        **contents(3),
        "config.json": contents(1)["config.json"],
        "sub/only.txt": b"here",
    }
    assert version.metadata.title == "title 3"
    modes = {file.path: file.mode for file in hub.files(NAME)}
    assert modes["config.json"] == 0o600
    assert version.new_bytes < 4096, "a manifest"
    assert hub.restore(f"{NAME}@1", ["config.json"]).number == 4
    assert not hub.fsck(data=True).findings
    with pytest.raises(NotFound, match="none"):
        hub.restore(f"{NAME}@1", ["none"])
    with pytest.raises(InvalidInput):
        hub.restore(f"{NAME}@1", [])


Hurt = Callable[[Stores, bytes], None]


def condemn(stores: Stores, key: bytes) -> None:
    row = decode(stores.rows.get(keys.PACKS, key) or b"", PackRow, "the row")
    condemned = PackRow(state="condemned", size_bytes=row.size_bytes, token="collector")
    stores.rows.put(keys.PACKS, key, encode(condemned))


def shorten_row(stores: Stores, key: bytes) -> None:
    row = decode(stores.rows.get(keys.PACKS, key) or b"", PackRow, "the row")
    wrong = PackRow(state="live", size_bytes=row.size_bytes + 1, token="other")
    stores.rows.put(keys.PACKS, key, encode(wrong))


@pytest.mark.usefixtures("pushed")
@pytest.mark.parametrize(("hurt", "stored"), [(condemn, 0), (shorten_row, 3 * MIB)])
def test_a_pack_that_cannot_be_relied_on_is_revived_or_its_chunks_are_stored_anew(
    hub: Hub, stores: Stores, hurt: Hurt, stored: int
) -> None:
    first = hub.show(f"{NAME}@1")
    (pack,) = hub._manifest(*hub._resolve(f"{NAME}@1")).packs()
    key = pack.encode()
    hurt(stores, key)
    version = hub.rollback(NAME, to=1)
    assert stored <= version.new_bytes <= stored + 0.1 * MIB
    assert version.content == first.content
    assert files(hub, NAME) == contents(1)
    live = decode(stores.rows.get(keys.PACKS, key) or b"", PackRow, "the row")
    assert live.state == "live"


@pytest.mark.usefixtures("pushed")
def test_a_damaged_head_stops_nobody_from_going_back(hub: Hub, stores: Stores) -> None:
    for key, _ in list(stores.rows.scan(keys.METADATA, *keys.metadata_range(NAME, 3))):
        stores.rows.put(keys.METADATA, key, b"damaged")
    assert hub.rollback(NAME, to=1).number == 4
    assert files(hub, NAME) == contents(1)


@pytest.mark.usefixtures("pushed")
def test_a_rebase_chooses_anew(hub: Hub, stores: Stores, tmp_path: Path) -> None:
    """Somebody publishes just before the commit: the files of their version are kept."""
    done: list[bool] = []

    def plan(call: Call) -> Outcome:
        if (call.method, call.where) == ("check_and_put", keys.LOG) and not done:
            done.append(True)
            (tmp_path / "v3" / "new.txt").write_text("new")
            hub.push(NAME, tmp_path / "v3")
        return Outcome.OK

    faults = Faults(stores, plan)
    other = Hub(Context(faults.stores, "other"), address="test", cache=tmp_path / "cache")
    version = other.restore(f"{NAME}@1", ["config.json"])
    assert (version.number, version.parents) == (5, (4,))
    assert files(hub, NAME) == {
        **contents(3),
        "new.txt": b"new",
        "config.json": contents(1)["config.json"],
    }
