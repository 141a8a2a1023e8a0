"""Compare two ways of writing a chunk of actions as tokens, value bins and FAST, on a recording of yours."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from embodied.cli.arguments import positive_float, positive_int
from embodied.modules import load_function
from embodied.report import table

COMPARISON = "policies.action_tokens.comparison"
LENGTHS = (12, 25)
FEW = 200  # chunks
BROKEN = {"changed": "one token changed", "cut": "cut short", "random": "random tokens"}
EXAMPLE = """examples:
  embodied tokens --dataset data/so101
  embodied tokens --dataset data/so101 --chunk 12,25,50 --scale 20 --vocabulary 2048 --out runs/tokens

FAST is learnt from the training episodes, and both are measured on the held-out ones: every fiftieth.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the recording, the lengths, and FAST's two numbers; what is left out is as in its paper."""
    parser.add_argument(
        "--dataset", type=Path, required=True, metavar="DIR", help="what embodied collect, or rollout --record, wrote"
    )
    parser.add_argument(
        "--chunk", type=lengths, default=LENGTHS, metavar="N,N", help=f"steps of a chunk (default {_words(LENGTHS)})"
    )
    parser.add_argument("--vocabulary", type=positive_int, metavar="N", help="FAST's ids at most (default 1024)")
    parser.add_argument(
        "--scale", type=positive_float, metavar="X", help="of a coefficient before it is rounded (default 10)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="a new folder for both tokenizers and the figures")
    parser.add_argument("--force", action="store_true", help="replace an earlier comparison at --out")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def lengths(text: str) -> tuple[int, ...]:
    """Read `12,25` as the chunks' lengths."""
    return tuple(dict.fromkeys(positive_int(part) for part in text.split(",")))


def run(args: argparse.Namespace) -> int:
    """Hand the arguments to the comparison, which has the libraries that the command line does without."""
    compare = load_function("comparison", COMPARISON, "compare", ("policies",))
    given = {name: value for name in ("vocabulary", "scale") if (value := getattr(args, name)) is not None}
    results = compare(args.dataset, args.chunk, out=args.out, force=args.force, **given)
    print(json.dumps(results, indent=1) if args.json else "\n\n".join("\n".join(_page(result)) for result in results))
    if args.out and not args.json:
        print(f"\nwrote {args.out}")
    return 0


def _page(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of one chunk length: the cost, the loss a field, what is broken, and which is smaller."""
    found = result["tokenizers"]
    yield f"chunks of {result['chunk']} steps, scale {result['scale']:g}: {_origin(result)}"
    yield ""
    yield from _costs(found)
    yield ""
    yield from _losses(found)
    yield ""
    yield from _failures(found)
    yield ""
    yield verdict(result)
    if result["constant_fields"]:
        yield f"constant in training, so that FAST knows no other value of them: {', '.join(result['constant_fields'])}"


def _origin(result: Mapping[str, Any]) -> str:
    learnt, measured = f"FAST learnt from {result['training_chunks']}", result["measured_chunks"]
    if not result["held_out_episodes"]:
        return f"{learnt}; no held-out episode has one, so both are measured on the same: too good for FAST"
    few = " (few: not to be relied on to the digit)" if measured < FEW else ""
    return f"{learnt}; both measured on {measured} of {result['held_out_episodes']} held-out episodes{few}"


def _costs(found: Mapping[str, Any]) -> list[str]:
    header = ["", "ids", "tokens a chunk", "p95", "max", "bins / this", "encode µs", "decode µs"]
    bins = found["bins"]["tokens_mean"]
    return table(
        header,
        [
            [
                name,
                of["vocabulary"],
                f"{of['tokens_mean']:.1f}",
                f"{of['tokens_p95']:.0f}",
                of["tokens_max"],
                f"{bins / of['tokens_mean']:.2f}",
                f"{of['encode_us']:.0f}",
                f"{of['decode_us']:.0f}",
            ]
            for name, of in found.items()
        ],
    )


def _losses(found: Mapping[str, Any]) -> list[str]:
    header = ["field", "unit"]
    for name in found:
        header += [f"{name} RMSE", "max", "RMSE/range", "max/range", "clipped"]
    rows = []
    for errors in zip(*(of["error"] for of in found.values()), strict=True):
        row = [errors[0]["name"], errors[0]["unit"]]
        for error in errors:
            row += [f"{error['rmse']:.2g}", f"{error['max']:.2g}"]
            row += [f"{error['rmse_share']:.2%}", f"{error['max_share']:.2%}", str(error["clipped"])]
        rows.append(row)
    return table(header, rows)


def _failures(found: Mapping[str, Any]) -> list[str]:
    rows = [["whole", *(f"{of['undecoded']} fail" for of in found.values())]]
    rows += [[words, *(_failure(of["failures"][kind]) for of in found.values())] for kind, words in BROKEN.items()]
    return table(["sequences", *found], rows)


def _failure(of: Mapping[str, Any]) -> str:
    refused = f"{of['failed']:.1%} fail"
    if of["error_median"] is None:
        return refused
    return f"{refused}; the rest off by {of['error_median']:.1%} of range, {of['error_max']:.0%} at most"


def verdict(result: Mapping[str, Any]) -> str:
    """Say in a sentence which of the two is smaller, and what it loses."""
    found = result["tokenizers"]
    smaller, other = sorted(found, key=lambda name: float(found[name]["tokens_mean"]))
    few, many = (found[name]["tokens_mean"] for name in (smaller, other))
    size = "neither is smaller" if few == many else f"{smaller} is smaller, {many / few:.2f} times"
    lost = ", ".join(f"{name} {found[name]['rmse_share']:.3%}" for name in (smaller, other))
    beyond = f"{result['beyond_quantiles']:.1%} of the values lie beyond FAST's quantiles, and are encoded all the same"
    return f"{size}; its error, RMS over all values as a share of their ranges: {lost}. {beyond}."


def _words(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))
