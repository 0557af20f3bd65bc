"""What search in SQLite promises beyond the contract: stems, single characters, and no traces."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from modelhub.backends.sqlite_search import SqliteSearch
from modelhub.errors import CorruptData, NotFound, Unavailable
from modelhub.query.parse import parse
from modelhub.stores import Document, Query, SearchIndex
from modelhub.testing.contracts.search import CALLS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "hub" / "search.sqlite"


@pytest.fixture
def index(path: Path) -> Iterator[SqliteSearch]:
    with closing(SqliteSearch(path)) as index:
        index.create_target("t")
        yield index


def raw(path: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement).fetchall()


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        ("many classifiers", "classifier"),
        ("a classifier", "Classifiers"),
        ("fine-tuned for translating", "translation"),
        ("Café Zürich", "cafe zurich"),
        ("cafe", "CAFÉ"),
        ("ＢＥＲＴ－ｂａｓｅ", "bert base"),
        ("straße", "STRASSE"),
        ("Модель Ёлка", "модель елка"),
        ("中文情感分析", "感"),
        ("情感, 分析", "情感分析"),
        ("情", "情"),
        ("ﾃﾞｰﾀ", "データ"),
        ("한국어", "국"),
        ("𠮷野家", "𠮷野"),
        ("GPT-2 (124M)", "gpt-2"),
        ("https://example.org/models/bert_base", "bert_base"),
        ("and or not near", '"NOT"'),
    ],
)
def test_text_is_found_by(index: SqliteSearch, stored: str, text: str) -> None:
    index.write("t", [Document("a", 1, {"card": stored}), Document("b", 1, {"card": "x"})])
    hits = index.search("t", Query(where=parse(text), current_only=False))
    assert [hit.id for hit in hits.hits] == ["a"]


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        ("GPT-J, trained in 2 days", "gpt-2"),
        ("sentiment.nlp", "nlp.sentiment"),
        ("感 情", "感情"),
        ("classic", "class"),
    ],
)
def test_text_is_not_found_by(index: SqliteSearch, stored: str, text: str) -> None:
    index.write("t", [Document("a", 1, {"card": stored})])
    assert index.search("t", Query(where=parse(text), current_only=False)).total == 0


def test_the_shorter_of_two_names_with_the_same_word_ranks_higher(index: SqliteSearch) -> None:
    names = ["nlp.sentiment-v2-large-zh", "nlp.sentiment-v2", *(f"m{n}" for n in range(20))]
    index.write("t", [Document(name, 1, {"name": name, "current": True}) for name in names])
    hits = index.search("t", Query(where=parse("nlp.sentiment-v2"))).hits
    assert [hit.id for hit in hits] == ["nlp.sentiment-v2", "nlp.sentiment-v2-large-zh"]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_index_that_does_not_exist_is_not_found_and_not_made(
    path: Path, tmp_path: Path, call: Callable[[SearchIndex, str], object]
) -> None:
    index = SqliteSearch(path)
    with pytest.raises(NotFound, match=r"search\.sqlite"):
        call(index, "t")
    assert index.targets() == []
    index.drop_target("t")
    assert index.describe()["documents"] == {}
    index.close()
    assert list(tmp_path.iterdir()) == []


def test_a_dropped_target_leaves_no_tables(index: SqliteSearch, path: Path) -> None:
    before = raw(path, "SELECT count(*) FROM sqlite_master")
    index.create_target("u")
    index.write("u", [Document("a", 1, {"name": "a"})])
    index.drop_target("u")
    assert raw(path, "SELECT count(*) FROM sqlite_master") == before
    assert raw(path, "SELECT name FROM targets") == [("t",)]


def test_a_document_and_its_words_are_written_together_or_not_at_all(
    index: SqliteSearch, path: Path
) -> None:
    good, bad = Document("a", 1, {"name": "alpha"}), Document("b", 1, {"name": object()})
    with pytest.raises(TypeError):
        index.write("t", [good, bad])
    assert raw(path, "SELECT * FROM documents_1") == []
    assert raw(path, "SELECT * FROM texts_1") == []


def test_a_write_waits_for_others_no_longer_than_it_may(index: SqliteSearch, path: Path) -> None:
    document = Document("a", 1, {"name": "alpha"})
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        with pytest.raises(Unavailable, match=r"search\.sqlite was locked"):
            index.write("t", [document], timeout_s=0.1)
        assert time.monotonic() - started < 5
    index.write("t", [document], timeout_s=0.1)
    assert index.get("t", ["a"]) == {"a": document}


def test_targets_of_any_name_are_made_by_racing_threads(index: SqliteSearch) -> None:
    names = ["u", "U", 'quo"te', "a b; DROP TABLE targets", "情感"]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(index.create_target, names * 4))
    assert index.targets() == sorted([*names, "t"])


def test_a_damaged_document_is_named_and_not_served(index: SqliteSearch, path: Path) -> None:
    index.write("t", [Document("m@7", 1, {"name": "alpha", "current": True})])
    raw(path, "UPDATE documents_1 SET body = '{broken'")
    with pytest.raises(CorruptData, match="m@7"):
        index.search("t", Query(where=parse("alpha")))
    with pytest.raises(CorruptData, match="m@7"):
        list(index.scan("t"))


@pytest.mark.parametrize("call", ["write", "search", "near"])
def test_a_target_of_an_earlier_release_is_left_as_it_is_and_names_the_way_out(
    index: SqliteSearch, path: Path, call: str
) -> None:
    index.write("t", [Document("a", 1, {"name": "alpha"})])
    raw(path, "DROP TABLE numbers_1")  # which earlier releases did not make
    with pytest.raises(CorruptData, match="'t'") as caught:
        CALLS[call](index, "t")
    assert "modelhub admin reindex" in caught.value.remedy
    assert list(index.scan("t")) == [Document("a", 1, {"name": "alpha"})]
    index.drop_target("t")
    assert raw(path, "SELECT name FROM sqlite_master WHERE name LIKE 'documents%'") == []
