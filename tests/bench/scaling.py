"""Whether a power law of small runs predicts a run of ten times their compute: `python -m tests.bench.scaling`.

Three sizes are trained on the same data, each with √10 times the compute of the one before; held-out loss over compute
is fitted by a·C^-b + c, c being the least that the loss can come to, and what it says of ten times the largest is
written down before that run begins. Every line of OUT/scaling.jsonl is a run or the prediction; what is there already
is not done again, so a stopped sweep goes on.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import curve_fit

from policies.checkpoint import Checkpoint, load_checkpoint
from policies.losses import Objective, spread_target
from policies.model import ModelConfig, PolicyModel
from policies.train import Given, TrainConfig, train
from policies.training.folder import LOG, STATE, read_lines
from policies.training.meter import count_operations
from policies.training.run import Run
from policies.training.saving import newest
from policies.training.start import Data, begin, mix
from policies.training.team import Team

RATIO = 10**0.5  # of one run's compute to that of the next smaller
SIZES = {
    "small": ModelConfig(64, 2, 2, 160, vision_width=64, grid_channels=16),
    "medium": ModelConfig(96, 2, 3, 256, vision_width=64, grid_channels=24),
    "large": ModelConfig(128, 3, 4, 352, vision_width=96, grid_channels=32),
    "tenfold": ModelConfig(192, 4, 6, 512, vision_width=128, grid_channels=48),
}
COMPUTE = {"small": RATIO**-2, "medium": RATIO**-1, "large": 1.0, "tenfold": 10.0}  # as parts of the large run's


@dataclass(frozen=True)
class Sweep:
    """What all runs have in common."""

    dataset: Path
    out: Path
    steps: int  # of the large run
    batch: int

    @property
    def lines(self) -> Path:
        return self.out / "scaling.jsonl"

    def known(self, name: str) -> dict[str, Any] | None:
        return next((entry for entry in read_lines(self.lines) if entry["name"] == name), None)

    def note(self, entry: dict[str, Any]) -> dict[str, Any]:
        with self.lines.open("a") as file:
            file.write(json.dumps(entry) + "\n")
        return entry

    def config(self, name: str, seed: int, steps: int) -> TrainConfig:
        start, out = self.out / "starts" / name, self.out / f"{name}-{seed}"
        given = (Given(self.dataset),)
        return TrainConfig(
            given, out, steps, self.batch, start=start, seed=seed, save_every=max(50, steps // 4), warmup=steps // 10
        )


def make_starts(sweep: Sweep) -> None:
    """Save a model of random weights of each size."""
    data = Data.open((Given(sweep.dataset),))
    fresh = begin(TrainConfig(data.given, sweep.out, 1), data)
    for name, size in SIZES.items():
        model = PolicyModel(fresh.plans, replace(size, strides=fresh.model.config.strides), fresh.vocabulary.size)
        Checkpoint(model, fresh.vocabulary, fresh.words, {}).save(sweep.out / "starts" / name)


def operations(sweep: Sweep, name: str) -> tuple[int, float]:
    """Return the parameters of a size, and the floating-point operations that it learns one example with."""
    config = sweep.config(name, 0, 1)
    checkpoint = load_checkpoint(sweep.out / "starts" / name)
    mixture = mix(config, Data.open(config.data), checkpoint)
    run = Run(config, checkpoint, Team())
    return sum(p.numel() for p in run.model.parameters()), count_operations(run, mixture.batch(0, size=8, seed=0))


def train_once(sweep: Sweep, name: str, seed: int, compute: float) -> dict[str, Any]:
    """Train a size with that compute, unless it was; return what it came to."""
    key = f"{name}-{seed}"
    if (known := sweep.known(key)) is not None:
        return known
    parameters, each = operations(sweep, name)
    config = sweep.config(name, seed, max(1, round(compute / each / sweep.batch)))
    train(config, resume=newest(config.out / STATE) is not None)
    last = read_lines(config.out / LOG)[-1]
    spent = each * sweep.batch * config.steps
    figures = {"parameters": parameters, "steps": config.steps, "compute": spent, "loss": last["held_out_loss"]}
    return sweep.note({"name": key, **figures})


def fit(runs: list[dict[str, Any]], floor: float) -> tuple[float, float, float]:
    """Return a, b and c of a·C^-b + c, C in units of the largest run's compute; c is the floor, a and b are found."""
    unit = max(run["compute"] for run in runs)
    compute = np.array([run["compute"] / unit for run in runs])
    loss = np.array([run["loss"] for run in runs])
    found, _ = curve_fit(
        lambda at, a, b: law(at, a, b, floor), compute, loss, (loss.min() - floor, 0.2), bounds=([0, 0], [np.inf, 2])
    )
    return float(found[0]), float(found[1]), floor


def least_loss(objective: Objective) -> float:
    """Return the loss of a model that knows all there is to know: the entropy of the targets, which are spread."""
    _, shares = spread_target(objective.spread_bins, torch.device("cpu"))
    return (objective.pose + objective.locate) * float(-(shares * shares.log()).sum())


def law(compute: np.ndarray, a: float, b: float, c: float) -> np.ndarray:
    return a * compute**-b + c


def draw(runs: list[dict[str, Any]], tenfold: dict[str, Any], prediction: dict[str, Any], path: Path) -> None:
    """Draw the runs, the law that was fitted to them, and what became of the prediction."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6, 4), layout="constrained")
    unit = max(run["compute"] for run in runs)
    along = np.geomspace(min(run["compute"] for run in runs), tenfold["compute"], 100)
    axis.plot(
        along, law(along / unit, *(prediction[name] for name in "abc")), "k--", label="fitted before the last run"
    )
    axis.plot([r["compute"] for r in runs], [r["loss"] for r in runs], "o", color="tab:blue", label="small runs")
    axis.plot(tenfold["compute"], prediction["loss"], "x", color="k", label=f"predicted {prediction['loss']:.2f}")
    axis.plot(tenfold["compute"], tenfold["loss"], "o", color="tab:red", label=f"found {tenfold['loss']:.2f}")
    axis.set(xscale="log", yscale="log", xlabel="operations", ylabel="held-out loss")
    axis.legend()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def main() -> None:
    """Train the small sizes, predict, train the tenfold one, and print all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True, help="of 50 episodes or more, so that some are held out")
    parser.add_argument("--out", type=Path, default=Path("runs/scaling"))
    parser.add_argument("--steps", type=int, default=500, help="of the large run; sets all the others")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=2, help="runs of each small size")
    args = parser.parse_args()
    sweep = Sweep(args.dataset, args.out, args.steps, args.batch)
    if not (sweep.out / "starts" / "tenfold").is_dir():
        make_starts(sweep)
    unit = operations(sweep, "large")[1] * args.batch * args.steps
    small = [n for n in SIZES if n != "tenfold"]
    runs = [train_once(sweep, name, seed, unit * COMPUTE[name]) for name in small for seed in range(args.seeds)]
    if (prediction := sweep.known("prediction")) is None:
        a, b, c = fit(runs, least_loss(Objective()))
        told = float(law(np.array(COMPUTE["tenfold"]), a, b, c))
        prediction = sweep.note({"name": "prediction", "loss": told, "a": a, "b": b, "c": c})
    tenfold = train_once(sweep, "tenfold", 0, unit * COMPUTE["tenfold"])
    print(f"{'run':<12} {'parameters':>10} {'steps':>7} {'operations':>11} {'held-out loss':>13}")
    for run in [*runs, tenfold]:
        print(
            f"{run['name']:<12} {run['parameters']:>10} {run['steps']:>7} {run['compute']:>11.3g} {run['loss']:>13.4f}"
        )
    error = tenfold["loss"] / prediction["loss"] - 1
    print(f"loss = {prediction['a']:.3f} · C^-{prediction['b']:.3f} + {prediction['c']:.3f}")
    print(f"predicted {prediction['loss']:.4f}, found {tenfold['loss']:.4f}: {error:+.1%}")
    draw(runs, tenfold, prediction, args.out / "scaling.png")


if __name__ == "__main__":
    main()
