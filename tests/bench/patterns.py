"""What a change of a model costs in stored bytes, for every kind of change in the format's table.

    python -m tests.bench.patterns --json patterns.json            # the table's model, 1132 MiB
    python -m tests.bench.patterns --shrink 4                      # 74 MiB

A model is pushed to a new embedded hub, then the model with one change; shown is what the second
push added to the files with weights, its manifest included, beside the better of tensor-aligned and
content-defined cuts and 0.2 MiB more. Under ``fast`` that is what the cuts find; under ``auto``
what is new is encoded as well.

An insertion into an opaque file costs the piece that it falls into, sometimes the next one too: at
40 places chosen at random it was 0.5 to 1.8 MiB, 0.8 in the median. Here it is the file's middle.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench.hubs import Modelhub
from tests.bench.measure import check_equal
from tests.bench.report import Row, parser, show
from tests.bench.rounds import folder_in
from tests.bench.series import MIB, Change, Data


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write JSON."""
    options = parser(__doc__, "data", "shrink", "policies", "json").parse_args(arguments)
    rows = []
    for change in Data(options.data).changes(options.shrink):
        for policy in options.policies:
            with folder_in(options.data) as place:
                hub = Modelhub(policy)
                hub.prepare(place)
                added = _added_bytes(hub, change)
                (place / "restored").mkdir()
                hub.restore("after", place / "restored")
                check_equal(change.after, place / "restored")
            rows.append(Row(f"{change.name}, {policy}", added / MIB, change.goal_mib, "MiB"))
    about = {"model divided by": options.shrink}
    show("new MiB stored for a change", rows, about=about, rounds=[], file=options.json)


def _added_bytes(hub: Modelhub, change: Change) -> int:
    hub.store("before", change.before)
    before = hub.stored_bytes()
    hub.store("after", change.after)
    return hub.stored_bytes() - before


if __name__ == "__main__":
    main()
