from __future__ import annotations

import copy
import pickle

import pytest

import modelhub
from modelhub import errors
from modelhub.errors import ModelhubError, OutcomeUnknown

CLASSES = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and kind.__module__ == errors.__name__
]


def built(kind: type[ModelhubError]) -> ModelhubError:
    if issubclass(kind, OutcomeUnknown):
        return kind("the row store went away", remedy="Read back.", txid="t7")
    return kind("模型 nlp.x is not there", remedy="Name another.")


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_survives_pickling_whole(kind: type[ModelhubError], protocol: int) -> None:
    error = built(kind)
    error.add_note("while pushing")
    back = pickle.loads(pickle.dumps(error, protocol))
    assert type(back) is kind
    assert (back.args, back.__dict__) == (error.args, error.__dict__)
    assert (str(back), back.remedy, back.kind) == (error.message, error.remedy, kind.kind)
    assert back.__notes__ == ["while pushing"]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_a_copy_of_an_error_is_the_same_error(kind: type[ModelhubError]) -> None:
    error = built(kind)
    for back in (copy.copy(error), copy.deepcopy(error)):
        assert type(back) is kind
        assert (back.args, back.__dict__) == (error.args, error.__dict__)


def test_an_open_transaction_is_named_after_pickling() -> None:
    error = pickle.loads(pickle.dumps(OutcomeUnknown("gone", txid="t7")))
    assert (error.txid, error.remedy) == ("t7", "")


def test_all_errors_have_one_root() -> None:
    assert ModelhubError.__bases__ == (Exception,)
    assert len(CLASSES) == 10
    for kind in CLASSES:
        assert kind is ModelhubError or kind.__bases__ == (ModelhubError,)


def test_every_class_has_a_kind_of_its_own() -> None:
    kinds = [vars(kind)["kind"] for kind in CLASSES]
    assert len(set(kinds)) == len(kinds)
    assert all(kind.isidentifier() and kind.islower() for kind in kinds)


def test_every_error_can_be_caught_from_the_package() -> None:
    for kind in CLASSES:
        assert getattr(modelhub, kind.__name__) is kind
        assert kind.__name__ in modelhub.__all__


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    assert errors.__doc__
    for kind in CLASSES:
        assert kind.__name__ in errors.__doc__
