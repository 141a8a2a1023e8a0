"""What value tokens lose, and whether random weights can break the grammar: `python -m tests.bench.tokens`."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
import torch

from embodied.types import PoseAction, TextAction
from policies.checkpoint import Checkpoint
from policies.token import TokenPolicy
from policies.values import decode_values, encode_values
from tests.policy_contract import random_observation
from tests.tiny_policy import PLAN, SKILLS, SPEC, tiny_checkpoint

INSTRUCTIONS = ("reach the red cube", "push the blue cube into the bowl", "reach the target")
ACTS_A_MODEL = 50  # in each output mode


def print_round_trip(samples: int, seed: int) -> None:
    """Encode and decode numbers drawn evenly from ranges drawn at random, a thousand numbers a range."""
    random = np.random.default_rng(seed)
    low = random.uniform(-10.0, 10.0, (samples // 1000, 1))
    width = 10.0 ** random.uniform(-2.0, 2.0, low.shape)
    values = random.uniform(low, low + width, (len(low), 1000))
    bins, outside = encode_values(values, low, low + width)
    errors = (decode_values(bins, low, low + width) - values) / width
    print(f"value round trip, {values.size} samples over {len(low)} ranges; errors as shares of the range")
    print(f"  largest error    {np.abs(errors).max():.7f}   (range / 2000 is 0.0005)")
    print(f"  bias             {errors.mean():+.2e} ± {errors.std() / np.sqrt(errors.size):.2e} (standard error)")
    print(f"  called outside   {outside.sum()}")


def random_weights(seed: int) -> Checkpoint:
    """Make a tiny model whose weights, and the scale of them, come from the seed."""
    checkpoint = tiny_checkpoint(replace(PLAN, text_length=12), seed)
    scale = float(np.random.default_rng(seed).choice([0.3, 1.0, 3.0]))
    with torch.no_grad():
        for parameter in checkpoint.model.parameters():
            parameter.mul_(scale)
    return checkpoint


def count_parsed(policy: TokenPolicy, seed: int) -> tuple[int, set[str]]:
    """Return how many of a policy's acts were what it said, not the hold that follows a malformed answer."""
    parsed, said = 0, set()
    for i in range(ACTS_A_MODEL):
        instruction = INSTRUCTIONS[i % len(INSTRUCTIONS)]
        policy.reset(instruction, SPEC)
        actions = policy.act(random_observation(SPEC, seed * ACTS_A_MODEL + i, instruction))
        if policy.mode == "text":
            said |= {action.text for action in actions if isinstance(action, TextAction)}
            parsed += len(actions) == 1 and isinstance(actions[0], TextAction) and actions[0].text in SKILLS
        else:  # a hold is one action, and a chunk has several
            parsed += len(actions) == PLAN.chunk and all(isinstance(action, PoseAction) for action in actions)
    return parsed, said


def print_parse_rate(samples: int) -> None:
    """Let models of random weights answer random observations, half in poses and half in text."""
    counts, said, began_s = {"pose": 0, "text": 0}, set(), time.monotonic()
    models = -(-samples // (2 * ACTS_A_MODEL))
    for seed in range(models):
        checkpoint = random_weights(seed)
        for policy in (TokenPolicy(checkpoint, horizon=PLAN.chunk), TokenPolicy(checkpoint, mode="text")):
            parsed, texts = count_parsed(policy, seed)
            counts[policy.mode] += parsed
            said |= texts
    print(f"constrained decoding, {models} models of random weights, {time.monotonic() - began_s:.0f} s")
    for mode, parsed in counts.items():
        of = models * ACTS_A_MODEL
        print(f"  {mode} answers     {parsed} of {of} parse ({100 * parsed / of:.2f} %)")
    print(f"  skills said      {len(said)} of {len(SKILLS)}")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--values", type=int, default=1_000_000)
    parser.add_argument("--samples", type=int, default=10_000, help="answers of random weights")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)  # models this small lose by sharing
    print_round_trip(args.values, args.seed)
    print_parse_rate(args.samples)


if __name__ == "__main__":
    main()
