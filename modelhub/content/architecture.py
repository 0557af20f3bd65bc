"""What two models have in common when their tensors can be compared piece by piece."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import BinaryIO

from blake3 import blake3

from modelhub.content.cut import parts
from modelhub.content.tree import Source, reading
from modelhub.names import shown

WORTHWHILE_BYTES = 64 << 20
"""Below this much of tensors, a difference from another model saves too little to look for one."""


def architecture(sources: Sequence[Source]) -> str:
    """A digest in hex of the names, element types and sizes of all tensors; empty where few.

    Equal for two models however their tensors are divided into files. Headers alone are read.

    Raises:
        Conflict, Unavailable, Forbidden: a file cannot be read, or changed.
    """
    if sum(source.size_bytes for source in sources) < WORTHWHILE_BYTES:
        return ""
    found: dict[tuple[str, str], int] = {}
    by_path = {source.path: source for source in sources}
    for source in sources:
        with ExitStack() as opened, source.opened() as file:

            def beside(path: str, opened: ExitStack = opened) -> BinaryIO | None:
                other = by_path.get(path)
                return None if other is None else opened.enter_context(other.opened())

            with reading(shown(source.path)):
                known = parts(file, source.size_bytes, source.path, beside)
        for size_bytes, part in known or ():
            if part is not None:
                key = (part.tensor, part.dtype)
                found[key] = found.get(key, 0) + size_bytes
    if sum(found.values()) < WORTHWHILE_BYTES:
        return ""
    listed = "".join(f"{name}\0{dtype}\0{size}\n" for (name, dtype), size in sorted(found.items()))
    return blake3(listed.encode()).hexdigest()
