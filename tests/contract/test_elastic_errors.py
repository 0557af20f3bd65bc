"""What becomes of each way in which Elasticsearch, or what stands in for it, may answer or not."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelhub.backends.elastic_search import ElasticIndex
from modelhub.backends.memory import MemoryRows, MemoryWeights
from modelhub.coordinator.context import Context, Stores
from modelhub.errors import (
    CorruptData,
    Forbidden,
    InvalidInput,
    ModelhubError,
    NotFound,
    OutcomeUnknown,
    Unavailable,
)
from modelhub.hub import Hub
from modelhub.query.parse import parse
from modelhub.stores import Document, Query
from tests.live.stand_in import HITS, Answer, Asked, StandIn, bulk_answer, error, taken

TARGET = "modelhub-t"
DOCUMENTS = [Document("a", 1, {"name": "a"}), Document("b", 1, None)]


@pytest.fixture
def index(stand_in: StandIn, opened: Callable[..., ElasticIndex]) -> ElasticIndex:
    return opened(stand_in.url)


def raised(call: Callable[[], object]) -> ModelhubError:
    with pytest.raises(ModelhubError) as caught:
        call()
    return caught.value


PROXY = {"Content-Type": "text/html"}
BLOCK = error("cluster_block_exception", "blocked by: [SERVICE_UNAVAILABLE/1/state not recovered]")


@pytest.mark.parametrize(
    ("answer", "expected", "remedy"),
    [
        (Answer(401, error("security_exception")), (Forbidden, Forbidden), "search_password"),
        (Answer(401, b"<html>", PROXY), (Forbidden, Forbidden), "search_password"),
        (Answer(403, error("security_exception")), (Forbidden, Forbidden), "index privileges"),
        (Answer(403, b"<html>", PROXY), (Forbidden, Forbidden), "index privileges"),
        (Answer(404, error("index_not_found_exception")), (NotFound, NotFound), "reindex"),
        (Answer(404, b"<html>", PROXY), (Unavailable, Unavailable), "the URL of search"),
        (Answer(413, b"<html>", PROXY), (InvalidInput, InvalidInput), "max_content_length"),
        (Answer(429, error("circuit_breaking_exception")), (Unavailable, Unavailable), "later"),
        (Answer(429, b"<html>", PROXY), (Unavailable, OutcomeUnknown), "recovered"),
        (Answer(500, error("null_pointer")), (Unavailable, OutcomeUnknown), "try again"),
        (Answer(502, b"<html>", PROXY), (Unavailable, OutcomeUnknown), "recovered"),
        (Answer(503, BLOCK), (Unavailable, Unavailable), "recovered"),
        (Answer(503, b"<html>", PROXY), (Unavailable, OutcomeUnknown), "recovered"),
        (Answer(504, b"", {}), (Unavailable, OutcomeUnknown), "recovered"),
        (Answer(200, b"<html>", PROXY), (Unavailable, Unavailable), "the URL of search"),
        (Answer(200, {}, {}), (Unavailable, Unavailable), "the URL of search"),
        (Answer(200, b"{broken"), (Unavailable, OutcomeUnknown), "the URL of search"),
        (Answer(200, b"", {"Content-Type": "x/y"}), (Unavailable, OutcomeUnknown), "the URL"),
        (None, (Unavailable, OutcomeUnknown), "https://"),
    ],
    ids=repr,
)
def test_each_answer_is_an_error_with_the_address_and_a_remedy_and_is_asked_for_once(
    stand_in: StandIn,
    index: ElasticIndex,
    answer: Answer | None,
    expected: tuple[type[ModelhubError], type[ModelhubError]],
    remedy: str,
) -> None:
    stand_in.answer = lambda _: answer
    reading, writing = expected
    calls: list[tuple[Callable[[], object], type[ModelhubError]]] = [
        (lambda: index.search(TARGET, Query(where=parse("a"))), reading),
        (lambda: index.get(TARGET, ["a"]), reading),
        (lambda: list(index.scan(TARGET)), reading),
        (index.describe, reading),
        (lambda: index.write(TARGET, DOCUMENTS), writing),
        (lambda: index.create_target(TARGET), writing),
        (lambda: index.drop_target(TARGET), writing),
    ]
    for call, kind in calls:
        before = len(stand_in.asked)
        found = raised(call)
        assert type(found) is kind
        assert stand_in.url in found.message
        assert remedy in found.remedy
        assert len(stand_in.asked) == before + 1


def test_what_never_answers_is_waited_for_no_longer_than_said(
    stand_in: StandIn, opened: Callable[..., ElasticIndex]
) -> None:
    stand_in.answer = stand_in.hang
    index = opened(stand_in.url, timeout_s=0.5)
    patient = opened(stand_in.url, timeout_s=60.0)
    calls: list[tuple[Callable[[], object], type[ModelhubError]]] = [
        (lambda: index.search(TARGET, Query()), Unavailable),
        (lambda: index.write(TARGET, DOCUMENTS), OutcomeUnknown),
        (lambda: index.write(TARGET, DOCUMENTS, timeout_s=60.0), OutcomeUnknown),
        (lambda: patient.write(TARGET, DOCUMENTS, timeout_s=0.5), OutcomeUnknown),
    ]
    for call, expected in calls:
        started = time.monotonic()
        found = raised(call)
        assert 0.4 < time.monotonic() - started < 2
        assert type(found) is expected
        assert "did not answer in time" in found.message
    assert len(stand_in.asked) == len(calls)


def test_a_write_of_several_requests_ends_in_its_time(
    stand_in: StandIn, index: ElasticIndex
) -> None:
    stand_in.answer = lambda asked: taken(asked) if "m0" in asked.ids else stand_in.hang(asked)
    large = [Document(f"m{number}", 1, {"blob": "x" * 3_000_000}) for number in range(3)]
    started = time.monotonic()
    found = raised(lambda: index.write(TARGET, large, timeout_s=1.0))
    assert time.monotonic() - started < 3
    assert type(found) is OutcomeUnknown
    assert [asked.ids for asked in stand_in.asked] == [["m0"], ["m1"]]


@pytest.mark.parametrize("answer", [Answer(503, BLOCK), bulk_answer((429, BLOCK["error"]["type"]))])
def test_what_is_refused_after_a_part_was_stored_has_an_unknown_outcome(
    stand_in: StandIn, index: ElasticIndex, answer: Answer
) -> None:
    stand_in.answer = lambda asked: taken(asked) if "m0" in asked.ids else answer
    large = [Document(f"m{number}", 1, {"blob": "x" * 3_000_000}) for number in range(2)]
    assert type(raised(lambda: index.write(TARGET, large))) is OutcomeUnknown
    assert type(raised(lambda: index.write(TARGET, large[1:]))) is Unavailable


def test_requests_are_bounded_in_bytes_and_carry_every_document_once(
    stand_in: StandIn, index: ElasticIndex
) -> None:
    stand_in.answer = taken
    sizes = [10, 900_000, 10, 5_000_000, 10, *[600_000] * 8, 10]
    documents = [Document(f"m{n}", 1, {"blob": "x" * size}) for n, size in enumerate(sizes)]
    index.write(TARGET, documents)
    assert [name for asked in stand_in.asked for name in asked.ids] == [d.id for d in documents]
    assert all(len(asked.body) < 4.1 * 2**20 or len(asked.ids) == 1 for asked in stand_in.asked)
    assert len(stand_in.asked) == 4


STORED, STALE = (201, ""), (409, "version_conflict_engine_exception")
REFUSED, SHARDS = (429, "cluster_block_exception"), (503, "unavailable_shards_exception")
ABSENT, DENIED = (404, "index_not_found_exception"), (403, "security_exception")
BROKEN = (400, "strict_dynamic_mapping_exception")


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([STORED, STALE], None),
        ([STALE, STALE], None),
        ([REFUSED, REFUSED], Unavailable),
        ([STALE, REFUSED], Unavailable),
        ([STORED, REFUSED], OutcomeUnknown),
        ([REFUSED, STORED], OutcomeUnknown),
        ([SHARDS, SHARDS], OutcomeUnknown),
        ([BROKEN, SHARDS], OutcomeUnknown),
        ([STORED, ABSENT], NotFound),
        ([STORED, DENIED], Forbidden),
        ([STORED, BROKEN], CorruptData),
        ([(500, "something_new"), STORED], OutcomeUnknown),
    ],
    ids=repr,
)
def test_documents_that_were_not_taken_decide_what_is_raised(
    stand_in: StandIn,
    index: ElasticIndex,
    results: list[tuple[int, str]],
    expected: type[ModelhubError] | None,
) -> None:
    stand_in.answer = lambda _: bulk_answer(*results)
    if expected is None:
        index.write(TARGET, DOCUMENTS)
        return
    found = raised(lambda: index.write(TARGET, DOCUMENTS))
    assert type(found) is expected
    assert stand_in.url in found.message
    assert found.remedy


@pytest.mark.parametrize(
    "spoilt", [{"timed_out": True}, {"_shards": {"failed": 1}}], ids=["late", "failed"]
)
def test_half_an_answer_is_none(
    stand_in: StandIn, index: ElasticIndex, spoilt: dict[str, Any]
) -> None:
    pages = 0

    def answer(asked: Asked) -> Answer:
        nonlocal pages
        if "_refresh" in asked.path:
            return Answer(body={"_shards": {"successful": 1, "failed": 0}})
        if "_search" not in asked.path:
            return Answer(body={"id": "point"})
        pages += 1
        hit = {"_id": "a", "_version": 1, "_source": {"body": None}, "sort": ["a"]}
        page = {**HITS, "hits": {"total": {"value": 0}, "hits": [hit] * 250}, "pit_id": "point"}
        return Answer(body={**page, **spoilt} if pages > 1 else page)

    stand_in.answer = answer
    scan = index.scan(TARGET)
    assert [next(scan).id for _ in range(250)] == ["a"] * 250
    for call in (lambda: next(scan), lambda: index.search(TARGET, Query())):
        assert type(raised(call)) is Unavailable
    assert any(asked.method == "DELETE" and "_pit" in asked.path for asked in stand_in.asked)


@pytest.mark.parametrize(
    "shards", [{"successful": 0, "failed": 0}, {"successful": 1, "failed": 1}], ids=repr
)
def test_a_refresh_that_did_not_reach_every_copy_has_failed(
    stand_in: StandIn, index: ElasticIndex, shards: dict[str, int]
) -> None:
    stand_in.answer = lambda _: Answer(body={"_shards": shards})
    assert type(raised(lambda: index.refresh(TARGET))) is Unavailable


def test_what_was_not_acknowledged_has_an_unknown_outcome(
    stand_in: StandIn, index: ElasticIndex
) -> None:
    for body in (
        {"acknowledged": False, "shards_acknowledged": False},
        {"acknowledged": True, "shards_acknowledged": False},
    ):
        stand_in.answer = lambda _, body=body: Answer(body=body)  # type: ignore[misc]
        assert type(raised(lambda: index.create_target(TARGET))) is OutcomeUnknown
    stand_in.answer = lambda _: Answer(body={"acknowledged": False})
    assert type(raised(lambda: index.drop_target(TARGET))) is OutcomeUnknown


@pytest.mark.parametrize("status", [401, 403, None])
def test_a_publisher_is_not_failed_or_kept_by_search(
    stand_in: StandIn, opened: Callable[..., ElasticIndex], tmp_path: Path, status: int | None
) -> None:
    stand_in.answer = lambda _: Answer(body={"acknowledged": True, "shards_acknowledged": True})
    stores = Stores(MemoryWeights(), MemoryRows(), opened(stand_in.url, timeout_s=60.0))
    hub = Hub(Context(stores, "tester"), address="here", cache=tmp_path / "cache")
    hub.init()
    stand_in.answer = lambda asked: Answer(status) if status else stand_in.hang(asked)
    (tmp_path / "file").write_bytes(b"weights")
    started = time.monotonic()
    assert hub.push("nlp.sentiment", tmp_path / "file", message="m").number == 1
    assert time.monotonic() - started < 6
    assert len(list(stores.rows.scan("intents", b"\0", b"\xff"))) == 1
