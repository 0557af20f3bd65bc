"""Retention rules: what is kept of which models, as a file of theirs says."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from modelhub.errors import InvalidInput
from modelhub.names import amount

DELETED_DAYS = 30.0


class RetentionRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What becomes of the versions of some models; the first rule that fits a model counts.

    ``models`` is a glob. Live versions are deleted once neither ``keep_last`` (so many of the
    newest live ones) nor ``keep_days`` (days since they were published) keeps them; where neither
    is given, never. Kept in any case: heads of branches, what a tag or an alias names, what another
    model is based on, and everything in a protected model. Deleted ones can be brought back for
    ``deleted_days``.
    """

    models: str = "*"
    keep_last: int | None = None
    keep_days: float | None = None
    deleted_days: float = DELETED_DAYS

    def __post_init__(self) -> None:
        for name in ("keep_last", "keep_days", "deleted_days"):
            value = getattr(self, name)
            if value is not None:
                amount(value, name)
        if self.keep_last == 0:
            raise InvalidInput("keep_last cannot be 0", remedy="A model's head is kept: give 1.")

    @property
    def expires(self) -> bool:
        """Whether live versions are ever deleted."""
        return self.keep_last is not None or self.keep_days is not None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rules: tuple[RetentionRule, ...] = ()


def read_rules(file: Path) -> tuple[RetentionRule, ...]:
    """The rules of a TOML file: tables ``[[rules]]`` with the fields of ``RetentionRule``.

    Raises:
        InvalidInput: it is none, or cannot be read.
    """
    import tomllib

    try:
        return msgspec.convert(tomllib.loads(file.read_text(encoding="utf-8")), _File).rules
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as exc:
        raise InvalidInput(
            f"{file} is no file of retention rules: {exc}",
            remedy="Write tables [[rules]] with models, keep_last, keep_days and deleted_days.",
        ) from exc


def rule_for(rules: Sequence[RetentionRule], name: str) -> RetentionRule:
    """The first rule that fits; deleted versions of other models stay for 30 days."""
    return next((rule for rule in rules if fnmatchcase(name, rule.models)), RetentionRule())
