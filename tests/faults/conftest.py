"""Gathers what the faults' trials measure and prints it as one table after the tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.processes import Host, host
from tests.faults.trials import Table

TABLE = pytest.StashKey[Table]()


@pytest.fixture(scope="session")
def table(pytestconfig: pytest.Config) -> Table:
    return pytestconfig.stash.setdefault(TABLE, Table())


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Host one live robot for all the trials of a file, and judge at the end what it was told to do."""
    with host(tmp_path_factory.mktemp("live"), "--realtime") as live:
        yield live
        assert live.lives, live.said()
    live.evidence.check()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    found = config.stash.get(TABLE, Table())
    if found.rows:
        terminalreporter.section("faults")
        terminalreporter.write_line(str(found))
