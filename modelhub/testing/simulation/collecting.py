"""A plain collector, as the protocol has it: what pins and intents are there for.

It takes no grace: whatever two scans do not find referred to goes at once. Hub has none of its own
yet; with one, this module goes, and the table of verbs names that.
"""

from __future__ import annotations

import secrets

from modelhub.content.pack import pack_path
from modelhub.coordinator import keys
from modelhub.coordinator.log import models, open_row
from modelhub.errors import CorruptData
from modelhub.records import PackRow, Published, decode, encode
from modelhub.stores import RowStore, WeightStore

_FOLDER = "packs"


def collect(rows: RowStore, weights: WeightStore) -> int:
    """Remove every pack that nothing refers to, and every file that no row names; how many.

    Raises:
        Unavailable, OutcomeUnknown: a store is away; the next run begins afresh.
    """
    files = [info.path.rpartition("/")[2] for info in weights.list(_FOLDER)]
    referred = _referred(rows)
    unknown = [pack for pack in files if rows.get(keys.PACKS, keys.pack(pack)) is None]
    for pack in unknown:
        if pack not in referred:
            _change(rows, pack, None, "deleting")
    for pack, (value, row) in _packs(rows).items():
        if row.state == "live" and pack not in referred:
            _change(rows, pack, value, "condemned")
    condemned = {p: found for p, found in _packs(rows).items() if found[1].state == "condemned"}
    referred = _referred(rows)
    for pack, (value, _) in condemned.items():
        _change(rows, pack, value, "live" if pack in referred else "deleting")
    removed = 0
    for pack, (value, row) in _packs(rows).items():
        if row.state == "deleting":
            weights.remove(pack_path(pack))
            removed += _change(rows, pack, value, "gone")
    return removed


def _referred(rows: RowStore) -> set[str]:
    """The packs that a pin, or then a version of the log, refers to."""
    pins = [keys.parse_intent(key)[2] for key, _ in rows.scan(keys.INTENTS, *keys.intents_range())]
    found = {pack for pack in pins if pack is not None}
    for _, log in models(rows.scan(keys.LOG, *keys.log_from("")), _damaged):
        for entry in (open_row(*row).entry for row in log):
            if isinstance(entry.change, Published):
                found.update(entry.change.version.packs)
    return found


def _damaged(_key: str, error: CorruptData) -> None:
    raise error


def _packs(rows: RowStore) -> dict[str, tuple[bytes, PackRow]]:
    found = rows.scan(keys.PACKS, b"\0", b"\xff")
    return {key.decode(): (value, decode(value, PackRow, "a pack")) for key, value in found}


def _change(rows: RowStore, pack: str, standing: bytes | None, state: str) -> bool:
    """Change a pack's row, unless it changed meanwhile; under a token of its own."""
    size = 0 if standing is None else decode(standing, PackRow, "a pack").size_bytes
    token = secrets.token_hex(8)
    row = PackRow(state=state, size_bytes=size, token=token)  # type: ignore[arg-type]
    return rows.check_and_put(keys.PACKS, keys.pack(pack), standing, encode(row))
