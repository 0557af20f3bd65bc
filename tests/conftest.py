"""Tiers: ``MODELHUB_TIER=full`` (set by ``tests/run.sh --full``) runs every test at its full
bounds; without it the CI tier leaves out what is marked ``full`` and is the same at every run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, settings

from tests.live.hubs import LiveHubs, live_hubs
from tests.live.stack import LiveStack, NoStackError, absent, found

# The machine may be busy, so neither a deadline nor the speed of generating says anything here.
settings.register_profile(
    "ci",
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("full", settings.get_profile("ci"), derandomize=False, max_examples=1000)

TIER = os.environ.get("MODELHUB_TIER", "ci")
settings.load_profile(TIER)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if TIER == "full":
        return
    full = [item for item in items if item.get_closest_marker("full")]
    items[:] = [item for item in items if item not in full]
    config.hook.pytest_deselected(items=full)


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Says a measured figure or a count, which stands in the summary at the end of the run."""
    return lambda text: record_property("figure", text.strip())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    said = [
        (report.nodeid, text)
        for report in terminalreporter.getreports("passed")
        for name, text in report.user_properties
        if name == "figure"
    ]
    if said:
        terminalreporter.section("figures")
    for test, text in said:
        terminalreporter.write_line(f"{test.rpartition('::')[2]}: {text}")


@pytest.fixture(scope="session", autouse=True)
def _no_hub_but_the_tests_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MODELHUB_HOME", str(folder / "hub"))
        environment.setenv("MODELHUB_CACHE", str(folder / "cache"))
        environment.setenv("MODELHUB_USER", "tester")
        yield


@pytest.fixture(scope="session")
def _servers() -> Iterator[LiveStack | NoStackError]:
    with ExitStack() as held:
        try:
            servers: LiveStack | NoStackError = held.enter_context(found())
        except NoStackError as error:
            servers = error
        yield servers


@pytest.fixture(scope="session")
def stack(_servers: LiveStack | NoStackError) -> LiveStack:
    """The real servers; without any, the test is skipped, or fails where they are required."""
    if isinstance(_servers, NoStackError):
        absent(_servers)
    assert isinstance(_servers, LiveStack)
    return _servers


@pytest.fixture(scope="session")
def _live_hubs(_servers: LiveStack | NoStackError) -> Iterator[LiveHubs | None]:
    if isinstance(_servers, NoStackError):
        yield None
    else:
        with live_hubs(_servers) as hubs:
            yield hubs


@pytest.fixture
def live(stack: LiveStack, _live_hubs: LiveHubs) -> LiveHubs:
    """Empty stores on the real servers, as often as they are asked for."""
    return _live_hubs
