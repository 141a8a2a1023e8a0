"""SmolLM2-135M as the trunk, trained here: `python -m tests.bench.smollm --backbone DIR --dataset DIR`.

It runs `embodied finetune` as a person would, in a process of its own, once for each --bits, and prints that process's
peak memory, its samples a second, and the loss of the first and of the last part of the steps.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
from pathlib import Path

from embodied.cli import main as embodied


def train(arguments: list[str], peak_kb: multiprocessing.Queue[int]) -> None:
    """Run the verb, and hand over the most memory that this process ever had."""
    code = embodied(["finetune", *arguments])
    peak_kb.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if code in (0, None) else -1)


def measure(args: argparse.Namespace, bits: str, out: Path) -> str:
    """Train once and return a line of what it took."""
    arguments = [f"--dataset={args.dataset}", f"--backbone={args.backbone}", f"--adapt={args.adapt}", f"--out={out}"]
    arguments += [f"--steps={args.steps}", f"--batch={args.batch}", f"--save-every={max(1, args.steps // 4)}"]
    arguments += [f"--precision={args.precision}", "--warmup=5", "--learning-rate=5e-4"]
    arguments += [] if bits == "32" else [f"--bits={bits}"]
    context = multiprocessing.get_context("spawn")
    peak_kb = context.Queue()
    process = context.Process(target=train, args=(arguments, peak_kb))
    process.start()
    process.join()
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in entries if "loss" in entry]
    speed = max(entry.get("samples_per_s", 0.0) for entry in entries)
    kept_mb = (out / "model.safetensors").stat().st_size / 1e6
    return (
        f"{bits:>2} bits  peak {peak_kb.get() / 1e6:.2f} GB  {speed:.2f} samples/s  "
        f"loss {losses[0]:.2f} to {losses[-1]:.2f}  checkpoint {kept_mb:.1f} MB"
    )


def main() -> None:
    """Print a line for each number of bits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", type=Path, required=True, help="what python -m policies.backbones.smollm wrote")
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--adapt", choices=("frozen", "lora", "full"), default="lora")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--bits", default="32,8,4", help="which to run, one after the other")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for bits in args.bits.split(","):
            print(measure(args, bits, Path(scratch) / bits), flush=True)


if __name__ == "__main__":
    main()
