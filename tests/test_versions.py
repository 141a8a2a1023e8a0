"""Versions are those of what is really installed; what is absent is left out, not guessed."""

import numpy as np

from embodied.versions import installed


def test_an_absent_package_is_left_out():
    assert installed(["numpy", "no-such-package-anywhere"]) == {"numpy": np.__version__}
