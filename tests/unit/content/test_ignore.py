"""What is expected here is what ``git ls-files --others --exclude-from`` answers."""

from __future__ import annotations

import pytest

from modelhub.content.ignore import IgnoreRules
from modelhub.errors import InvalidInput


def ignored(patterns: str, path: str) -> bool:
    """Judges each folder above ``path`` first, as a walk does."""
    rules = IgnoreRules(patterns.split("\n"))
    parts = path.split("/")
    above = ["/".join(parts[:count]) for count in range(1, len(parts))]
    return any(rules.ignores(folder, is_folder=True) for folder in above) or rules.ignores(
        path, is_folder=False
    )


@pytest.mark.parametrize(
    ("patterns", "left_out", "kept"),
    [
        ("*.log", "a.log sub/a.log .log", "a.log.bin log"),
        ("/a.bin", "a.bin", "sub/a.bin"),
        ("sub/a.bin", "sub/a.bin", "a.bin x/sub/a.bin"),
        ("logs/", "logs/a x/logs/b/c", "logs x/logs"),
        ("logs", "logs logs/a x/logs", "log logs2"),
        ("a/*", "a/b a/b/c", "a x/a/b"),
        ("a/*/c", "a/b/c", "a/c a/b/b/c"),
        ("a/**", "a/b a/b/c", "a x/a/b"),
        ("**/b", "b a/b a/a/b b/c", "a/bb"),
        ("a/**/c", "a/c a/b/c a/b/b/c", "c x/a/c"),
        ("a**c", "abc x/abbc ac", "a/c"),
        ("**", "a a/b", ""),
        ("/**", "a a/b", ""),
        ("?.bin", "a.bin x/b.bin 模.bin", "ab.bin .bin"),
        ("[a-c].bin", "a.bin c.bin", "d.bin -.bin"),
        ("[!a-c].bin", "d.bin", "a.bin"),
        ("[]-]", "] -", "a"),
        ("a[/]b", "", "a/b"),
        ("[[]x[]]", "[x]", "x"),
        ("\\#x\n#y", "#x", "#y y"),
        ("\\!x", "!x", "x"),
        ("a  ", "a", "b"),
        ("*.bin\n!keep.bin", "a.bin sub/a.bin", "keep.bin sub/keep.bin"),
        ("!keep.bin\n*.bin", "keep.bin", "keep"),
        ("*\n!*/\n!*.st", "a sub/a sub/sub/a", "a.st sub/a.st sub/sub/a.st"),
        ("sub\n!sub/a", "sub/a", "a"),
        ("sub/*\n!sub/a", "sub/b sub/c/a", "sub/a"),
        ("/*\n!/sub", "a x/sub", "sub sub/a"),
        ("*/\n!sub/", "a/b x/sub/a", "a sub/a"),
        ("(a+|b).bin\n{c,d}\n^e$", "(a+|b).bin {c,d} ^e$", "a.bin c e"),
    ],
)
def test_patterns_mean_what_they_mean_to_git(patterns: str, left_out: str, kept: str) -> None:
    assert [name for name in left_out.split() if not ignored(patterns, name)] == []
    assert [name for name in kept.split() if ignored(patterns, name)] == []


def test_an_escaped_space_at_the_end_belongs_to_the_pattern() -> None:
    assert ignored("b\\ ", "b ")
    assert not ignored("b\\ ", "b")


@pytest.mark.parametrize("pattern", ["!", "/", "a[", "[z-a]", "a\\", "[a"])
def test_what_is_no_pattern_is_refused_and_not_passed_over(pattern: str) -> None:
    with pytest.raises(InvalidInput, match="is no pattern"):
        IgnoreRules([pattern])
