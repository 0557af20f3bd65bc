"""A hub full of plausible versions, for tests of what changes with scale.

Each model is made in memory by the coordinator's own plans, so that every row and document is what
it would have written itself. The rows of many models then go to the stores together, and all
versions share the chunks of a few packs.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from random import Random

from blake3 import blake3

from modelhub import names
from modelhub.backends.memory import MemoryRows, MemorySearch, MemoryWeights
from modelhub.content.cut import cut
from modelhub.content.manifest import ChunkRef, Manifest, ManifestBuilder
from modelhub.content.pack import PackWriter, new_pack_id
from modelhub.content.tree import SourceFile
from modelhub.coordinator import bootstrap, hints, index, keys
from modelhub.coordinator.context import Clock, Context, Progress, Stores, ignore_progress
from modelhub.coordinator.log import Head, append, read_head
from modelhub.coordinator.packs import chunk_hint
from modelhub.coordinator.publish import Push
from modelhub.coordinator.retire import Edit, Retire
from modelhub.coordinator.state import is_deleted
from modelhub.coordinator.storing import Stored
from modelhub.coordinator.transaction import Attempt, Plan, next_entry
from modelhub.describe.facts import apply
from modelhub.errors import AlreadyExists, InvalidInput
from modelhub.records import Address, Metadata, PackRow, encode
from modelhub.stores import Document
from modelhub.testing import plausible
from modelhub.testing.plausible import Subject

BEGINNING = datetime(2023, 7, 1, tzinfo=UTC)
PERIOD = timedelta(days=730)
"""When the changes of a populated hub were made."""

_VARIANTS = 16
_VERSIONS_A_FAMILY = 400
_PACKS = 8
_SHARDS = 3
_SHARD_BYTES = 3000
_VOCABULARY_BYTES = 20_000
_BATCH_ROWS = 20_000
_TABLES = (keys.MODELS, keys.METADATA, keys.LOOKUP, keys.LOG, keys.VERSIONS)


def populate(
    stores: Stores,
    *,
    versions: int = 100_000,
    models: int = 2_000,
    seed: int = 0,
    progress: Progress = ignore_progress,
) -> None:
    """Make a hub in empty stores, with ``versions`` versions in all.

    A few models have many versions, most have few; beside the pushes there are edits, deletions and
    some that were taken back. Every version can be pulled. Names, texts, numbers, times and the
    files' bytes follow from ``seed``; ids are random as ever. ``progress`` is called with
    ``"populate"``, versions done and versions in all.

    Raises:
        AlreadyExists: a hub is there; nothing was written.
        InvalidInput: not at least one model, and one version for each.
    """
    if not 1 <= models <= versions:
        raise InvalidInput(
            f"{versions:,} versions of {models:,} models",
            remedy="Ask for at least one model, and one version for each.",
        )
    ctx = Context(stores, "populate")
    if not bootstrap.initialise(ctx):
        raise AlreadyExists("there is a hub in these stores", remedy="Populate empty stores.")
    rng = Random(seed)
    families = _store_families(ctx, rng, 1 + versions // _VERSIONS_A_FAMILY)
    sizes = _sizes(rng, versions, models)
    begins = sorted(BEGINNING + PERIOD * 0.9 * rng.random() for _ in range(models))
    batch, done, older = _Batch(ctx), 0, ""
    for subject, size, begin in zip(plausible.subjects(rng, models), sizes, begins, strict=True):
        author = _Author(rng, subject, begin, rng.choice(families))
        author.work(size, base=older if rng.random() < 0.2 else "")
        batch.add(author)
        older = f"{subject.name}@1"
        done += size
        progress("populate", done, versions)
    batch.write()


def _sizes(rng: Random, versions: int, models: int) -> list[int]:
    """How many versions each model has: at least one, and long-tailed."""
    weights = [rank**-0.6 for rank in range(1, models + 1)]
    rng.shuffle(weights)
    drawn = Counter(rng.choices(range(models), weights, k=versions - models))
    return [1 + drawn[model] for model in range(models)]


# --- packs -------------------------------------------------------------------------------------


class _Pack:
    """A pack being written, registered and hinted at as the coordinator does."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._id = new_pack_id()
        self._writer = PackWriter(ctx.stores.weights, self._id)
        self._refs: list[ChunkRef] = []

    def add(self, data: bytes) -> ChunkRef:
        digest, size = blake3(data).digest(), len(data)
        ref = ChunkRef(digest, size, self._id, self._writer.add(digest, data), size)
        self._refs.append(ref)
        return ref

    def register(self) -> None:
        row = PackRow(state="live", size_bytes=self._writer.finish(), token=secrets.token_hex(8))
        rows = self._ctx.stores.rows
        rows.put(keys.PACKS, keys.pack(self._id), encode(row))
        rows.put_many(keys.CHUNKS, {keys.chunk(ref.digest): chunk_hint(ref) for ref in self._refs})


_File = tuple[str, int, int, str, list[ChunkRef]]
"""What ``ManifestBuilder.add_file`` takes."""


def _store_families(ctx: Context, rng: Random, count: int) -> list[list[Stored]]:
    """Contents that models publish one after the other; neighbours differ in a shard each."""
    shared = _Pack(ctx)
    vocabularies = [
        _file(shared, "tokenizer.json", rng.randbytes(_VOCABULARY_BYTES)) for _ in range(4)
    ]
    shared.register()
    families: list[list[Stored]] = []
    for part in range(min(_PACKS, count)):
        pack = _Pack(ctx)
        for _ in range(part, count, _PACKS):
            families.append(_store_family(pack, rng, rng.choice(vocabularies)))
        pack.register()
    return families


def _store_family(pack: _Pack, rng: Random, vocabulary: _File) -> list[Stored]:
    width = 2 ** rng.randint(6, 12)
    shards: dict[int, _File] = {}
    contents = []
    for variant in range(_VARIANTS):
        config = _config(width, variant)
        fresh = [_file(pack, "config.json", config)]
        for shard in range(_SHARDS) if variant == 0 else [variant % _SHARDS]:
            path = f"model-{shard + 1:05}-of-{_SHARDS:05}.bin"
            shards[shard] = _file(pack, path, rng.randbytes(_SHARD_BYTES))
            fresh.append(shards[shard])
        contents.append(_store_content(pack, [vocabulary, fresh[0], *shards.values()], fresh))
    return contents


def _config(width: int, variant: int) -> bytes:
    return f'{{"hidden_size": {width}, "revision": {variant}}}\n'.encode()


def _file(pack: _Pack, path: str, data: bytes) -> _File:
    source = SourceFile(path, Path(path), len(data), 0o644, (0, 0, len(data), 0, 0))
    cutter, pieces = cut(BytesIO(data), source)
    return path, len(data), source.mode, cutter, [pack.add(piece.data) for piece in pieces]


def _store_content(pack: _Pack, files: Sequence[_File], fresh: Sequence[_File]) -> Stored:
    builder = ManifestBuilder()
    for file in files:
        builder.add_file(*file)
    data = builder.encode()
    manifest, ref = Manifest.decode(data, "a populated manifest"), pack.add(data)
    address = Address(ref.pack, ref.offset, ref.length, ref.digest.hex())
    packs = tuple(sorted({*manifest.packs(), ref.pack}))
    new_bytes = ref.length + sum(size for _, size, *_ in fresh)
    return Stored(manifest, address, packs, new_bytes, known=not fresh)


# --- models ------------------------------------------------------------------------------------


class _Calendar(Clock):
    """A clock that is set by hand."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def now(self) -> datetime:
        return self.moment


class _StoredPush(Push):
    """A push of what is stored already."""

    def _store(self, head: Head, attempt: Attempt, parent: int) -> Stored:
        del head, parent
        assert self._stored is not None
        attempt.announce(self._stored.packs)
        return self._stored


class _Author:
    """Makes one model, in memory."""

    def __init__(
        self, rng: Random, subject: Subject, begin: datetime, contents: Sequence[Stored]
    ) -> None:
        self._rng = rng
        self._subject = subject
        self._begin = begin
        self._contents = contents
        self._calendar = _Calendar(begin)
        rows = MemoryRows()
        rows.create_tables(keys.TABLES)
        self.ctx = Context(Stores(MemoryWeights(), rows, MemorySearch()), subject.team[0])
        self.ctx.clock = self._calendar
        self.head = read_head(rows, subject.name)
        self.known: dict[int, Metadata] = {}

    def work(self, size: int, base: str) -> None:
        """Publish ``size`` versions, and do now and then what else is done to a version."""
        span = BEGINNING + PERIOD - self._begin
        for number in range(1, size + 1):
            self._calendar.moment = self._begin + span * ((number - 1) / size)
            self._publish(number, base if number == 1 else "")
            self._calendar.moment += span / size * self._rng.random()
            self._look_after(self._rng.randint(max(1, number - 5), number))
        hints.refresh(self.ctx, self.head, 0, self.known)

    def documents(self) -> list[Document]:
        """What search is to hold of the model."""
        stale = index.stale_since(self.ctx, self.head, 0)
        return index.documents(self.ctx, self.head, stale, self.known, unreadable=[])

    def _publish(self, number: int, base: str) -> None:
        rng, subject = self._rng, self._subject
        change = rng.choice(plausible.CHANGES)
        facts = plausible.facts(rng, subject, change, number)
        content = self._contents[(number - 1) % len(self._contents)]
        if number > len(self._contents):
            content = replace(content, new_bytes=0)
        self._advance(
            _StoredPush(
                self.ctx,
                subject.name,
                sources=(),
                metadata=apply(Metadata(), facts),
                message=subject.say(*change),
                branch="next" if number > 1 and rng.random() < 0.1 else names.DEFAULT_BRANCH,
                bases=(base,) if base else (),
                request=f"run-{rng.getrandbits(48):012x}" if rng.random() < 0.3 else "",
                _stored=content,
            )
        )

    def _look_after(self, number: int) -> None:
        rng, ctx = self._rng, self.ctx
        revision = names.revision(f"{self._subject.name}@{number}")
        if is_deleted(self.head.state, number):
            if rng.random() < 0.3:
                self._advance(Retire(ctx, revision, deleted=False, message="needed after all"))
        elif rng.random() < 0.06:
            facts = plausible.amendment(rng, self._subject)
            reason = self._subject.say(*rng.choice(plausible.REASONS))
            self._advance(Edit(ctx, revision, facts, reason))
        elif rng.random() < 0.04:
            self._advance(Retire(ctx, revision, deleted=True, message="superseded"))

    def _advance(self, plan: Plan) -> None:
        """Put the plan's change on top of the log, as ``commit`` does."""
        self.ctx.principal = self._rng.choice(self._subject.team)
        attempt = Attempt(self.ctx, self.head, plan.op)
        change = plan.build(self.head, attempt)
        assert change is not None
        entry = next_entry(self.ctx, self.head, attempt, plan, change)
        sealed = append(self.ctx, self.head.name, entry)
        assert sealed is not None
        self.head = self.head.after(sealed)
        self.known |= plan.known


@dataclass
class _Batch:
    """What is to be written to the stores next, of any number of models."""

    ctx: Context
    rows: dict[str, dict[bytes, bytes]] = field(default_factory=lambda: {t: {} for t in _TABLES})
    documents: list[Document] = field(default_factory=list)

    def add(self, author: _Author) -> None:
        """Take over a model, and write all there is once it is much."""
        for table, rows in self.rows.items():
            rows.update(author.ctx.stores.rows.scan(table, b"\0", b"\xff"))
        self.documents += author.documents()
        if sum(map(len, self.rows.values())) >= _BATCH_ROWS:
            self.write()

    def write(self) -> None:
        """Write in the coordinator's order: what a log row names is there before it."""
        for table, rows in self.rows.items():
            self.ctx.stores.rows.put_many(table, rows)
            rows.clear()
        index.write_everywhere(self.ctx, self.documents)
        self.documents.clear()
