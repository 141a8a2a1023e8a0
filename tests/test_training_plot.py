"""A picture of where image tokens look is bright where they do, whatever shape their grid and the frame have."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from embodied.recording.training_plot import CAPTION, HEIGHT, draw_gaze


@pytest.mark.parametrize("grid", [(4, 4), (2, 8), (3, 7)])
def test_the_brightest_part_of_a_picture_is_the_cell_that_was_looked_at(tmp_path: Path, grid: tuple[int, int]) -> None:
    rows, columns = grid
    looked = np.zeros((1, rows, columns), np.float32)
    looked[0, rows - 1, 1] = 1.0
    draw_gaze(tmp_path / "gaze.png", [("reach", np.full((16, 48, 3), 90, np.uint8), looked)])
    picture = cv2.imread(str(tmp_path / "gaze.png"))
    assert picture is not None
    width = picture.shape[1] // 2  # the frame as it was stands before it
    shown = picture[CAPTION:, width:].sum(-1)
    lit = np.argwhere(shown > shown.max() / 2)
    edges = np.array([[HEIGHT * (rows - 1) / rows, width / columns], [HEIGHT - 1, 2 * width / columns - 1]])
    np.testing.assert_allclose([lit.min(0), lit.max(0)], edges, atol=1.0)
