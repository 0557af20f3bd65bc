"""Every backend keeps the contract of its protocol."""

from __future__ import annotations

from modelhub.testing.contracts import RowStoreContract, SearchIndexContract, WeightStoreContract


class TestRowStores(RowStoreContract):
    pass


class TestWeightStores(WeightStoreContract):
    pass


class TestSearchIndexes(SearchIndexContract):
    pass
