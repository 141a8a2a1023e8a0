"""Tests that run in an environment of their own, as a test of this one."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def assert_own_tests_pass(binaries: Path, folder: str) -> None:
    """Run the tests in a folder by the pytest of another environment."""
    ran = subprocess.run(
        [str(binaries / "pytest"), "-q", "-p", "no:cacheprovider", folder],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        cwd=ROOT,
    )
    assert ran.returncode == 0, ran.stdout[-3000:]
