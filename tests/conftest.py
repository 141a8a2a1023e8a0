"""What tests of several files begin from, made once for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.training_data import Material


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    """Make a toy dataset, and what else a training run begins from; it is read only."""
    from tests.training_data import make_material  # here, as not every machine that runs tests has torch

    return make_material(tmp_path_factory.mktemp("material"))
