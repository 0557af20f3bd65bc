"""One tensor out of a whole model: the bytes that reading it takes, and its time beside a raw read.

    python -m tests.bench.tensor --size 8GiB --json tensor.json

An embedded hub holds the series' first version. In every round another tensor is read by
``hub.tensors``, and the same ranges of the same files as they are, both from memory, in an order
that turns round. What ``get_tensor`` takes includes verifying, and decoding where it was encoded.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from modelhub.backends.files import LocalWeights
from modelhub.connect import embedded_stores
from modelhub.content.manifest import ChunkRef
from modelhub.coordinator.context import Context, Stores
from modelhub.coordinator.tensors import Tensors
from modelhub.hub import Hub
from tests.bench.hubs import MODEL, Modelhub
from tests.bench.report import Row, parser, show
from tests.bench.rounds import folder_in
from tests.bench.series import MIB, TENSOR_BYTES, Data

MOST_BYTES, MOST_TIME = 1.05, 3.0


@dataclass
class Watched(LocalWeights):
    """Weights in local files that tell what was read of them."""

    root: Path
    ranges: list[tuple[str, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(self.root)

    def read(self, path: str, offset: int, length: int) -> bytes:
        self.ranges.append((path, offset, length))
        return super().read(path, offset, length)

    def read_again(self) -> None:
        """The same ranges from the same files, past everything."""
        for path, offset, length in self.ranges:
            with (self.root / path).open("rb", buffering=0) as file:
                file.seek(offset)
                file.read(length)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write JSON."""
    names = ("data", "size", "rounds", "policies", "json")
    options = parser(__doc__, *names).parse_args(arguments)
    source = Data(options.data).series(options.size, only="first")["first"]
    rows, figures = [], {}
    for policy in options.policies:
        with folder_in(options.data) as place:
            hub = Modelhub(policy)
            hub.prepare(place)
            hub.store("first", source)
            rounds = _rounds(Path(hub.hub), options.rounds)
        figures[policy] = rounds
        rows += _rows(policy, rounds)
    about = {"size": f"{options.size / MIB:.0f} MiB", "rounds": options.rounds}
    show("one tensor", rows, about=about, rounds=figures, file=options.json)


def _rounds(home: Path, count: int) -> list[dict[str, float]]:
    stores = embedded_stores(home)
    watched = Watched(home / "weights")
    ctx = Context(Stores(watched, stores.rows, stores.search), "bench")
    with Hub(ctx, address=str(home), cache=home / "cache") as hub:
        tensors = hub.tensors(MODEL)
        large = [name for name in tensors.keys() if len(tensors.info(name).shape) == 2]  # noqa: SIM118
        chosen = [large[number * len(large) // count] for number in range(count)]
        return [
            _round(hub, watched, tensors, name, turned=bool(number % 2))
            for number, name in enumerate(chosen)
        ]


def _round(
    hub: Hub, watched: Watched, tensors: Tensors, name: str, *, turned: bool
) -> dict[str, float]:
    watched.ranges.clear()
    tensors.get_tensor(name)  # Into memory, for both.
    read_bytes = sum(length for *_, length in watched.ranges)
    asked, watched.ranges = watched.ranges, []
    seconds: dict[str, float] = {}

    def raw() -> None:
        watched.ranges = asked
        watched.read_again()
        watched.ranges = []

    steps: dict[str, Callable[[], Any]] = {"ours": lambda: tensors.get_tensor(name), "raw": raw}
    for step in list(steps)[:: -1 if turned else 1]:
        began_s = time.perf_counter()
        steps[step]()
        seconds[step] = time.perf_counter() - began_s
    return {
        "read_bytes": read_bytes,
        "stored_bytes": sum(ref.stored for ref in _chunks(hub, name)),
        "seconds": seconds["ours"],
        "raw_seconds": seconds["raw"],
    }


def _chunks(hub: Hub, name: str) -> list[ChunkRef]:
    """The chunks that a tensor lies in, past what reads tensors."""
    info = hub.tensors(MODEL).info(name)
    manifest = hub._manifest(*hub._resolve(MODEL, live=True))
    (file,) = manifest.files
    with hub.open(MODEL, file.path) as opened:
        begin = _data_offset(opened, name)
    return manifest.spanning(file, begin, info.size_bytes)[0]


def _data_offset(opened: Any, name: str) -> int:
    (header_bytes,) = struct.unpack("<Q", opened.read(8))
    return int(8 + header_bytes + json.loads(opened.read(header_bytes))[name]["data_offsets"][0])


def _rows(policy: str, rounds: Sequence[dict[str, float]]) -> list[Row]:
    most = max(one["read_bytes"] / one["stored_bytes"] for one in rounds)
    ratio = median(one["seconds"] / one["raw_seconds"] for one in rounds)
    mine, raw = (median(one[key] for one in rounds) for key in ("seconds", "raw_seconds"))
    stored = f"{rounds[0]['stored_bytes'] / MIB:.1f} MiB stored of {TENSOR_BYTES / MIB:.0f}"
    return [
        Row(f"bytes read : bytes stored, {policy}", most, MOST_BYTES, detail=stored),
        Row(
            f"get_tensor : raw read, {policy}",
            ratio,
            MOST_TIME,
            detail=f"{mine * 1000:.1f} ms / {raw * 1000:.1f} ms",
        ),
    ]


if __name__ == "__main__":
    main()
