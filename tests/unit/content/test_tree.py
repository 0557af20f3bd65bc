from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from modelhub.content.tree import SourceFile, open_unchanged, survey
from modelhub.errors import Conflict, Forbidden, InvalidInput, NotFound

NOBODY = 65534

Change = Callable[[Path], None]


def write(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())


def paths(root: Path, *exclude: str, follow_symlinks: bool = False) -> list[str]:
    return [file.path for file in survey(root, exclude=exclude, follow_symlinks=follow_symlinks)]


def only(root: Path) -> SourceFile:
    [source] = survey(root)
    return source


@contextmanager
def unprivileged() -> Iterator[None]:
    """Permissions do not bite on root, so root becomes nobody."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that nobody can reach, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_a_folder_is_listed_by_path_with_sizes_and_permissions(tmp_path: Path) -> None:
    write(tmp_path, "b/z.bin", "b/a.bin", "b.bin", "空/模型.bin", ".hidden")
    (tmp_path / "b/a.bin").chmod(0o4750)
    files = survey(tmp_path)
    listed = [(file.path, file.size_bytes) for file in files]
    assert listed == [
        (".hidden", 7),
        ("b.bin", 5),
        ("b/a.bin", 7),
        ("b/z.bin", 7),
        ("空/模型.bin", len("空/模型.bin".encode())),
    ]
    assert files[2].mode == 0o750
    assert all(file.location.read_bytes() == file.path.encode() for file in files)


def test_a_single_file_goes_by_its_own_name(tmp_path: Path) -> None:
    write(tmp_path, "folder/model.bin")
    assert paths(tmp_path / "folder/model.bin") == ["model.bin"]


def test_a_thousand_folders_deep_is_refused_by_its_name_and_not_by_the_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(1100):
        Path("d").mkdir()
        os.chdir("d")
    Path("file").write_bytes(b"x")
    os.chdir(tmp_path)
    try:
        with pytest.raises(InvalidInput, match="not a file path that a version can hold"):
            survey(tmp_path)
    finally:
        # pytest removes old folders in a later run, and would run out of stack here.
        subprocess.run(["rm", "-r", "d"], check=True)


def test_ignored_files_and_the_ignore_file_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, "keep.bin", "a.log", "logs/b.bin", "sub/c.log", "sub/keep.log")
    (tmp_path / ".modelhubignore").write_text("# noise\n*.log\nlogs/\n!keep.log\n")
    assert paths(tmp_path) == ["keep.bin", "sub/keep.log"]


def test_exclude_patterns_come_after_the_ignore_file_and_win(tmp_path: Path) -> None:
    write(tmp_path, "a.bin", "a.log", "b.bin")
    (tmp_path / ".modelhubignore").write_text("*.log\n")
    assert paths(tmp_path, "/b.*", "!a.log") == ["a.bin", "a.log"]


def test_a_list_of_what_to_keep_reaches_into_folders(tmp_path: Path) -> None:
    write(tmp_path, "a.safetensors", "a.bin", "sub/b.safetensors", "sub/b.bin")
    assert paths(tmp_path, "*", "!*/", "!*.safetensors") == ["a.safetensors", "sub/b.safetensors"]


def test_a_file_below_an_ignored_folder_cannot_be_kept(tmp_path: Path) -> None:
    write(tmp_path, "a.bin", "sub/b.bin")
    assert paths(tmp_path, "sub", "!sub/b.bin") == ["a.bin"]


def test_an_ignore_file_further_down_is_a_file_like_any_other(tmp_path: Path) -> None:
    write(tmp_path, "sub/.modelhubignore", "sub/a.bin")
    assert paths(tmp_path) == ["sub/.modelhubignore", "sub/a.bin"]


def test_an_ignore_file_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a.bin")
    (tmp_path / ".modelhubignore").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInput, match="not UTF-8"):
        survey(tmp_path)
    (tmp_path / ".modelhubignore").unlink()
    os.mkfifo(tmp_path / ".modelhubignore")
    with pytest.raises(InvalidInput, match=r"\.modelhubignore is not a file"):
        survey(tmp_path)


def test_a_pattern_that_is_none_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a.bin")
    with pytest.raises(InvalidInput, match="'!' is no pattern"):
        survey(tmp_path, exclude=["!"])


@pytest.mark.parametrize("exclude", [[], ["*.bin"]])
def test_nothing_to_publish_is_refused(tmp_path: Path, exclude: list[str]) -> None:
    (tmp_path / "empty").mkdir()
    if exclude:
        write(tmp_path, "a.bin")
    with pytest.raises(InvalidInput, match="holds no files"):
        survey(tmp_path, exclude=exclude)


def test_an_excluded_single_file_is_nothing_to_publish(tmp_path: Path) -> None:
    write(tmp_path, "a.bin")
    with pytest.raises(InvalidInput, match="holds no files"):
        survey(tmp_path / "a.bin", exclude=["*.bin"])


def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    write(tmp_path, "a.bin")
    for absent in (tmp_path / "nowhere", tmp_path / "a.bin" / "below"):
        with pytest.raises(NotFound, match="is not there"):
            survey(absent)


@pytest.mark.parametrize("text", ["a\0b", "x" * 300])
def test_a_path_that_cannot_be_one_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidInput, match="is no path"):
        survey(tmp_path / text)


def test_links_are_refused_by_name_with_the_flag_that_follows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "model/a.bin", "elsewhere/b.bin")
    (tmp_path / "model/link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidInput, match="'link' is a symbolic link") as refused:
        survey(tmp_path / "model")
    assert "--follow-symlinks" in refused.value.remedy
    monkeypatch.chdir(tmp_path)
    Path("latest").symlink_to("model")
    with pytest.raises(InvalidInput, match="'latest' is a symbolic link"):
        survey(Path("latest"))


def test_followed_links_may_leave_the_folder(tmp_path: Path) -> None:
    write(tmp_path, "model/a.bin", "elsewhere/sub/b.bin", "c.bin")
    (tmp_path / "model/folder").symlink_to("../elsewhere")
    (tmp_path / "model/file").symlink_to("../c.bin")
    (tmp_path / "latest").symlink_to("model")
    files = survey(tmp_path / "latest", follow_symlinks=True)
    assert [file.path for file in files] == ["a.bin", "file", "folder/sub/b.bin"]
    with open_unchanged(files[1]) as file:
        assert file.read() == b"c.bin"


def test_an_ignored_link_is_neither_refused_nor_followed(tmp_path: Path) -> None:
    write(tmp_path, "a.bin")
    (tmp_path / "venv").symlink_to("nowhere")
    assert paths(tmp_path, "venv") == ["a.bin"]
    assert paths(tmp_path, "venv", follow_symlinks=True) == ["a.bin"]


def test_a_followed_link_that_leads_back_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a/b/c.bin")
    (tmp_path / "a/b/up").symlink_to("..")
    with pytest.raises(InvalidInput, match="'a/b/up' leads back"):
        survey(tmp_path, follow_symlinks=True)


def test_a_followed_link_to_itself_or_to_nowhere_is_named(tmp_path: Path) -> None:
    write(tmp_path, "a.bin")
    (tmp_path / "self").symlink_to("self")
    with pytest.raises(InvalidInput, match="'self' is a symbolic link that leads to itself"):
        survey(tmp_path, follow_symlinks=True)
    (tmp_path / "self").unlink()
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(NotFound, match="'dangling' is not there"):
        survey(tmp_path, follow_symlinks=True)


def test_a_folder_linked_twice_is_published_twice(tmp_path: Path) -> None:
    write(tmp_path, "real/a.bin")
    (tmp_path / "again").symlink_to("real")
    assert paths(tmp_path, follow_symlinks=True) == ["again/a.bin", "real/a.bin"]


def test_pipes_sockets_and_devices_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with pytest.raises(InvalidInput, match="'pipe' is a named pipe"):
        survey(tmp_path)
    Path("pipe").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        with pytest.raises(InvalidInput, match="'socket' is a socket"):
            survey(tmp_path)
    with pytest.raises(InvalidInput, match="'null' is a device"):
        survey(Path("/dev/null"))


def test_a_name_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.bin")).write_bytes(b"x")
    with pytest.raises(InvalidInput, match=r"caf\\udce9\.bin.*not a file path"):
        survey(tmp_path)


def test_what_may_not_be_read_is_forbidden_by_name(open_folder: Path) -> None:
    write(open_folder, "model/secret.bin", "closed/a.bin")
    (open_folder / "model/secret.bin").chmod(0o000)
    with unprivileged(), pytest.raises(Forbidden, match=r"'secret\.bin' may not be read"):
        survey(open_folder / "model")
    (open_folder / "closed").chmod(0o000)
    with unprivileged(), pytest.raises(Forbidden, match="'closed/' may not be read"):
        survey(open_folder, exclude=["model"])
    (open_folder / "closed").chmod(0o744)
    with unprivileged(), pytest.raises(Forbidden, match=r"'closed/a\.bin' may not be read"):
        survey(open_folder, exclude=["model"])


def test_a_file_that_is_closed_after_the_survey_is_forbidden(open_folder: Path) -> None:
    write(open_folder, "a.bin")
    source = only(open_folder)
    (open_folder / "a.bin").chmod(0o000)
    with unprivileged(), pytest.raises(Forbidden, match=r"'a\.bin'"), open_unchanged(source):
        pass


def test_an_unchanged_file_is_read_whole(tmp_path: Path) -> None:
    write(tmp_path, "a.bin")
    with open_unchanged(only(tmp_path)) as file:
        assert file.read() == b"a.bin"


def append(location: Path) -> None:
    with location.open("ab") as file:
        file.write(b"more")


def rewrite(location: Path) -> None:
    before = location.stat()
    location.write_bytes(b"A.BIN")
    os.utime(location, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


def replace(location: Path) -> None:
    other = location.with_name("other")
    shutil.copy2(location, other)
    other.replace(location)


def remove(location: Path) -> None:
    location.unlink()


def turn_into_a_pipe(location: Path) -> None:
    location.unlink()
    os.mkfifo(location)


def replace_the_folder(location: Path) -> None:
    folder = location.parent
    folder.rename(folder.with_name("before"))
    shutil.copytree(folder.with_name("before"), folder)


CHANGES = [append, rewrite, replace, remove, turn_into_a_pipe, replace_the_folder]


def read_while(source: SourceFile, change: Change) -> None:
    with open_unchanged(source) as file:
        file.read()
        change(source.location)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_between_survey_and_reading_conflicts(tmp_path: Path, change: Change) -> None:
    write(tmp_path, "model/a.bin")
    source = only(tmp_path / "model")
    change(source.location)
    changed = pytest.raises(Conflict, match=r"'a\.bin' changed while it was read")
    with changed, open_unchanged(source):
        pytest.fail("the changed file was opened")


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_while_reading_conflicts(tmp_path: Path, change: Change) -> None:
    write(tmp_path, "model/a.bin")
    with pytest.raises(Conflict, match=r"'a\.bin' changed while it was read"):
        read_while(only(tmp_path / "model"), change)


def test_an_error_of_the_reader_itself_is_not_hidden_by_a_change(tmp_path: Path) -> None:
    def append_and_fail(location: Path) -> None:
        append(location)
        raise ZeroDivisionError

    write(tmp_path, "a.bin")
    with pytest.raises(ZeroDivisionError):
        read_while(only(tmp_path), append_and_fail)
