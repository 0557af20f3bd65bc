"""What a check notes down: findings by kind, each with its severity, its remedy and its mend."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from modelhub.content.manifest import ChunkRef
from modelhub.coordinator.context import Context
from modelhub.errors import CorruptData, NotFound
from modelhub.results import Finding, Health, Listing

_REPAIR = "Run `modelhub admin fsck --repair`"
_NEW_PACK = f"{_REPAIR}: whole copies of its chunks go into a new pack; or restore a backup."
_REMEDIES = {
    "log-damaged": "Restore the row from a backup; later entries still name its digest.",
    "log-broken": "Restore the missing rows from a backup.",
    "metadata-damaged": f"{_REPAIR}, which has the text if search has; `modelhub edit` describes "
    "the version anew.",
    "lookup-missing": f"{_REPAIR}: until then a repeated request would not be recognised.",
    "manifest-damaged": _NEW_PACK,
    "pack-missing": _NEW_PACK,
    "pack-damaged": _NEW_PACK,
    "pack-condemned": f"{_REPAIR}, or `modelhub admin gc`.",
    "pack-unused": "`modelhub admin gc` takes its row out of use; no version needs it.",
    "pack-orphan": "`modelhub admin gc` takes it to the trash.",
    "chunk-damaged": _NEW_PACK,
    "chunk-row-stray": f"{_REPAIR}; pushes believe no such row.",
    "row-stray": "If entries of the log were lost, restore them; else it misleads nobody.",
    "intent-damaged": f"{_REPAIR}; where its key is damaged, delete it if no push is under way.",
    "intent-overdue": f"{_REPAIR}, or `modelhub admin sweep`.",
    "system-damaged": f"{_REPAIR}.",
    "search-missing": f"{_REPAIR}, or `modelhub admin reindex`.",
    "search-stale": f"{_REPAIR}; `modelhub edit` of that version writes its document again.",
    "search-surplus": f"{_REPAIR}, or `modelhub admin reindex`.",
    "hint-stale": f"{_REPAIR}; until then readers believe the log, only slower.",
}
KINDS = tuple(_REMEDIES)
"""The kinds of findings. They are part of what scripts rely on."""

_WARNINGS = {
    "chunk-row-stray",
    "hint-stale",
    "intent-overdue",
    "pack-condemned",
    "pack-orphan",
    "pack-unused",
    "row-stray",
    "search-stale",
    "search-surplus",
}


class Mend(NamedTuple):
    """What may put a finding right: which of the mends, and of what.

    ``subject`` is a model, a pack, or what else the mend is about; ``key`` that of a row.
    """

    by: Literal[
        "chunk rows",
        "content",
        "intent",
        "metadata",
        "model",
        "pack",
        "search",
        "summary",
        "sweep",
        "system",
    ]
    subject: str = ""
    key: bytes = b""


class Noted(NamedTuple):
    """A finding, and its mend, if there is any."""

    finding: Finding
    mend: Mend | None


@dataclass
class Check:
    """A check under way: what was found, and how much was looked at."""

    ctx: Context
    noted: list[Noted] = field(default_factory=list)
    checked: dict[str, int] = field(default_factory=dict)

    def count(self, what: str, number: int = 1) -> None:
        """Note that something was looked at."""
        self.checked[what] = self.checked.get(what, 0) + number

    def report(self, kind: str, subject: str, cause: object, mend: Mend | None = None) -> None:
        """Note that something is not as it should be."""
        found = Finding(
            kind=kind,
            severity="warning" if kind in _WARNINGS else "error",
            subject=subject,
            cause=str(cause),
            repair=_REMEDIES[kind],
        )
        self.noted.append(Noted(found, mend))

    def found(self, kind: str) -> bool:
        """Whether anything of this kind was found."""
        return any(noted.finding.kind == kind for noted in self.noted)

    def chunk(self, ref: ChunkRef, subject: str, mend: Mend | None = None) -> bool:
        """Read one chunk, and report it where it is not what its digest says; whether it is."""
        self.count("chunks")
        try:
            self.ctx.reader.chunk(ref)
        except (CorruptData, NotFound) as exc:
            self.report("chunk-damaged", subject, exc, mend)
            return False
        return True

    def health(self) -> Health:
        """The result."""
        findings = [noted.finding for noted in self.noted]
        return Health(findings=Listing(Finding, findings), checked=self.checked)
