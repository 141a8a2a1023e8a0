"""The small vision transformer stands where the stem stands, and its options are what their names say."""

import pytest
import torch

from policies.trunk import Attention, OptionError, TrunkOptions
from policies.vision import Stem
from policies.vit import VisionTransformer, VitOptions, rotary_2d

CHANNELS, STRIDE, HEADS = 32, 8, 4


@pytest.fixture
def frame() -> torch.Tensor:
    return torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))


def make(**options) -> VisionTransformer:
    torch.manual_seed(0)
    tower = VisionTransformer(CHANNELS, STRIDE, VitOptions(**options))
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return tower


def test_its_grid_is_that_of_the_stem(frame):
    ours, stem = make()(frame), Stem(CHANNELS, STRIDE)(frame)
    assert ours.shape == stem.shape == (2, 4, 6, CHANNELS + 2)
    torch.testing.assert_close(ours[..., -2:], stem[..., -2:])


def test_without_rotary_positions_cells_that_move_change_nothing(frame):
    moved = torch.roll(frame, 2 * STRIDE, 3)  # whole cells, so only their places differ
    for rotary, same in ((False, True), (True, False)):
        tower = make(rotary=rotary)
        here, there = tower(frame)[..., :-2], tower(moved)[..., :-2]
        assert torch.allclose(torch.roll(here, 2, 2), there, atol=1e-5) == same


def test_attention_knows_how_far_apart_cells_are_and_not_where():
    torch.manual_seed(0)
    attention = Attention(CHANNELS, HEADS, TrunkOptions(), index=0)
    cell = torch.randn(1, 1, CHANNELS).expand(1, 5 * 7, -1)  # the same everywhere
    rotation = rotary_2d(5, 7, CHANNELS // HEADS, cell)
    query, key = attention.queries_and_keys(cell, rotation)
    logits = torch.einsum("bqhd,bkhd->hqk", query, key).reshape(HEADS, 5, 7, 5, 7)
    torch.testing.assert_close(logits[:, 0, 1, 2, 4], logits[:, 2, 2, 4, 5], rtol=0.0, atol=1e-4)  # 2 down, 3 across
    torch.testing.assert_close(logits[:, 3, 6, 1, 6], logits[:, 4, 0, 2, 0], rtol=0.0, atol=1e-4)  # 2 up
    assert not torch.allclose(logits[:, 0, 1, 2, 4], logits[:, 0, 1, 3, 4], atol=1e-3)
    assert not torch.allclose(logits[:, 0, 1, 2, 4], logits[:, 0, 1, 2, 5], atol=1e-3)


def test_two_layer_features_hear_the_second_layer(frame):
    tower = make(layers=3)
    with torch.no_grad():
        tower.join.weight.copy_(torch.cat([torch.eye(CHANNELS), torch.zeros(CHANNELS, CHANNELS)], 1))
        tower.join.bias.zero_()
    shallow = VisionTransformer(CHANNELS, STRIDE, VitOptions(layers=2, two_layers=False))
    shallow.load_state_dict({k: v for k, v in tower.state_dict().items() if k in shallow.state_dict()})
    torch.testing.assert_close(tower(frame), shallow(frame))


def test_checkpointing_gives_the_same_gradients(frame):
    gradients = []
    for checkpointing in (False, True):
        tower = make(blocks=TrunkOptions(checkpointing=checkpointing))
        tower(frame).square().mean().backward()
        gradients.append([parameter.grad for parameter in tower.parameters()])
        assert all(gradient is not None for gradient in gradients[-1])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("channels", "options", "message"),
    [
        (24, VitOptions(), "2-D rotary positions need channels in fours a head, not 24 of 4 heads"),
        (32, VitOptions(layers=2), "two_layers needs more than 2 layers, not 2"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(channels, options, message):
    with pytest.raises(OptionError, match=message):
        VisionTransformer(channels, STRIDE, options)
