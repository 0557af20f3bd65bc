"""Hubs to be hurt past their stores or to be asked badly, and what must hold for them then."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import modelhub
from modelhub import names
from modelhub.backends.memory import MemoryRows, MemorySearch, MemoryWeights
from modelhub.cli.app import app
from modelhub.connect import embedded_stores
from modelhub.content.manifest import ChunkRef
from modelhub.coordinator import keys, log, relatives, versions
from modelhub.coordinator.context import Context, Stores
from modelhub.coordinator.log import Sealed
from modelhub.errors import CorruptData, ModelhubError
from modelhub.hub import Hub
from modelhub.records import Address, Published
from tests.live.hubs import LiveHubs, close

MOOD, LONG, INTACT = "nlp.mood", "nlp.long", "nlp.intact"
COUNTS = {MOOD: 3, LONG: 40, INTACT: 2}
VOCABULARY = random.Random(0).randbytes(3000)
GARBAGE = b'{"not": "what belongs here'
"""A row's value that is no record."""

Pull = Callable[[str], dict[str, bytes]]


def refused(kind: type[ModelhubError], act: Callable[[], object], *about: str) -> ModelhubError:
    """The call's error has this class, names the thing, says what to do, and hides nothing."""
    with pytest.raises(ModelhubError) as caught:
        act()
    assert isinstance(caught.value, kind), caught.value
    for text in about:
        assert text in caught.value.message
    assert "fsck" in caught.value.remedy if kind is CorruptData else caught.value.remedy
    assert len(caught.value.message) < 500
    assert caught.value.message.isprintable()
    return caught.value


@pytest.fixture
def stores() -> Stores:
    """Empty ones in memory."""
    return Stores(MemoryWeights(), MemoryRows(), MemorySearch())


@pytest.fixture(params=["memory", "embedded", "live"])
def any_stores(request: pytest.FixtureRequest, stores: Stores, tmp_path: Path) -> Iterator[Stores]:
    """Empty ones of every kind."""
    if request.param == "live":
        hubs: LiveHubs = request.getfixturevalue("live")
        yield hubs()
        return
    made = stores if request.param == "memory" else embedded_stores(tmp_path / "hub")
    yield made
    close(made)


@pytest.fixture
def memory_hub(stores: Stores, tmp_path: Path) -> Iterator[Hub]:
    with Hub(Context(stores, "tester"), address="test", cache=tmp_path / "cache") as hub:
        yield hub


# --- a hub that is hurt ------------------------------------------------------------------------


def files_of(revision: str) -> dict[str, bytes]:
    """Versions of the first model share their vocabulary; nothing else is shared."""
    weights = random.Random(revision).randbytes(2000)
    return {"weights.bin": weights} | ({"vocabulary.txt": VOCABULARY} if MOOD in revision else {})


def written(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for path, data in files.items():
        (folder / path).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub without damage."""
    folder = tmp_path_factory.mktemp("sound")
    with modelhub.connect(folder / "hub") as hub:
        for name, count in COUNTS.items():
            for number in range(1, count + 1):
                revision = f"{name}@{number}"
                hub.push(name, written(folder / revision, files_of(revision)), title=revision)
        assert not hub.fsck().findings
    return folder / "hub"


class Damaged:
    """A copy of the sound hub, and the means to hurt it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hub = modelhub.connect(folder)

    def sql(self, statement: str, *values: object, file: str = "rows.sqlite") -> list[Any]:
        """Run one statement past the stores."""
        with closing(sqlite3.connect(self.folder / file)) as connection, connection:
            return connection.execute(statement, values).fetchall()

    def get(self, table: str, key: bytes) -> bytes:
        ((value,),) = self.sql(f"SELECT value FROM {table} WHERE key = ?", key)
        assert isinstance(value, bytes)
        return value

    def put(self, table: str, key: bytes, value: bytes) -> None:
        self.sql(f"UPDATE {table} SET value = ? WHERE key = ?", value, key)
        assert self.get(table, key) == value

    def flip(self, table: str, key: bytes, position: int = 60) -> None:
        """Turn one bit of a row's value round."""
        value = bytearray(self.get(table, key))
        value[position] ^= 1 << position % 8
        self.put(table, key, bytes(value))

    def delete(self, table: str, key: bytes) -> None:
        self.get(table, key)
        self.sql(f"DELETE FROM {table} WHERE key = ?", key)

    def sealed(self, revision: str) -> tuple[Sealed, Published]:
        """The entry of a version."""
        rows, parsed = self.hub._ctx.stores.rows, names.revision(revision)
        head = log.read_head(rows, parsed.model)
        sealed = versions.publication(rows, head, versions.resolve(rows, head, parsed))
        assert isinstance(sealed.entry.change, Published)
        return sealed, sealed.entry.change

    def manifest(self, revision: str) -> Address:
        return self.sealed(revision)[1].version.manifest

    def metadata(self, revision: str) -> bytes:
        """The key of a version's metadata row."""
        name, change = names.revision(revision).model, self.sealed(revision)[1]
        return keys.metadata(name, change.number, change.version.metadata)

    def chunk(self, revision: str, path: str) -> ChunkRef:
        """The only chunk of a file."""
        manifest = relatives.read_manifest(self.hub._ctx, self.sealed(revision)[0])
        (ref,) = next(manifest.chunks(file) for file in manifest.files if file.path == path)
        return ref

    def pack(self, revision: str) -> Path:
        """The file with what was new in a version."""
        (path,) = self.folder.rglob(self.manifest(revision).pack)
        return path

    def flip_in_pack(self, revision: str, position: int) -> None:
        """Turn one bit of the file round; a negative position counts from its end."""
        data = bytearray(self.pack(revision).read_bytes())
        data[position] ^= 0x10
        self.pack(revision).write_bytes(data)

    def findings(self, *, data: bool = True) -> set[tuple[str, str]]:
        return {(found.kind, found.subject) for found in self.hub.fsck(data=data).findings}

    def run(self, *args: str) -> tuple[int, str]:
        """The command line: its exit code, and what it says on stderr."""
        result = CliRunner().invoke(app, ["--hub", str(self.folder), *args])
        return result.exit_code, result.stderr


@pytest.fixture
def damaged(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Damaged]:
    monkeypatch.setenv("MODELHUB_CACHE", str(tmp_path / "cache"))
    shutil.copytree(sound, tmp_path / "hub")
    made = Damaged(tmp_path / "hub")
    with made.hub:
        yield made


@pytest.fixture
def pulled(damaged: Damaged, tmp_path: Path) -> Pull:
    """What a pull of a revision into a new folder gives."""

    def pull(revision: str) -> dict[str, bytes]:
        folder = damaged.hub.pull(revision, tmp_path / "pulled" / revision)
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    return pull


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Files to push: new weights, and the vocabulary that the hub holds."""
    return written(tmp_path / "source", {"weights.bin": b"new" * 99, "vocabulary.txt": VOCABULARY})


@pytest.fixture
def rest_is_sound(damaged: Damaged, pulled: Pull, source: Path) -> Iterator[None]:
    """Whatever a test does to one model, another one works in every way afterwards."""
    yield
    revision = f"{INTACT}@2"
    assert damaged.hub.show(INTACT).metadata.title == revision
    assert pulled(revision) == files_of(revision)
    assert len(damaged.hub.log(INTACT)) == 2
    assert damaged.hub.push(INTACT, source).number == 3
    assert damaged.hub.edit(INTACT, title="still fine").metadata.title == "still fine"


# --- a hub that is asked badly -----------------------------------------------------------------


def hub_folder(hub: Hub) -> Path:
    """Where an embedded hub lies."""
    return Path(hub._address)


def push(hub: Hub, name: str = MOOD, /, **options: Any) -> object:
    """Push the folder beside the hub."""
    return hub.push(name, hub_folder(hub).parent / "model", **options)


def dump(folder: Path) -> object:
    """Every row of every database, and every other file with its size: past the stores."""
    rows = {}
    for file in folder.rglob("*.sqlite"):
        with closing(sqlite3.connect(file)) as connection:
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            for (table,) in tables.fetchall():
                rows[file.name, table] = connection.execute(f'SELECT * FROM "{table}"').fetchall()
    files = [file for file in folder.rglob("*") if ".sqlite" not in file.name]
    return rows, sorted((str(file), file.is_dir() or file.stat().st_size) for file in files)


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub with two versions, and the folder that they came from."""
    folder = tmp_path_factory.mktemp("pushed")
    model = written(folder / "model", {"weights.bin": random.Random(0).randbytes(5000)})
    with modelhub.connect(folder / "hub") as hub:
        for number in (1, 2):
            (model / "config.json").write_text(f'{{"number": {number}}}')
            hub.push(MOOD, model)
    return folder


@pytest.fixture
def hub(pushed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A copy of that hub, beside a copy of that folder."""
    monkeypatch.setenv("MODELHUB_CACHE", str(tmp_path / "cache"))
    for part in ("hub", "model"):
        shutil.copytree(pushed / part, tmp_path / part)
    with modelhub.connect(tmp_path / "hub") as hub:
        yield hub


@pytest.fixture
def nothing_changes(hub: Hub, tmp_path: Path) -> Iterator[None]:
    before = dump(hub_folder(hub))
    yield
    assert dump(hub_folder(hub)) == before
    assert not (tmp_path / "pulled").exists()
    assert not (tmp_path / "cache").exists()
