"""The schedules under deploy/ run a command that is there, and know how it ends. Tier: CI."""

from __future__ import annotations

import ast
import configparser
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from click.testing import CliRunner

import modelhub
from modelhub.cli.app import app

FOLDER = Path(__file__).parents[2] / "deploy" / "schedule"


def crontab() -> list[list[str]]:
    """Every command in it."""
    commands = []
    for line in (FOLDER / "crontab").read_text().splitlines():
        if line[0].isdigit():
            found = re.fullmatch(r"((?:\S+ ){5})(\S+) (.*) \|\| .*", line)
            assert found, line
            assert (len(found[1].split()), found[2]) == (5, "modelhub")
            commands.append(shlex.split(found[3]))
    return commands


def in_crontab() -> list[str]:
    return crontab()[-1]


def in_systemd() -> list[str]:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(FOLDER / "modelhub-reindex.service")
    assert unit["Service"]["SuccessExitStatus"] == "5"
    return shlex.split(unit["Service"]["ExecStart"])


def in_kubernetes() -> list[str]:
    job = yaml.safe_load((FOLDER / "cronjob.yaml").read_text())
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    command: list[str] = container["command"]
    return command


def in_airflow() -> list[str]:
    tree = ast.parse((FOLDER / "airflow_dag.py").read_text())
    (command,) = (
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg == "bash_command"
    )
    assert isinstance(command, ast.Constant)
    return shlex.split(str(command.value))


def in_oozie() -> list[str]:
    tree = ElementTree.parse(FOLDER / "oozie-workflow.xml")
    shell = "{uri:oozie:shell-action:1.0}"
    wanted = {f"{shell}exec", f"{shell}argument"}
    return [str(node.text) for node in tree.iter() if node.tag in wanted]


@pytest.mark.parametrize("found", [in_crontab, in_systemd, in_kubernetes, in_airflow, in_oozie])
def test_a_schedule_runs_what_there_is(
    found: Callable[[], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, *arguments = found()
    assert program == "modelhub"
    assert arguments == ["--hub", "prod", "--format", "json", "admin", "reindex", "--scheduled"]
    (tmp_path / "modelhub.toml").write_text(
        f'[profile.prod]\nweights = "file://{tmp_path}/hub"\n'
        f'rows = "sqlite:///{tmp_path}/hub/rows.sqlite"\n'
        f'search = "sqlite:///{tmp_path}/hub/search.sqlite"\n'
    )
    monkeypatch.setenv("MODELHUB_CONFIG", str(tmp_path / "modelhub.toml"))
    (tmp_path / "model.bin").write_text("x")
    with modelhub.connect("prod") as hub:
        hub.push("nlp.mood", tmp_path / "model.bin")
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        assert '"mode":"incremental"' in result.output
        codes = []

        def meanwhile(_phase: str, _done: int, _total: int) -> None:
            codes.append(CliRunner().invoke(app, arguments).exit_code)

        hub.reindex(progress=meanwhile)
    assert set(codes) == {5}


def test_the_timer_is_of_the_service() -> None:
    timer = (FOLDER / "modelhub-reindex.timer").read_text()
    assert "OnCalendar=hourly" in timer
    assert (FOLDER / "modelhub-reindex.service").is_file()


def test_what_else_the_crontab_runs_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an embedded hub, with the paths of this machine."""
    (tmp_path / "retention.toml").write_text("[[rules]]\nkeep_last = 3\n")
    (tmp_path / "model.bin").write_text("x")
    places = {
        "prod": str(tmp_path / "hub"),
        "hdfs://backup:8020/modelhub": str(tmp_path / "backup"),
        "/etc/modelhub/retention.toml": str(tmp_path / "retention.toml"),
        "/var/lib/node_exporter/modelhub.prom": str(tmp_path / "modelhub.prom"),
    }
    monkeypatch.setenv("MODELHUB_CACHE", str(tmp_path / "cache"))
    with modelhub.connect(tmp_path / "hub") as hub:
        hub.push("nlp.mood", tmp_path / "model.bin")
    verbs = []
    for _, *arguments in crontab():
        result = CliRunner().invoke(app, [places.get(one, one) for one in arguments])
        assert result.exit_code == 0, result.output
        verbs.append(arguments[arguments.index("admin") + 1])
    assert verbs == ["backup", "gc", "fsck", "reindex"]
    assert (tmp_path / "modelhub.prom").read_text()
