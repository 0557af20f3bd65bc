"""What a version was made of, and what was made of it.

Tier: CI runs all of it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from modelhub.coordinator import keys
from modelhub.coordinator.context import Stores
from modelhub.errors import Conflict, InvalidInput, NotFound
from modelhub.hub import Hub
from modelhub.results import Lineage


@pytest.fixture
def hub(memory_hub: Hub) -> Hub:
    return memory_hub


Push = Callable[..., str]


@pytest.fixture
def push(hub: Hub, tmp_path: Path) -> Push:
    count = iter(range(99))

    def push(name: str, **options: object) -> str:
        file = tmp_path / "weights.bin"
        file.write_text(f"{name} {next(count)}")
        return f"{name}@{hub.push(name, file, **options).number}"  # type: ignore[arg-type]

    return push


def edges(found: Lineage) -> set[tuple[str, str, str]]:
    return {(edge.source, edge.relation, edge.target) for edge in found.edges}


@pytest.fixture
def family(hub: Hub, push: Push) -> None:
    """A model that another one was tuned from, of which two more were made."""
    push("nlp.base", title="the base", datasets=["wiki"])
    push("nlp.base", title="longer", extra={"commit": "abc123"})
    push("nlp.tuned", bases=["nlp.base@2"], datasets=["reviews"])
    push("nlp.tuned")
    push("nlp.tuned", branch="fix")
    hub.rollback("nlp.tuned", to=1)
    push("nlp.small", bases=["nlp.tuned@2", "nlp.base@1"])


@pytest.mark.usefixtures("family")
def test_ancestors_and_descendants_hang_together(hub: Hub) -> None:
    found = hub.lineage("nlp.tuned@1")
    assert found.root == "nlp.tuned@1"
    assert edges(found) == {
        ("nlp.base@2", "base", "nlp.tuned@1"),
        ("dataset:reviews", "dataset", "nlp.tuned@1"),
        ("nlp.base@1", "parent", "nlp.base@2"),
        ("commit:abc123", "code", "nlp.base@2"),
        ("dataset:wiki", "dataset", "nlp.base@1"),
        ("nlp.tuned@1", "parent", "nlp.tuned@2"),
        ("nlp.tuned@2", "parent", "nlp.tuned@3"),
        ("nlp.tuned@2", "parent", "nlp.tuned@4"),
        ("nlp.tuned@1", "origin", "nlp.tuned@4"),
        ("nlp.base@2", "base", "nlp.tuned@4"),
        ("nlp.tuned@2", "base", "nlp.small@1"),
        ("nlp.base@1", "base", "nlp.small@1"),
    }
    nodes = {node.id: (node.kind, node.title) for node in found.nodes}
    assert nodes["nlp.base@1"] == ("version", "the base")
    assert nodes["commit:abc123"] == ("commit", "abc123")
    assert set(nodes) == {end for edge in found.edges for end in (edge.source, edge.target)}


@pytest.mark.usefixtures("family")
def test_depth_and_direction_bound_it(hub: Hub) -> None:
    above = hub.lineage("nlp.small@1", down=False)
    assert ("nlp.base@1", "parent", "nlp.base@2") in edges(above)
    assert not hub.lineage("nlp.tuned@4", depth=0).edges
    near = hub.lineage("nlp.tuned@2", depth=1)
    assert edges(near) == {
        ("nlp.tuned@1", "parent", "nlp.tuned@2"),
        ("nlp.tuned@2", "parent", "nlp.tuned@3"),
        ("nlp.tuned@2", "parent", "nlp.tuned@4"),
        ("nlp.tuned@1", "origin", "nlp.tuned@4"),
        ("nlp.tuned@2", "base", "nlp.small@1"),
    }
    with pytest.raises(InvalidInput):
        hub.lineage("nlp.small@1", depth=-1)
    with pytest.raises(NotFound):
        hub.lineage("nlp.small@9")


@pytest.mark.usefixtures("family")
def test_the_version_set_is_the_version_and_that_of_its_parents(hub: Hub) -> None:
    assert hub.lineage("nlp.tuned@4").version_set == ("nlp.tuned@1", "nlp.tuned@2", "nlp.tuned@4")
    assert hub.lineage("nlp.tuned@3").version_set == ("nlp.tuned@1", "nlp.tuned@2", "nlp.tuned@3")
    assert hub.lineage("nlp.base@1").version_set == ("nlp.base@1",)


@pytest.mark.usefixtures("family")
def test_a_base_of_live_versions_is_deleted_only_by_force(hub: Hub) -> None:
    with pytest.raises(Conflict, match=r"nlp\.base@2 is the base of nlp\.tuned@1"):
        hub.delete("nlp.base@2")
    hub.delete("nlp.small@1")
    assert hub.delete("nlp.base@1").deleted, "what was based on it is deleted"
    assert hub.delete("nlp.base@2", force=True).deleted
    found = {node.id: node.deleted for node in hub.lineage("nlp.tuned@1").nodes}
    assert found["nlp.base@2"]
    assert not found["nlp.tuned@1"]


@pytest.mark.usefixtures("family")
def test_what_cannot_be_read_is_named_and_the_rest_is_shown(hub: Hub, stores: Stores) -> None:
    key = keys.log("nlp.base", 1)
    stores.rows.delete_many(keys.LOG, [key])
    stores.rows.put(keys.LOG, key, b"damaged")
    found = hub.lineage("nlp.small@1")
    titles = {node.id: node.title for node in found.nodes}
    assert titles["nlp.base@2"] == "cannot be read"
    assert ("nlp.tuned@1", "parent", "nlp.tuned@2") in edges(found)


def test_edges_among_those_that_take_part_are_all_there(hub: Hub, push: Push) -> None:
    push("nlp.a")
    push("nlp.y", bases=["nlp.a@1"])
    push("nlp.b", bases=["nlp.a@1", "nlp.y@1"])
    assert ("nlp.y@1", "base", "nlp.b@1") in edges(hub.lineage("nlp.a@1"))
    push("nlp.a")
    hub.rollback("nlp.a", to=1)
    near = edges(hub.lineage("nlp.a@3", depth=1, down=False))
    assert ("nlp.a@1", "parent", "nlp.a@2") in near


def test_a_model_that_cannot_be_read_blocks_no_deletion(
    hub: Hub, push: Push, stores: Stores
) -> None:
    push("nlp.a")
    push("nlp.b", bases=["nlp.a@1"])
    key = keys.log("nlp.b", 1)
    stores.rows.delete_many(keys.LOG, [key])
    stores.rows.put(keys.LOG, key, b"damaged")
    assert hub.lineage("nlp.a").nodes
    assert hub.delete("nlp.a@1").deleted


def test_the_graph_is_written_for_graphviz(hub: Hub, push: Push) -> None:
    push("nlp.a", title='a "quoted" \\ title', datasets=["reviews"])
    push("nlp.a")
    dot = hub.lineage("nlp.a").to_dot()
    assert dot.startswith("digraph lineage {")
    assert dot.endswith("}")
    assert '"nlp.a@1" -> "nlp.a@2" [label=parent];' in dot
    assert '"dataset:reviews" [label="dataset:reviews", shape=cylinder];' in dot
    assert r'label="nlp.a@1\na \"quoted\" \\ title"' in dot
