"""The resampler's attention is a scaled cosine unless asked otherwise, and serves one frame or a history of them."""

import pytest
import torch
from torch.nn import functional

from policies.vision import PointingAttention, Resampler, place, wave

QUERY, KEY, HEADS, HEAD_WIDTH = 16, 10, 2, 4


def attend(attention: PointingAttention, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """Return where heads look, by projecting the keys as textbooks do."""
    query = attention.to_query(queries).unflatten(-1, (HEADS, HEAD_WIDTH))
    if attention.cosine:
        query = functional.normalize(query, dim=-1) * attention.log_sharpness.exp()
    else:
        query = query / HEAD_WIDTH**0.5
    projected = torch.einsum("hdk,bck->bchd", attention.to_key, keys)
    return torch.einsum("bqhd,bchd->bqhc", query, projected).softmax(-1)


@pytest.mark.parametrize("cosine", [True, False])
def test_the_short_way_round_gives_what_projected_keys_give(cosine):
    torch.manual_seed(0)
    attention = PointingAttention(QUERY, KEY, HEADS, HEAD_WIDTH, cosine=cosine)
    queries, keys = torch.randn(2, 3, QUERY), torch.randn(2, 12, KEY)
    _, looked = attention(queries, keys)
    torch.testing.assert_close(looked, attend(attention, queries, keys))


def test_a_cosine_does_not_sharpen_as_queries_grow_and_a_plain_product_does():
    torch.manual_seed(0)
    queries, keys = torch.randn(2, 3, QUERY), torch.randn(2, 12, KEY)
    for cosine in (True, False):
        attention = PointingAttention(QUERY, KEY, HEADS, HEAD_WIDTH, cosine=cosine)
        calm, loud = attention(queries, keys)[1], attention(100.0 * queries, keys)[1]
        assert torch.allclose(calm, loud, atol=1e-5) == cosine
        assert ("log_sharpness" in dict(attention.named_parameters())) == cosine


def test_what_is_not_visible_is_not_read():
    attention = PointingAttention(QUERY, KEY, HEADS, HEAD_WIDTH)
    visible = torch.ones(2, 12, dtype=torch.bool)
    visible[0, 5:] = False
    _, looked = attention(torch.randn(2, 3, QUERY), torch.randn(2, 12, KEY), visible)
    assert (looked[0, ..., 5:] == 0).all() and (looked[1, ..., 5:] > 0).all()


@pytest.mark.parametrize("cosine", [True, False])
def test_a_history_is_a_larger_batch(cosine):
    torch.manual_seed(0)
    resampler = Resampler(KEY, 8, latents=5, width=QUERY, cosine=cosine)
    grids, text, visible = torch.randn(2, 3, 4, 3, KEY), torch.randn(2, 4, 8), torch.ones(2, 4, dtype=torch.bool)
    tokens, _ = resampler(grids.flatten(0, 1), text.repeat_interleave(3, 0), visible.repeat_interleave(3, 0))
    for frame in range(3):
        alone, _ = resampler(grids[:, frame], text, visible)
        torch.testing.assert_close(tokens.view(2, 3, 5, QUERY)[:, frame], alone, rtol=0.0, atol=1e-5)


def test_a_cell_is_told_by_its_row_and_column_and_by_their_waves():
    grid = place(torch.zeros(1, 6, 1), 2, 3)
    assert grid[0, 1, 2].tolist() == [0.0, 1.0, 1.0] and grid[0, 0, 1].tolist() == [0.0, -1.0, 0.0]
    down_sines, down_cosines, across_sines, across_cosines = (
        wave(torch.tensor([0.5, -1.0]), 3).view(2, 2, 3).flatten(0, 1)
    )
    half = 0.5**0.5
    torch.testing.assert_close(down_sines, torch.tensor([half, 1.0, 0.0]), atol=1e-6, rtol=0.0)
    torch.testing.assert_close(down_cosines, torch.tensor([half, 0.0, -1.0]), atol=1e-6, rtol=0.0)
    torch.testing.assert_close(across_sines, torch.tensor([-1.0, 0.0, 0.0]), atol=1e-6, rtol=0.0)
    torch.testing.assert_close(across_cosines, torch.tensor([0.0, -1.0, 1.0]), atol=1e-6, rtol=0.0)
    assert wave(grid[..., -2:], 0).shape == (1, 2, 3, 0)
