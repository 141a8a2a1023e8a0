"""Whether each option of the model matters, on small tasks at high rates: `python -m tests.bench.ablations`."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise, product
from pathlib import Path
from statistics import mean

import torch

from policies.trunk import TrunkOptions
from policies.vit import VitOptions
from tests.bench.ablation_tasks import Variant, build

WARMUP_STEPS = 20
STEPS = 200
POINTS = 25  # of a curve
BF16 = {"task": "recall", "bf16": True}
NO_NORM = {"qk_norm": False}
VARIANTS = {
    "recall": Variant("recall"),
    "no QK norm": Variant("recall", TrunkOptions(**NO_NORM)),
    "z-loss": Variant("recall", z=1e-3),
    "no QK norm, z-loss": Variant("recall", TrunkOptions(**NO_NORM), z=1e-3),
    "bf16": Variant(**BF16),
    "bf16 logits": Variant(**BF16, trunk=TrunkOptions(fp32_logits=False)),
    "bf16, no QK norm": Variant(**BF16, trunk=TrunkOptions(**NO_NORM)),
    "bf16 logits, no QK norm": Variant(**BF16, trunk=TrunkOptions(**NO_NORM, fp32_logits=False)),
    "LayerNorm": Variant("recall", TrunkOptions(norm="layer")),
    "GELU": Variant("recall", TrunkOptions(activation="gelu")),
    "parallel": Variant("recall", TrunkOptions(parallel=True)),
    "multi-query": Variant("recall", TrunkOptions(kv_heads=1)),
    "scaled cosine": Variant("pointing"),
    "plain product": Variant("pointing", cosine=False),
    "vit": Variant("beside"),
    "no positions": Variant("beside", vit=VitOptions(layers=3, heads=2, rotary=False)),
    "last layer": Variant("beside", vit=VitOptions(layers=3, heads=2, two_layers=False)),
    "history": Variant("moving"),
    "no history": Variant("moving", history=False),
}


@dataclass(frozen=True)
class Question:
    """An option, the variants with it and without, and the learning rates tried."""

    option: str
    on: str
    off: str
    rates: tuple[float, ...] = (1e-2, 3e-2, 1e-1)


QUESTIONS = (
    Question("QK norm", "recall", "no QK norm"),
    Question("scaled cosine in the resampler", "scaled cosine", "plain product", (3e-3, 1e-2, 3e-2)),
    Question("2-D rotary positions", "vit", "no positions", (3e-3, 1e-2, 3e-2)),
    Question("image history", "history", "no history", (3e-3, 1e-2, 3e-2)),
    Question("z-loss", "z-loss", "recall"),
    Question("z-loss where QK norm is off", "no QK norm, z-loss", "no QK norm"),
    Question("RMSNorm, not LayerNorm", "recall", "LayerNorm"),
    Question("SwiGLU, not GELU", "recall", "GELU"),
    Question("parallel block", "parallel", "recall"),
    Question("multi-query attention", "multi-query", "recall"),
    Question("fp32 logits under bf16", "bf16", "bf16 logits"),
    Question("fp32 logits where QK norm is off", "bf16, no QK norm", "bf16 logits, no QK norm"),
    Question("two-layer features", "vit", "last layer", (3e-3, 1e-2, 3e-2)),
)


@dataclass(frozen=True)
class Run:
    """One training: its curve of cross-entropies on examples never seen before, and what a step cost."""

    variant: str
    rate: float
    seed: int
    steps: int
    curve: tuple[float, ...]
    final: float  # of the last tenth of the steps
    cpu_ms_a_step: float

    @property
    def key(self) -> tuple[str, float, int, int]:
        """What tells it from others."""
        return self.variant, self.rate, self.seed, self.steps


def train(variant: str, rate: float, seed: int, steps: int) -> Run:
    """Train a variant's model by AdamW under a clipped gradient, as the project's trainer does."""
    torch.manual_seed(seed)
    model, random = build(VARIANTS[variant]), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), rate, (0.9, 0.95), weight_decay=0.01)
    losses, began = [], time.process_time()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / WARMUP_STEPS)
        optimizer.zero_grad()
        total, entropy = model.loss(random)
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(entropy.item())
    cost = 1e3 * (time.process_time() - began) / steps
    ends = [round(i * steps / POINTS) for i in range(POINTS + 1)]
    curve = tuple(round(mean(losses[a:b]), 4) for a, b in pairwise(ends))
    return Run(variant, rate, seed, steps, curve, round(mean(losses[-steps // 10 :]), 4), round(cost, 2))


def wanted(seeds: int) -> Iterator[tuple[str, float, int, int]]:
    """Yield the key of each run, the first questions and the highest rates first."""
    told = set()
    for question in QUESTIONS:
        for seed, rate, variant in product(range(seeds), sorted(question.rates)[::-1], (question.on, question.off)):
            key = (variant, rate, seed, STEPS)
            if key not in told:
                told.add(key)
                yield key


def read(path: Path) -> dict[tuple[str, float, int, int], Run]:
    """Return the runs that a file holds."""
    if not path.exists():
        return {}
    runs = [Run(**{**line, "curve": tuple(line["curve"])}) for line in map(json.loads, path.read_text().splitlines())]
    return {run.key: run for run in runs}


def found(question: Question, runs: dict[tuple[str, float, int, int], Run]) -> dict[str, dict[float, list[Run]]]:
    """Return the runs of a question: on and off, by rate."""
    sides = {"on": question.on, "off": question.off}
    return {
        side: {
            rate: [run for run in runs.values() if (run.variant, run.rate, run.steps) == (variant, rate, STEPS)]
            for rate in question.rates
        }
        for side, variant in sides.items()
    }


def table(runs: dict[tuple[str, float, int, int], Run]) -> str:
    """Return the finals of every question as a Markdown table: the mean over seeds, and the worst."""
    lines = ["| option | rate | on: mean (worst) | off: mean (worst) | CPU time of on / off |", "|---|---|---|---|---|"]
    for question in QUESTIONS:
        sides = found(question, runs)
        for rate in question.rates:
            on, off = sides["on"][rate], sides["off"][rate]
            if on and off:
                ratio = mean(run.cpu_ms_a_step for run in on) / mean(run.cpu_ms_a_step for run in off)
                lines.append(f"| {question.option} | {rate:g} | {_finals(on)} | {_finals(off)} | {ratio:.2f} |")
    return "\n".join(lines)


def _finals(runs: list[Run]) -> str:
    finals = [math.inf if math.isnan(run.final) else run.final for run in runs]
    return f"{mean(finals):.3f} ({max(finals):.3f})"


def draw(runs: dict[tuple[str, float, int, int], Run], path: Path) -> None:
    """Draw the curves: a panel a question, with in blue and without in red, paler at lower rates."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    answered = [question for question in QUESTIONS if all(map(any, map(dict.values, found(question, runs).values())))]
    rows = max(1, math.ceil(len(answered) / 4))
    figure, axes = pyplot.subplots(rows, 4, figsize=(16, 3.5 * rows), layout="constrained")
    for axis, question in zip(axes.flat, answered, strict=False):
        for side, by_rate in found(question, runs).items():
            for shade, (rate, curves) in zip((0.25, 0.5, 1.0), sorted(by_rate.items()), strict=True):
                label = f"{side}, {rate:g}"
                for run in curves:
                    steps = [(i + 1) * run.steps / len(run.curve) for i in range(len(run.curve))]
                    colour = "tab:blue" if side == "on" else "tab:red"
                    axis.plot(steps, run.curve, color=colour, alpha=shade, label=label, linewidth=1.2)
                    label = None
        axis.set(title=question.option, xlabel="step", ylabel="cross-entropy")
        axis.legend(fontsize=7)
    for axis in axes.flat[len(answered) :]:
        axis.axis("off")
    figure.savefig(path, dpi=70)


def main() -> None:
    """Run what is not there yet, then print the table and draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/ablations.jsonl"), help="a line a run; goes on from it")
    parser.add_argument("--picture", type=Path, default=Path("docs/ablations.png"))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument(
        "--share", default="0/1", help="0/2 and 1/2 do half each, side by side, into files of their own"
    )
    parser.add_argument("--only-report", nargs="*", type=Path, help="train nothing; report what these files hold")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    runs = read(arguments.out)
    if arguments.only_report is None:
        which, shares = map(int, arguments.share.split("/"))
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        for key in list(wanted(arguments.seeds))[which::shares]:
            if key not in runs:
                runs[key] = train(*key)
                with arguments.out.open("a") as file:
                    file.write(json.dumps(asdict(runs[key])) + "\n")
                print(*key, "final", runs[key].final, flush=True)
    for path in arguments.only_report or ():
        runs |= read(path)
    print(table(runs))
    draw(runs, arguments.picture)


if __name__ == "__main__":
    main()
