"""The backends of the three store protocols: drivers and error translation, nothing else.

``connect`` chooses among them. ``memory`` is the oracle of the tests, ``files``, ``sqlite_rows``
and ``sqlite_search`` are the embedded default.
"""
