"""Ways to get collection and rewriting wrong, one by one; the models must catch each."""

from __future__ import annotations

from enum import Enum


class PackMutation(Enum):
    """A rule about packs, broken. The value says how."""

    LOG_BEFORE_INTENTS = "log scanned before intents"
    NO_SECOND_SCAN = "no second scan"
    BY_AGE_ALONE = "collection by age alone"
    RETENTION_BY_CLOCK = "retention by clock"
    TAKEOVER_UNSCANNED = "takeover on a scan begun before the condemning"
    ROWS_NOT_READ_AGAIN = "pack rows not read again after the second scan of intents"
    ROW_READ_LATE = "deleting against a row that was read after the second scan of intents"
    MOVED_UNCLAIMED = "a file moved without the claim"
    BACK_FROM_DELETING = "a way back from deleting"
    NAMES_FROM_MODELS = "heads taken from `models`"
    MOVED_NOT_FOLLOWED = "`moved` not followed by marking"
    MOVED_NOT_READ = "`moved` not followed by readers"
    TRASH_NOT_READ = "readers that look in the trash only where a pack was not moved"
    BASE_NOT_LISTED = "a delta's base pack not listed"
    REWRITTEN_UNCONDEMNED = "rewriting without condemning first"
    REWRITTEN_UNSCANNED = "rewriting without a complete scan after the condemning"
    SUCCESSOR_UNNAMED = "a condemned row that does not name its successor"
    NAMED_REWRITTEN = "a named successor that is rewritten itself"
    FOLLOWED_UNPINNED = "following without pinning the successor"
    TRAILER_NOT_READ = "following without reading the successor's trailer"
    ROW_NOT_COMPARED = "the token ignored"


class Thrift(Enum):
    """What may be otherwise and loses nothing, at the price of work or room. The value says how."""

    PINS_NOT_SPARED = "pinned packs condemned at first, and brought back"
    CLAIMED_UNSCANNED = "files claimed that a pin names, and stored again"
    PINS_FOLLOWED = "successors of pinned packs kept, instead of being pinned themselves"


Variant = PackMutation | Thrift
