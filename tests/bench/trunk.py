"""What the trunk's options cost, beside transformers' eager Qwen3: `python -m tests.bench.trunk`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from policies.trunk import Trunk, TrunkOptions
from tests.eager_qwen3 import additive, qwen3

WIDTH, HEADS, FEEDFORWARD = 192, 6, 512  # of the shipped model
OPTIONS = {
    "ours": TrunkOptions(),
    "no QK norm": TrunkOptions(qk_norm=False),
    "logits written out": TrunkOptions(fp32_logits=False),
    "LayerNorm": TrunkOptions(norm="layer"),
    "GELU": TrunkOptions(activation="gelu"),
    "parallel": TrunkOptions(parallel=True),
    "multi-query": TrunkOptions(kv_heads=1),
    "checkpointing": TrunkOptions(checkpointing=True),
}


def eager(layers: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return transformers' model under the same mask."""
    model = qwen3(WIDTH, layers, HEADS, FEEDFORWARD)

    def think(x: Tensor, mask: Tensor, _: Tensor) -> Tensor:
        hidden: Tensor = model(inputs_embeds=x, attention_mask=additive(mask), use_cache=False).last_hidden_state
        return hidden

    return think


def measure(batch: int, length: int, layers: int, rounds: int, *, compiled: bool) -> dict[str, float]:
    """Return the least milliseconds of a forward and a backward pass of each, taken in turns."""
    x = torch.randn(batch, length, WIDTH, requires_grad=True)
    mask = torch.ones(batch, length, length, dtype=torch.bool).tril()
    positions = torch.arange(length).expand(batch, -1)
    models: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"transformers, eager": eager(layers)}
    models |= {name: Trunk(WIDTH, layers, HEADS, FEEDFORWARD, options) for name, options in OPTIONS.items()}
    if compiled:
        models["ours, compiled"] = torch.compile(models["ours"])
    least = dict.fromkeys(models, float("inf"))
    for turn in range(rounds + 1):
        for name, model in models.items():
            began = time.perf_counter()
            model(x, mask, positions).square().mean().backward()
            if turn:
                least[name] = min(least[name], 1e3 * (time.perf_counter() - began))
    return least


def main() -> None:
    """Print milliseconds and ratios for short and long sequences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument(
        "--compiled", action="store_true", help="also what torch.compile makes of ours (needs a compiler)"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for batch, length in ((64, 64), (16, 256)):
        least = measure(batch, length, arguments.layers, arguments.rounds, compiled=arguments.compiled)
        print(f"batch {batch}, length {length}, {arguments.layers} layers, forward and backward")
        for name, cost in least.items():
            print(f"  {name:22} {cost:8.1f} ms   {least['transformers, eager'] / cost:5.2f} times transformers'")


if __name__ == "__main__":
    main()
