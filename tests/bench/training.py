"""How fast training goes, packed and padded, beside eager float32: `python -m tests.bench.training --dataset DIR`.

Every line is a ratio of one run: the ways take turns on the same examples, from the same weights, and each prints the
loss that it came to. Three mixtures: the demonstrations beside text, the same with few long texts among short ones, and
the demonstrations alone.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from embodied.report import table
from policies.batch import Batch
from policies.checkpoint import Checkpoint, load_checkpoint
from policies.model import PolicyModel
from policies.token import SHIPPED
from policies.train import Given, TrainConfig
from policies.training.precision import Precision
from policies.training.run import Run
from policies.training.start import Data, begin, mix
from policies.training.team import Team

ROOT = Path(__file__).parents[2]
WIDTH = 256  # of packed rows, tokens
WARM_UP = 2
LONG_WORDS, LONG_EVERY = 150, 40  # of the uneven text: one in so many lines is so long


@dataclass(frozen=True)
class Way:
    """One way to learn the same examples."""

    name: str
    packed: bool
    precision: Precision = "fp32"
    compile: bool = False


@dataclass
class Timed:
    """What a way took and came to."""

    seconds: list[float]
    losses: list[float]
    tokens: int = 0
    room: int = 0
    examples: int = 0


def prose() -> list[str]:
    """Return the sentences of this project's own pages."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [line.strip() for page in pages for line in page.read_text("utf-8").splitlines() if line.strip()]


def uneven(lines: Sequence[str]) -> list[str]:
    """Return short lines with a long one among many, as texts of a mixture are."""
    words = " ".join(lines).split()
    rng = np.random.default_rng(0)
    found = []
    for index in range(4000):
        length = LONG_WORDS if index % LONG_EVERY == 0 else int(rng.integers(2, 9))
        at = int(rng.integers(len(words) - length))
        found.append(" ".join(words[at : at + length]))
    return found


def measure(config: TrainConfig, ways: Sequence[Way], turns: int, threads: int) -> dict[str, Timed]:
    """Learn the same turns batches each way, by turns, and return what that took."""
    torch.set_num_threads(threads)
    data = Data.open(config.data)
    found = {way.name: Timed([], []) for way in ways}
    runs, streams = {}, {}
    for way in ways:
        its = replace(config, pack=WIDTH if way.packed else 0, precision=way.precision, compile=way.compile)
        torch.manual_seed(0)
        checkpoint: Checkpoint = begin(its, data)
        runs[way.name] = Run(its, checkpoint, Team())
        streams[way.name] = mix(its, data, checkpoint)
    for number in range(WARM_UP + turns):
        for way in ways:
            batch: Batch = streams[way.name].batch(number, size=config.batch, seed=0)
            begin_s = time.perf_counter()
            learnt = runs[way.name].learn([batch])
            took_s = time.perf_counter() - begin_s
            timed = found[way.name]
            timed.losses.append(learnt.loss)
            if number >= WARM_UP:
                timed.seconds.append(took_s)
                timed.tokens += batch.tokens
                timed.room += batch.room
                timed.examples += len(batch)
    return found


def report(title: str, found: dict[str, Timed]) -> None:
    """Print what each way came to, beside the first."""
    first = next(iter(found.values()))
    print(f"\n{title}")
    rows = []
    for name, timed in found.items():
        # Of each turn its own ratio: what else the machine does slows neighbours in time alike.
        ratio = float(np.median(np.array(first.seconds) / np.array(timed.seconds)))
        spent_s = sum(timed.seconds)
        rows.append(
            [
                name,
                f"{timed.tokens / timed.room:.2f}",
                f"{timed.tokens / spent_s:.0f}",
                f"{timed.examples / spent_s:.1f}",
                f"{ratio:.2f}",
                f"{timed.losses[0]:.4f}",
                f"{timed.losses[-1]:.4f}",
            ]
        )
    header = ["way", "used", "tokens/s", "samples/s", "times the first", "first loss", "last loss"]
    print("\n".join(table(header, rows)))


def with_trunk(start: Path, trunk: str, out: Path) -> Path:
    """Save a checkpoint of random weights, like start but for its trunk, WIDTHxLAYERS, and return its folder."""
    width, layers = (int(number) for number in trunk.split("x"))
    made = load_checkpoint(start)
    sizes = replace(made.model.config, width=width, layers=layers, heads=width // 32, feedforward=width * 8 // 3)
    torch.manual_seed(0)
    replace(made, model=PolicyModel(made.plans, sizes, made.vocabulary.size)).save(out)
    return out


def main() -> None:
    """Print three tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", type=Path, required=True, help="of demonstrations of the four tasks")
    parser.add_argument("--start", type=Path, default=SHIPPED, help="whose architecture and weights each begins with")
    parser.add_argument("--trunk", metavar="WIDTHxLAYERS", help="random weights in place of --start's, with this trunk")
    parser.add_argument("--only-text", action="store_true", help="the first table alone")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--compile", action="store_true", help="time compiled ways too")
    parser.add_argument("--bf16", action="store_true", help="time bfloat16 too")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        texts = {name: Path(folder) / f"{name}.txt" for name in ("prose", "uneven")}
        texts["prose"].write_text("\n".join(prose()), "utf-8")
        texts["uneven"].write_text("\n".join(uneven(prose())), "utf-8")
        start = with_trunk(args.start, args.trunk, Path(folder) / "start") if args.trunk else args.start
        base = TrainConfig((Given(args.dataset),), Path(folder) / "run", 1000, args.batch, start=start)
        ways = [Way("padded", packed=False), Way("packed", packed=True)]
        mixed = replace(base, texts=(Given(texts["prose"]),))
        report("demonstrations of all tasks, beside text", measure(mixed, ways, args.turns, args.threads))
        sizes = sum(p.numel() for p in load_checkpoint(start).model.parameters())
        print(f"\n{sizes / 1e6:.2f} M parameters, batches of {args.batch}, {args.threads} threads of torch")
        if args.only_text:
            return
        few = replace(base, texts=(Given(texts["uneven"], share=0.97),))
        report("uneven text, demonstrations among it", measure(few, ways, args.turns, args.threads))
        ways = [Way("eager float32, padded", packed=False), Way("packed", packed=True)]
        ways += [Way("packed, compiled", packed=True, compile=True)] if args.compile else []
        ways += [Way("packed, bfloat16", packed=True, precision="bf16")] if args.bf16 else []
        report("demonstrations alone", measure(base, ways, args.turns, args.threads))


if __name__ == "__main__":
    main()
