"""Walks of the models, taken step by step by the coordinator, so that the two cannot drift apart.

Every actor of a model is a process of the coordinator on stores in memory; it stops at each call
that is a step, until the walk says how the call goes. After each step stores and answers must be
what the model says::

    from modelhub.testing.protocol import CONFIGURATIONS
    from modelhub.testing.protocol.replay import replay, walk

    first = CONFIGURATIONS["first entry"]
    replay(first, walk(first, seed=1), folder)  # raises Drift where they part

``calls`` says which store call is which step; whoever adds a call to the coordinator adds it there
and, where it matters to others, to the models. The collector of ``Protocol`` takes away whatever it
likes: what it does to packs is done to their rows. ``reindexed`` and ``collected`` do the same with
walks of the models of re-indexing and of collection.
"""

from modelhub.testing.protocol.replay.stage import replay
from modelhub.testing.protocol.replay.staged import Drift
from modelhub.testing.protocol.replay.walks import walk

__all__ = ["Drift", "replay", "walk"]
