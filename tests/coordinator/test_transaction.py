"""What a commit tells its caller, at the edges where a store's answer is not the whole truth."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelhub.backends.memory import MemoryRows, MemorySearch, MemoryWeights
from modelhub.coordinator import keys
from modelhub.coordinator.context import Context, Stores
from modelhub.errors import CorruptData, OutcomeUnknown, Unavailable
from modelhub.hub import Hub
from modelhub.testing.crashes import IMPATIENT, no_pause


class DoublingRows(MemoryRows):
    """A gateway that sends a commit twice, answers for the second, and is gone afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.doubles = False
        self.away = False

    def check_and_put(self, table: str, key: bytes, expected: bytes | None, value: bytes) -> bool:
        landed = super().check_and_put(table, key, expected, value)
        if self.doubles and table == keys.LOG:
            self.away = True
            return False
        return landed

    def get(self, table: str, key: bytes) -> bytes | None:
        if self.away:
            raise Unavailable("the row store is away")
        return super().get(table, key)


def make_hub(rows: MemoryRows, cache: Path) -> Hub:
    stores = Stores(MemoryWeights(), rows, MemorySearch())
    return Hub(Context(stores, "tester", IMPATIENT, pause=no_pause), address="test", cache=cache)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(b"weights" * 100)
    return folder


def test_a_false_whose_row_cannot_be_read_is_no_proof_that_nothing_landed(
    model: Path, tmp_path: Path
) -> None:
    rows = DoublingRows()
    hub = make_hub(rows, tmp_path)
    hub.init()
    rows.doubles = True
    with pytest.raises(OutcomeUnknown):
        hub.push("nlp.x", model)
    rows.doubles = rows.away = False
    assert hub.show("nlp.x").number == 1


def test_a_neighbours_damaged_metadata_does_not_fail_a_delete_that_landed(
    model: Path, tmp_path: Path
) -> None:
    rows = MemoryRows()
    hub = make_hub(rows, tmp_path)
    hub.push("nlp.x", model)
    hub.push("nlp.x", model)
    erased = [key for key, _ in rows.scan(keys.METADATA, *keys.metadata_range("nlp.x", 1))]
    rows.delete_many(keys.METADATA, erased)
    assert hub.delete("nlp.x@2").deleted
    assert hub.log("nlp.x")[0].op == "delete"
    with pytest.raises(CorruptData):
        hub.show("nlp.x")
