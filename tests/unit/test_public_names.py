"""What people can call is found here by walking the package, so that nothing new is forgotten."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import pytest

import modelhub

MODULES = [
    modelhub,
    *(
        importlib.import_module(found.name)
        for found in pkgutil.walk_packages(modelhub.__path__, "modelhub.")
        if not found.name.endswith(".__main__")  # importing it is running it
    ),
]


def public(namespace: ModuleType | type) -> Iterator[tuple[str, object]]:
    """Its names, but for those of tests, which are sentences themselves."""
    return (
        (name, value)
        for name, value in vars(namespace).items()
        if not name.startswith(("_", "test_"))
    )


def undocumented(namespace: ModuleType | type, path: str) -> Iterator[str]:
    """Every class and function below ``namespace`` without a docstring of its own."""
    for name, value in public(namespace):
        inner = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        if not (inspect.isclass(inner) or inspect.isfunction(inner) or isinstance(inner, property)):
            continue
        if not isinstance(inner, property) and inner.__module__ != path.partition(":")[0]:
            continue
        where = f"{path}{'.' if ':' in path else ':'}{name}"
        if not (vars(inner).get("__doc__") if inspect.isclass(inner) else inner.__doc__):
            yield where
        if inspect.isclass(inner):
            yield from undocumented(inner, where)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_public_name_has_a_docstring(module: ModuleType) -> None:
    assert module.__doc__, module.__name__
    assert list(undocumented(module, module.__name__)) == []


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_what_a_module_exports_is_there(module: ModuleType) -> None:
    exported = getattr(module, "__all__", [])
    assert len(exported) == len(set(exported))
    for name in exported:
        assert getattr(module, name).__doc__, name


def test_the_package_shows_what_it_exports_and_its_modules_alone() -> None:
    """The hub's class is the one export that is brought in only when it is asked for."""
    shown = {name for name, value in public(modelhub) if not inspect.ismodule(value)}
    assert shown | {"Hub"} == set(modelhub.__all__)


def test_the_walk_sees_a_missing_docstring() -> None:
    module = ModuleType("made_up")
    exec(
        "class Documented:\n"
        "    'Yes.'\n"
        "    def method(self): ...\n"
        "    @property\n"
        "    def size(self): ...\n"
        "    @classmethod\n"
        "    def new(cls): ...\n"
        "    def _own(self): ...\n"
        "class Error(ValueError): ...\n"
        "def function(): ...\n"
        "def documented(): 'Yes.'\n"
        "def _own(): ...\n",
        vars(module),
    )
    assert list(undocumented(module, "made_up")) == [
        "made_up:Documented.method",
        "made_up:Documented.size",
        "made_up:Documented.new",
        "made_up:Error",
        "made_up:function",
    ]
