"""What pickles import is noted, wherever they lie; nothing is ever loaded."""

from __future__ import annotations

import collections
import io
import os
import pickle
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from modelhub.describe import describe
from modelhub.describe.pickle_code import Budget, Import, Unreadable, imports
from modelhub.describe.pickle_policy import HIDDEN, is_dangerous

MIB = 1 << 20


class Calls:
    """Pickled as a call, which is made when it is loaded."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self._call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self._call


def extra(folder: Path, **files: bytes) -> dict[str, Any]:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    found = describe([(name, folder / name) for name in files])
    return dict(found.extra)


def one(folder: Path, name: str, data: bytes) -> dict[str, Any]:
    return extra(folder, **{name: data})


def scanned(data: bytes, *, instructions: int = 100_000, size_bytes: int = MIB) -> set[Import]:
    found: set[Import] = set()
    imports(io.BytesIO(data), len(data), Budget(instructions, size_bytes), found)
    return found


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


@pytest.fixture
def evil(tmp_path: Path) -> bytes:
    """Makes a folder beside the files when it is loaded."""
    return pickle.dumps(Calls(os.mkdir, str(tmp_path / "was loaded")))


EVIL = f"{os.mkdir.__module__}.mkdir"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_call_is_found_in_every_protocol_and_not_made(tmp_path: Path, protocol: int) -> None:
    target = tmp_path / "was loaded"
    data = pickle.dumps({"w": [1.5, Calls(os.mkdir, str(target))]}, protocol)
    found = one(tmp_path, "m.pkl", data)
    assert found["pickle.dangerous"] == f"m.pkl: {EVIL}"
    assert found["pickle.imports"] == EVIL
    assert not target.exists()
    pickle.loads(data)
    assert target.exists()  # the control: it would have been made


@pytest.mark.parametrize("name", ["m.pt", "m.pth", "m.bin", "m.ckpt", "m.PICKLE", "m.joblib"])
def test_each_kind_of_file_is_looked_at(tmp_path: Path, name: str, evil: bytes) -> None:
    assert one(tmp_path, name, evil)["pickle.dangerous"] == f"{name}: {EVIL}"


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_archives_as_pytorch_writes_them_are_looked_into(
    tmp_path: Path, method: int, evil: bytes
) -> None:
    harmless = pickle.dumps(collections.OrderedDict(a=1))
    members = {"a/data.pkl": harmless, "a/data/0": bytes(999), "a/constants.pkl": evil}
    found = one(tmp_path, "m.pt", zipped(members, method))
    assert found == {
        "pickle.dangerous": f"m.pt: {EVIL}",
        "pickle.imports": f"collections.OrderedDict, {EVIL}",
    }


def test_old_files_of_pytorch_are_several_pickles_and_weights(tmp_path: Path, evil: bytes) -> None:
    parts = [pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2), evil]
    found = one(tmp_path, "m.pt", b"".join(parts) + np.arange(1e4).tobytes())
    assert found == {"pickle.dangerous": f"m.pt: {EVIL}", "pickle.imports": EVIL}


def test_arrays_of_objects_are_pickles(tmp_path: Path) -> None:
    array = np.array([Calls(os.mkdir, "x"), None], object)
    file, archive = io.BytesIO(), io.BytesIO()
    np.save(file, array, allow_pickle=True)
    np.savez_compressed(archive, a=np.zeros(3), o=array)
    found = extra(tmp_path, **{"o.npy": file.getvalue(), "o.npz": archive.getvalue()})
    assert found["pickle.dangerous"] == f"o.npy: {EVIL}; o.npz: {EVIL}"


def test_plain_arrays_and_raw_weights_say_nothing(tmp_path: Path) -> None:
    file = io.BytesIO()
    np.save(file, np.arange(9))
    weights = np.random.default_rng(0).standard_normal(50_000).tobytes()
    files = {"a.npy": file.getvalue(), "b.bin": weights, "c.bin": b"", "d.ckpt": b"GGUF" + weights}
    assert extra(tmp_path, **files) == {}


def test_files_in_folders_count_too(tmp_path: Path, evil: bytes) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "m.bin").write_bytes(evil)
    found = describe([("unet/m.bin", tmp_path / "unet" / "m.bin")]).extra
    assert found["pickle.dangerous"] == f"unet/m.bin: {EVIL}"


def test_a_broken_pickle_says_what_it_would_have_done_first(tmp_path: Path, evil: bytes) -> None:
    assert one(tmp_path, "m.pkl", evil[:-1] + b"\xff") == {
        "describe.skipped": "m.pkl: pickle not read to its end",
        "pickle.dangerous": f"m.pkl: {EVIL}",
        "pickle.imports": EVIL,
    }


def test_one_broken_member_hides_no_other(tmp_path: Path, evil: bytes) -> None:
    data = zipped({"a.pkl": b"\x80\x04\xff", "b.pkl": evil})
    found = one(tmp_path, "m.pt", data)
    assert found["pickle.dangerous"] == f"m.pt: {EVIL}"
    assert found["describe.skipped"] == "m.pt: pickle not read to its end"


@pytest.mark.parametrize(
    "data",
    [b"PK\3\4 broken", zipped({"a.pkl": b"x" * 99}, zipfile.ZIP_LZMA), b"\x80\x04K"],
    ids=["archive", "method", "end"],
)
def test_what_cannot_be_read_is_noted(tmp_path: Path, data: bytes) -> None:
    found = one(tmp_path, "m.pt", data)
    assert found == {"describe.skipped": "m.pt: pickle not read to its end"}


def test_real_models_are_not_called_dangerous(tmp_path: Path) -> None:
    model = LogisticRegression().fit(np.arange(8.0).reshape(4, 2), [0, 1, 0, 1])
    found = one(tmp_path, "m.pkl", pickle.dumps(model))
    assert "sklearn.linear_model._logistic.LogisticRegression" in found["pickle.imports"]
    assert [*found] == ["pickle.imports"]


HIDING = {
    "by the memo": b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94000h\x00h\x01\x93.",
    "by numbers of the memo": b"\x80\x04\x8c\x02osq\x07\x8c\x06systemr\xff\0\0\000"
    b"g7\nj\xff\0\0\0\x93.",
    "behind a mark": b"\x80\x04\x8c\x02os\x8c\x06system(K\x01K\x02t0\x93.",
    "by a mark taken off": b"\x80\x04\x8c\x02os\x8c\x06system(0\x93.",
    "by a copy": b"\x80\x04\x8c\x02os\x8c\x06system20\x93.",
    "in lines": b"Vos\nVsystem\n\x93.",
    "in quotes": b"S'os'\nS\"system\"\n\x93.",
    "in escapes": b"V\\u006fs\nVsystem\n\x93.",
    "as an old instance": b"(S'true'\nios\nsystem\n.",
    "behind long numbers": b"L" + b"9" * 9000 + b"L\n0cos\nsystem\n.",
}


@pytest.mark.parametrize("data", HIDING.values(), ids=HIDING.keys())
def test_a_name_is_found_however_it_is_put_together(data: bytes) -> None:
    assert ("os", "system") in scanned(data)


HIDDEN_NAMES = {
    "escapes": b"S'\\x6fs'\nVsystem\n\x93.",
    "a registered number": b"\x80\x02\x82\x01.",
    "a computed name": b"\x80\x04\x8c\x02os]\x93.",
    "no name": b"c..\n\xff\n.",
    "a long name": b"c" + b"a" * 300 + b"\nb\n.",
    "a longer name": b"c" + b"a" * 9000 + b"\nb\n.",
    "a line in pieces": b"c" + b"a" * 4096 + b"\nb\n.",
    "an unknown place": b"\x80\x04\x8c\x02osh\x09\x93.",
}


@pytest.mark.parametrize("data", HIDDEN_NAMES.values(), ids=HIDDEN_NAMES.keys())
def test_a_name_that_cannot_be_told_is_dangerous(data: bytes) -> None:
    [(module, name)] = scanned(data)
    assert HIDDEN in (module, name)
    assert is_dangerous(module, name)


@pytest.mark.parametrize(
    ("full", "dangerous"),
    [
        ("os.system", True),
        ("posix.system", True),
        ("nt.system", True),
        ("subprocess.Popen", True),
        ("importlib.import_module", True),
        ("builtins.eval", True),
        ("__builtin__.getattr", True),
        ("random._os.system", True),
        ("numpy.testing._private.utils.runstring", True),
        ("torch.hub.load", True),
        ("io.open", True),
        ("builtins.set", False),
        ("io.BytesIO", False),
        ("collections.OrderedDict", False),
        ("numpy._core.multiarray._reconstruct", False),
        ("numpy.random._pickle.__randomstate_ctor", False),
        ("torch._utils._rebuild_tensor_v2", False),
        ("sklearn.tree._tree.Tree", False),
        ("osprey.model", False),
    ],
)
def test_the_policy_knows(full: str, dangerous: bool) -> None:
    module, _, name = full.rpartition(".")
    assert is_dangerous(module, name) == dangerous


class Recorder(pickle.Unpickler):
    """Loads harmless pickles, and tells what they import."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.found: set[Import] = set()

    def find_class(self, module: str, name: str) -> Any:
        self.found.add((module, name))
        return super().find_class(module, name)


values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.integers()
    | st.floats()
    | st.text(max_size=300)
    | st.binary(max_size=300)
    | st.builds(Fraction, st.integers(0, 9), st.integers(1, 9))
    | st.builds(timedelta, st.integers(0, 9))
    | st.builds(bytearray, st.binary(max_size=9))
    | st.just(Path)
    | st.builds(np.arange, st.integers(0, 9)),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner, inner)
        | st.builds(collections.OrderedDict, st.dictionaries(st.text(max_size=3), inner))
    ),
    max_leaves=12,
)


@given(values, st.integers(2, pickle.HIGHEST_PROTOCOL))
def test_what_is_found_is_what_loading_asks_for(value: object, protocol: int) -> None:
    data = pickle.dumps(value, protocol)
    recorder = Recorder(data)
    recorder.load()
    assert {(m.replace("__builtin__", "builtins"), n) for m, n in scanned(data)} == {
        (m.replace("__builtin__", "builtins"), n) for m, n in recorder.found
    }


@given(st.binary(max_size=400), st.sampled_from([b"", b"\x80\x04", b"c", b"(", b"S'"]))
def test_any_bytes_are_taken(data: bytes, head: bytes) -> None:
    found: set[Import] = set()
    with suppress(Unreadable):
        imports(io.BytesIO(head + data), len(head + data), Budget(1000, 1000), found)
    assert all(isinstance(is_dangerous(*each), bool) for each in found)


def test_weights_in_a_pickle_are_gone_over_unread() -> None:
    class Watched(io.BytesIO):
        read_bytes = 0

        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            self.read_bytes += len(data)
            return data

    data = pickle.dumps([bytes(8 * MIB), bytearray(8 * MIB), "x" * MIB, Calls(os.mkdir, "x")], 5)
    file, found = Watched(data), set[Import]()
    imports(file, len(data), Budget(100, 1000), found)
    assert found == {(os.mkdir.__module__, "mkdir")}
    assert file.read_bytes < 1000


def test_no_byte_behind_a_member_is_read() -> None:
    data = b"cos\nsystem\n."
    for end in range(len(data)):
        found: set[Import] = set()
        with pytest.raises(Unreadable):
            imports(io.BytesIO(data), end, Budget(100, 100), found)
        assert bool(found) == (end == len(data) - 1)


def test_a_budget_ends_the_look() -> None:
    data = pickle.dumps([*range(1000), Calls(os.mkdir, "x")])
    assert scanned(data, instructions=3000) == {(os.mkdir.__module__, "mkdir")}
    with pytest.raises(Unreadable, match="too much"):
        scanned(data, instructions=500)
    with pytest.raises(Unreadable, match="too much"):
        scanned(data, size_bytes=500)
    many = pickle.dumps(1) * 1000
    with pytest.raises(Unreadable, match="too much"):
        scanned(many, instructions=500)


def test_a_bomb_in_an_archive_is_noted(tmp_path: Path) -> None:
    data = zipped({"data.pkl": b"(" * (100 * MIB)}, zipfile.ZIP_DEFLATED)
    assert len(data) < MIB
    assert one(tmp_path, "m.pt", data) == {"describe.skipped": "m.pt: pickle not read to its end"}


def test_a_warning_keeps_its_place_beside_a_full_card(tmp_path: Path, evil: bytes) -> None:
    card = "---\n" + "".join(f"key{i}: {i}\n" for i in range(300)) + "---\n"
    found = extra(tmp_path, **{"README.md": card.encode(), "m.pt": evil})
    assert found["pickle.dangerous"] == f"m.pt: {EVIL}"
    assert len(found) == 128 + 1


@pytest.mark.parametrize(
    "data", [b"\x93", b"\x93.", b"NN\x93", b"N\x93.", b"\x82\x01"], ids=lambda data: data.hex()
)
def test_noise_hides_nothing(tmp_path: Path, data: bytes) -> None:
    assert one(tmp_path, "weights.bin", data) == {}
