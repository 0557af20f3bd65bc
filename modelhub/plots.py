"""Pictures of what a Hub hands back; the file's ending says in which format."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelhub.content.source import local_path
from modelhub.errors import Forbidden, InvalidInput, NotInstalled
from modelhub.names import shown
from modelhub.results import Diff, Lineage

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FORMATS = (".pdf", ".png", ".svg")
_LAYER = re.compile(r"^(.*?\.\d+)\.")
_BAR_INCHES, _BOX_INCHES, _COLUMN_INCHES = 0.22, 0.6, 3.2
_MOST_INCHES = 200
"""Beyond this a picture is cut off at the end: matplotlib draws no more than 65,536 pixels."""

_LABEL = 36


def picture_path(path: str | os.PathLike[str]) -> Path:
    """``path``, if a picture can be written there.

    Raises:
        InvalidInput: its ending is none that is known.
        NotInstalled: matplotlib is missing.
    """
    found = local_path(path)
    if found.suffix.lower() not in _FORMATS:
        raise InvalidInput(
            f"{shown(found.name)} names no kind of picture",
            remedy=f"End it in {', '.join(_FORMATS)}.",
        )
    try:
        import matplotlib  # noqa: F401
    except ImportError as exc:
        raise NotInstalled(
            "pictures need matplotlib", remedy="pip install 'modelhub[plot]'"
        ) from exc
    return found


def plot(result: Diff | Lineage, path: Path) -> None:
    """Draw a comparison, or a lineage.

    Raises:
        Forbidden: the file cannot be written.
    """
    if isinstance(result, Diff):
        plot_diff(result, path)
    else:
        plot_lineage(result, path)


def plot_diff(diff: Diff, path: Path) -> None:
    """Draw the relative L2 distance by layer: of all tensors that share a name up to a number.

    Tensors in no layer stand for themselves; those without a distance are left out.

    Raises:
        Forbidden: the file cannot be written.
    """
    changed: dict[str, float] = {}
    lengths: dict[str, float] = {}
    for change in diff.tensors or ():
        if change.l2 is not None and change.relative_l2:
            layer = _layer(change.name)
            changed[layer] = changed.get(layer, 0.0) + change.l2**2
            lengths[layer] = lengths.get(layer, 0.0) + (change.l2 / change.relative_l2) ** 2
    layers = sorted(changed, key=_natural)[::-1]
    figure = _figure(8, 1.2 + _BAR_INCHES * len(layers))
    axes = figure.add_subplot()
    distances = [math.sqrt(changed[layer] / lengths[layer]) for layer in layers]
    axes.barh([_short(layer) for layer in layers], distances, color="#4c72b0")
    axes.margins(y=0.01)
    axes.set_xlabel("relative L2 distance")
    axes.set_title(f"{diff.a} to {diff.b}{'' if layers else ': no weights differ'}")
    _save(figure, path)


def plot_lineage(lineage: Lineage, path: Path) -> None:
    """Draw the graph from left to right: what a version was made of stands to its left.

    Raises:
        Forbidden: the file cannot be written.
    """
    columns = _columns(lineage)
    heights = Counter(columns.values())
    figure = _figure(_COLUMN_INCHES * (max(heights) + 1), 1 + _BOX_INCHES * max(heights.values()))
    axes = figure.add_subplot()
    axes.set_axis_off()
    rows: Counter[int] = Counter()
    places: dict[str, tuple[float, float]] = {}
    for node in lineage.nodes:
        column = columns[node.id]
        places[node.id] = (column, -(rows[column] + 0.5) / heights[column])
        rows[column] += 1
    for edge in lineage.edges:
        axes.annotate(
            "",
            places[edge.target],
            places[edge.source],
            arrowprops={**_ARROW, "color": _COLOURS[edge.relation]},
        )
    for node in lineage.nodes:
        box = {
            "boxstyle": "round" if node.kind == "version" else "square",
            "facecolor": "#ffe9a8" if node.id == lineage.root else "white",
            "linestyle": "--" if node.deleted else "-",
        }
        title = "" if node.title in node.id else f"\n{_short(node.title)}"
        text = _short(node.id) + title
        axes.text(*places[node.id], text, ha="center", va="center", fontsize=8, bbox=box)
    axes.set_xlim(-0.5, max(heights) + 0.5)
    axes.set_ylim(-1, 0)
    _save(figure, path)


_ARROW = {"arrowstyle": "->", "shrinkA": 30, "shrinkB": 30}
_COLOURS = {
    "parent": "#333333",
    "base": "#c44e52",
    "origin": "#8172b3",
    "dataset": "#55a868",
    "code": "#ccb974",
}


def _columns(lineage: Lineage) -> dict[str, int]:
    """How many steps the longest way to each node takes from one that was made of nothing."""
    sources: dict[str, list[str]] = {node.id: [] for node in lineage.nodes}
    for edge in lineage.edges:
        sources[edge.target].append(edge.source)
    columns = dict.fromkeys(sources, 0)
    for _ in sources:
        moved = False
        for target, found in sources.items():
            column = max((columns[source] + 1 for source in found), default=0)
            moved = moved or column > columns[target]
            columns[target] = max(columns[target], column)
        if not moved:
            break
    return columns


def _layer(name: str) -> str:
    match = _LAYER.match(name)
    return match[1] if match else name


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts 2 before 10."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _short(text: str) -> str:
    cut = text if len(text) <= _LABEL else f"{text[: _LABEL - 1]}…"
    return "".join(mark if mark.isprintable() else "�" for mark in cut).replace("$", r"\$")


def _figure(width: float, height: float) -> Figure:
    # Without pyplot: no window system, and no state that other threads share.
    from matplotlib.figure import Figure

    size = min(width, _MOST_INCHES), min(height, _MOST_INCHES)
    return Figure(figsize=size, layout="constrained")


def _save(figure: Any, path: Path) -> None:
    try:
        figure.savefig(path)
    except OSError as exc:
        raise Forbidden(
            f"{shown(str(path))} cannot be written: {exc.strerror}", remedy="Name another file."
        ) from exc
