from __future__ import annotations

import builtins
import json
import types
import typing
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, get_args, get_origin

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelhub import records
from modelhub.errors import CorruptData, InvalidInput
from modelhub.records import (
    ROW_LIMIT_BYTES,
    Address,
    Entry,
    Fence,
    Metadata,
    MetadataRow,
    ModelHint,
    PackRow,
    Published,
    State,
    VersionRecord,
    decode,
    encode,
    seal,
    to_builtins,
    unseal,
)

RECORDS = [
    kind
    for kind in vars(records).values()
    if isinstance(kind, type)
    and issubclass(kind, msgspec.Struct)
    and kind.__module__ == records.__name__
]

ENTRY = Entry(
    model="nlp.mood",
    seq=7,
    txid="t7",
    actor="ann",
    time=datetime(2026, 5, 1, 12, tzinfo=UTC),
    message="模型",
    previous="ab" * 32,
    change=Published(
        number=3,
        branch="main",
        parents=(2,),
        version=VersionRecord(
            content="c0",
            manifest=Address(pack="p", offset=4, length=5, digest="d0"),
            metadata="m0",
            packs=("p", "q"),
            files=2,
            size_bytes=1000,
            new_bytes=10,
        ),
    ),
    state=State(next=4, branches={"main": 3}, deleted=((1, 2),)),
)

DIGEST = "71c72dd96063190642e29800a6c068a0a8db318f254b9b13d4f23670d94a62ea"
ROW = (
    '{"model":"nlp.mood","seq":7,"txid":"t7","actor":"ann","time":"2026-05-01T12:00:00Z","message":"模型",'
    f'"previous":"{"ab" * 32}","change":{{"op":"publish","number":3,"branch":"main","parents":[2],'
    '"version":{"content":"c0","manifest":{"pack":"p","offset":4,"length":5,"digest":"d0"},'
    '"metadata":"m0","packs":["p","q"],"files":2,"size_bytes":1000,"new_bytes":10}},'
    '"state":{"next":4,"branches":{"main":3},"deleted":[[1,2]]},'
    f'"digest":"{DIGEST}"}}'
).encode()


PLAIN: dict[type, st.SearchStrategy[Any]] = {
    str: st.text(max_size=20),
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    datetime: st.datetimes(timezones=st.just(UTC)),
    type(None): st.none(),
}


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Every value that a field of this type may have."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        fields = msgspec.structs.fields(kind)
        return st.builds(kind, **{field.name: values(field.type) for field in fields})
    match get_origin(kind), get_args(kind):
        case ((typing.Union | types.UnionType), kinds):
            made = st.one_of(*map(values, kinds))
        case typing.Literal, choices:
            made = st.sampled_from(choices)
        case builtins.tuple, (item, builtins.Ellipsis):
            made = st.lists(values(item), max_size=3).map(tuple)
        case builtins.tuple, items:
            made = st.tuples(*map(values, items))
        case builtins.dict, (key, value):
            made = st.dictionaries(values(key), values(value), max_size=3)
        case _:
            made = PLAIN[kind]
    return made


ANY_RECORD = st.sampled_from(RECORDS).flatmap(values)


def sealed() -> bytes:
    return seal(ENTRY)[0]


def test_every_record_is_among_those_tested() -> None:
    assert {Entry, Fence, Metadata, PackRow, ModelHint} < set(RECORDS)


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_a_record_comes_back_as_it_was_stored(
    kind: type[msgspec.Struct], data: st.DataObject
) -> None:
    record = data.draw(values(kind))
    row = encode(record)
    back = decode(row, kind, "row")
    assert back == record
    assert encode(back) == row  # 1, 1.0 and True are equal, but not the same


@given(ANY_RECORD)
def test_a_row_is_json_with_the_fields_in_declared_order(record: msgspec.Struct) -> None:
    document = json.loads(encode(record))
    declared = [field.name for field in msgspec.structs.fields(record)]
    declared = [name for name in (record.__struct_config__.tag_field, *declared) if name]
    assert [*document] == [name for name in declared if name in document]
    assert document == json.loads(json.dumps(to_builtins(record)))


@given(ANY_RECORD)
def test_fields_that_a_later_release_adds_are_ignored(record: msgspec.Struct) -> None:
    row = json.dumps({"added later": {"deep": [1]}, **json.loads(encode(record)), "and": None})
    assert decode(row.encode(), type(record), "row") == record


@given(ANY_RECORD)
def test_fields_that_an_earlier_release_did_not_have_get_their_defaults(
    record: msgspec.Struct,
) -> None:
    document = json.loads(encode(record))
    fields = msgspec.structs.fields(record)
    required = {field.name: document[field.name] for field in fields if field.required}
    tag = {name: document[name] for name in {record.__struct_config__.tag_field} - {None}}
    back = decode(json.dumps(tag | required).encode(), type(record), "row")
    assert back == type(record)(**{name: getattr(record, name) for name in required})


def test_a_log_row_is_the_entry_with_its_digest_at_the_end() -> None:
    data, digest = seal(ENTRY)
    assert digest == DIGEST
    assert data == ROW
    assert unseal(ROW, "row") == (ENTRY, digest)


@given(values(Entry))
def test_an_entry_comes_back_from_its_row_with_its_digest(entry: Entry) -> None:
    data, digest = seal(entry)
    assert unseal(data, "row") == (entry, digest)
    body = {name: value for name, value in json.loads(data).items() if name != "digest"}
    assert body == json.loads(msgspec.json.encode(entry))
    assert json.loads(data)["digest"] == digest


def test_every_flipped_bit_of_a_log_row_is_found() -> None:
    data = sealed()
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptData, match="row 7 of x does not match its digest"):
            unseal(bytes(flipped), "row 7 of x")


def test_a_row_that_was_cut_or_grew_is_found() -> None:
    data = sealed()
    changed = [data[:length] for length in range(len(data))]
    changed += [data[start:] for start in range(1, len(data))]
    changed += [data + b"\n", b" " + data, data + data, data[:-1] + b" }"]
    for row in changed:
        with pytest.raises(CorruptData):
            unseal(row, "row")


def test_a_sound_digest_does_not_make_an_entry_of_something_else() -> None:
    body = b'{"seq":1}'
    row = body[:-1] + f',"digest":"{records.hex_digest(body)}"}}'.encode()
    with pytest.raises(CorruptData, match="row is not readable"):
        unseal(row, "row")


def test_an_op_of_a_later_release_is_not_mistaken_for_one_of_ours() -> None:
    body = sealed().replace(b'"op":"publish"', b'"op":"transmute"')
    with pytest.raises(CorruptData, match="transmute"):
        decode(body, Entry, "row")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"{}",
        b'{"seq": "1", "txid": "t", "metadata": {}}',
        b'{"seq": 1, "txid": "t"}',
        b'{"seq": 1, "txid": "\xff", "metadata": {}}',
        b'{"seq": 1, "txid": "t", "metadata": {"params": {"a": null}}}',
        b'{"seq": 1, "txid": "t", "metadata": {"created": "soon"}}',
        b'{"new": ' + b"[" * 100_000,
    ],
    ids=lambda data: data[:40].decode("ascii", "replace"),
)
def test_what_is_no_such_record_is_corrupt_and_named(data: bytes) -> None:
    with pytest.raises(CorruptData, match="the metadata of x@1 is not readable") as caught:
        decode(data, MetadataRow, "the metadata of x@1")
    assert "fsck" in caught.value.remedy


@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_decode_or_are_corrupt(data: bytes) -> None:
    for read in (lambda: decode(data, Metadata, "row"), lambda: unseal(data, "row")):
        with suppress(CorruptData):
            read()


def with_message(message: str) -> Entry:
    return msgspec.structs.replace(ENTRY, message=message)


@pytest.mark.parametrize(
    "row",
    [
        lambda text: encode(Metadata(title=text)),
        lambda text: encode(MetadataRow(1, "t", Metadata(title=text))),
        lambda text: seal(with_message(text))[0],
    ],
    ids=["metadata", "metadata row", "log row"],
)
def test_a_row_holds_256_kib_and_not_a_byte_more(row: Callable[[str], bytes]) -> None:
    room = ROW_LIMIT_BYTES - len(row("x")) + 1
    assert len(row("x" * room)) == ROW_LIMIT_BYTES
    with pytest.raises(InvalidInput, match=r"would take 262,145 bytes in one row") as caught:
        row("x" * (room + 1))
    assert caught.value.remedy


def test_text_that_utf8_cannot_hold_is_refused_before_it_reaches_a_row() -> None:
    for store in (lambda: encode(Metadata(title="a\udcff")), lambda: seal(with_message("a\udcff"))):
        with pytest.raises(InvalidInput, match=r"'a\\udcff' is not text that UTF-8 can hold"):
            store()


def test_records_cannot_be_changed() -> None:
    for kind in RECORDS:
        assert kind.__struct_config__.frozen
