"""The contracts of ``modelhub.stores`` as pytest classes, for this project's backends and yours.

Subclass a class under a name that begins with ``Test`` and supply the one fixture it asks for; see
``RowBackend``, ``WeightBackend`` and ``SearchBackend``. Override nothing: a test that a backend
cannot pass is a promise that the coordinator relies on in vain.

Each backend comes with a second route to the stored data, past the store under test, so that a
store that remembers what it should have stored is found out.
"""

from modelhub.testing.contracts.rows import RowBackend, RowStoreContract
from modelhub.testing.contracts.search import SearchBackend, SearchIndexContract
from modelhub.testing.contracts.weights import WeightBackend, WeightStoreContract

__all__ = [
    "RowBackend",
    "RowStoreContract",
    "SearchBackend",
    "SearchIndexContract",
    "WeightBackend",
    "WeightStoreContract",
]
