"""How the tables lie in HBase: names, the one column, and where they are split.

A row is one cell in the column ``m:v``: every cell repeats its column's name, so both are short.
One version is kept, since nothing reads an older one, and bloom filters are on rows, so that asking
for a row that is absent (each put-if-absent, each look-up of a new chunk) reads no file for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from modelhub.errors import InvalidInput
from modelhub.names import shown

FAMILY = "m"
COLUMN = b"m:v"
CLOCK_COLUMN = b"m:t"
"""Beside the rows and in none of them: whoever asks for ``COLUMN`` never sees it."""

_PREFIX = re.compile(r"(?:[A-Za-z0-9_]+:)?(?:[A-Za-z0-9_][A-Za-z0-9_.-]*)?")
_PREFIX_LIMIT = 128  # a table's name is also that of a folder in HDFS
_RESERVED = ("hbase:", "default:")

_HEX_DIGITS = "123456789abcdef"
_LETTERS = "gnt"
"""Quarters of the words of a language, roughly; digits come before all letters."""

_SPLITS: Mapping[str, Sequence[str]] = {
    # Keys that begin with a hash or a random number, spread evenly. A chunk's row takes about 150
    # bytes, so this table alone has hundreds of millions of rows in a large hub.
    "chunks": _HEX_DIGITS,
    "packs": "48c",
    # Sixteen shards, 0 to f: the rows come and go, and it is writing that is spread here.
    "intents": "48c",
    # Keys that begin with a model's name.
    "log": _LETTERS,
    "metadata": _LETTERS,
    "versions": _LETTERS,
    # Keys that begin with a kind: each of base, content and request has a region of its own.
    "lookup": ("content", "request"),
    # models and system stay whole: the one has a short row a model, the other a handful of rows.
}


def check_prefix(prefix: str) -> None:
    """A prefix of tables is ``[NAMESPACE:][START]``, so that every table has a name HBase takes.

    NAMESPACE is of ``A-Z``, ``a-z``, ``0-9`` and ``_``, and neither HBase's own nor the default,
    which goes without saying; START may also have ``.`` and ``-`` behind its first character.

    Raises:
        InvalidInput: it is not such a prefix, or longer than 128 characters.
    """
    if not _PREFIX.fullmatch(prefix) or len(prefix) > _PREFIX_LIMIT or prefix.startswith(_RESERVED):
        raise InvalidInput(
            f"{shown(prefix)} cannot begin the names of tables in HBase",
            remedy="Use at most 128 of A-Z, a-z, 0-9, '_', and behind the first '.' and '-'; a "
            "namespace other than hbase and default may come first, as in 'models:' or "
            "'models:hub_'.",
        )


def shell_script(prefix: str, tables: Sequence[str]) -> str:
    """What a DBA would run in ``hbase shell -n`` in place of ``modelhub admin init``.

    It makes the same tables, and beyond them the namespace, split points and compression, which the
    Thrift gateway has no means to ask for.

    Raises:
        InvalidInput: ``prefix`` cannot begin a table's name.
    """
    check_prefix(prefix)
    lines = [
        "# The tables of a hub, for `hbase shell -n`. Leave out lines for what is there already.",
        "# GZ is always there; ZSTD or SNAPPY are faster where all region servers have them.",
        "compression = 'GZ'",
    ]
    namespace, colon, _ = prefix.partition(":")
    if colon:
        lines.append(f"create_namespace '{namespace}'")
    for table in tables:
        family = f"{{NAME => '{FAMILY}', VERSIONS => 1, BLOOMFILTER => 'ROW', "
        line = f"create '{prefix}{table}', {family}COMPRESSION => compression}}"
        if splits := _SPLITS.get(table):
            quoted = ", ".join(f"'{split}'" for split in splits)
            line += f", SPLITS => [{quoted}]"
        lines.append(line)
    return "\n".join(lines) + "\n"
