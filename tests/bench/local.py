"""The embedded hub beside its peers on a local disk, with every goal beside what was measured.

    tests/bench/install_peers.sh                       # once; its path goes before PATH for DVC
    python -m tests.bench.local --json local.json      # 1 GiB, five rounds: about 20 minutes
    python -m tests.bench.local --size 8GiB --rounds 1 --peers cp,cp+fsync --small-files 0

A round runs modelhub under each of ``--policies`` and each peer on the same bytes, step by step, in
an order that turns round with every round; shown are medians of the rounds' ratios. Every process
is a new one, its start counts, and what it reads is in memory. What comes back is compared with
what went in. The data takes four times the size on disk, and the repositories nine times (five
times with ``cp`` alone).

``cp`` alone ends before its bytes are on the disk; pushes and pulls of modelhub end after, so what
syncs is shown beside what does not.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from tests.bench.hubs import Counts, Modelhub, counts_of_push
from tests.bench.peers import PEERS, Contender, installed, tar, tar_synced
from tests.bench.report import Row, parser, show
from tests.bench.rounds import Round, plain, run_round, show_medians, stored, time_row
from tests.bench.series import MIB, Data, part_changed, series_tensors

ANY = ("fast", "auto", "small")
TIMES: tuple[tuple[str, Sequence[str], str, float | None], ...] = (
    ("push first", ["fast"], "dd", 1.5),
    ("push first", ["fast"], "cp+fsync", None),
    ("push first", ["fast"], "borg", 0.4),
    ("push first", ["auto"], "borg", 0.6),
    ("push unchanged", ANY, "borg", 0.10),
    ("push part", ANY, "borg", 0.25),
    ("push full", ["auto"], "borg", 1.0),
    ("pull first", ANY, "restic", 0.5),
    ("pull full", ANY, "restic", 0.5),
    ("pull first", ["fast"], "cp", 1.3),
    ("pull first", ["fast"], "cp+fsync", 1.3),
)
"""A step, the policies it is judged under, the peer, and how long it may take beside that one
(None: shown, not judged)."""

ROW_CALLS, PEAK_MB, SMALL_FILES_STORED, SMALL_TO_TAR = 19, 700, 3, 1.5


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write JSON."""
    names = ("data", "size", "small_files", "rounds", "peers", "policies", "json")
    options = parser(__doc__, *names).parse_args(arguments)
    hubs = [Modelhub(policy) for policy in options.policies]
    here = installed(options.peers)
    peers: list[Contender] = [PEERS[name]() for name in here]
    rounds, counts = _series(options, hubs, peers)
    rows = [
        *_time_rows(rounds, hubs),
        *_size_rows(rounds, hubs, options.size),
        *_count_rows(counts),
        *(Row(f"peak memory, {hub.name}", hub.peak_mb, PEAK_MB, "MB") for hub in hubs),
    ]
    small = _small(options) if options.small_files else []
    if small:
        rows += _small_rows(small, options.policies[0])
    show_medians(rounds)
    about = {
        "size": f"{options.size / MIB:.0f} MiB",
        "rounds": options.rounds,
        "peers": ", ".join(here.values()) or "none",
    }
    missing = [name for name in options.peers if name not in here]
    if missing:
        about["not installed"] = ", ".join(missing)
    raw = {"series": plain(rounds), "small files": plain([one for one, _ in small])}
    show("modelhub on a local disk", rows, about=about, rounds=raw, file=options.json)


def _series(
    options: Namespace, hubs: Sequence[Modelhub], peers: Sequence[Contender]
) -> tuple[list[Round], list[Counts]]:
    """The rounds, and the counts of one more unchanged push into each hub after each."""
    versions = Data(options.data).series(options.size)
    counts: list[Counts] = []

    def push_again() -> None:
        for hub in hubs:
            counts.append(counts_of_push(Path(hub.hub), versions["full"], hub.policy))

    rounds = [
        run_round(number, [*hubs, *peers], versions, options.data, after=push_again)
        for number in range(options.rounds)
    ]
    return rounds, counts


def _time_rows(rounds: Sequence[Round], hubs: Sequence[Modelhub]) -> list[Row]:
    return [
        time_row(rounds, step, hub.name, peer, goal=goal)
        for step, policies, peer, goal in TIMES
        for hub in hubs
        if hub.policy in policies and peer in rounds[0]
    ]


def _size_rows(rounds: Sequence[Round], hubs: Sequence[Modelhub], size: int) -> list[Row]:
    first = series_tensors(size)
    whole = sum(tensor.size_bytes for tensor in first)
    changed = sum(
        new.size_bytes for new, old in zip(part_changed(first), first, strict=True) if new != old
    )

    def row(step: str, before: str | None, of: int, hub: Modelhub, goal: float | None) -> Row:
        new = stored(rounds, hub.name, step, before)
        detail = f"{new / MIB:.1f} MiB of {of / MIB:.1f}"
        return Row(f"bytes stored by {step}, {hub.name}", new / of, goal, detail=detail)

    rows = []
    for hub in hubs:
        encodes = hub.policy != "fast"
        unchanged = stored(rounds, hub.name, "push unchanged", "push first")
        rows += [
            row("push first", None, whole, hub, 0.7 if encodes else None),
            Row(f"bytes stored by push unchanged, {hub.name}", unchanged, 0, ""),
            row("push part", "push unchanged", changed, hub, 1.02),
            row("push full", "push part", whole, hub, 0.40 if encodes else None),
        ]
    return rows


def _count_rows(counts: Sequence[Counts]) -> list[Row]:
    """The most of all rounds."""
    return [
        Row("push unchanged: calls for rows", max(one.row_calls for one in counts), ROW_CALLS, ""),
        Row("push unchanged: writes of weights", max(one.weight_writes for one in counts), 0, ""),
        Row("files on the store for four versions", max(one.files for one in counts), unit=""),
    ]


def _small(options: Namespace) -> list[tuple[Round, int]]:
    """Rounds with small files, and how many files modelhub made of them."""
    folder = Data(options.data).small_files(options.small_files)
    hub = Modelhub(options.policies[0])
    made: list[int] = []
    contenders: list[Contender] = [hub, tar(), tar_synced()]
    rounds = [
        run_round(
            number,
            contenders,
            {"first": folder},
            options.data,
            steps=["push first"],
            after=lambda: made.append(hub.stored_files()),
        )
        for number in range(options.rounds)
    ]
    return list(zip(rounds, made, strict=True))


def _small_rows(small: Sequence[tuple[Round, int]], policy: str) -> list[Row]:
    rounds = [one for one, _ in small]
    name, what = f"modelhub {policy}", "small files: "
    rows = [
        time_row(rounds, "push first", name, peer, goal=SMALL_TO_TAR, of=what)
        for peer in ("tar", "tar+fsync")
    ]
    most = max(files for _, files in small)
    return [*rows, Row(f"{what}files on the store", most, SMALL_FILES_STORED, "")]


if __name__ == "__main__":
    main()
