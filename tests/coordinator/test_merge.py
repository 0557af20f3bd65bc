"""Merging branches: by file, by tensor, by the weights themselves.

Tier: CI runs all of it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from modelhub.content import merge_tensors
from modelhub.content.blend import Blend, added, averaged, coefficients, combined
from modelhub.coordinator import keys
from modelhub.coordinator.context import Context, Stores
from modelhub.errors import Conflict, InvalidInput, NotFound
from modelhub.hub import Hub
from modelhub.records import Metadata
from modelhub.testing.faults import Call, Faults, Outcome

NAME = "nlp.x"
Arrays = Mapping[str, Any]
Files = Mapping[str, Arrays | bytes]


@pytest.fixture
def hub(memory_hub: Hub) -> Hub:
    return memory_hub


Push = Callable[..., int]


@pytest.fixture
def push(hub: Hub, tmp_path: Path) -> Push:
    """Pushes files of bytes, or of arrays; returned is the number."""
    count = iter(range(999))

    def push(files: Files, **options: Any) -> int:
        folder = tmp_path / f"push-{next(count)}"
        folder.mkdir()
        for path, held in files.items():
            if isinstance(held, bytes):
                (folder / path).write_bytes(held)
            else:
                save_file(dict(held), folder / path, metadata={"format": "pt"})
        return hub.push(NAME, folder, **options).number

    return push


def files(hub: Hub, revision: str = NAME) -> dict[str, bytes]:
    root = hub.snapshot(revision)
    return {path.name: path.read_bytes() for path in root.iterdir()}


def arrays(hub: Hub, revision: str = NAME) -> dict[str, Any]:
    return load_file(hub.snapshot(revision) / "m.safetensors")


def drawn(seed: int, shape: tuple[int, ...] = (300, 700), dtype: Any = np.float32) -> Any:
    return np.random.default_rng(seed).normal(0, 0.02, shape).astype(dtype)


BASE = {f"layer.{number}": drawn(number) for number in range(4)} | {"norm": drawn(9, (64,))}


def forked(push: Push, ours: Files, theirs: Files, base: Files) -> None:
    """Version 1 on both lines, then 2 on the branch ``fix`` and 3 on ``main``."""
    push(base)
    push(theirs, branch="fix", title="theirs")
    push(ours, branch="main", title="ours")


# --- by file ---------------------------------------------------------------------------------


def test_what_one_side_changed_is_taken_from_it(hub: Hub, push: Push) -> None:
    base: Files = {"a": b"a", "b": b"b", "gone": b"g", "dropped": b"d", "same": b"s"}
    ours: Files = {"a": b"A", "b": b"b", "gone": b"g", "same": b"s", "new": b"n", "both": b"!"}
    theirs: Files = {
        "a": b"a",
        "b": b"B",
        "dropped": b"d",
        "same": b"s",
        "added": b"+",
        "both": b"!",
    }
    forked(push, ours, theirs, base)
    version = hub.merge(NAME, "fix")
    assert (version.number, version.parents, version.branch) == (4, (3, 2), "main")
    assert files(hub) == {
        "a": b"A", "b": b"B", "same": b"s", "new": b"n", "added": b"+", "both": b"!",
    }  # fmt: skip
    assert version.message == f"merge of {NAME}@fix"
    assert version.metadata.extra == {"merge.source": f"{NAME}@2", "merge.base": f"{NAME}@1"}
    assert not hub.fsck(data=True).findings
    assert hub.merge(NAME, "fix").number == 4, "all of it is there already"
    assert hub.merge(NAME, "1").number == 4
    assert hub.lineage(NAME).version_set == tuple(f"{NAME}@{number}" for number in (1, 2, 3, 4))


def test_what_both_changed_is_named_and_settled_by_a_side(hub: Hub, push: Push) -> None:
    forked(
        push,
        ours={"a": b"ours", "b": b"ours", "m": b"m"},
        theirs={"a": b"theirs", "m": b"m"},
        base={"a": b"a", "b": b"b", "m": b"m"},
    )
    with pytest.raises(Conflict, match=rf"{NAME}@3 and {NAME}@2 both changed a, b$"):
        hub.merge(NAME, "fix")
    assert hub.show(NAME).number == 3
    hub.branch.create(NAME, "other", at="3")
    assert files(hub, f"{NAME}@{hub.merge(NAME, 'fix', prefer='ours').number}") == {
        "a": b"ours", "b": b"ours", "m": b"m",
    }  # fmt: skip
    theirs = hub.merge(NAME, "fix", into="other", prefer="theirs")
    assert files(hub, f"{NAME}@{theirs.number}") == {"a": b"theirs", "m": b"m"}
    assert theirs.metadata.extra["merge.prefer"] == "theirs"


def test_the_nearest_common_ancestor_counts(hub: Hub, push: Push) -> None:
    push({"a": b"1", "b": b"1"})
    push({"a": b"1", "b": b"2"}, branch="fix")
    push({"a": b"3", "b": b"1"})
    assert hub.merge(NAME, "fix").number == 4
    push({"a": b"1", "b": b"5"}, branch="fix")
    assert hub.merge(NAME, "fix").parents == (4, 5)
    assert files(hub) == {"a": b"3", "b": b"5"}
    push({"a": b"7", "b": b"5"})
    assert hub.merge(NAME, "main", into="fix").parents == (5, 7)
    assert files(hub, f"{NAME}@fix") == {"a": b"7", "b": b"5"}


def test_what_cannot_be_merged_is_refused(hub: Hub, push: Push) -> None:
    push({"a": b"a"})
    push({"a": b"b"}, branch="fix")
    wrongs: list[dict[str, Any]] = [
        {"prefer": "mine"},
        {"strategy": "sum"},
        {"strategy": "weighted", "weight": 1.5},
        {"strategy": "task-arithmetic", "scale": math.inf},
    ]
    for wrong in wrongs:
        with pytest.raises(InvalidInput):
            hub.merge(NAME, "fix", **wrong)
    for source, into in (("none", "main"), ("9", "main"), ("fix", "none")):
        with pytest.raises(NotFound):
            hub.merge(NAME, source, into=into)
    hub.delete(f"{NAME}@2")
    with pytest.raises(NotFound):
        hub.merge(NAME, "2")


def test_metadata_is_merged_field_by_field(hub: Hub, push: Push) -> None:
    push({"a": b"a"}, title="t", owner="o", params={"lr": 1, "n": 1}, labels=["x"])
    push({"a": b"b"}, branch="fix", title="t", owner="them", params={"lr": 2, "n": 1, "m": 3})
    push({"a": b"a"}, title="ours", owner="o", params={"lr": 3}, labels=["x", "y"])
    merged = hub.merge(NAME, "fix").metadata
    assert (merged.title, merged.owner, merged.labels) == ("ours", "them", ("x", "y"))
    assert merged.params == {"lr": 3, "m": 3}


# --- by tensor -------------------------------------------------------------------------------


def model(**changed: Any) -> Files:
    held = {name: changed.get(name, array) for name, array in BASE.items()}
    held |= {name: array for name, array in changed.items() if name not in BASE}
    return {"m.safetensors": {name: array for name, array in held.items() if array is not None}}


def named(**changed: Any) -> Files:
    return model(**{name.replace("_", "."): array for name, array in changed.items()})


def check(merged: Arrays, expected: Arrays) -> None:
    assert set(merged) == set(expected)
    for name, array in expected.items():
        assert merged[name].dtype == array.dtype
        np.testing.assert_array_equal(merged[name], array)


def test_tensors_are_taken_from_the_side_that_changed_them(hub: Hub, push: Push) -> None:
    ours = named(layer_0=drawn(10), layer_3=None, extra=drawn(11, (5,)))
    theirs = named(layer_1=drawn(12), norm=drawn(13, (64,)), more=drawn(14, (7,)))
    forked(push, ours, theirs, model())
    version = hub.merge(NAME, "fix")
    expected = {
        **BASE, "layer.0": drawn(10), "layer.1": drawn(12), "norm": drawn(13, (64,)),
        "extra": drawn(11, (5,)), "more": drawn(14, (7,)),
    }  # fmt: skip
    del expected["layer.3"]
    check(arrays(hub), expected)
    assert version.new_bytes < BASE["layer.0"].nbytes, "tensors are stored once"
    assert not hub.fsck(data=True).findings


def test_merging_with_an_unchanged_side_gives_the_other(hub: Hub, push: Push) -> None:
    push(model())
    push(named(layer_0=drawn(10)), branch="fix")
    theirs = hub.show(f"{NAME}@2")
    merged = hub.merge(NAME, "fix")
    assert merged.content == theirs.content
    assert not hub.diff(f"{NAME}@fix", NAME).files


def test_tensors_that_both_changed_are_named(hub: Hub, push: Push) -> None:
    forked(push, named(layer_0=drawn(10)), named(layer_0=drawn(11), layer_1=drawn(12)), model())
    with pytest.raises(Conflict, match=r"m\.safetensors: layer\.0$"):
        hub.merge(NAME, "fix")
    hub.merge(NAME, "fix", prefer="theirs")
    check(arrays(hub), {**BASE, "layer.0": drawn(11), "layer.1": drawn(12)})


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.float64])
@pytest.mark.parametrize("shape", [(7,), (1500, 1200)])
def test_weights_are_blended_as_the_formulas_say(
    hub: Hub, push: Push, dtype: Any, shape: tuple[int, ...]
) -> None:
    base, x, y = (drawn(seed, shape, dtype) for seed in (0, 1, 2))
    forked(push, *({"m.safetensors": {"w": array}} for array in (x, y, base)))
    wide = np.float64 if dtype is np.float64 else np.float32
    a, b, c = (array.astype(wide) for array in (x, y, base))

    def merged(**how: Any) -> Any:
        branch = f"try-{len(hub.branch.list(NAME))}"
        hub.branch.create(NAME, branch, at="3")
        hub.merge(NAME, "fix", into=branch, **how)
        return arrays(hub, f"{NAME}@{branch}")["w"]

    np.testing.assert_array_equal(merged(strategy="average"), ((a + b) / 2).astype(dtype))
    np.testing.assert_array_equal(
        merged(strategy="weighted", weight=0.25), (a * 0.75 + b * 0.25).astype(dtype)
    )
    np.testing.assert_array_equal(
        merged(strategy="task-arithmetic", scale=0.5),
        (c + ((a - c) + (b - c)) * 0.5).astype(dtype),
    )
    np.testing.assert_array_equal(merged(strategy="slerp", weight=0), x)
    np.testing.assert_array_equal(merged(strategy="slerp", weight=1), y)
    f, g = x.astype(np.float64).ravel(), y.astype(np.float64).ravel()
    angle = math.acos(f @ g / (np.linalg.norm(f) * np.linalg.norm(g)))
    expected = (math.sin(0.7 * angle) * f + math.sin(0.3 * angle) * g) / math.sin(angle)
    found = merged(strategy="slerp", weight=0.3).astype(np.float64).ravel()
    error = {2: 1e-2, 4: 1e-5, 8: 1e-12}[np.dtype(dtype).itemsize]
    np.testing.assert_allclose(found, expected, rtol=error, atol=error / 10)


def test_what_cannot_be_blended_stays_a_conflict(hub: Hub, push: Push) -> None:
    numbers = np.arange(50)
    ours = {"w": drawn(1), "n": numbers + 1, "r": drawn(3, (5,))}
    theirs = {"w": drawn(2), "n": numbers + 2, "r": drawn(3, (6,))}
    forked(
        push,
        {"m.safetensors": ours, "c": b"ours"},
        {"m.safetensors": theirs, "c": b"theirs"},
        {"m.safetensors": {"w": drawn(0), "n": numbers}, "c": b"base"},
    )
    with pytest.raises(Conflict, match=r"c, m\.safetensors: n, m\.safetensors: r$"):
        hub.merge(NAME, "fix", strategy="average")
    version = hub.merge(NAME, "fix", strategy="average", prefer="ours")
    check(arrays(hub), {**ours, "w": (drawn(1) + drawn(2)) / 2})
    extra = version.metadata.extra
    assert (extra["merge.strategy"], extra["merge.prefer"]) == ("average", "ours")
    assert files(hub)["c"] == b"ours"


# --- the formulas themselves ---------------------------------------------------------------------

WEIGHTS = st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=40)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(WEIGHTS, st.floats(0, 1), st.sampled_from(["weighted", "slerp"]))
def test_blending_a_tensor_with_itself_gives_it(
    weights: list[float], weight: float, strategy: Any
) -> None:
    x = np.array(weights, np.float32)
    raw = x.view(np.uint8)
    square = float(x.astype(np.float64) @ x)
    shares = coefficients(Blend(strategy, weight), square, square, square)
    found = combined(shares, raw, raw, "F32").view(np.float32)
    np.testing.assert_allclose(found, x, rtol=1e-6, atol=1e-30)
    np.testing.assert_array_equal(added(1.0, raw, raw, raw, "F32").view(np.float32), x)


@given(WEIGHTS, st.data())
def test_an_average_is_numpys_and_slerp_ends_at_its_ends(
    weights: list[float], data: st.DataObject
) -> None:
    x = np.array(weights, np.float32)
    other = st.lists(st.floats(-100, 100, width=32), min_size=len(x), max_size=len(x))
    y = np.array(data.draw(other), np.float32)
    raw, also = x.view(np.uint8), y.view(np.uint8)
    a, b = x.astype(np.float64), y.astype(np.float64)
    sums = float(a @ b), float(a @ a), float(b @ b)
    average = averaged(raw, also, "F32")
    np.testing.assert_array_equal(average.view(np.float32), (x + y) / 2)
    for weight, end in ((0.0, x), (1.0, y)):
        found = combined(coefficients(Blend("slerp", weight), *sums), raw, also, "F32")
        np.testing.assert_array_equal(found.view(np.float32), end)


def test_the_default_metadata_stays_the_default() -> None:
    from modelhub.coordinator.merge import merged_metadata

    assert merged_metadata(Metadata(), Metadata(), Metadata()) == Metadata()


# --- what is odd and legal -----------------------------------------------------------------------


def test_a_file_on_one_side_and_a_folder_on_the_other_are_a_conflict(
    hub: Hub, push: Push, tmp_path: Path
) -> None:
    push({"same": b"s"})
    push({"same": b"s", "a": b"file"}, branch="fix")
    (tmp_path / "folder" / "a").mkdir(parents=True)
    (tmp_path / "folder" / "a" / "b").write_bytes(b"below")
    (tmp_path / "folder" / "same").write_bytes(b"s")
    hub.push(NAME, tmp_path / "folder")
    with pytest.raises(Conflict, match=r"a/b \(below the file a\)"):
        hub.merge(NAME, "fix", prefer="ours")
    with pytest.raises(InvalidInput, match="'a'"):
        hub.restore(f"{NAME}@2", ["/a"])
    assert len(hub.log(NAME)) == 3


def test_a_merge_that_leaves_nothing_is_refused(hub: Hub, push: Push) -> None:
    forked(push, {"a": b"a"}, {"b": b"b"}, {"a": b"a", "b": b"b"})
    with pytest.raises(InvalidInput, match="nothing is left"):
        hub.merge(NAME, "fix")


def test_texts_of_the_header_are_merged_key_by_key(hub: Hub, tmp_path: Path) -> None:
    texts = ({"k": "old", "gone": "x"}, {"k": "old"}, {"k": "new", "gone": "x"})
    for branch, told, seed in zip(("main", "main", "fix"), texts, range(3), strict=True):
        arrays = {"w": drawn(0), f"own.{seed}": drawn(seed)}
        save_file(arrays, tmp_path / "m.safetensors", metadata=told)
        if branch == "fix":
            hub.branch.create(NAME, "fix", at="1")
        hub.push(NAME, tmp_path / "m.safetensors", branch=branch)
    hub.merge(NAME, "fix")
    assert hub.tensors(NAME).metadata() == {"k": "new"}


def test_other_entries_that_come_first_do_not_merge_anew(
    hub: Hub, stores: Stores, push: Push, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forked(push, named(layer_0=drawn(10)), named(layer_0=drawn(11)), model())
    blended: list[int] = []

    def counted(*args: Any) -> Any:
        blended.append(1)
        return averaged(*args)

    monkeypatch.setattr(merge_tensors, "averaged", counted)
    moves = iter("123")

    def plan(call: Call) -> Outcome:
        if (call.method, call.where) == ("check_and_put", keys.LOG):
            for number in itertools.islice(moves, 1):
                hub.alias.set(NAME, "champion", number)
        return Outcome.OK

    faults = Faults(stores, plan)
    other = Hub(Context(faults.stores, "other"), address="test", cache=tmp_path / "cache")
    assert other.merge(NAME, "fix", strategy="average").number == 4
    assert len(hub.alias.history(NAME, "champion")) == 3
    assert len(blended) <= 2, "one piece, and once more to find where tensors lie"
    check(arrays(hub), {**BASE, "layer.0": (drawn(10) + drawn(11)) / 2})


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16", "F64"])
def test_an_average_of_the_largest_numbers_is_one(dtype: str) -> None:
    kinds = {"F32": np.float32, "BF16": ml_dtypes.bfloat16, "F16": np.float16, "F64": np.float64}
    lowest = {"F32": -3.4028235e38, "BF16": -3.3895314e38, "F16": -65504, "F64": -1.7976931e308}
    x = np.array([lowest[dtype], 1, np.inf], kinds[dtype])
    raw = x.view(np.uint8)
    found = averaged(raw, raw, dtype).view(kinds[dtype])
    np.testing.assert_array_equal(found, x)


def test_what_has_no_share_spoils_nothing() -> None:
    x, y = np.array([1.0, np.inf], np.float32), np.array([np.inf, 2.0], np.float32)
    raw, also = x.view(np.uint8), y.view(np.uint8)
    np.testing.assert_array_equal(combined((1.0, 0.0), raw, also, "F32").view(np.float32), x)
    np.testing.assert_array_equal(combined((0.0, 1.0), raw, also, "F32").view(np.float32), y)


def test_facts_of_what_was_merged_do_not_outlive_it(hub: Hub, push: Push) -> None:
    forked(push, named(extra=drawn(1)), named(more=drawn(2)), model())
    assert "weights.tensors" in hub.show(NAME).metadata.extra
    extra = hub.merge(NAME, "fix").metadata.extra
    assert not [key for key in extra if key.startswith("weights.")]


def test_more_facts_than_a_version_holds_are_refused(hub: Hub, push: Push) -> None:
    push({"a": b"a"})
    push({"a": b"b"}, branch="fix", extra={f"x{number}": 1 for number in range(200)})
    push({"a": b"a"}, extra={f"y{number}": 1 for number in range(200)})
    with pytest.raises(InvalidInput, match="256"):
        hub.merge(NAME, "fix")
