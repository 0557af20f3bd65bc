"""Descriptive metadata: read from the model itself, and laid over by what people say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modelhub.describe.card import read_card
from modelhub.describe.config import read_config
from modelhub.describe.draft import Draft
from modelhub.describe.pickles import read_pickles
from modelhub.describe.weights import read_weights
from modelhub.records import Metadata

_READERS = {"readme.md": read_card, "model_card.md": read_card, "config.json": read_config}
"""By lower-case file name, the one that is believed first on top."""


def describe(files: Sequence[tuple[str, Path]]) -> Metadata:
    """What a model says about itself, but for pickles in the root of its version.

    ``files`` are paths inside the version and where the files lie. Read are the model card
    (``README.md`` or ``MODEL_CARD.md``), ``config.json`` and the headers of ``*.safetensors``;
    where they contradict each other, in this order. What pickles import, in any folder, is noted
    in ``extra`` under ``pickle.imports`` and ``pickle.dangerous``. Nothing here fails a push: what
    cannot be read or kept is named in ``extra`` under ``describe.skipped``. The result takes at
    most half a row, 128 keys in ``metrics`` and in ``extra``, and always passes the checks of
    ``apply``.
    """
    draft = Draft()
    read_pickles(sorted(files), draft)  # first, so that nothing else takes the room of a warning
    root = sorted((name, location) for name, location in files if "/" not in name)
    for wanted, read in _READERS.items():
        for name, location in root:
            if name.lower() == wanted:
                try:
                    read(name, location, draft)
                except OSError as exc:
                    draft.skip(f"{name}: {exc.strerror}")
    read_weights([file for file in root if file[0].endswith(".safetensors")], draft)
    return draft.finish()
