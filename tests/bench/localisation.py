"""How well a policy says where things are, task by task, on held-out rows: `python -m tests.bench.localisation`.

Distances are between the point that the policy's tokens say and the simulator's truth, in mm; rows of episodes that a
training run on the same dataset holds out.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from embodied.recording.reader import DatasetReader
from embodied.report import table
from policies.checkpoint import Checkpoint, load_checkpoint
from policies.examples import Examples
from policies.mixture import Draw, Mixture, Source
from policies.training.evaluation import label_errors

BATCH = 64
POSITION = "_position"
Errors = dict[str, dict[str, list[float]]]  # label, task: mm


@torch.inference_mode()
def measure(checkpoint: Checkpoint, examples: Examples, rows: np.ndarray) -> Errors:
    """Return the errors of rows in the order of their tasks."""
    reader, mixture = examples.reader, Mixture([Source(examples)])
    found: Errors = defaultdict(lambda: defaultdict(list))
    tasks = np.array([episode.task for episode in reader.episodes])[reader.episode_index[rows]]
    for task in np.unique(tasks):
        mine = rows[tasks == task]
        for part in np.array_split(mine, -(-len(mine) // BATCH)):
            batch = mixture.make(Draw(np.zeros_like(part), part, np.arange(len(part))))
            (answers,) = checkpoint.model(batch)
            for name, gaps in label_errors(examples.plan, batch.parts[0], answers).items():
                if name.endswith(POSITION):
                    found[name.removesuffix(POSITION)][str(task)] += (1000 * gaps).tolist()
    return found


def report(found: Errors) -> None:
    """Print a line for each task, and one for all of them."""
    labels = sorted(found)
    header = ["task", *(f"{label} {what}" for label in labels for what in ("median mm", "p90 mm"))]
    tasks = sorted({task for of in found.values() for task in of})
    rows = [[task, *(figure for label in labels for figure in _figures(found[label].get(task, [])))] for task in tasks]
    whole = [list(chain.from_iterable(found[label].values())) for label in labels]
    rows.append([f"all {len(tasks)}", *(figure for errors in whole for figure in _figures(errors))])
    print("\n".join(table(header, rows)))
    for label in labels:
        medians = [float(np.median(errors)) for errors in found[label].values()]
        print(f"{label}: median of at most 5 mm in {sum(m <= 5 for m in medians)} of {len(medians)} tasks")


def _figures(errors: list[float]) -> list[str]:
    return [f"{value:.1f}" for value in np.percentile(errors, (50, 90))] if errors else ["", ""]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--dataset", type=Path, required=True, help="with labels; its held-out episodes are measured")
    parser.add_argument("--rows", type=int, default=4000, help="at most so many")
    args = parser.parse_args()
    checkpoint, reader = load_checkpoint(args.checkpoint), DatasetReader(args.dataset)
    examples = Examples(reader, checkpoint.plan_of(reader.spec.name), checkpoint.vocabulary)
    rows = examples.validation_rows
    if len(rows) > args.rows:
        rows = np.sort(np.random.default_rng(0).choice(rows, args.rows, replace=False))
    report(measure(checkpoint, examples, rows))


if __name__ == "__main__":
    main()
