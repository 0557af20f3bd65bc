"""Each verb does what Hub does, and hands on what Hub gave."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import Result

import modelhub
from modelhub.records import Metadata

Run = Callable[..., Result]


def as_json(result: Result) -> Any:
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("\n") == 1
    assert result.stderr == ""
    return json.loads(result.stdout)


def as_text(result: Result, noted: str = "") -> str:
    assert result.exit_code == 0, result.stderr
    assert result.stderr == (f"modelhub: {noted}\n" if noted else "")
    return result.stdout


def told(value: object) -> Any:
    """What a door makes of one of Hub's results."""
    return json.loads(msgspec.json.encode(value, enc_hook=list))


def rows(text: str) -> list[list[str]]:
    """The words of each line of a table."""
    return [line.split() for line in text.splitlines()]


def same(folder: Path, other: Path) -> bool:
    return contents(folder) == contents(other)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def two(run: Run, model: Path) -> Path:
    """``nlp.x`` in two versions, the second with another config and metric."""
    assert run("push", "nlp.x", model, "-m", "first", "--metric", "f1=0.5").exit_code == 0
    (model / "config.json").write_text('{"model_type": "bart"}')
    pushed = run("push", "nlp.x", model, "-m", "second", "--metric", "f1=0.75", "--label", "情感")
    assert pushed.exit_code == 0
    return model


def test_push_prints_the_version_alone_and_json_has_the_keys_of_scripts(
    run: Run, model: Path, hub: modelhub.Hub
) -> None:
    assert as_text(run("push", "nlp.x", model)) == "nlp.x@1\n"
    pushed = as_json(run("push", "nlp.x", model, "--format", "json"))
    assert pushed == {**told(hub.show("nlp.x@2")), "identical": ["nlp.x@1"]}
    assert (pushed["name"], pushed["number"], pushed["new_bytes"]) == ("nlp.x", 2, 0)
    assert pushed["total_bytes"] == sum(map(len, contents(model).values()))
    assert len(pushed["digest"]) == 64


def test_push_takes_every_describing_flag(run: Run, model: Path, hub: modelhub.Hub) -> None:
    assert run("push", "nlp.base", model).exit_code == 0
    flags = {
        "--title": ["Mood"],
        "--description": ["Tells praise.\nAnd blame."],
        "--owner": ["team-nlp"],
        "--creator": ["li"],
        "--created": ["2026-05-01T14:00+02:00"],
        "--dataset": ["reviews", "tweets"],
        "--label": ["情感", "short"],
        "--param": ["lr=1e-4", "epochs=3", "bias=true", 'tag="3"', "path=a=b", "empty="],
        "--metric": ["f1=.91", "loss=-2.0"],
        "--license": ["apache-2.0"],
        "--framework": ["pytorch"],
        "--set": ["ticket=007"],
        "--base": ["nlp.base@1"],
    }
    args = [part for flag, values in flags.items() for value in values for part in (flag, value)]
    pushed = run("push", "nlp.x", model, "-m", "why", *args)
    assert as_text(pushed, noted="the same files are in nlp.base@1") == "nlp.x@1\n"
    version = hub.show("nlp.x")
    assert version.message == "why"
    assert version.actor == "li"
    assert version.bases == ("nlp.base@1",)
    expected = Metadata(
        title="Mood",
        description="Tells praise.\nAnd blame.",
        owner="team-nlp",
        creator="li",
        created=datetime(2026, 5, 1, 12, tzinfo=UTC),
        datasets=("reviews", "tweets"),
        labels=("情感", "short"),
        params={"lr": 1e-4, "epochs": 3, "bias": True, "tag": "3", "path": "a=b", "empty": ""},
        metrics={"f1": 0.91, "loss": -2.0},
        licence="apache-2.0",
        framework="pytorch",
        extra={"ticket": "007"},
    )
    said = {
        flag
        for flag in Metadata.__struct_fields__
        if getattr(expected, flag) != getattr(Metadata(), flag)
    }
    for field in said - {"params", "extra"}:
        assert getattr(version.metadata, field) == getattr(expected, field), field
    assert expected.params.items() <= version.metadata.params.items()
    assert {key: type(value) for key, value in expected.params.items()}.items() <= {
        key: type(value) for key, value in version.metadata.params.items()
    }.items()
    assert version.metadata.extra["ticket"] == "007"


def test_push_with_a_request_id_twice_makes_one_version(
    run: Run, model: Path, hub: modelhub.Hub
) -> None:
    for _ in range(2):
        assert as_text(run("push", "nlp.x", model, "--request-id", "job-1")) == "nlp.x@1\n"
    assert len(hub.log("nlp.x")) == 1


def test_push_goes_to_the_branch_and_only_onto_the_expected_head(
    run: Run, two: Path, hub: modelhub.Hub
) -> None:
    refused = run("push", "nlp.x", two, "--expect", "1", "--format", "json")
    assert refused.exit_code == 5
    assert json.loads(refused.stderr)["error"]["kind"] == "conflict"
    pushed = run("push", "nlp.x", two, "--branch", "trial")
    assert as_text(pushed, noted="the same files are in nlp.x@2") == "nlp.x@3\n"
    pushed = run("push", "nlp.x", two, "--expect", "2")
    assert as_text(pushed, noted="the same files are in nlp.x@2, nlp.x@3") == "nlp.x@4\n"
    assert hub.show("nlp.x@trial").number == 3
    assert hub.show("nlp.x").number == 4


def test_push_leaves_out_what_is_excluded(run: Run, model: Path, hub: modelhub.Hub) -> None:
    (model / "notes.tmp").write_text("scratch")
    as_text(run("push", "nlp.x", model, "--exclude", "*.tmp", "--exclude", "tokenizer/"))
    assert {file.path for file in hub.files("nlp.x")} == {"config.json", "weights.bin"}


def test_a_link_is_refused_by_naming_the_flag_that_follows_it(
    run: Run, model: Path, hub: modelhub.Hub
) -> None:
    (model / "link.json").symlink_to("config.json")
    refused = run("push", "nlp.x", model)
    assert refused.exit_code == 2
    assert "--follow-symlinks" in refused.stderr
    as_text(run("push", "nlp.x", model, "--follow-symlinks"))
    assert "link.json" in {file.path for file in hub.files("nlp.x")}


def test_pull_brings_back_every_byte_and_prints_where(run: Run, two: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    assert as_text(run("pull", "nlp.x", copy)) == f"{copy}\n"
    assert same(copy, two)
    assert as_json(run("pull", "nlp.x", copy, "--format", "json")) == {"path": str(copy)}


def test_pull_of_some_files_brings_those_alone(run: Run, two: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    as_text(run("pull", "nlp.x@1", copy, "--include", "*.json", "--include", "tokenizer/*"))
    assert set(contents(copy)) == {"config.json", "tokenizer/词表.txt"}
    assert contents(copy)["config.json"] == b'{"model_type": "bert"}'


def test_pull_overwrites_only_when_told_to(run: Run, two: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    as_text(run("pull", "nlp.x@1", copy))
    refused = run("pull", "nlp.x@2", copy)
    assert refused.exit_code == 4
    assert "--overwrite" in refused.stderr
    assert contents(copy)["config.json"] == b'{"model_type": "bert"}'
    as_text(run("pull", "nlp.x@2", copy, "--overwrite"))
    assert same(copy, two)


def test_pull_without_a_destination_prints_the_cached_folder_alone(
    run: Run, two: Path, hub: modelhub.Hub
) -> None:
    printed = as_text(run("pull", "nlp.x"))
    assert printed == f"{hub.snapshot('nlp.x')}\n"
    assert same(Path(printed.rstrip("\n")), two)


def test_ls_lists_the_models_that_match(
    run: Run, two: Path, model: Path, hub: modelhub.Hub
) -> None:
    as_text(run("push", "vision.y", model), noted="the same files are in nlp.x@2")
    assert as_json(run("ls", "--format", "json")) == told(hub.list())
    assert [row[:3] for row in rows(as_text(run("ls", "nlp.*")))] == [
        ["NAME", "HEAD", "VERSIONS"],
        ["nlp.x", "2", "2"],
    ]


def test_show_tells_all_about_a_version_or_its_files(
    run: Run, two: Path, hub: modelhub.Hub
) -> None:
    assert as_json(run("show", "nlp.x@1", "--format", "json")) == told(hub.show("nlp.x@1"))
    text = as_text(run("show", "nlp.x"))
    assert ["version", "nlp.x@2"] in rows(text)
    assert ["metrics.f1", "0.75"] in rows(text)
    assert ["labels", "情感"] in rows(text)
    assert hub.show("nlp.x").digest in text
    listed = as_json(run("show", "nlp.x", "--files", "--format", "json"))
    assert listed == told(hub.files("nlp.x"))
    assert "tokenizer/词表.txt" in as_text(run("show", "nlp.x", "--files"))


def test_log_is_a_list_with_the_newest_change_first(run: Run, two: Path, hub: modelhub.Hub) -> None:
    log = as_json(run("log", "nlp.x", "--format", "json"))
    assert log == told(hub.log("nlp.x"))
    assert [(entry["number"], entry["message"], entry["op"]) for entry in log] == [
        (2, "second", "publish"),
        (1, "first", "publish"),
    ]
    assert {entry["actor"] for entry in log} == {"li"}
    assert all(
        datetime.fromisoformat(entry["created"]).utcoffset() == timedelta(0) for entry in log
    )
    assert [row[0] for row in rows(as_text(run("log", "nlp.x", "--limit", "1")))] == [
        "VERSION",
        "2",
    ]


def test_search_finds_words_in_any_script_and_pages_through_the_hits(
    run: Run, two: Path, hub: modelhub.Hub
) -> None:
    found = as_json(run("search", "情感", "--format", "json"))
    assert found == told(hub.search("情感"))
    assert [(hit["name"], hit["number"]) for hit in found["hits"]] == [("nlp.x", 2)]
    assert isinstance(found["hits"][0]["score"], float)
    assert rows(as_text(run("search", "情感")))[1][0] == "nlp.x@2"
    page = run("search", "nlp.x", "--all-versions", "--limit", "1")
    assert page.exit_code == 0
    assert len(rows(page.stdout)) == 2
    (cursor,) = re.findall(r"^1 of 2; --after (\S+) shows more\n$", page.stderr)
    rest = run("search", "nlp.x", "--all-versions", "--limit", "1", "--after", cursor)
    assert {rows(page.stdout)[1][0], rows(as_text(rest))[1][0]} == {"nlp.x@1", "nlp.x@2"}


def test_search_takes_fields_an_order_and_values_to_count(run: Run, two: Path) -> None:
    asked = ("metric.f1:>=0.5 name:nlp.*", "--sort", "-metric.f1", "--facet", "branch")
    found = as_json(run("search", *asked, "--all-versions", "--format", "json"))
    assert [hit["number"] for hit in found["hits"]] == [2, 1]
    assert found["facets"] == {"branch": [{"value": "main", "count": 1}]}
    assert (found["next"], found["suggestion"]) == (None, None)
    listed = rows(as_text(run("search", *asked, "--all-versions")))
    assert [row[0] for row in listed[:3]] == ["VERSION", "nlp.x@2", "nlp.x@1"]
    assert listed[3:] == [[], ["BRANCH", "VERSIONS"], ["main", "1"]]


def test_search_marks_the_words_that_it_found(run: Run, two: Path) -> None:
    found = as_json(run("search", "情感", "--format", "json"))
    assert found["hits"][0]["highlight"] == {"field": "labels", "text": "情感", "marks": [[0, 2]]}
    assert rows(as_text(run("search", "情感")))[1][-1] == "*情感*"


def test_search_says_what_may_have_been_meant(run: Run, two: Path) -> None:
    as_text(run("edit", "nlp.x", "--title", "Sentiment"))
    assert as_text(run("search", "sentimant")).endswith("\n\nDid you mean: sentiment\n")
    assert as_json(run("search", "sentimant", "--format", "json"))["suggestion"] == "sentiment"


def test_search_finds_models_like_another_one(run: Run, two: Path, model: Path) -> None:
    pushed = run("push", "nlp.y", model, "--label", "情感")
    assert pushed.exit_code == 0
    found = as_json(run("search", "--like", "nlp.x", "--format", "json"))
    assert [hit["name"] for hit in found["hits"]] == ["nlp.y"]


def test_search_refuses_what_is_no_search_and_points_at_it(run: Run, two: Path) -> None:
    for asked in (["onwer:ops"], ["a", "AND"], ["x", "--sort", "owner"], ["x", "--facet", "size"]):
        assert run("search", *asked).exit_code == run("search", "x", "--limit", "1001").exit_code
    assert "column 1: 'onwer' is not a field" in run("search", "onwer:ops").stderr
    assert run("search").exit_code == 2


def test_diff_shows_files_and_fields_that_differ(run: Run, two: Path, hub: modelhub.Hub) -> None:
    diff = as_json(run("diff", "nlp.x@1", "nlp.x@2", "--format", "json"))
    assert diff == told(hub.diff("nlp.x@1", "nlp.x@2"))
    assert {"files", "metadata", "bytes_read"} <= set(diff)
    assert [(change["path"], change["status"]) for change in diff["files"]] == [
        ("config.json", "changed")
    ]
    text = rows(as_text(run("diff", "nlp.x@1", "nlp.x@2")))
    assert ["config.json", "changed", "22", "B", "22", "B"] in text
    assert ["metrics.f1", "0.5", "0.75"] in text
    assert ["labels", "情感"] in text
    same = as_text(run("diff", "nlp.x@1", "nlp.x@1"))
    assert same == "nlp.x@1 and nlp.x@1 do not differ\n"


def test_edit_changes_and_drops_fields_and_leaves_the_files(
    run: Run, two: Path, hub: modelhub.Hub
) -> None:
    before = hub.show("nlp.x")
    change = ["-m", "typo", "--title", "Mood", "--metric", "loss=2"]
    drop = ["--unset", "labels", "--unset", "metrics.f1"]
    assert as_text(run("edit", "nlp.x@2", *change, *drop)) == "nlp.x@2\n"
    after = hub.show("nlp.x")
    assert after.metadata.title == "Mood"
    assert after.metadata.metrics == {"loss": 2}
    assert after.metadata.labels == ()
    assert (after.content, after.digest) == (before.content, before.digest)
    assert [entry.op for entry in hub.log("nlp.x", limit=1)] == ["edit"]
    as_text(run("edit", "nlp.x", "--title", ""))
    assert hub.show("nlp.x").metadata.title == ""


def test_delete_with_yes_deletes_and_undelete_takes_it_back(
    run: Run, two: Path, hub: modelhub.Hub
) -> None:
    assert as_text(run("delete", "nlp.x@2", "--yes", "-m", "wrong data")) == "deleted nlp.x@2\n"
    assert hub.show("nlp.x").number == 1
    assert [entry.message for entry in hub.log("nlp.x", limit=1)] == ["wrong data"]
    assert as_text(run("undelete", "nlp.x@2")) == "undeleted nlp.x@2\n"
    assert hub.show("nlp.x").number == 2
    deleted = as_json(run("delete", "nlp.x@1", "--yes", "--format", "json"))
    assert (deleted["number"], deleted["deleted"]) == (1, True)


def test_a_dry_run_says_what_would_be_deleted_and_deletes_nothing(
    run: Run, two: Path, hub: modelhub.Hub
) -> None:
    assert as_text(run("delete", "nlp.x@2", "--dry-run")) == "would delete nlp.x@2\n"
    assert run("delete", "nlp.x@9", "--dry-run").exit_code == 3
    assert not hub.show("nlp.x@2").deleted
    assert len(hub.log("nlp.x")) == 2


def test_delete_without_anybody_to_ask_is_refused_by_naming_the_flag(
    run: Run, two: Path, hub: modelhub.Hub
) -> None:
    refused = run("delete", "nlp.x@2", stdin="y\n")
    assert refused.exit_code == 2
    assert "--yes" in refused.stderr
    assert not hub.show("nlp.x@2").deleted


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 1), ("\n", 1), ("\x04", 130)])
def test_delete_on_a_terminal_asks_first(
    answer: str, code: int, two: Path, hub: modelhub.Hub, terminal: Callable[..., Any]
) -> None:
    started = terminal("delete", "nlp.x@main")
    assert "Delete nlp.x@2 (3 files, 2.0 MiB)?" in started.read_until("[y/N]: ")
    started.type(answer)
    printed, status = started.end()
    assert status == code
    assert hub.show("nlp.x").number == (1 if code == 0 else 2)
    assert ("deleted nlp.x@2" in printed) == (code == 0)


def test_the_version_that_was_asked_about_is_deleted_though_the_branch_moved(
    two: Path, hub: modelhub.Hub, terminal: Callable[..., Any]
) -> None:
    started = terminal("delete", "nlp.x@main")
    started.read_until("[y/N]: ")
    hub.push("nlp.x", two)
    started.type("y\n")
    assert started.end()[1] == 0
    assert hub.show("nlp.x").number == 3
    assert hub.show("nlp.x@2").deleted


def test_verify_and_fsck_of_a_sound_hub_find_nothing(
    run: Run, two: Path, hub: modelhub.Hub
) -> None:
    for args in (["verify", "nlp.x"], ["admin", "fsck"], ["admin", "fsck", "--no-data"]):
        health = as_json(run(*args, "--format", "json"))
        assert health["findings"] == []
        assert sum(health["checked"].values()) > 0
        assert as_text(run(*args)).startswith("findings: 0; checked: ")
    assert as_json(run("admin", "fsck", "--format", "json")) == told(hub.fsck())


def test_verify_and_fsck_of_a_damaged_hub_say_what_and_end_with_one(
    run: Run, two: Path, home: Path
) -> None:
    pack = max(home.rglob("packs/*/*/*"), key=lambda path: path.stat().st_size)
    damaged = bytearray(pack.read_bytes())
    damaged[20] ^= 1  # in the first version's first chunk
    pack.chmod(0o644)
    pack.write_bytes(damaged)
    for args in (["verify", "nlp.x@1"], ["admin", "fsck"]):
        result = run(*args, "--format", "json")
        assert result.exit_code == 1
        findings = json.loads(result.stdout)["findings"]
        assert findings
        for finding in findings:
            assert set(finding) >= {"kind", "severity", "subject", "cause", "repair"}
        text = run(*args)
        assert text.exit_code == 1
        assert findings[0]["repair"] in text.stdout
        assert f"findings: {len(findings)}; checked: " in text.stdout
        assert text.stderr == ""
    assert run("admin", "fsck", "--no-data").exit_code == 0


def test_fsck_repairs_what_it_can_and_counts_what_remains(
    run: Run, two: Path, home: Path, tmp_path: Path
) -> None:
    pack = max(home.rglob("packs/*/*/*"), key=lambda path: path.stat().st_size)
    damaged = bytearray(pack.read_bytes())
    damaged[-60] ^= 1  # in its trailer
    pack.chmod(0o644)
    pack.write_bytes(damaged)
    metrics = tmp_path / "fsck.prom"
    fsck = ("admin", "fsck", "--metrics", str(metrics), "--format", "json")
    assert run(*fsck).exit_code == 1
    assert 'modelhub_fsck_findings{kind="pack-damaged",severity="error"} 1' in metrics.read_text()
    for refused in (["--repair"], ["--dry-run"], ["--from", str(tmp_path)]):
        assert run(*fsck, *refused).exit_code == 2
    assert run("admin", "fsck", "--no-data", "--sample", "5").exit_code == 2
    dry = run(*fsck, "--repair", "--dry-run")
    assert (dry.exit_code, json.loads(dry.stdout)["repaired"]) == (1, 0)
    done = as_json(run(*fsck, "--repair", "--yes"))
    assert (done["repaired"], [one["repaired"] for one in done["findings"]]) == (1, [True])
    assert "modelhub_fsck_remaining 0\n" in metrics.read_text()
    assert as_json(run(*fsck, "--sample", "50", "--rate", "100", "--resume"))["findings"] == []


def test_admin_init_makes_a_hub_once_and_says_which_tables_it_made(run: Run, home: Path) -> None:
    made = as_json(run("admin", "init", "--format", "json"))
    assert made["made"] is True
    assert sorted(made["tables"]) == sorted(tables(home))
    assert as_text(run("admin", "init")) == "was there already\n"
    assert as_json(run("admin", "init", "--format", "json")) == {"made": False, "tables": []}
    with closing(sqlite3.connect(home / "rows.sqlite")) as connection, connection:
        connection.execute("DROP TABLE chunks")
    assert as_text(run("admin", "init")) == "was there already; made its missing tables chunks\n"
    assert "chunks" in tables(home)


def tables(home: Path) -> set[str]:
    """The tables of rows, past the store."""
    with closing(sqlite3.connect(home / "rows.sqlite")) as connection:
        found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {name for (name,) in found}


def test_admin_status_and_sweep_tell_what_hub_tells(run: Run, two: Path, hub: modelhub.Hub) -> None:
    status = as_json(run("admin", "status", "--format", "json"))
    assert status["models"] == 1
    assert set(status["stores"]) == set(hub.status().stores)
    assert all(store["reachable"] for store in status["stores"].values())
    text = as_text(run("admin", "status"))
    assert ["models", "1"] in rows(text)
    swept = as_json(run("admin", "sweep", "--format", "json"))
    assert set(swept) == {"intents", "fenced", "documents", "removed", "chunks"}
    assert ["fenced", "0"] in rows(as_text(run("admin", "sweep")))


def test_status_tells_how_far_search_is_behind(run: Run, two: Path, hub: modelhub.Hub) -> None:
    assert re.search(r"^search lag +none$", as_text(run("admin", "status")), re.M)
    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(type(hub._ctx.stores.search), "write", refuses)
        hub.edit("nlp.x", title="another")
        hub.edit("nlp.x", title="and another")
    lag = as_json(run("admin", "status", "--format", "json"))["search_lag"]
    assert (lag["models"], lag["changes"]) == (1, 2)
    assert "2 changes of 1 models" in as_text(run("admin", "status"))


def refuses(*_args: object, **_options: object) -> None:
    raise modelhub.Unavailable("search is away")


def test_a_script_for_hbase_is_printed_for_a_profile_and_nothing_is_made(
    run: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "modelhub.toml"
    config.write_text(
        '[profile.prod]\nweights = "hdfs://h:1/x"\nrows = "hbase://h:1"\n'
        'rows_prefix = "models:"\nsearch = "http://h:1"\n'
    )
    monkeypatch.setenv("MODELHUB_CONFIG", str(config))
    script = as_text(run("--hub", "prod", "admin", "init", "--hbase-script"))
    assert "create_namespace 'models'" in script
    assert script.count("\ncreate 'models:") == 9
    refused = run("--hub", str(home), "admin", "init", "--hbase-script")
    assert refused.exit_code == 2
    assert "not in HBase" in refused.stderr
    assert not home.exists()


def test_the_hub_is_the_flags_before_or_after_the_verb_before_the_environments(
    run: Run, two: Path, model: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    as_text(run("--hub", other, "push", "there.y", model))
    for args in (["--hub", other, "ls"], ["ls", "--hub", f"file://{other}"]):
        assert [row[0] for row in rows(as_text(run(*args)))] == ["NAME", "there.y"]
    assert [row[0] for row in rows(as_text(run("ls")))] == ["NAME", "nlp.x"]


def test_the_module_is_the_command_and_its_output_is_utf_8_whatever_stdout_prefers(
    two: Path, hub: modelhub.Hub
) -> None:
    environment = os.environ | {"PYTHONIOENCODING": "latin-1:strict"}

    def module(*args: str) -> bytes:
        command = [sys.executable, "-m", "modelhub", *args]
        return subprocess.run(command, env=environment, capture_output=True, check=True).stdout

    assert json.loads(module("--format", "json", "show", "nlp.x")) == told(hub.show("nlp.x"))
    assert "情感" in module("show", "nlp.x").decode("utf-8")
    assert module("push", "nlp.x", str(two)) == b"nlp.x@3\n"


def test_a_push_on_a_terminal_shows_its_progress_and_wipes_it(
    model: Path, terminal: Callable[..., Any]
) -> None:
    printed, code = terminal("push", "nlp.x", model).end()
    assert code == 0
    assert "push" in printed
    assert "MiB" in printed
    assert printed.endswith("nlp.x@1\r\n")
    assert "\x1b[?25h" in printed


def test_a_pipe_gets_no_progress_and_no_colour(model: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "modelhub", "push", "nlp.x", str(model)],
        env=os.environ | {"FORCE_COLOR": "1"},
        capture_output=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == (b"nlp.x@1\n", b"")


def test_names_of_versions_are_created_moved_listed_and_deleted(
    run: Run, two: Path, hub: modelhub.Hub
) -> None:
    assert as_text(run("tag", "create", "nlp.x", "v1", "1")) == "nlp.x@1\n"
    assert as_text(run("alias", "set", "nlp.x", "champion", "v1", "-m", "good")) == "nlp.x@1\n"
    assert as_text(run("branch", "create", "nlp.x", "fix", "--from", "champion")) == "nlp.x@1\n"
    assert as_text(run("branch", "move", "nlp.x", "fix", "2", "--expect", "1")) == "nlp.x@2\n"
    stale = run("alias", "set", "nlp.x", "champion", "2", "--expect", "2")
    assert stale.exit_code == 5
    assert "alias champion is at version 1" in stale.stderr
    assert as_json(run("alias", "set", "nlp.x", "champion", "2", "--format", "json")) == {
        "name": "nlp.x",
        "ref": "champion",
        "kind": "alias",
        "number": 2,
        "protected": False,
    }
    for kind in ("branch", "tag", "alias"):
        listed = as_json(run(kind, "list", "nlp.x", "--format", "json"))
        assert listed == told(getattr(hub, kind).list("nlp.x"))
    assert rows(as_text(run("branch", "list", "nlp.x")))[1:] == [["fix", "2"], ["main", "2"]]
    history = as_json(run("alias", "history", "nlp.x", "champion", "--format", "json"))
    assert [(each["number"], each["message"]) for each in history] == [(2, ""), (1, "good")]
    assert len(rows(as_text(run("alias", "history", "nlp.x", "champion")))) == 3
    shown = as_text(run("show", "nlp.x@v1"))
    assert re.search(r"^tags +v1$", shown, re.M)
    assert as_text(run("tag", "delete", "nlp.x", "v1")) == "deleted tag v1 of nlp.x\n"
    assert run("show", "nlp.x@v1").exit_code == 3
    assert run("branch", "delete", "nlp.x", "main").exit_code == 2


def test_protection_is_put_on_seen_and_lifted(run: Run, two: Path) -> None:
    as_text(run("alias", "set", "nlp.x", "champion", "1"))
    assert as_text(run("protect", "nlp.x", "champion")) == "nlp.x@champion is protected\n"
    assert rows(as_text(run("alias", "list", "nlp.x")))[1] == ["champion", "1", "yes"]
    refused = run("alias", "delete", "nlp.x", "champion")
    assert refused.exit_code == 9
    assert "modelhub unprotect nlp.x champion" in refused.stderr
    lifted = as_json(run("unprotect", "nlp.x", "champion", "--format", "json"))
    assert lifted == {"name": "nlp.x", "ref": "champion", "protected": False}
    assert as_text(run("protect", "nlp.x")) == "nlp.x is protected\n"
    assert run("delete", "nlp.x@2", "--yes").exit_code == 9
    as_text(run("unprotect", "nlp.x"))
    named = run("delete", "nlp.x@1", "--yes")
    assert named.exit_code == 5
    assert "champion" in named.stderr
    assert as_text(run("delete", "nlp.x@1", "--yes", "--force")) == "deleted nlp.x@1\n"


def test_the_log_is_cut_by_time(run: Run, two: Path, hub: modelhub.Hub) -> None:
    newest, oldest = (entry.created.isoformat() for entry in hub.log("nlp.x"))
    only = as_json(run("log", "nlp.x", "--until", oldest, "--format", "json"))
    assert [entry["number"] for entry in only] == [1]
    only = as_json(run("log", "nlp.x", "--since", newest, "--format", "json"))
    assert [entry["number"] for entry in only] == [2]
    assert run("log", "nlp.x", "--since", "yesterday").exit_code == 2


def test_rollback_and_restore_bring_back_what_was(run: Run, two: Path, hub: modelhub.Hub) -> None:
    assert as_text(run("rollback", "nlp.x", "--to", "1", "-m", "worse")) == "nlp.x@3\n"
    told_of = as_json(run("show", "nlp.x", "--format", "json"))
    assert (told_of["origin"], told_of["message"], told_of["new_bytes"]) == (1, "worse", 0)
    assert not hub.diff("nlp.x@1", "nlp.x@3").files
    assert re.search(r"^brings back +1$", as_text(run("show", "nlp.x")), re.M)
    assert as_text(run("restore", "nlp.x@2", "config.json")) == "nlp.x@4\n"
    assert not hub.diff("nlp.x@2", "nlp.x@4").files
    then = hub.show("nlp.x@3").created.isoformat()
    assert as_text(run("rollback", "nlp.x", "--at", then)) == "nlp.x@5\n"
    assert not hub.diff("nlp.x@1", "nlp.x@5").files
    assert run("rollback", "nlp.x").exit_code == 2
    assert run("rollback", "nlp.x", "--to", "1", "--at", then).exit_code == 2
    assert run("restore", "nlp.x@1").exit_code == 2
    assert run("restore", "nlp.x@1", "absent").exit_code == 3


def test_lineage_is_a_tree_and_a_graph(run: Run, two: Path, hub: modelhub.Hub) -> None:
    assert run("push", "nlp.y", two, "--base", "nlp.x@1", "--dataset", "reviews").exit_code == 0
    assert as_json(run("lineage", "nlp.y", "--format", "json")) == told(hub.lineage("nlp.y"))
    lines = as_text(run("lineage", "nlp.x@1")).splitlines()
    assert lines[0].startswith("nlp.x@1")
    assert [line.split()[:2] for line in lines[3:]] == [["parent", "nlp.x@2"], ["base", "nlp.y@1"]]
    assert '"nlp.x@1" -> "nlp.y@1" [label=base];' in as_text(run("lineage", "nlp.y", "--dot"))
    near = as_json(run("lineage", "nlp.x@2", "--depth", "0", "--format", "json"))
    assert not near["edges"]


def test_a_push_of_what_is_there_says_so_and_can_be_skipped(run: Run, two: Path) -> None:
    pushed = run("push", "nlp.y", two)
    assert as_text(pushed, noted="the same files are in nlp.x@2") == "nlp.y@1\n"
    assert as_json(run("push", "nlp.y", two, "--format", "json"))["identical"] == [
        "nlp.x@2",
        "nlp.y@1",
    ]
    assert run("push", "nlp.y", two, "--skip-identical").stdout == "nlp.y@2\n"


def test_merge_brings_branches_together_and_names_conflicts(run: Run, two: Path) -> None:
    (two / "config.json").write_text("{}")
    as_text(run("push", "nlp.x", two, "--branch", "fix"))
    (two / "new.txt").write_text("new")
    (two / "config.json").write_text('{"a": 1}')
    as_text(run("push", "nlp.x", two))
    refused = run("merge", "nlp.x", "fix")
    assert refused.exit_code == 5
    assert "nlp.x@4 and nlp.x@3 both changed config.json" in refused.stderr
    assert as_text(run("merge", "nlp.x", "fix", "--theirs", "-m", "why")) == "nlp.x@5\n"
    merged = as_json(run("show", "nlp.x", "--format", "json"))
    assert (merged["parents"], merged["message"]) == ([4, 3], "why")
    assert as_text(run("cat", "nlp.x", "config.json")) == "{}"
    assert as_text(run("cat", "nlp.x", "new.txt")) == "new"
    assert run("merge", "nlp.x", "fix", "--strategy", "sum").exit_code == 2
