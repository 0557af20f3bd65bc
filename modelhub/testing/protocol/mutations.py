"""Ways to get the protocol wrong, one by one; the models must catch each."""

from __future__ import annotations

from enum import Enum


class Mutation(Enum):
    """A rule of the protocol, broken. The value says how."""

    NO_ROW_CHECK = "no row check after pinning"
    NO_PINS = "no pins"
    PIN_NOT_AWAITED = "a pin not awaited"
    RETRY_WITHOUT_CHECKS = "a retry without new checks"
    FILE_BEFORE_PIN = "a file created, and registered, before its pin"
    OVERWRITE = "a file created with overwrite"
    INTENT_REMOVED_UNRESOLVED = "intent removed while unresolved"
    SHARED_INTENT = "one shared intent row a model"
    NO_INTENT = "no intent"
    FALSE_IS_LOST = "False taken as lost"
    FALSE_IS_CERTAIN = "False taken as proof that nothing was applied"
    NO_FENCE = "giving up without the fence"
    REQUEST_CHECKED_ONCE = "a request id checked once only"
    LOOKUP_BY_SEQUENCE = "a lookup row believed for the sequence that it names"
    NO_EXTERNAL_VERSION = "no external version"
