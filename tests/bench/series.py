"""The data of the benchmarks, made once and kept: a series of versions, and changes of a model.

    python -m tests.bench.series --data FOLDER --size 1GiB --shrink 1 --small-files 10000

makes all of it; the other programs make what they need themselves. Equal sizes give equal bytes on
every machine. ``FOLDER`` may be deleted at any time.

The series is a model of 32 tensors of 32 MiB and small ones between them (more tensors beyond
1 GiB, smaller ones below): ``first``; ``unchanged``, the same bytes saved again; ``part``, 3 of 32
tensors drawn anew; ``full``, all of that fine-tuned at 1 % of the weights' spread. The changes are
of a transformer of 1132 MiB, or of one whose every dimension is ``--shrink`` times smaller.
"""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench.report import parser
from tests.bench.weights import Tensor, write_opaque, write_safetensors

MIB = 1 << 20
MODEL = "model.safetensors"
COLUMNS = 4096
TENSORS, TENSOR_BYTES = 32, 32 * MIB
CHANGED = (5, 15, 25)
"""Of each 32 tensors, those that the third version draws anew."""

DRIFT = 0.01
PARTS = ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj")

LAYERS, HIDDEN, INTERMEDIATE, VOCABULARY = 9, 2048, 5632, 32_000
TUNED_LAYERS = ("layers.7.", "layers.8.", "lm_head.")
LORA = (".q_proj.", ".v_proj.")
WORDS = ("embed_tokens.", "lm_head.")
NEW_ROWS = 8

PIECE_BYTES = 4 * MIB
OPAQUE_MIB = 0.6
SLACK_MIB = 0.2


def series_tensors(size_bytes: int) -> list[Tensor]:
    """The first version: ``size_bytes`` of large tensors, and a norm before each layer."""
    count = max(TENSORS, size_bytes // TENSOR_BYTES)
    rows = size_bytes // count // (2 * COLUMNS)
    if rows == 0:
        raise SystemExit(f"a series takes {TENSORS * 2 * COLUMNS} bytes at least")
    tensors = []
    for index in range(count):
        layer, part = divmod(index, len(PARTS))
        at = f"model.layers.{layer}"
        if part == 0:
            tensors.append(Tensor(f"{at}.input_layernorm.weight", (COLUMNS,), 100_000 + layer))
        tensors.append(Tensor(f"{at}.{PARTS[part]}.weight", (rows, COLUMNS), index))
    return tensors


def part_changed(tensors: Sequence[Tensor]) -> list[Tensor]:
    """3 of 32 of the large ones have new weights."""
    return [
        replace(tensor, seed=tensor.seed + 200_000)
        if len(tensor.shape) == 2 and tensor.seed % TENSORS in CHANGED
        else tensor
        for tensor in tensors
    ]


def fine_tuned(tensors: Sequence[Tensor], among: Sequence[str] = ("",)) -> list[Tensor]:
    """Those whose name has one of the texts were trained on; their weights moved a little."""
    return [
        replace(tensor, drift=DRIFT) if any(text in tensor.name for text in among) else tensor
        for tensor in tensors
    ]


def transformer(shrink: int = 1) -> list[Tensor]:
    """The model that is changed: 1132 MiB, or about ``shrink`` squared times less."""
    hidden, inner, words = HIDDEN // shrink, INTERMEDIATE // shrink, VOCABULARY // shrink
    shapes = {"model.embed_tokens": (words, hidden)}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"
        shapes |= {f"{at}.self_attn.{part}_proj": (hidden, hidden) for part in "qkvo"}
        shapes |= {f"{at}.mlp.{part}_proj": (inner, hidden) for part in ("gate", "up")}
        shapes[f"{at}.mlp.down_proj"] = (hidden, inner)
    shapes["lm_head"] = (words, hidden)
    return [
        Tensor(f"{name}.weight", shape, 300_000 + index)
        for index, (name, shape) in enumerate(shapes.items())
    ]


def more_words(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The vocabulary has some more rows at its end."""
    return [
        replace(tensor, shape=(tensor.shape[0] + NEW_ROWS, tensor.shape[1]))
        if any(text in tensor.name for text in WORDS)
        else tensor
        for tensor in tensors
    ]


@dataclass(frozen=True)
class Change:
    """A model before and after a change of one kind, and the most that the change may cost."""

    name: str
    before: Path
    after: Path
    goal_mib: float


def change_goals(shrink: int) -> dict[str, float]:
    """The better of tensor-aligned and content-defined cuts for each change, and 0.2 MiB more.

    That is content-defined ones where tensors are unknown, of any size; else the tensors with
    changes, but of one that grew only its last piece. For the whole model it is what was measured
    when the format was chosen.
    """
    old = transformer(shrink)

    def trained_mib(among: Sequence[str]) -> float:
        return sum(new.size_bytes for new in fine_tuned(old, among) if new.drift) / MIB

    grown = [new for new, was in zip(more_words(old), old, strict=True) if new != was]
    better = {
        "header +1 KB": 0.0,
        "part fine-tuned": trained_mib(TUNED_LAYERS),
        "LoRA on q, v": trained_mib(LORA),
        "8 rows more vocabulary": sum(new.size_bytes % PIECE_BYTES for new in grown) / MIB,
        "opaque file, 1 KB inserted": OPAQUE_MIB,
    }
    return {name: mib + SLACK_MIB for name, mib in better.items()}


class Data:
    """A folder of what was made so far."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def series(self, size_bytes: int, *, only: str = "") -> dict[str, Path]:
        """The folders of the four versions, or of one, each with one safetensors file."""
        first = series_tensors(size_bytes)
        part = part_changed(first)
        versions = {"first": first, "unchanged": first, "part": part, "full": fine_tuned(part)}
        return {
            name: self._made(f"series-{size_bytes}/{name}", _model(tensors))
            for name, tensors in versions.items()
            if only in ("", name)
        }

    def changes(self, shrink: int) -> list[Change]:
        """Every kind of change, in the order of the format's table."""
        old, goals = transformer(shrink), change_goals(shrink)
        size_bytes = sum(tensor.size_bytes for tensor in old)
        added = random.Random(0).randbytes(1024)
        writes: dict[str, Callable[[Path], None]] = {
            "header +1 KB": _model(old, note=added[:512].hex()),
            "part fine-tuned": _model(fine_tuned(old, TUNED_LAYERS)),
            "LoRA on q, v": _model(fine_tuned(old, LORA)),
            "8 rows more vocabulary": _model(more_words(old)),
            "opaque file, 1 KB inserted": _opaque(old, added, size_bytes // 2),
        }
        model = self._made(f"changes-{shrink}/model", _model(old))
        opaque = self._made(f"changes-{shrink}/opaque", _opaque(old))
        return [
            Change(
                name,
                opaque if name.startswith("opaque") else model,
                self._made(f"changes-{shrink}/{name}", write),
                goals[name],
            )
            for name, write in writes.items()
        ]

    def small_files(self, count: int) -> Path:
        """A folder of random files of 200 bytes to 16 KiB, a hundred to a folder."""

        def write(folder: Path) -> None:
            generator = random.Random(0)
            for index in range(count):
                file = folder / f"{index // 100:03}" / f"{index % 100:02}.bin"
                file.parent.mkdir(exist_ok=True)
                file.write_bytes(generator.randbytes(generator.randint(200, 16 << 10)))

        return self._made(f"small-{count}", write)

    def _made(self, name: str, write: Callable[[Path], None]) -> Path:
        folder = self._root / name
        if not folder.exists():
            # Under another name until it is whole.
            partial = folder.with_name(f"{folder.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            write(partial)
            partial.rename(folder)
        return folder


def _model(tensors: Sequence[Tensor], **metadata: str) -> Callable[[Path], None]:
    return lambda folder: write_safetensors(folder / MODEL, tensors, metadata)


def _opaque(
    tensors: Sequence[Tensor], insert: bytes = b"", insert_at: int = 0
) -> Callable[[Path], None]:
    return lambda folder: write_opaque(folder / "model.bin", tensors, insert, insert_at)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make all of it, and say where it is."""
    options = parser(__doc__, "data", "size", "shrink", "small_files").parse_args(arguments)
    data = Data(options.data)
    made = list(data.series(options.size).values())
    made += [change.after for change in data.changes(options.shrink)]
    made.append(data.small_files(options.small_files))
    sys.stdout.write("".join(f"{folder}\n" for folder in made))


if __name__ == "__main__":
    main()
