"""What differs between two versions: files by digest, metadata field by field."""

from __future__ import annotations

from collections.abc import Iterator

from modelhub.content.manifest import Manifest, ManifestFile
from modelhub.records import Metadata, Scalar, to_builtins
from modelhub.results import FieldChange, FileChange

Value = Scalar | tuple[str, ...]


def changed_files(a: Manifest, b: Manifest) -> Iterator[FileChange]:
    """What differs, by path. Equal digests are equal bytes, so no file is read."""
    old = {file.path: file for file in a.files}
    new = {file.path: file for file in b.files}
    for path in sorted(old.keys() | new.keys()):
        before, after = old.get(path), new.get(path)
        status = _status(before, after)
        if status:
            yield FileChange(
                path=path,
                status=status,
                old_bytes=before.size_bytes if before else None,
                new_bytes=after.size_bytes if after else None,
            )


def _status(before: ManifestFile | None, after: ManifestFile | None) -> str:
    if before is None:
        return "added"
    if after is None:
        return "removed"
    if before.digest != after.digest:
        return "changed"
    return "mode" if before.mode != after.mode else ""


def changed_fields(a: Metadata, b: Metadata) -> Iterator[FieldChange]:
    """What differs, by field. Types count: 1, 1.0 and True are three values."""
    old, new = flat(a), flat(b)
    for field in sorted(old.keys() | new.keys()):
        before, after = old.get(field), new.get(field)
        if before != after or type(before) is not type(after):
            yield FieldChange(field=field, old=before, new=after)


def flat(metadata: Metadata) -> dict[str, Value]:
    """The fields that are set, those of mappings as ``params.lr``."""
    fields: dict[str, Value] = {}
    for name, value in to_builtins(metadata).items():
        if isinstance(value, dict):
            fields |= {f"{name}.{key}": part for key, part in value.items()}
        else:
            fields[name] = tuple(value) if isinstance(value, list) else value
    return fields
