"""The commit protocol as small models that can be explored state by state.

A model's actors make the coordinator's steps, one store call at a time, in any order; calls get
lost or land late, and actors crash. ``explore`` visits every state that can come of it::

    from modelhub.testing.protocol import CONFIGURATIONS, Mutation, Protocol, explore

    two = CONFIGURATIONS["two publishers"]
    print(explore(Protocol(two)))                          # so many states, complete
    print(explore(Protocol(two, Mutation.SHARED_INTENT)))  # a shortest way into trouble

Whoever changes the protocol changes it here first, with a ``Mutation`` for each rule that it adds.
"""

from modelhub.testing.protocol.client import Task
from modelhub.testing.protocol.configurations import CAUGHT_BY, CONFIGURATIONS, FULL
from modelhub.testing.protocol.explore import Model, Result, Step, explore
from modelhub.testing.protocol.model import Configuration, Protocol
from modelhub.testing.protocol.mutations import Mutation

__all__ = [
    "CAUGHT_BY",
    "CONFIGURATIONS",
    "FULL",
    "Configuration",
    "Model",
    "Mutation",
    "Protocol",
    "Result",
    "Step",
    "Task",
    "explore",
]
