"""The weighted mean of two checkpoints: `python -m policies.average runs/a runs/b --share 0.5 --out runs/mean`.

What went on from a checkpoint on other data forgets some of what that one could. Their mean often can do both better
than either (Wortsman et al. 2022, arXiv:2109.01903).
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from embodied.errors import EmbodiedError
from embodied.output import output_folder
from policies.checkpoint import CONFIG, Checkpoint, CheckpointError, load_checkpoint


def average(first: Path, second: Path, share: float = 0.5) -> Checkpoint:
    """Return the checkpoint whose every weight is (1 - share) of the first's and share of the second's.

    It knows the words of both. Raise CheckpointError for a second one that is of other robots, text tokens or sizes,
    EmbodiedError for a share that is none.
    """
    if not 0 <= share <= 1:
        raise EmbodiedError(f"the share is {share}; it is that of the second checkpoint, from 0 to 1")
    one, other = load_checkpoint(first), load_checkpoint(second)
    for what, ours, theirs in (
        ("robots", one.plans, other.plans),
        ("text tokens", one.vocabulary.tokens, other.vocabulary.tokens),
        ("sizes", one.model.config, other.model.config),
    ):
        if ours != theirs:
            raise CheckpointError(second, f"is of other {what} than {first}, so the two have no mean")
    weights = one.model.state_dict()
    for name, tensor in other.model.state_dict().items():
        weights[name].lerp_(tensor, share)
    account = {"mean_of": [{"share": 1 - share, **one.trained}, {"share": share, **other.trained}]}
    return replace(one, words=one.words | other.words, trained=account)


def main() -> int:
    """Write the mean, and say where; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m policies.average", description=__doc__)
    parser.add_argument("first", type=Path, metavar="A")
    parser.add_argument("second", type=Path, metavar="B")
    parser.add_argument("--share", type=float, default=0.5, metavar="X", help="of B's weights (default %(default)s)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new or empty folder")
    parser.add_argument("--force", action="store_true", help="replace the checkpoint that is in --out")
    args = parser.parse_args()
    try:
        with output_folder(args.out, marker=CONFIG, force=args.force) as folder:
            average(args.first, args.second, args.share).save(folder)
    except EmbodiedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
