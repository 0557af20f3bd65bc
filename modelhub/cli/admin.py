"""The verbs of whoever runs a hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from modelhub.cli import text
from modelhub.cli.asking import Verb, check_asked, confirm, take_away
from modelhub.cli.door import Door, example_text, verb
from modelhub.cli.output import note
from modelhub.cli.progress import progress
from modelhub.cli.writing import message
from modelhub.errors import InvalidInput
from modelhub.names import shown
from modelhub.results import TRASH_HOURS, Collected, ReindexMode

_MIB = 1 << 20

if TYPE_CHECKING:
    from modelhub.hub import Hub
    from modelhub.rules import RetentionRule


@verb("--hub prod admin init")
@click.option("--hbase-script", is_flag=True, help="Only print what makes its tables in HBase.")
def init(door: Door, hbase_script: bool) -> None:
    """Make the hub, and try its weight store with a small file.

    One that is there stays as it is, but for tables that are missing. Tables in HBase are made
    unsplit and uncompressed. `--hbase-script` prints what a DBA may run in `hbase shell -n` before,
    with a namespace, split points and compression.
    """
    if hbase_script:
        script = door.hbase_script()
        door.answer({"script": script}, lambda _: script.rstrip())
        return
    with door.hub() as hub:
        made = hub.init()
    door.answer({"made": made.hub, "tables": made.tables}, lambda _: text.made(made))


@verb("admin status", "admin status --format json")
def status(door: Door) -> None:
    """Show the hub and its stores."""
    with door.hub() as hub:
        door.answer(hub.status(), text.status)


@verb("admin sweep", "admin sweep --chunks")
@click.option("--chunks", is_flag=True, help="Put lost rows of chunks again, from every pack.")
def sweep(door: Door, chunks: bool) -> None:
    """Finish or give up what interrupted changes left behind.

    Safe at any time and from several places at once.
    """
    with door.hub() as hub, progress(in_bytes=False) as advance:
        swept = hub.sweep(chunks=chunks, progress=advance)
    door.answer(swept, text.sweep)


@verb("admin fsck --sample 5 --rate 50", "admin fsck --repair --dry-run")
@click.option("--no-data", is_flag=True, help="Leave out reading every chunk.")
@click.option("--sample", type=float, help="Read this percentage of all chunks, another each day.")
@click.option("--rate", type=float, help="Read at most so many MiB a second.")
@click.option("--resume", is_flag=True, help="Go on reading where the last --resume broke off.")
@click.option("--repair", is_flag=True, help="Put right what can be made from a second source.")
@click.option(
    "--from",
    "source",
    type=click.Path(exists=True, file_okay=False),
    help="With --repair: a folder with the models' own files.",
)
@click.option("--dry-run", is_flag=True, help="With --repair: show what would be done.")
@click.option(
    "--metrics",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write figures for Prometheus into this file.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def fsck(
    door: Door,
    *,
    no_data: bool,
    sample: float | None,
    rate: float | None,
    resume: bool,
    repair: bool,
    source: str | None,
    dry_run: bool,
    metrics: Path | None,
    yes: bool,
) -> None:
    """Check everything that is stored, and repair it.

    No log is rewritten and nothing thrown away: old files go to quarantine/.

    Exits 1 where something is wrong that was not repaired.
    """
    if not repair and (dry_run or source):
        raise click.UsageError("--dry-run and --from say how to --repair.")
    if no_data and (sample is not None or rate is not None or resume):
        raise click.UsageError("--no-data leaves out what --sample, --rate and --resume are about.")
    if repair:
        check_asked("repairing", sure=dry_run or yes)
    with door.hub() as hub, progress(in_bytes=False) as advance:
        if repair and not (dry_run or yes):
            confirm("Repair what is damaged?", "nothing was changed")
        health = hub.fsck(
            data=not no_data,
            sample=None if sample is None else sample / 100,
            rate=None if rate is None else rate * _MIB,
            resume=resume,
            repair=repair,
            dry_run=dry_run,
            source=source,
            progress=advance,
        )
    if metrics is not None:
        _write_metrics(metrics, health.to_metrics())
    door.judge(health, text.health, well=not health.remaining)


@verb("admin reindex", "--format json admin reindex --scheduled")
@click.option("--incremental", is_flag=True, help="Write only what is lost or behind.")
@click.option("--scheduled", is_flag=True, help="For cron: a new index only where one is needed.")
def reindex(door: Door, incremental: bool, scheduled: bool) -> None:
    """Make search anew from the log, while everybody goes on.

    A new index is filled and takes the old one's place; an interrupted run is gone on with.
    `--incremental` compares what is there with the log instead, and so does `--scheduled` unless
    a new index was begun or the form of documents has changed.

    Exits 1 where documents were lost or cannot be made, 5 where another run is under way.
    """
    if incremental and scheduled:
        raise click.UsageError("--scheduled says itself when to be --incremental; leave out one.")
    mode: ReindexMode = "scheduled" if scheduled else "incremental" if incremental else "whole"
    with door.hub() as hub, progress(in_bytes=False) as advance:
        done = hub.reindex(mode, progress=advance)
    door.judge(done, text.reindexed, well=not (done.documents_lost or done.damaged))


@verb("admin gc --dry-run", "admin gc --deleted-days 7 --rate 2000 --yes")
@click.option(
    "--rules",
    type=click.Path(dir_okay=False, path_type=Path),
    help="TOML file with [[rules]]: models (a glob), keep_last, keep_days, deleted_days.",
)
@click.option(
    "--deleted-days",
    type=float,
    help="How long deleted versions of models without a rule can come back; 30 days by default.",
)
@click.option(
    "--trash-hours",
    type=float,
    default=TRASH_HOURS,
    show_default=True,
    help="How long files stay in the trash.",
)
@click.option("--rate", type=float, help="At most so many rows and files a second.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def gc(
    door: Door,
    *,
    rules: Path | None,
    deleted_days: float | None,
    trash_hours: float,
    rate: float | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Take away what nothing refers to any more.

    Versions that no rule keeps are deleted; deleted ones whose time is over can never come back;
    what only they needed goes to the trash, and leaves it a day later. Everybody goes on meanwhile.

    Exits 5 where another run is under way.
    """
    check_asked("collecting", sure=dry_run or yes)
    wanted = _rules(rules, deleted_days)

    def run(hub: Hub, *, dry_run: bool) -> Collected:
        with progress(in_bytes=False) as advance:
            return hub.gc(
                wanted, trash_hours=trash_hours, rate=rate, dry_run=dry_run, progress=advance
            )

    with door.hub() as hub:
        if not (dry_run or yes):
            coming = run(hub, dry_run=True)
            note(text.collected(coming))
            confirm("Go on?", "nothing was taken away")
        done = run(hub, dry_run=dry_run)
    door.answer(done, text.collected)


@verb("admin purge nlp.sentiment@3 -m 'a request for erasure' --dry-run")
@click.argument("revision")
@message
@click.option("--dry-run", is_flag=True, help="Check and show, change nothing.")
@click.option("--force", is_flag=True, help="Also where a tag or alias names it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge(
    door: Door, *, revision: str, message: str, dry_run: bool, force: bool, yes: bool
) -> None:
    """Delete one version for good, with its metadata: a legal erasure.

    Nothing brings it back; the log goes on telling that it was there, and who purged it. What no
    other version shares of its files goes with the next `admin gc`, at once with `--trash-hours 0`.
    """
    purged = take_away(
        door,
        Verb("Purge", "purging", "purged"),
        revision,
        lambda hub, named: hub.purge(named, message=message, dry_run=dry_run, force=force),
        ask=not (dry_run or yes),
    )
    done = "would purge" if dry_run else "purged"
    door.answer(purged, lambda version: f"{done} {text.revision(version)}")


@verb("admin backup hdfs://nn:8020/backups/models", "admin backup /mnt/backup --whole")
@click.argument("url")
@click.option("--whole", is_flag=True, help="Stand by itself; packs are shared still.")
def backup(door: Door, url: str, whole: bool) -> None:
    """Add a backup of the whole hub to a folder of any file system.

    Everybody goes on meanwhile; every model comes into it as it was when the backup began. What
    the folder holds already is not copied again.

    Exits 1 where packs are missing, 5 where a collection or another backup is under way.
    """
    with door.hub() as hub, progress(in_bytes=False) as advance:
        done = hub.backup(url, whole=whole, progress=advance)
    door.judge(done, text.backed_up, well=not done.missing)


@verb("admin restore /mnt/backup --dry-run", "admin restore /mnt/backup --models 'nlp.*' --yes")
@click.argument("url")
@click.option("--models", metavar="GLOB", default="*", help="Only models with such names.")
@click.option("--at", metavar="TIME", help="As they were then (ISO 8601), not at the last backup.")
@click.option("--dry-run", is_flag=True, help="Show what would come back, change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def restore(door: Door, *, url: str, models: str, at: str | None, dry_run: bool, yes: bool) -> None:
    """Bring models back from a backup.

    Into an empty hub, or one that lost them. Nothing that is there is changed: absent models come
    back whole, of those that lost their newest entries these, and those that went on otherwise are
    named and left alone.

    Exits 1 where something could not come back.
    """
    check_asked("restoring", sure=dry_run or yes)
    with door.hub() as hub, progress(in_bytes=False) as advance:
        if not (dry_run or yes):
            note(text.restored(hub.recover(url, models, at=at, dry_run=True, progress=advance)))
            confirm("Go on?", "nothing was restored")
        done = hub.recover(url, models, at=at, dry_run=dry_run, progress=advance)
    door.judge(done, text.restored, well=not (done.unreadable or done.differ))


def _write_metrics(file: Path, text: str) -> None:
    """In one step, since whoever collects figures may look at any time."""
    written = file.with_name(f"{file.name}.new")
    try:
        written.write_text(text)
        written.replace(file)
    except OSError as exc:
        raise InvalidInput(
            f"{shown(str(file))} cannot be written: {exc.strerror}",
            remedy="Name a file in a folder that you may write to.",
        ) from exc


def _rules(file: Path | None, deleted_days: float | None) -> tuple[RetentionRule, ...]:
    """Those of the file, and behind them one for all other models."""
    from modelhub.rules import RetentionRule, read_rules

    found = () if file is None else read_rules(file)
    last = () if deleted_days is None else (RetentionRule(deleted_days=deleted_days),)
    return found + last


admin = click.Group(
    "admin",
    help="Make, watch, clean up and check a hub.",
    epilog=example_text("admin status", "admin fsck --no-data"),
    commands={
        command.name or "": command
        for command in (init, status, sweep, fsck, reindex, gc, purge, backup, restore)
    },
)
