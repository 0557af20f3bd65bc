"""Damaged hints, search documents and system rows: readers go by the log, and stay right.

What a test expects to fail for now is strict: it says so once that has come right.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import modelhub
from modelhub.coordinator import keys
from modelhub.errors import CorruptData, InvalidInput, NotFound
from tests.coordinator.conftest import (
    COUNTS,
    GARBAGE,
    INTACT,
    LONG,
    MOOD,
    VOCABULARY,
    Damaged,
    Pull,
    files_of,
    refused,
    written,
)

pytestmark = pytest.mark.usefixtures("rest_is_sound")

OLD = f"{LONG}@5"


@pytest.fixture
def everything_reads_right(damaged: Damaged, pulled: Pull) -> Callable[[], None]:
    def check() -> None:
        for name, count in COUNTS.items():
            assert damaged.hub.show(name).number == count
            assert [entry.number for entry in damaged.hub.log(name)] == [*range(count, 0, -1)]
        for revision in (OLD, f"{LONG}@40", f"{MOOD}@1", f"{MOOD}@3"):
            assert damaged.hub.show(revision).metadata.title == revision
            assert pulled(revision) == files_of(revision)

    return check


# --- versions and models -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        GARBAGE,
        b'{"seq": 6, "txid": "00"}',
        b'{"seq": 4000, "txid": "00"}',
        b'{"seq": -1, "txid": "00"}',
        b'{"seq": 99999999999999, "txid": "00"}',
        None,
    ],
)
def test_a_version_is_found_without_its_hint(
    damaged: Damaged, everything_reads_right: Callable[[], None], value: bytes | None
) -> None:
    key = keys.version(LONG, 5)
    if value is None:
        damaged.delete("versions", key)
    else:
        damaged.put("versions", key, value)
    assert damaged.findings() == {("hint-stale", f"versions row of {OLD}")}
    everything_reads_right()
    assert damaged.hub.delete(OLD).deleted
    assert damaged.hub.undelete(OLD).number == 5


@pytest.mark.parametrize("hurt", ["garbage", "absent", "of another"])
def test_a_models_hint_misleads_no_reader_and_heals_with_the_next_change(
    damaged: Damaged, everything_reads_right: Callable[[], None], hurt: str
) -> None:
    key = keys.model(MOOD)
    if hurt == "absent":
        damaged.delete("models", key)
    else:
        other = damaged.get("models", keys.model(LONG))
        damaged.put("models", key, GARBAGE if hurt == "garbage" else other)
    assert damaged.findings() == {("hint-stale", f"models row of {MOOD}")}
    everything_reads_right()
    listed = {model.name: model for model in damaged.hub.list()}
    assert listed.keys() | {MOOD} == COUNTS.keys()
    if hurt == "garbage":
        assert (listed[MOOD].versions, listed[MOOD].title) == (3, f"{MOOD}@3")

    damaged.hub.edit(MOOD, title="healed")
    assert [model.title for model in damaged.hub.list(pattern=MOOD)] == ["healed"]
    assert not damaged.findings()


# --- chunks and lookup -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        GARBAGE,
        b'{"pack": "%(pack)s", "offset": 17, "stored": 3000, "length": 3000}',
        b'{"pack": "%(pack)s", "offset": -16, "stored": 3000, "length": 3000}',
        b'{"pack": "%(pack)s", "offset": 16, "stored": 4294967296, "length": 4294967296}',
        b'{"pack": "%(pack)s", "offset": 16, "stored": 0, "length": 0}',
        b'{"pack": "%(pack)s", "offset": 9e99, "stored": 3000, "length": 3000}',
        b'{"pack": "%(pack)s", "offset": 16, "stored": 3000, "length": 3000, "encoding": 9}',
        b'{"pack": "%(pack)s", "offset": 16, "stored": 3000, "length": 3000, "base": {"digest": "'
        + b"0" * 64
        + b'", "pack": "%(pack)s", "offset": 16, "stored": 3000, "encoding": 0}}',
        b'{"pack": "%(pack)s", "offset": 16, "stored": 9, "length": 999999999999, "encoding": 2}',
        b'{"pack": "00000000000000000000000000000000", "offset": 1, "stored": 1, "length": 1}',
        b'{"pack": "../../../etc/passwd", "offset": 1, "stored": 1, "length": 1}',
        b'{"pack": "a\\u0000b", "offset": 1, "stored": 1, "length": 1}',
        b'{"pack": "", "offset": 1, "stored": 1, "length": 1}',
        None,
    ],
)
def test_a_push_believes_no_chunk_hint_that_is_wrong(
    damaged: Damaged, pulled: Pull, tmp_path: Path, value: bytes | None
) -> None:
    ref = damaged.chunk(f"{MOOD}@1", "vocabulary.txt")
    key = keys.chunk(ref.digest)
    if value is None:
        damaged.delete("chunks", key)
    else:
        damaged.put("chunks", key, value.replace(b"%(pack)s", ref.pack.encode()))
    files = {"words.txt": VOCABULARY}
    stored = damaged.hub.push("nlp.other", written(tmp_path / "new", files))
    assert stored.new_bytes > len(VOCABULARY)
    assert pulled("nlp.other") == files
    assert b"words" not in damaged.get("chunks", key)
    again = damaged.hub.push("nlp.third", tmp_path / "new")
    assert again.new_bytes < len(VOCABULARY), "the hint was not put right"
    assert not damaged.findings()
    assert damaged.hub.status().intents == 0


def test_a_damaged_lookup_row_makes_no_second_version(damaged: Damaged, source: Path) -> None:
    first = damaged.hub.push(MOOD, source, request_id="once")
    start, stop = keys.lookup_range("request", "once", MOOD)
    ((key, _),) = damaged.sql("SELECT * FROM lookup WHERE key >= ? AND key < ?", start, stop)
    damaged.put("lookup", key, GARBAGE)
    assert damaged.hub.push(MOOD, source, request_id="once") == first


def test_a_missing_lookup_row_is_named(damaged: Damaged, source: Path) -> None:
    damaged.hub.push(MOOD, source, request_id="once")
    start, stop = keys.lookup_range("request", "once", MOOD)
    damaged.sql("DELETE FROM lookup WHERE key >= ? AND key < ?", start, stop)
    assert any(MOOD in subject for _, subject in damaged.findings())


# --- search ------------------------------------------------------------------------------------

DOCUMENT = "UPDATE documents_1 SET body = ? WHERE id = ?"


@pytest.mark.parametrize("hurt", ["other text", "no fields", "absent", "newer"])
def test_a_document_that_says_something_else_is_named_and_heals_with_the_next_change(
    damaged: Damaged, everything_reads_right: Callable[[], None], hurt: str
) -> None:
    revision, file = f"{MOOD}@3", "search.sqlite"
    select = "SELECT body FROM documents_1 WHERE id = ?"
    ((body,),) = damaged.sql(select, revision, file=file)
    if hurt == "other text":
        changed = json.dumps(json.loads(body) | {"title": "something else"})
        damaged.sql(DOCUMENT, changed, revision, file=file)
    elif hurt == "no fields":
        damaged.sql(DOCUMENT, "{}", revision, file=file)
    elif hurt == "absent":
        damaged.sql("DELETE FROM documents_1 WHERE id = ?", revision, file=file)
    else:
        damaged.sql("UPDATE documents_1 SET version = 4 WHERE id = ?", revision, file=file)
    assert damaged.findings(data=False) == {("search-stale", revision)}
    everything_reads_right()
    damaged.hub.edit(revision, title="healed once")
    damaged.hub.edit(revision, title="healed")
    assert [hit.name for hit in damaged.hub.search("healed").hits] == [MOOD]
    assert not damaged.findings(data=False)


def test_an_unreadable_document_is_not_served(
    damaged: Damaged, everything_reads_right: Callable[[], None]
) -> None:
    damaged.sql(DOCUMENT, "{", f"{MOOD}@3", file="search.sqlite")
    refused(CorruptData, lambda: damaged.hub.search(MOOD), f"{MOOD}@3")
    assert damaged.run("search", MOOD)[0] == 8
    everything_reads_right()
    damaged.hub.edit(MOOD, title="healed")
    assert not damaged.findings()


def test_an_unreadable_document_is_named(damaged: Damaged) -> None:
    damaged.sql(DOCUMENT, "{", f"{MOOD}@3", file="search.sqlite")
    assert damaged.findings() == {("search-stale", f"{MOOD}@3")}


def test_a_document_without_its_fields_is_not_served(damaged: Damaged) -> None:
    damaged.sql(DOCUMENT, "{}", f"{MOOD}@3", file="search.sqlite")
    refused(CorruptData, lambda: damaged.hub.search(MOOD), f"{MOOD}@3")


def test_an_edit_writes_a_document_again_as_fsck_says(damaged: Damaged) -> None:
    damaged.sql("DELETE FROM documents_1 WHERE id = ?", f"{MOOD}@3", file="search.sqlite")
    assert "edit" in damaged.hub.fsck().findings[0].repair
    damaged.hub.edit(f"{MOOD}@3", title="written again")
    assert not damaged.findings()


def test_without_its_search_index_a_hub_does_everything_but_search(
    damaged: Damaged, everything_reads_right: Callable[[], None], pulled: Pull, source: Path
) -> None:
    damaged.hub.close()
    for file in damaged.folder.glob("search.sqlite*"):
        file.unlink()
    everything_reads_right()
    assert damaged.hub.push(MOOD, source).number == 4
    assert pulled(f"{MOOD}@4")["vocabulary.txt"] == VOCABULARY
    with pytest.raises(NotFound, match="search"):
        damaged.hub.search(MOOD)


def test_a_missing_search_index_is_named(damaged: Damaged) -> None:
    damaged.hub.close()
    for file in damaged.folder.glob("search.sqlite*"):
        file.unlink()
    assert damaged.findings()


# --- packs, intents and system -----------------------------------------------------------------


def test_a_pack_without_a_row_is_named_and_stored_anew(
    damaged: Damaged, everything_reads_right: Callable[[], None], pulled: Pull, source: Path
) -> None:
    pack = damaged.chunk(f"{MOOD}@1", "vocabulary.txt").pack
    damaged.delete("packs", keys.pack(pack))
    assert damaged.findings() == {("pack-missing", f"pack {pack} (used by {MOOD})")}
    everything_reads_right()
    assert damaged.hub.push(MOOD, source).new_bytes > len(VOCABULARY)
    assert damaged.chunk(f"{MOOD}@4", "vocabulary.txt").pack != pack
    assert pulled(f"{MOOD}@4")["vocabulary.txt"] == VOCABULARY


def test_a_pack_with_an_unreadable_row_is_read_but_not_reused(
    damaged: Damaged, everything_reads_right: Callable[[], None], source: Path
) -> None:
    pack = damaged.chunk(f"{MOOD}@1", "vocabulary.txt").pack
    damaged.put("packs", keys.pack(pack), GARBAGE)
    everything_reads_right()
    assert damaged.hub.push(MOOD, source).new_bytes > len(VOCABULARY)
    assert damaged.chunk(f"{MOOD}@4", "vocabulary.txt").pack != pack


@pytest.mark.parametrize("table", ["packs", "intents"])
def test_an_unreadable_row_is_named(damaged: Damaged, table: str) -> None:
    key = keys.pack(damaged.manifest(MOOD).pack) if table == "packs" else keys.intent(MOOD, "00")
    damaged.sql(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", key, GARBAGE)
    assert any(MOOD in subject for _, subject in damaged.findings())


def test_an_unreadable_intent_does_not_keep_a_sweep_from_the_others(damaged: Damaged) -> None:
    damaged.sql("INSERT INTO intents VALUES (?, ?)", keys.intent(MOOD, "00"), GARBAGE)
    damaged.hub.sweep()


def test_without_its_search_targets_a_hub_does_everything_but_search(
    damaged: Damaged, source: Path
) -> None:
    whole = damaged.get("system", keys.SEARCH)
    damaged.put("system", keys.SEARCH, GARBAGE)
    with modelhub.connect(damaged.folder) as hub:
        refused(CorruptData, lambda: hub.search(MOOD), "search targets")
        assert hub.push(MOOD, source, title="unseen so far").number == 4
        assert hub.show(MOOD).number == 4
        assert hub.status().intents == 1
    damaged.put("system", keys.SEARCH, whole)
    assert damaged.hub.sweep().documents
    assert damaged.hub.search('"unseen so far"').total == 1
    assert not damaged.findings()


@pytest.mark.parametrize("hurt", ["garbage", "absent"])
def test_damaged_search_targets_are_named(damaged: Damaged, hurt: str) -> None:
    whole = damaged.get("system", keys.SEARCH)
    damaged.put("system", keys.SEARCH, GARBAGE)
    if hurt == "absent":
        damaged.delete("system", keys.SEARCH)
    try:
        assert damaged.findings()
    finally:
        damaged.sql("INSERT OR REPLACE INTO system VALUES (?, ?)", keys.SEARCH, whole)


def test_a_hub_of_unreadable_format_is_left_alone(
    damaged: Damaged, source: Path, tmp_path: Path
) -> None:
    whole = damaged.get("system", keys.FORMAT)
    damaged.put("system", keys.FORMAT, GARBAGE)
    rows = damaged.sql("SELECT * FROM log") + damaged.sql("SELECT * FROM intents")
    with modelhub.connect(damaged.folder) as hub:
        acts: list[Callable[[], object]] = [
            *(hub.init, hub.list, hub.search, hub.fsck, hub.sweep),
            *(lambda act=act: act(MOOD) for act in (hub.show, hub.files, hub.log, hub.delete)),
            lambda: hub.pull(MOOD, tmp_path / "pulled"),
            lambda: hub.push(MOOD, source),
        ]
        for act in acts:
            refused(CorruptData, act, "format row")
        assert hub.status().format is None
    code, complaint = damaged.run("ls")
    assert (code, "format row" in complaint) == (8, True)
    assert damaged.sql("SELECT * FROM log") + damaged.sql("SELECT * FROM intents") == rows
    damaged.put("system", keys.FORMAT, whole)


def test_a_hub_without_its_format_row_is_left_alone_until_the_row_is_back(
    damaged: Damaged, everything_reads_right: Callable[[], None]
) -> None:
    whole = damaged.get("system", keys.FORMAT)
    damaged.delete("system", keys.FORMAT)
    with modelhub.connect(damaged.folder) as hub:
        with pytest.raises(NotFound, match="no hub"):
            hub.show(INTACT)
        refused(InvalidInput, hub.init, "holds models", "'format'")
    damaged.sql("INSERT INTO system VALUES (?, ?)", keys.FORMAT, whole)
    everything_reads_right()
    assert not damaged.findings()
