"""Look at a dataset, check it for what would spoil a training, and edit it by whole episodes.

Nothing changes a dataset: split, merge and drop write new ones. `embodied data show --help` and so on say more.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embodied.cli.arguments import natural_int, positive_int
from embodied.errors import EmbodiedError

if TYPE_CHECKING:
    from embodied.recording.editing import Result  # --help is quick without pyarrow

EXAMPLE = """examples:
  embodied data show datasets/so101
  embodied data show datasets/so101 --episode 3 --pictures episode_3.png
  embodied data check datasets/so101
  embodied data split datasets/so101 --out datasets/train datasets/held_out --share 0.9
  embodied data merge datasets/train datasets/more --out datasets/all
  embodied data drop datasets/all --out datasets/clean --episodes 3,7-9 --failed
  embodied data drop datasets/all --out datasets/clean --found
"""

SHOW = """examples:
  embodied data show datasets/so101
  embodied data show datasets/so101 --pictures so101.png
  embodied data show datasets/so101 --episode 3 --pictures episode_3.png
  embodied data show datasets/so101 --json > so101.json
"""

CHECK = """examples:
  embodied data check datasets/so101
  embodied data check datasets/so101 --shorter-than 20 --fewer-than 50 --all
  embodied data check datasets/so101 --json > findings.json

Errors: rows that are missing or of another rate; NaN; values out of their range; jumps of the state; an action that is
the state it answers, or comes after it; episodes there twice; frozen and black cameras; pictures that are broken or end
early; statistics of other data; empty instructions. Warnings: fields that never change, jumps of the action, short
episodes, tasks with few. Exits with 0 where there is no error, with 1 where there is one, with 2 where there is no
dataset to check.
"""

SPLIT = """examples:
  embodied data split datasets/so101 --out datasets/train datasets/held_out
  embodied data split datasets/so101 --out datasets/half datasets/other_half --share 0.5 --seed 1

Every task and every instruction gives the same share, to within an episode. The same seed gives the same split.
"""

MERGE = """examples:
  embodied data merge datasets/monday datasets/tuesday --out datasets/both
  embodied data merge datasets/monday --out datasets/filmed --video h264

The datasets must be of the same robot, rate and cameras; else every difference is listed. Instructions that differ only
in case, blanks or a last full stop become one. With one dataset it is written anew, with its statistics.
"""

DROP = """examples:
  embodied data drop datasets/so101 --out datasets/clean --episodes 3,7-9
  embodied data drop datasets/so101 --out datasets/successes --failed
  embodied data drop datasets/so101 --out datasets/clean --found
"""

SHOWN_OF_A_KIND = 10  # findings of one check, unless --all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what can be done with a dataset."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, what: str, example: str, run: Callable[[argparse.Namespace], int]) -> Any:  # noqa: ANN401
        formatter = argparse.RawDescriptionHelpFormatter
        made = actions.add_parser(
            name, help=what, description=f"{what[0].upper()}{what[1:]}.", epilog=example, formatter_class=formatter
        )
        made.set_defaults(act=run)
        return made.add_argument

    add = action("show", "print what is in a dataset, and draw its pictures", SHOW, _show)
    add("dataset", type=Path, metavar="DIR", help="a dataset")
    add("--episode", type=natural_int, metavar="K", help="this episode alone, from 0")
    add("--pictures", type=Path, metavar="OUT.png", help="draw first, middle and last frames of several episodes")
    add("--all", action="store_true", help="print every instruction and text, where only the most frequent are")
    add("--json", action="store_true", help="print one JSON document")
    add = action("check", "find what would spoil a training", CHECK, _check)
    add("dataset", type=Path, metavar="DIR", help="a dataset")
    add("--shorter-than", type=positive_int, default=5, metavar="N", help="rows of a short episode (default 5)")
    add("--fewer-than", type=positive_int, default=5, metavar="N", help="episodes of a task that are few (default 5)")
    add("--all", action="store_true", help=f"print every finding, where {SHOWN_OF_A_KIND} of a kind are")
    add("--json", action="store_true", help="print one JSON document")
    add = action("split", "write two datasets of one, by whole episodes", SPLIT, _split)
    add("dataset", type=Path, metavar="DIR", help="a dataset, which is left alone")
    add("--out", type=Path, nargs=2, required=True, metavar=("A", "B"), help="folders of the two; new")
    _add_video(add)
    add("--share", type=_share, default=0.9, metavar="S", help="of the episodes that go to A (default 0.9)")
    add("--seed", type=natural_int, default=0, metavar="N", help="of the choice (default 0)")
    add = action("merge", "write one dataset of several", MERGE, _merge)
    add("datasets", type=Path, nargs="+", metavar="DIR", help="datasets of one robot, which are left alone")
    add("--out", type=Path, required=True, metavar="NEW", help="folder of the dataset; new")
    _add_video(add)
    add = action("drop", "write a dataset without some of its episodes", DROP, _drop)
    add("dataset", type=Path, metavar="DIR", help="a dataset, which is left alone")
    add("--out", type=Path, required=True, metavar="NEW", help="folder of the dataset; new")
    _add_video(add)
    add("--episodes", type=episode_set, default=frozenset(), metavar="K[,K-K]", help="these, as in 3,7-9")
    add("--failed", action="store_true", help="those that are no success")
    add("--found", action="store_true", help="those in which embodied data check finds an error")


def _add_video(add: Callable[..., Any]) -> None:
    add("--video", metavar="CODEC", help="write the frames as videos, as in h264, in place of pictures")


def run(args: argparse.Namespace) -> int:
    """Do what was asked, and return the exit status."""
    status: int = args.act(args)
    return status


def episode_set(text: str) -> frozenset[int]:
    """Read episodes as in 3,7-9."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not (first.isdecimal() and (last.isdecimal() or not dash)) or (dash and int(last) < int(first)):
            raise argparse.ArgumentTypeError(f"{part.strip()!r} is no episode and no range, as in 3,7-9")
        if dash and int(last) - int(first) > 1_000_000:
            raise argparse.ArgumentTypeError(f"{part.strip()!r} is too wide a range")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from error
    if not 0.0 < share < 1.0:
        raise argparse.ArgumentTypeError(f"must be above 0 and below 1, got {text}")
    return share


def _show(args: argparse.Namespace) -> int:
    from embodied.cli.data_output import print_dataset, print_episode
    from embodied.recording.inspection import describe, describe_episode
    from embodied.recording.reader import DatasetReader

    if args.pictures is not None and args.pictures.suffix.lower() != ".png":
        raise EmbodiedError(f"--pictures writes a PNG, and {args.pictures} does not end in .png")
    reader = DatasetReader(args.dataset, frames=args.pictures is not None)
    found = describe(reader) if args.episode is None else describe_episode(reader, args.episode)
    if args.json:
        print(json.dumps(found, indent=2))
    elif args.episode is None:
        print_dataset(found, everything=args.all)
    else:
        print_episode(found)
    if args.pictures is not None:
        _draw(args, reader)
    return 0


def _draw(args: argparse.Namespace, reader: Any) -> None:  # noqa: ANN401  a DatasetReader, which costs pyarrow
    from embodied.recording.inspection import episode_of, spread
    from embodied.recording.sheet import EPISODES, dataset_sheet, episode_sheet
    from embodied.recording.video import write_png

    if args.episode is None:
        sheet = dataset_sheet(reader, spread(reader, EPISODES))
    else:
        sheet = episode_sheet(reader, episode_of(reader, args.episode))
    args.pictures.parent.mkdir(parents=True, exist_ok=True)
    write_png(args.pictures, sheet)
    print(f"wrote {args.pictures}", file=sys.stderr if args.json else sys.stdout)


def _check(args: argparse.Namespace) -> int:
    from embodied.cli.data_output import print_findings
    from embodied.recording.checks import check_dataset
    from embodied.recording.findings import Thresholds

    found = check_dataset(args.dataset, Thresholds(args.shorter_than, args.fewer_than))
    errors = sum(finding.level == "error" for finding in found)
    if args.json:
        counts = {"errors": errors, "warnings": len(found) - errors}
        print(json.dumps({"path": str(args.dataset), **counts, "findings": [asdict(f) for f in found]}, indent=2))
    else:
        print_findings(found, most=len(found) if args.all else SHOWN_OF_A_KIND)
    return int(errors > 0)


def _split(args: argparse.Namespace) -> int:
    from embodied.recording.editing import split

    first, second = args.out
    return _told(split(args.dataset, (first, second), args.share, args.seed, _about(), video=args.video))


def _merge(args: argparse.Namespace) -> int:
    from embodied.recording.editing import merge

    return _told([merge(args.datasets, args.out, _about(), video=args.video)])


def _drop(args: argparse.Namespace) -> int:
    from embodied.recording.editing import drop, require_new
    from embodied.recording.reader import DatasetReader

    if not (args.episodes or args.failed or args.found):
        raise EmbodiedError("drop needs --episodes, --failed or --found")
    require_new([args.out], [args.dataset])  # before a check that may take minutes
    dropped = set(args.episodes)
    if args.failed:
        dropped |= {e.index for e in DatasetReader(args.dataset, frames=False).episodes if not e.success}
    if args.found:
        dropped |= _found(args.dataset)
    return _told([drop(args.dataset, args.out, dropped, _about(), video=args.video)])


def _found(dataset: Path) -> set[int]:
    from embodied.recording.checks import check_dataset

    errors = [finding for finding in check_dataset(dataset) if finding.level == "error"]
    for finding in errors:
        if finding.episode is None:
            print(f"warning: not mended by dropping: {finding}", file=sys.stderr)
    return {finding.episode for finding in errors if finding.episode is not None}


def _about() -> dict[str, Any]:
    return {"command": ["embodied", *sys.argv[1:]]}


def _told(results: list[Result]) -> int:
    for result in results:
        print(f"{result.path}: {result.episodes} episodes, {result.rows} rows")
    for note in dict.fromkeys(note for result in results for note in result.notes):
        print(f"note: {note}", file=sys.stderr)
    return 0
