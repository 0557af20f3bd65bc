"""The populated hub is one that the coordinator could have written, and can go on with."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

import pytest

from modelhub.backends.memory import MemoryRows, MemorySearch, MemoryWeights
from modelhub.connect import embedded_stores
from modelhub.coordinator import keys
from modelhub.coordinator.context import Context, Stores
from modelhub.coordinator.log import open_row
from modelhub.errors import AlreadyExists, InvalidInput
from modelhub.hub import Hub
from modelhub.records import Published
from modelhub.testing.populate import BEGINNING, PERIOD, populate

VERSIONS, MODELS = 2_000, 40


def in_memory(_folder: Path) -> Stores:
    return Stores(MemoryWeights(), MemoryRows(), MemorySearch())


def open_hub(stores: Stores, cache: Path) -> Hub:
    return Hub(Context(stores, "tester"), address="populated", cache=cache)


@pytest.fixture(scope="module", params=[in_memory, embedded_stores], ids=["memory", "embedded"])
def stores(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stores]:
    made: Stores = request.param(tmp_path_factory.mktemp("hub"))
    populate(made, versions=VERSIONS, models=MODELS, seed=7)
    yield made
    for store in (made.rows, made.search, made.weights):
        store.close()


@pytest.fixture
def hub(stores: Stores, tmp_path: Path) -> Hub:
    return open_hub(stores, tmp_path / "cache")


def test_fsck_finds_every_version_and_nothing_wrong(hub: Hub) -> None:
    health = hub.fsck()
    assert list(health.findings) == []
    assert health.checked["versions"] == VERSIONS
    assert health.checked["documents"] == VERSIONS
    assert health.checked["models"] == MODELS
    assert health.checked["packs"] <= 10
    assert hub.status().intents == 0


def test_the_log_holds_a_mix_of_changes_with_a_snapshot_on_every_32nd(stores: Stores) -> None:
    ops: Counter[str] = Counter()
    published: Counter[str] = Counter()
    for key, value in stores.rows.scan(keys.LOG, b"\0", b"\xff"):
        entry = open_row(key, value).entry
        ops[str(entry.change.__struct_config__.tag)] += 1
        published[keys.parse_log(key)[0]] += isinstance(entry.change, Published)
        assert (entry.state is not None) == (entry.seq % 32 == 0)
        assert BEGINNING <= entry.time <= BEGINNING + PERIOD
        assert entry.actor
        assert entry.message
    assert set(ops) == {"publish", "edit", "delete", "undelete"}
    assert ops["publish"] == VERSIONS > 10 * ops["edit"] > 10 * ops["undelete"] > 0
    assert max(published.values()) > 3 * VERSIONS / MODELS, "no model stands out"


def test_models_are_listed_and_found_in_both_languages(hub: Hub) -> None:
    listed = hub.list()
    assert len(listed) == MODELS
    assert all(model.title and model.versions for model in listed)
    chinese = [model for model in listed if not model.title.isascii()]
    assert 0 < len(chinese) < MODELS
    title = hub.search("模型", limit=MODELS, all_versions=True)
    assert {hit.name for hit in title.hits} <= {model.name for model in chinese}
    assert hub.search('"trained on"', all_versions=True).total > VERSIONS / 4
    assert hub.show(chinese[0].name).metadata.params["epochs"]


def test_requests_and_bases_can_be_looked_up(stores: Stores) -> None:
    kinds = Counter(
        keys.parse_lookup(key)[0] for key, _ in stores.rows.scan(keys.LOOKUP, b"\0", b"\xff")
    )
    assert kinds["content"] == VERSIONS
    assert VERSIONS > kinds["request"] > kinds["base"] > 0


@pytest.mark.parametrize("make", [in_memory, embedded_stores])
def test_the_coordinator_goes_on_where_the_populated_log_ends(
    make: Callable[[Path], Stores], tmp_path: Path
) -> None:
    stores = make(tmp_path / "hub")
    populate(stores, versions=120, models=3)
    hub = open_hub(stores, tmp_path / "cache")
    name = max(hub.list(), key=lambda model: model.versions).name
    before = hub.show(name)
    folder = hub.pull(name, tmp_path / "pulled")
    assert {str(path.name): path.stat().st_size for path in folder.iterdir()} == {
        file.path: file.size_bytes for file in hub.files(name)
    }
    pushed = hub.push(name, folder, message="the same once more")
    assert pushed.number > before.number
    assert (pushed.content, pushed.new_bytes) == (before.content, 0)
    hub.delete(f"{name}@{pushed.number}")
    assert hub.show(name).number == before.number
    hub.undelete(f"{name}@{pushed.number}")
    hub.edit(name, title="Still at work")
    assert hub.search('"still at work"').total == 1
    assert list(hub.fsck().findings) == []
    hub.close()


def test_neighbouring_versions_share_chunks(hub: Hub) -> None:
    name = max(hub.list(), key=lambda model: model.versions).name
    changed = {change.path for change in hub.diff(f"{name}@1", f"{name}@2").files}
    assert changed == {"config.json", "model-00002-of-00003.bin"}


def test_the_same_seed_tells_the_same_story(tmp_path: Path) -> None:
    def story(folder: str, seed: int) -> list[tuple[object, ...]]:
        stores = in_memory(tmp_path / folder)
        populate(stores, versions=200, models=10, seed=seed)
        hub = open_hub(stores, tmp_path)
        return [
            (entry.op, entry.message, entry.actor, entry.created, version.content, version.metadata)
            for model in hub.list()
            for entry in hub.log(model.name)
            for version in [hub.show(f"{model.name}@{entry.number}")]
        ]

    assert story("first", 1) == story("second", 1)
    assert story("first", 1) != story("other", 2)


def test_progress_is_told_up_to_the_last_version(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    populate(in_memory(tmp_path), versions=30, models=3, progress=lambda *step: told.append(step))
    assert told[-1] == ("populate", 30, 30)
    assert len(told) == 3


def test_a_hub_that_is_there_is_left_alone(stores: Stores) -> None:
    with pytest.raises(AlreadyExists, match="a hub"):
        populate(stores, versions=10, models=1)


@pytest.mark.parametrize(("versions", "models"), [(5, 6), (5, 0), (0, 0), (-1, -1)])
def test_every_model_has_a_version(tmp_path: Path, versions: int, models: int) -> None:
    stores = in_memory(tmp_path)
    with pytest.raises(InvalidInput, match="models"):
        populate(stores, versions=versions, models=models)
    assert stores.rows._tables == {}  # type: ignore[attr-defined]


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_versions(tmp_path: Path, figure: Callable[[str], None]) -> None:
    stores, begun_s = embedded_stores(tmp_path / "hub"), time.perf_counter()
    populate(stores)
    written_s = time.perf_counter()
    hub = open_hub(stores, tmp_path / "cache")
    health = hub.fsck(data=False)
    checked_s = time.perf_counter()
    assert list(health.findings) == []
    assert health.checked["versions"] == 100_000
    assert len(hub.list()) == 2_000
    hub.close()
    figure(
        f"100,000 versions: written in {written_s - begun_s:.0f} s, checked in "
        f"{checked_s - written_s:.0f} s, {getrusage(RUSAGE_SELF).ru_maxrss >> 10} MiB at most"
    )
