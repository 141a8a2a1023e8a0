"""The trunk equals Qwen3 where its options are left alone, and each option is what its name says."""

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional
from transformers import DynamicCache, Qwen3Model

import policies
from policies.trunk import Attention, Block, OptionError, Trunk, TrunkOptions, rotary
from tests.eager_qwen3 import additive, qwen3

WIDTH, LAYERS, HEADS, FEEDFORWARD, BATCH, LENGTH = 48, 2, 6, 64, 3, 9
SHIPPED = f"{policies.__path__[0]}/checkpoints/so101/model.safetensors"


def make(**options) -> Trunk:
    """Return a trunk whose weights are large enough that its answers depend on everything."""
    torch.manual_seed(0)
    trunk = Trunk(WIDTH, LAYERS, HEADS, FEEDFORWARD, TrunkOptions(**options))
    with torch.no_grad():
        for parameter in trunk.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return trunk


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(BATCH, LENGTH, WIDTH, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def mask() -> torch.Tensor:
    seen = torch.rand(BATCH, LENGTH, LENGTH, generator=torch.Generator().manual_seed(2)) < 0.5
    return seen | torch.eye(LENGTH, dtype=torch.bool)


@pytest.fixture
def positions() -> torch.Tensor:
    return torch.arange(LENGTH).expand(BATCH, -1)


@pytest.fixture
def pair() -> tuple[Trunk, Qwen3Model]:
    trunk, other = make(), qwen3(WIDTH, LAYERS, HEADS, FEEDFORWARD)
    state = trunk.state_dict()
    missing, unexpected = other.load_state_dict(state, strict=False)
    assert missing == ["embed_tokens.weight"] and not unexpected
    return trunk, other


def test_it_equals_qwen3(pair, x, mask, positions):
    trunk, other = pair
    expected = other(inputs_embeds=x, attention_mask=additive(mask)).last_hidden_state
    torch.testing.assert_close(trunk(x, mask, positions), expected, rtol=0.0, atol=1e-5)


def test_its_gradients_equal_qwen3s(pair, x, mask, positions):
    trunk, other = pair
    weight = torch.randn_like(x)
    (trunk(x, mask, positions) * weight).mean().backward()
    (other(inputs_embeds=x, attention_mask=additive(mask)).last_hidden_state * weight).mean().backward()
    others = dict(other.named_parameters())
    for name, parameter in trunk.named_parameters():
        torch.testing.assert_close(parameter.grad, others[name].grad, rtol=1e-4, atol=1e-5)


def test_it_equals_qwen3_token_by_token(pair, x, positions):
    trunk, other = pair
    cache, others = trunk.new_cache(), DynamicCache()
    for start, stop in ((0, 5), (5, 6), (6, 7)):
        seen = torch.arange(stop) <= torch.arange(start, stop)[:, None]
        seen = seen.expand(BATCH, -1, -1).clone()
        seen[0, :, 2] = False  # padding of a shorter row
        seen |= torch.arange(stop) == torch.arange(start, stop)[:, None]
        expected = other(
            inputs_embeds=x[:, start:stop], attention_mask=additive(seen), past_key_values=others, use_cache=True
        )
        got = trunk(x[:, start:stop], seen, positions[:, start:stop], cache)
        torch.testing.assert_close(got, expected.last_hidden_state, rtol=0.0, atol=1e-5)


@pytest.mark.parametrize(("prefix", "sizes"), [("trunk.", (192, 4, 6, 512)), ("text_encoder.", (128, 2, 4, 256))])
def test_the_shipped_weights_load_and_give_what_they_gave(prefix, sizes):
    state = {
        key.removeprefix(prefix): value.float() for key, value in load_file(SHIPPED).items() if key.startswith(prefix)
    }
    other, trunk = qwen3(*sizes), Trunk(*sizes)
    other.load_state_dict({"embed_tokens.weight": torch.zeros(1, sizes[0])} | state)
    state.pop("embed_tokens.weight", None)
    trunk.load_state_dict(state)
    x, seen = torch.randn(2, 7, sizes[0]), torch.ones(2, 7, 7, dtype=torch.bool).tril()
    with torch.no_grad():
        expected = other(inputs_embeds=x, attention_mask=additive(seen)).last_hidden_state
        got = trunk(x, seen, torch.arange(7).expand(2, -1))
    torch.testing.assert_close(got, expected, rtol=0.0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("options", [{}, {"fp32_logits": False}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_query_that_may_look_nowhere_is_no_nan(options, dtype, x, mask, positions):
    mask[1, 3] = False
    x.requires_grad_()
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        out = make(**options)(x, mask, positions)
    out.float().square().sum().backward()
    assert out.isfinite().all() and x.grad.isfinite().all()


def test_one_row_of_the_mask_serves_all_queries(x, mask, positions):
    trunk, keys = make(), mask[:, :1]
    torch.testing.assert_close(
        trunk(x, keys, positions), trunk(x, keys.expand(-1, LENGTH, -1), positions), rtol=0.0, atol=1e-6
    )


def test_only_the_distance_of_positions_matters(x, mask, positions):
    trunk = make()
    torch.testing.assert_close(trunk(x, mask, positions), trunk(x, mask, positions + 7), rtol=0.0, atol=1e-4)
    assert not torch.allclose(trunk(x, mask, positions), trunk(x, mask, 2 * positions), atol=1e-3)


def largest_logit(options: TrunkOptions, scale: float) -> float:
    torch.manual_seed(0)
    attention = Attention(WIDTH, HEADS, options, index=0)
    tokens = scale * torch.randn(BATCH, LENGTH, WIDTH)
    rotation = rotary(torch.arange(LENGTH), WIDTH // HEADS, torch.float32)
    query, key = attention.queries_and_keys(tokens, rotation)
    logits = torch.einsum("blhd,bshd->bhls", query, key) * (WIDTH // HEADS) ** -0.5
    return logits.abs().max().item()


def test_qk_norm_bounds_the_logits_whatever_comes_in():
    bound = (WIDTH // HEADS) ** 0.5  # |q| = |k| = √d, and the product is over √d
    assert largest_logit(TrunkOptions(), 1e3) <= bound * 1.001
    assert largest_logit(TrunkOptions(qk_norm=False), 1e3) > 1e3 * bound


def test_multi_query_has_fewer_parameters_and_equals_heads_that_repeat(x, mask, positions):
    shared, full = make(kv_heads=1), make()
    state = shared.state_dict()
    for key in state:
        if "k_proj" in key or "v_proj" in key:
            state[key] = state[key].repeat(HEADS, 1)
    full.load_state_dict(state)
    torch.testing.assert_close(shared(x, mask, positions), full(x, mask, positions), rtol=0.0, atol=1e-5)
    fewer = 2 * LAYERS * WIDTH * (WIDTH - WIDTH // HEADS)
    assert count(full) - count(shared) == fewer


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_a_cache_of_shared_heads_gives_what_one_pass_gives(x, positions):
    trunk, seen = make(kv_heads=2), torch.ones(BATCH, LENGTH, LENGTH, dtype=torch.bool).tril()
    cache = trunk.new_cache()
    halves = [trunk(x[:, s], seen[:, s, : s.stop], positions[:, s], cache) for s in (slice(0, 4), slice(4, LENGTH))]
    torch.testing.assert_close(torch.cat(halves, 1), trunk(x, seen, positions), rtol=0.0, atol=1e-5)
    assert cache.layers[0][0].shape == (BATCH, LENGTH, 2, WIDTH // HEADS)


def test_a_parallel_block_adds_both_of_one_norm(x):
    block = Block(WIDTH, HEADS, FEEDFORWARD, TrunkOptions(parallel=True))
    inner = block.input_layernorm(x)
    expected = x + block.self_attn(inner, None, None, None) + block.mlp(inner)
    torch.testing.assert_close(block(x, None, None, None), expected)
    assert not hasattr(block, "post_attention_layernorm")


def test_checkpointing_gives_the_same_gradients_and_keeps_less(x, mask, positions):
    gradients, kept = [], []
    for checkpointing in (False, True):
        trunk, sizes = make(checkpointing=checkpointing), []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            out = trunk(x, mask, positions)
        out.square().mean().backward()
        gradients.append([parameter.grad for parameter in trunk.parameters()])
        kept.append(sum(sizes))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)
    assert kept[1] < 0.5 * kept[0]


def test_logits_are_float32_under_autocast_unless_asked_otherwise():
    # Logits near 300 whose differences bfloat16, in steps of 2 there, cannot tell.
    query = torch.zeros(1, 1, 1, 8, dtype=torch.bfloat16)
    query[..., 0] = 30.0
    key = torch.zeros(1, 1, 16, 8, dtype=torch.bfloat16)
    key[..., 0] = 28.0 + torch.arange(16) * 0.125
    value = torch.eye(16, dtype=torch.bfloat16)[None, None, :, 8:]
    exact = ((query.double() @ key.double().mT) * 8**-0.5).softmax(-1) @ value.double()
    errors = []
    for fp32_logits in (True, False):
        attention = Attention(8, 1, TrunkOptions(fp32_logits=fp32_logits), index=0)
        with torch.autocast("cpu", torch.bfloat16):
            found = attention._attend(query, key, value, None)
        errors.append((found.double() - exact).abs().max().item())
    assert errors[0] < 2**-8 < errors[1]


def test_layer_norm_and_gelu_are_what_they_say(x, mask, positions):
    trunk = make(norm="layer", activation="gelu")
    mlp = trunk.layers[0].mlp
    expected = mlp.down_proj(functional.gelu(mlp.up_proj(x), approximate="tanh"))
    torch.testing.assert_close(mlp(x), expected)
    weights = [name for name, _ in trunk.named_parameters() if "mlp" in name and "layers.0" in name]
    assert len(weights) == 2 and count(mlp) == count(make().layers[0].mlp)
    moved = trunk.layers[0].input_layernorm(x + 5.0)  # a layer norm takes the mean away, an RMS norm does not
    torch.testing.assert_close(moved, trunk.layers[0].input_layernorm(x), rtol=0.0, atol=1e-4)
    assert trunk(x, mask, positions).isfinite().all()


@pytest.mark.parametrize(
    ("heads", "options", "message"),
    [
        (6, TrunkOptions(kv_heads=4), "6 heads cannot share 4 kv_heads; choose from \\[1, 2, 3, 6\\]"),
        (7, TrunkOptions(), "width 48 is not 7 heads of an even width each"),
        (16, TrunkOptions(), "width 48 is not 16 heads of an even width each"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(heads, options, message):
    with pytest.raises(OptionError, match=message):
        Trunk(WIDTH, 1, heads, 8, options)
