"""Tables and row keys: how names become bytes, and back.

A NUL parts a key's fields: no name can hold one. Numbers are zero-padded decimals, so that key
order is number order and a shell shows them readably.
"""

from __future__ import annotations

from hashlib import blake2s

from modelhub.errors import CorruptData
from modelhub.names import shown

LOG = "log"
METADATA = "metadata"
MODELS = "models"
VERSIONS = "versions"
LOOKUP = "lookup"
PACKS = "packs"
CHUNKS = "chunks"
INTENTS = "intents"
SYSTEM = "system"
TABLES = (LOG, METADATA, MODELS, VERSIONS, LOOKUP, PACKS, CHUNKS, INTENTS, SYSTEM)

FORMAT = b"format"
SEARCH = b"search"
REINDEX = b"reindex"
COLLECTION = b"collection"
CHECK = b"check"

_DIGITS = 12
_LARGEST = 10**_DIGITS - 1
_SHARDS = 16

Range = tuple[bytes, bytes]


def _join(*fields: str) -> bytes:
    return "\0".join(fields).encode()


def _split(table: str, key: bytes, *counts: int) -> list[str]:
    fields = key.decode(errors="replace").split("\0")
    if len(fields) not in counts:
        raise _damaged(table, key)
    return fields


def _number(table: str, key: bytes, digits: str) -> int:
    if not (digits.isascii() and digits.isdigit()):
        raise _damaged(table, key)
    return int(digits)


def _damaged(table: str, key: bytes) -> CorruptData:
    return CorruptData(
        f"the table {table} has a row with the damaged key {shown(key.decode(errors='replace'))}",
        remedy="Run `modelhub admin fsck`.",
    )


def prefix(*fields: str) -> Range:
    """Start and stop of all keys whose first fields are these."""
    start = _join(*fields, "")
    return start, start[:-1] + b"\x01"


def log(name: str, seq: int) -> bytes:
    """The newest entry of a model sorts first."""
    return _join(name, f"{_LARGEST - seq:0{_DIGITS}d}")


def log_range(name: str, newest: int, oldest: int) -> Range:
    """Entries ``newest`` down to ``oldest``, both included."""
    return log(name, newest), log(name, oldest) + b"\0"


def log_from(name: str) -> Range:
    """The entries of ``name`` and of all models after it; of every model, where it is empty."""
    return (prefix(name)[0] if name else b"\0"), b"\xff"


def parse_log(key: bytes) -> tuple[str, int]:
    """The model and sequence of a log row."""
    name, inverted = _split(LOG, key, 2)
    return name, _LARGEST - _number(LOG, key, inverted)


def metadata(name: str, number: int, digest: str) -> bytes:
    """A metadata row, content-addressed under its version."""
    return _join(name, f"{number:0{_DIGITS}d}", digest)


def metadata_range(name: str, number: int) -> Range:
    """All metadata rows that a version ever had, those of attempts that never landed included."""
    return prefix(name, f"{number:0{_DIGITS}d}")


def model(name: str) -> bytes:
    """A model's hint row."""
    return name.encode()


def version(name: str, number: int) -> bytes:
    """A version's hint row."""
    return _join(name, f"{number:0{_DIGITS}d}")


def lookup(kind: str, value: str, name: str, number: int) -> bytes:
    """A row that says: version ``number`` of ``name`` may have ``value``."""
    return _join(kind, value, name, f"{number:0{_DIGITS}d}")


def lookup_range(kind: str, value: str, *name: str) -> Range:
    """Candidates for ``value``, in every model or in one."""
    return prefix(kind, value, *name)


def parse_lookup(key: bytes) -> tuple[str, str, str, int]:
    """Kind, value, model and number of a lookup row."""
    kind, value, name, number = _split(LOOKUP, key, 4)
    return kind, value, name, _number(LOOKUP, key, number)


def pack(pack_id: str) -> bytes:
    """A pack's row."""
    return pack_id.encode()


def chunk(digest: bytes) -> bytes:
    """A chunk's hint row; ``digest`` is the raw 32 bytes."""
    return digest.hex().encode()


def _shard(name: str) -> str:
    # Spreads a queue's head over regions; any stable hash serves.
    return f"{blake2s(name.encode(), digest_size=1).digest()[0] % _SHARDS:x}"


def intent(name: str, txid: str) -> bytes:
    """An attempt's own row."""
    return _join(_shard(name), name, txid)


def pin(name: str, txid: str, pack_id: str) -> bytes:
    """One row a pinned pack."""
    return _join(_shard(name), name, txid, pack_id)


def kept(table: str, key: bytes, digest: str) -> bytes:
    """Where the bytes with this digest are kept that a repair replaced in another row."""
    return _join("quarantine", table, digest[:16], "") + key


def intents_range(name: str | None = None) -> Range:
    """The intents and pins of one model, or of all."""
    return (b"0", b"g") if name is None else prefix(_shard(name), name)


def parse_intent(key: bytes) -> tuple[str, str, str | None]:
    """Model, txid and, for a pin, the pack."""
    _, name, txid, *pack_id = _split(INTENTS, key, 3, 4)
    return name, txid, pack_id[0] if pack_id else None
