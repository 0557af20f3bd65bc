"""Hubs that this release must leave alone: of a newer format, or on a network file system."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

import modelhub
from modelhub.backends import filesystem, sqlite
from modelhub.cli.app import app
from modelhub.errors import InvalidInput
from modelhub.hub import Hub
from tests.coordinator.conftest import MOOD, dump, hub_folder, push, refused


def verbs(hub: Hub) -> list[Callable[[], object]]:
    """Every verb, as it is called when all is well."""
    pulled = hub_folder(hub).parent / "pulled"
    return [
        *(hub.init, hub.list, hub.search, hub.sweep, hub.fsck),
        *(partial(act, MOOD) for act in (hub.show, hub.files, hub.log, hub.snapshot, hub.verify)),
        *(partial(act, f"{MOOD}@1") for act in (hub.delete, hub.undelete)),
        partial(hub.delete, MOOD, dry_run=True),
        partial(hub.edit, MOOD, title="new"),
        partial(hub.diff, f"{MOOD}@1", MOOD),
        partial(hub.pull, MOOD, pulled),
        partial(push, hub),
        partial(push, hub, "nlp.new"),
    ]


@pytest.mark.usefixtures("nothing_changes")
def test_a_hub_of_a_newer_format_is_refused_by_every_verb(hub: Hub) -> None:
    folder = hub_folder(hub)
    with closing(sqlite3.connect(folder / "rows.sqlite")) as rows:
        swap = "UPDATE system SET value = replace(value, ?, ?) WHERE key = CAST('format' AS BLOB)"

        def set_format(before: bytes, after: bytes) -> None:
            with rows:
                changed = rows.execute(swap, (before, after)).rowcount
                rows.execute("UPDATE system SET value = CAST(value AS BLOB)")
            assert changed == 1

        set_format(b'"format":1', b'"format":2')
        before = dump(folder)
        with modelhub.connect(folder) as newer:
            for act in verbs(newer):
                error = refused(InvalidInput, act, "format 2", "up to 1")
                assert "Upgrade" in error.remedy
            assert newer.status().format is None
        result = CliRunner().invoke(app, ["--hub", str(folder), "ls"])
        assert (result.exit_code, "format 2" in result.stderr) == (2, True)
        assert dump(folder) == before
        set_format(b'"format":2', b'"format":1')
    assert hub.show(MOOD).number == 2


@pytest.fixture
def on_nfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as the mount table says, everything new is on a network file system."""
    device = tmp_path.stat().st_dev
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        f"36 35 {os.major(device)}:{os.minor(device)} / {tmp_path} rw - nfs4 server:/export rw\n"
    )
    refuse = partial(filesystem.refuse_network_file_system, mountinfo=mounts)
    monkeypatch.setattr(sqlite, "refuse_network_file_system", refuse)


@pytest.mark.usefixtures("on_nfs")
def test_no_hub_is_made_on_a_network_file_system(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "a.bin").write_bytes(b"a")
    with modelhub.connect(tmp_path / "hub") as hub:
        for act in verbs(hub):
            error = refused(InvalidInput, act, "nfs4", str(tmp_path)[:40])
            assert "MODELHUB_HOME" in error.remedy
    push_it = ["--hub", str(tmp_path / "hub"), "push", MOOD, str(tmp_path / "model")]
    result = CliRunner().invoke(app, push_it)
    assert (result.exit_code, "MODELHUB_HOME" in result.stderr) == (2, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "mountinfo"]


@pytest.mark.usefixtures("nothing_changes")
def test_a_hub_that_was_moved_to_a_network_file_system_is_not_used(
    hub: Hub, request: pytest.FixtureRequest
) -> None:
    hub.close()
    request.getfixturevalue("on_nfs")
    with modelhub.connect(hub_folder(hub)) as moved:
        for act in verbs(moved):
            refused(InvalidInput, act, "nfs4")
