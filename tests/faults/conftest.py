"""Gathers what the faults' trials measure and prints it as one table after the tests."""

from __future__ import annotations

import pytest

from tests.faults.trials import Table

TABLE = pytest.StashKey[Table]()


@pytest.fixture(scope="session")
def table(pytestconfig: pytest.Config) -> Table:
    return pytestconfig.stash.setdefault(TABLE, Table())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    found = config.stash.get(TABLE, Table())
    if found.rows:
        terminalreporter.section("faults")
        terminalreporter.write_line(str(found))
