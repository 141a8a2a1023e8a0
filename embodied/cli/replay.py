"""Play a recorded episode on a robot, simulated or real, or compare two replays joint by joint."""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embodied.approach import ALLOWED_S
from embodied.cli.arguments import add_connection, add_robot_options, natural_int, open_addressed
from embodied.cli.parity import MARKER, compare_replays
from embodied.cli.teleoperation import lasting
from embodied.errors import EmbodiedError
from embodied.loop import Observer
from embodied.output import PROGRESS_AFTER_S, output_folder
from embodied.replay import SETTLE_S, Replay, Script, play, require_fit
from embodied.types import Action, Observation, Robot, RobotSpec, Step
from embodied.versions import installed

if TYPE_CHECKING:
    from tqdm import tqdm

    from embodied.recording.reader import DatasetReader  # --help is quick without pyarrow

RECORDING = "recording"
SPOOL = "episode.arrow"
PACKAGES = ("embodied-runtime", "numpy", "mujoco")

EXAMPLE = """examples:
  embodied replay --dataset data/mine --episode 3 --robot envs.so101 --out runs/simulated
  embodied replay --dataset data/mine --episode 3 --robot embodied.robots.so101 --option stage=none --out runs/arm
  embodied replay --compare runs/simulated runs/arm --out runs/parity.json
  embodied replay --compare runs/arm

A simulator lays out its own scene by the recorded seed: the same, with the same outcome, for an episode recorded in it;
for one recorded on hardware only the motion can be compared. A robot that stands elsewhere than the episode began comes
there first, slowly, and its episode may last as long as that takes. With one folder --compare is about what was
recorded and what was replayed.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what is played and where, or what is compared."""
    add = parser.add_argument
    add("--dataset", type=Path, metavar="DIR", help="a recording of embodied collect or rollout --record")
    add("--episode", type=natural_int, metavar="N", help="of the dataset, from 0")
    add("--robot", metavar="MODULE|ADDRESS", help="as in envs.so101 or 127.0.0.1:50051")
    add_robot_options(parser)
    add_connection(parser)
    add("--takeover", action="store_true", help="take the robot from whoever holds it")
    add("--compare", type=Path, nargs="+", metavar="DIR", help="two replays, or one with what was recorded")
    add("--out", type=Path, metavar="DIR|FILE", help="a new folder for the replay; of --compare a file, as parity.json")
    add("--force", action="store_true", help="replace an earlier replay at --out")


def run(args: argparse.Namespace) -> int:
    """Play or compare, and print what came of it."""
    playing = {"--dataset": args.dataset, "--episode": args.episode, "--robot": args.robot}
    if args.compare:
        if given := [name for name, value in playing.items() if value is not None]:
            raise EmbodiedError(f"{given[0]} is for playing, and --compare plays nothing")
        return compare_replays(args.compare, args.out, force=args.force)
    if missing := [name for name, value in {**playing, "--out": args.out}.items() if value is None]:
        raise EmbodiedError(f"a replay needs {' and '.join(missing)} (or --compare DIR DIR)")
    return _replay(args)


def _replay(args: argparse.Namespace) -> int:
    if not (find_spec("pyarrow") and find_spec("cv2") and find_spec("tqdm")):
        raise EmbodiedError("a dataset needs pyarrow, cv2 and tqdm: pip install 'embodied-runtime[record]'")
    from embodied.recording.reader import DatasetReader

    reader = DatasetReader(args.dataset, frames=False)
    script, perturbed = _script(reader, args.episode)
    lasts_s = len(script.action) / reader.spec.control_hz + ALLOWED_S + 2 * SETTLE_S
    options = lasting(args.robot, dict(args.option), lasts_s)
    with (
        contextlib.closing(open_addressed(args, options)) as robot,
        output_folder(args.out, marker=MARKER, force=args.force) as folder,
    ):
        require_fit(reader.spec, robot.spec, str(args.dataset))
        replay = _play(robot, script, folder)
        content = _content(args, reader, script, replay, robot.spec, folder)
        (folder / MARKER).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    outcome, before = ("success" if s else "no success" for s in (replay.success, script.success))
    print(f"{script.task} seed {script.seed}: {replay.played} of {len(script.action)} actions played: {outcome}")
    print(f"when it was recorded: {before}")
    if replay.played < len(script.action) and not replay.success:
        missed = len(script.action) - replay.played
        print(f"warning: {missed} actions were not carried out; the robot's episodes may be too short", file=sys.stderr)
    if perturbed:
        print(f"in {perturbed} rows something else was carried out than was recorded, so the outcome may differ")
    if replay.approach_s:
        print(f"the robot stood elsewhere, and took {replay.approach_s:.1f} s to where the episode began")
    if replay.interventions:
        print("safety interventions: " + ", ".join(f"{n} {kind}" for kind, n in replay.interventions.items()))
    print(f"wrote {args.out}/{MARKER}")
    return 0


def _script(reader: DatasetReader, index: int) -> tuple[Script, int]:
    """Return the episode, and how many of its rows tell of an action that was not carried out as it is."""
    if index >= len(reader.episodes):
        raise EmbodiedError(f"{reader.path} has episodes 0 to {len(reader.episodes) - 1}, not {index}")
    of = reader.episodes[index]
    rows = slice(of.start, of.stop)
    script = Script(of.task, of.seed, reader.action[rows], reader.state[rows], of.success, of.instruction)
    return script, int(reader.perturbed[rows].sum())


def _play(robot: Robot, script: Script, folder: Path) -> Replay:
    """Play, and record what is seen where the robot has cameras that see."""
    from tqdm import tqdm

    from embodied.recording.rollout import RolloutRecorder, join

    spool = folder / SPOOL
    with (
        RolloutRecorder(
            spool, robot.spec, task=script.task, seed=script.seed, instruction=script.instruction
        ) as recorder,
        tqdm(total=len(script.action), unit="step", delay=PROGRESS_AFTER_S, dynamic_ncols=True) as bar,
    ):
        replay = play(robot, script, [_WhereSeen(robot.spec, recorder), _Progress(bar)])
    if spool.exists():
        join([spool], folder / RECORDING, {"replay": True})
        spool.unlink()
    return replay


class _WhereSeen:
    """An Observer that hands on what a robot with frames does; one that draws none is measured all the same."""

    def __init__(self, spec: RobotSpec, observer: Observer) -> None:
        self._spec, self._observer = spec, observer

    def began(self, observation: Observation) -> None:
        self._sees = all(c.name in observation.frames for c in self._spec.cameras)
        if self._sees:
            self._observer.began(observation)

    def stepped(self, action: Action, step: Step) -> None:
        if self._sees:
            self._observer.stepped(action, step)

    def ended(self, success: bool) -> None:
        if self._sees:
            self._observer.ended(success)


class _Progress:
    """An Observer that moves a bar on."""

    def __init__(self, bar: tqdm[Any]) -> None:
        self._bar = bar

    def began(self, observation: Observation) -> None:
        pass

    def stepped(self, action: Action, step: Step) -> None:
        self._bar.update()

    def ended(self, success: bool) -> None:
        pass


def _content(
    args: argparse.Namespace, reader: DatasetReader, script: Script, replay: Replay, spec: RobotSpec, folder: Path
) -> dict[str, Any]:
    """Gather what replay.json holds; times are in s from the first action on."""
    # Where time is real an action answers what was seen as the one before it began: a period earlier.
    first = -1 if reader.spec.realtime else 0
    return {
        "dataset": str(args.dataset),
        "episode": args.episode,
        "robot": args.robot,
        "options": dict(args.option),
        "spec": spec.to_dict(),
        "task": script.task,
        "seed": script.seed,
        "recorded_success": script.success,
        "success": replay.success,
        "actions": len(script.action),
        "played": replay.played,
        "approach_s": replay.approach_s,
        "interventions": dict(replay.interventions),
        "recording": RECORDING if (folder / RECORDING).exists() else None,
        "action": _plain(script.action),
        "recorded": {
            "time_s": [(first + i) / reader.spec.control_hz for i in range(len(script.state))],
            "state": _plain(script.state),
        },
        "measured": {"time_s": _plain(replay.time_s), "state": _plain(replay.state)},
        "versions": {"python": platform.python_version(), **installed(PACKAGES)},
    }


def _plain(values: NDArray[Any]) -> Any:  # noqa: ANN401  nested lists of floats
    return values.astype(np.float64).tolist()
