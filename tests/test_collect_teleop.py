"""An operator's session at a real terminal: what they judge finished is on the disk at once, and nothing twice."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tty
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import toy_world

from embodied.cli import main
from embodied.cli.teleoperation import lasting
from embodied.errors import ProtocolError
from embodied.loop import FIRST_EVALUATION_SEED
from embodied.realtime import RealTimeRobot
from embodied.recording.format import DatasetError
from embodied.recording.operated import OperatedCollection, fixed_by
from embodied.recording.reader import DatasetReader
from embodied.recording.rollout import RolloutRecorder
from embodied.recording.spool import Spool
from embodied.recording.staging import clear
from embodied.safety import SafeRobot
from embodied.teleop.console import Console
from embodied.teleop.driven import DrivenEpisode
from embodied.teleop.joystick import AXIS, BUTTON, EVENT, FULL
from embodied.teleop.keyboard import KeyboardTeleoperator
from embodied.teleop.operator import Command
from embodied.teleop.room import MARGIN_BYTES, Room, RoomError
from embodied.teleop.session import Lengths, Session
from embodied.types import PoseAction
from tests.faults.processes import host
from tests.live_robot import LiveBody
from tests.operator_at import DOWN, ENTER, ESC, LEFT, RIGHT, ROOT, operator_at
from tests.test_teleop import Typed

TOY = ("--robot", "tests.toy_world", "--option", "size=16")
QUICKLY = ("--reset-s", "0")
RUNS = " s · "  # in the status of an episode under way


def session(out: Path, *extra: object, episodes: int = 3, task: str = "reach", robot: Sequence[object] = TOY):
    required = ("--task", task, "--episodes", episodes, "--out", out)
    return ("collect", "--teleop", "keyboard", *robot, *required, *QUICKLY, *extra)


def spools(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "staging" / "episodes").glob("*.arrow"))


def test_a_session_records_what_the_operator_keeps_and_judges_as_they_judge(tmp_path):
    out = tmp_path / "d"
    with operator_at(*session(out, "--instruction", "touch the cup")) as operator:
        operator.sees("z/x  the chosen joint")
        operator.sees("go: touch the cup")
        assert operator.is_cbreak
        operator.type("1xxx")
        operator.sees(RUNS)  # the status: it runs
        operator.type("m")
        operator.sees("marked")
        operator.sees(RUNS)
        operator.type(RIGHT)
        operator.sees("kept as a success")
        operator.sees("seed 1")
        for keys, said in ((LEFT, "not kept: re-record"), ("d", "not kept: discard")):
            operator.sees("go:")
            operator.sees(RUNS)
            operator.type(keys)
            operator.sees(said)
        operator.sees("seed 2")  # the same seed after a re-record, the next after a discard
        for keys in (DOWN, ENTER):
            operator.sees("go:")
            operator.sees(RUNS)
            assert len(spools(out)) == (1 if keys == DOWN else 2)
            operator.type(keys)
            operator.sees("kept as")
        assert operator.ends() == 0 and operator.terminal_is_as_it_was
        assert "3 episodes (2 successes, 1 failures; 1 discarded)" in operator.shown
    reader = DatasetReader(out)
    assert [(e.seed, e.success) for e in reader.episodes] == [(0, True), (2, False), (3, True)]
    assert reader.instructions == ("touch the cup",)
    ends = [episode.stop - 1 for episode in reader.episodes]
    assert np.flatnonzero(reader.done).tolist() == ends
    assert np.flatnonzero(reader.success).tolist() == [ends[0], ends[2]]
    first = reader.episodes[0]
    assert reader.marker.sum() == 1 and reader.marker[first.start : first.stop].any()
    assert not reader.intervention.any()
    assert reader.action[first.start : first.stop, 0].max() == pytest.approx(0.1 * 4.0 * 0.15, rel=1e-4)
    assert not (out / "staging").exists()
    assert json.loads((out / "meta/collection.json").read_text())["tasks"]["reach"]["discarded"] == 1


def test_a_session_that_was_stopped_interrupted_and_killed_goes_on_and_counts_nothing_twice(tmp_path):
    out = tmp_path / "d"
    with operator_at(*session(out)) as operator:
        operator.sees(RUNS)
        operator.type(RIGHT)
        operator.sees("kept as a success")
        operator.sees(RUNS)
        operator.type(ESC)
        operator.sees("1 of reach; the same command with --resume goes on")
        assert operator.ends() == 0 and operator.terminal_is_as_it_was
    with operator_at(*session(out)) as operator:
        operator.sees("holds an unfinished collection; add --resume")
        assert operator.ends() == 2
    with operator_at(*session(out, "--resume")) as operator:
        operator.sees("seed 1")
        operator.sees(RUNS)
        operator.type("\x03")
        operator.sees("interrupted")
        assert operator.ends() == 130 and operator.terminal_is_as_it_was
    with operator_at(*session(out, "--resume")) as operator:
        operator.sees("an episode that was cut short is not kept")
        operator.sees("seed 1")
        operator.sees(RUNS)
        operator.type(RIGHT)
        operator.sees("kept as a success")
        operator.sees(RUNS)
        operator.signal(signal.SIGKILL)
        operator.ends()
    assert spools(out) == ["reach-000000.arrow", "reach-000001.arrow"]
    assert all(Spool(path).success for path in (out / "staging/episodes").glob("*.arrow"))
    with operator_at(*session(out, "--resume")) as operator:
        operator.sees("reach 3/3, seed 2")
        operator.sees(RUNS)
        operator.signal(signal.SIGTERM)
        assert operator.ends() == 128 + signal.SIGTERM and operator.terminal_is_as_it_was
    assert main([str(argument) for argument in session(out, "--finish")]) == 0
    assert [e.seed for e in DatasetReader(out).episodes] == [0, 1]


def test_a_session_goes_on_with_the_same_robot_wherever_it_is_now_and_with_no_other(tmp_path, capsys):
    out = tmp_path / "d"
    OperatedCollection(out, fixed_by(toy_world.make().spec, 0)).close()
    assert main([str(argument) for argument in session(out, "--resume", "--seed", 7)]) == 2
    assert "began with --seed 0, and this is 7" in capsys.readouterr().err
    other = ("--robot", "tests.dummy_robot")
    assert main([str(argument) for argument in session(out, "--resume", robot=other)]) == 2
    said = capsys.readouterr().err
    assert f"robot 'dummy' is not the robot that the collection in {out} was made for" in said
    with operator_at(*session(out, "--resume", robot=("--robot", "tests.toy_world"), episodes=1)) as operator:
        operator.sees(RUNS)
        operator.type(RIGHT)
        operator.sees("kept as a success")
        assert operator.ends() == 0


def test_an_episode_that_is_over_without_success_is_asked_about(tmp_path):
    with operator_at(*session(tmp_path / "d", "--length-s", "0.4", episodes=1)) as operator:
        operator.sees("Was it one?")
        operator.type("f")
        operator.sees("kept as a failure: 4 rows")
        assert operator.ends() == 0


def test_a_terminal_that_a_killed_session_left_is_mended(tmp_path):
    with operator_at(*session(tmp_path / "d", episodes=1)) as operator:
        tty.setcbreak(operator.terminal)
        operator.sees(RUNS)
        operator.type(RIGHT)
        assert operator.ends() == 0 and not operator.is_cbreak


def test_the_operator_has_time_to_lay_out_the_scene_and_may_cut_it_short(tmp_path):
    arguments = session(tmp_path / "d", episodes=1)
    with operator_at(*arguments, "--reset-s", "600") as operator:
        operator.sees("lay out the scene: 600 s, or Enter")
        operator.type(ENTER)
        operator.sees(RUNS)
        operator.type(RIGHT)
        assert operator.ends() == 0


def test_a_full_disk_ends_the_session_and_keeps_what_was_finished(tmp_path):
    out = tmp_path / "d"
    robot = ("--robot", "tests.toy_world", "--option", "size=128")
    with operator_at(*session(out, robot=robot), most_bytes_a_file=30_000) as operator:
        operator.sees(RUNS)
        operator.type(RIGHT)
        operator.sees("kept as a success")
        operator.sees("cannot be written")
        assert operator.ends() == 2 and operator.terminal_is_as_it_was
        assert "Traceback" not in operator.shown
    assert spools(out) == ["reach-000000.arrow"]


def test_an_episode_that_the_disk_may_not_hold_is_not_begun(tmp_path):
    with operator_at(*session(tmp_path / "d", "--length-s", "1e12")) as operator:
        operator.sees("error: the disk has")
        operator.sees("--resume")
        assert operator.ends() == 2
    spec = toy_world.make().spec
    room = Room(spec)
    room.require(MARGIN_BYTES + 2e6, 60.0)
    room.measured(size=500_000, rows=100)  # 50 kB/s
    with pytest.raises(RoomError, match=r"70 MB \(as measured"):
        room.require(MARGIN_BYTES + 5.9e6, 60.0)
    room.require(MARGIN_BYTES + 6e6, 60.0)


def test_a_robot_at_an_address_is_driven_too_and_its_death_ends_the_session_in_order(tmp_path):
    (tmp_path / "token").write_text(secrets.token_hex(32))
    (tmp_path / "token").chmod(0o600)
    with host(tmp_path, "--realtime", "--token", str(tmp_path / "token")) as live:
        robot = ("--robot", live.address, "--token", tmp_path / "token")
        with operator_at(*session(tmp_path / "d", task="sweep", robot=robot)) as operator:
            operator.sees(RUNS)
            operator.type("1xxxx")
            operator.sees(RUNS)
            operator.type(RIGHT)
            operator.sees("kept as a success")
            operator.sees("go:")
            operator.sees(RUNS)
            live.popen.kill()
            operator.sees("error: ")
            assert operator.ends() == 2 and operator.terminal_is_as_it_was
            assert "Traceback" not in operator.shown
    assert main([str(a) for a in session(tmp_path / "d", "--finish", task="sweep", robot=robot)]) == 0
    reader = DatasetReader(tmp_path / "d")
    assert len(reader.episodes) == 1 and reader.spec.realtime
    assert reader.action[:, 0].max() > 0.01 and not reader.perturbed.any()


def test_a_gamepad_drives_and_judges(tmp_path):
    os.mkfifo(tmp_path / "js0")
    pad = os.open(tmp_path / "js0", os.O_RDWR)
    arguments = session(tmp_path / "d", episodes=1)
    with operator_at(*arguments, "--teleop", "gamepad", "--gamepad", tmp_path / "js0") as operator:
        operator.sees("left stick" if "left stick" in operator.shown else "sticks and hat")
        operator.sees(RUNS)
        os.write(pad, EVENT.pack(0, FULL, AXIS, 0))
        operator.sees(RUNS)
        os.write(pad, EVENT.pack(0, 1, BUTTON, 0))
        operator.sees("kept as a success")
        assert operator.ends() == 0
    os.close(pad)
    assert DatasetReader(tmp_path / "d").action[-1, 0] > 0.02


def test_what_the_cameras_see_is_shown_in_a_browser(tmp_path):
    with operator_at(*session(tmp_path / "d", "--show", "0")) as operator:
        operator.sees("the cameras are at ")
        operator.sees(RUNS)
        url = operator.shown.partition("the cameras are at ")[2].split()[0]
        page = urllib.request.urlopen(url, timeout=30).read().decode()
        assert "toy" in page and '<img src="/front"' in page
        with urllib.request.urlopen(f"{url}front", timeout=30) as stream:
            assert stream.headers["Content-Type"].startswith("multipart/x-mixed-replace")
            stream.readline()
            stream.readline()
            length = int(stream.readline().split(b":")[1])
            stream.readline()
            assert stream.read(length).startswith(b"\xff\xd8")
        operator.type("q")
        assert operator.ends() == 0


def test_without_a_terminal_it_says_so(tmp_path):
    command = [sys.executable, "-m", "embodied", *map(str, session(tmp_path / "d"))]
    ran = subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, start_new_session=True
    )
    assert ran.returncode == 2
    assert "error: the operator's keys need a terminal, and this process has none" in ran.stderr


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        (["--teleop", "leader"], "--teleop leader needs --leader MODULE"),
        (["--leader", "embodied.robots.so101"], "--leader goes with --teleop leader"),
        (["--gamepad", "/dev/input/js3"], "--gamepad goes with --teleop gamepad"),
        (["--driver", "policies.hold"], "--driver goes with an expert"),
        (["--token", "FILE"], "--token goes with a robot at an address"),
        (["--task", "juggle"], "no task 'juggle'; toy has ['push', 'reach']"),
        (["--finish"], "holds no unfinished collection"),
        (["--instruction", " "], "the instruction is empty"),
    ],
)
def test_bad_arguments_are_one_line_and_leave_nothing(tmp_path, capsys, extra, complaint):
    assert main([str(argument) for argument in session(tmp_path / "d", *extra)]) == 2
    said = capsys.readouterr().err
    assert complaint in said and "Traceback" not in said
    assert not (tmp_path / "d").exists()


def test_what_goes_with_an_operator_is_refused_with_an_expert(tmp_path, capsys):
    arguments = ["collect", *TOY, "--episodes", "1", "--out", str(tmp_path / "d"), "--instruction", "go"]
    assert main(arguments) == 2
    assert "--instruction goes with --teleop" in capsys.readouterr().err


# -- without a terminal


class Expert(toy_world.ToyExpert):
    """The toy's expert as an operator."""

    legend: Sequence[str] = ()
    buttons: Mapping[str, Command] = {}
    reaching = False

    def __init__(self, robot, late: int = 0) -> None:
        super().__init__(robot)
        self.late = late

    @property
    def ready(self) -> bool:
        self.late -= 1
        return self.late < 0

    def commands(self) -> Sequence[Command]:
        return ()

    def close(self) -> None:
        pass


def driven(tmp_path: Path, seed: int, late: int = 0) -> tuple[Command | None, DrivenEpisode, Spool]:
    robot, typed = toy_world.make(), Typed()
    episode = DrivenEpisode(robot, Expert(robot.body, late), Console(typed), show=lambda _: None)  # type: ignore[arg-type]
    typed.status = lambda line: None  # type: ignore[attr-defined]
    with RolloutRecorder(tmp_path / "1.arrow", robot.spec, task="reach", seed=seed) as recorder:
        end = episode.run(robot.reset(seed, "reach"), recorder, most_rows=25, title="")
        recorder.ended(end is Command.SUCCESS)
    return end, episode, Spool(tmp_path / "1.arrow")


def test_a_robot_that_sees_success_ends_the_episode_as_one(tmp_path):
    end, episode, spool = driven(tmp_path, seed=3)
    assert end is Command.SUCCESS and spool.success and spool.rows == episode.rows < 25


def test_an_episode_that_is_too_long_ends_undecided(tmp_path):
    end, episode, _ = driven(tmp_path, seed=7)  # the toy sees no success on it
    assert end is None and episode.rows == 25


def test_nothing_is_recorded_before_the_robot_is_where_the_operator_is(tmp_path):
    _, _, spool = driven(tmp_path, seed=3, late=4)
    states = spool.episode({}).state
    assert states[0] == pytest.approx([0.4, 0.4])


def test_a_joining_that_was_killed_while_it_cleared_up_is_done_when_it_is_asked_for_again(tmp_path, capsys):
    spec = toy_world.make().spec
    out = tmp_path / "d"
    collection = OperatedCollection(out, fixed_by(spec, 0))
    slot = collection.next("reach")
    robot = toy_world.make()
    with RolloutRecorder(slot.path, spec, task="reach", seed=slot.seed) as recorder:
        DrivenEpisode(robot, Expert(robot.body), Console(quiet()), show=lambda _: None).run(  # type: ignore[arg-type]
            robot.reset(0, "reach"), recorder, most_rows=5, title=""
        )
        recorder.ended(True)
    collection.assemble({})
    (out / "staging/episodes").mkdir(parents=True)  # as a kill in the middle of clearing up leaves it
    assert main([str(argument) for argument in session(out, "--finish")]) == 0
    assert "1 episodes (1 successes" in capsys.readouterr().out
    assert not (out / "staging").exists() and len(DatasetReader(out).episodes) == 1
    with pytest.raises(DatasetError, match="already holds a dataset"):
        OperatedCollection(out, {}, resume=True)


def quiet() -> Typed:
    typed = Typed()
    typed.status = lambda line: None  # type: ignore[attr-defined]
    return typed


class Judge(Expert):
    """Types some keys at its third action of each episode."""

    def __init__(self, robot, typed: Typed, *keys: str) -> None:
        super().__init__(robot)
        self.typed, self.keys = typed, keys

    def reset(self, instruction, spec) -> None:
        self.acts = 0

    def act(self, observation):
        self.acts += 1
        self.typed.typed += self.keys if self.acts == 3 else ()
        return super().act(observation)


def test_what_is_typed_in_one_go_is_all_heeded(tmp_path):
    robot, typed = toy_world.make(), quiet()
    collection = OperatedCollection(tmp_path / "d", fixed_by(robot.spec, 0))
    judge = Judge(robot.body, typed, "enter", "esc")
    session = Session(robot, judge, Console(typed), collection, lengths=Lengths(60.0, 0.0))  # type: ignore[arg-type]
    assert not session.run(["reach"], 5)
    assert collection.kept("reach") == 1


def test_an_episode_that_was_judged_is_kept_although_the_robot_fails_to_stop(tmp_path):
    class Stuck(toy_world.ToyRobot):
        def stop(self) -> None:
            raise ProtocolError("it does not answer")

    body, typed = Stuck(16, -1), quiet()
    collection = OperatedCollection(tmp_path / "d", fixed_by(body.spec, 0))
    judge = Judge(body, typed, "enter")
    robot = SafeRobot(body)
    session = Session(robot, judge, Console(typed), collection, lengths=Lengths(60.0, 0.0))  # type: ignore[arg-type]
    with pytest.raises(ProtocolError, match="does not answer"):
        session.run(["reach"], 5)
    assert collection.kept("reach") == 1


def test_a_robot_whose_time_passes_is_home_before_the_scene_is_laid_out_and_is_looked_at_after_it(tmp_path):
    order = []

    class Homing(LiveBody):
        def reset(self, seed: int, task: str):
            order.append("home")
            return super().reset(seed, task)

    def body() -> SafeRobot[Homing]:
        file = tmp_path / "setpoints"
        return SafeRobot(Homing(file, horizon_s=60.0, reset_s=0.0, control_hz=10.0, watchdog_s=60.0))

    typed = Typed()
    typed.status = lambda line: order.append(line[:7])  # type: ignore[attr-defined]
    with contextlib.closing(RealTimeRobot(body)) as robot:
        collection = OperatedCollection(tmp_path / "d", fixed_by(robot.spec, 0))
        teleoperator = KeyboardTeleoperator(Console(typed))  # type: ignore[arg-type]
        session = Session(robot, teleoperator, Console(typed), collection, lengths=Lengths(0.3, 0.5))  # type: ignore[arg-type]
        session._ask_how_it_went = lambda *_: Command.FAILURE  # type: ignore[method-assign]
        assert session.run(["sweep"], 1)
    assert order.index("home") < order.index("lay out")
    collection.assemble({})
    assert DatasetReader(tmp_path / "d").frame("front", 0).mean() >= 45  # ticks of 10 ms: half a second of laying out


def test_an_episode_may_last_as_long_as_the_session_needs_unless_the_user_says_otherwise():
    assert lasting("embodied.robots.so101", {"size": 64}, 81.0) == {"size": 64, "episode_s": 81.0}
    assert lasting("envs.so101", {}, 81.0) == {"horizon_s": 81.0}
    assert lasting("embodied.robots.so101", {"episode_s": 5}, 81.0) == {"episode_s": 5}
    assert lasting("tests.toy_world", {}, 81.0) == lasting("127.0.0.1:50051", {}, 81.0) == {}


def test_no_seed_of_an_evaluation_is_ever_recorded(tmp_path):
    collection = OperatedCollection(tmp_path / "d", fixed_by(toy_world.make().spec, FIRST_EVALUATION_SEED - 1))
    collection.discard(collection.next("reach"))
    with pytest.raises(DatasetError, match="no seed is left for reach: those from 1000000 on are for evaluation"):
        collection.next("reach")


def test_no_two_tasks_share_a_spool(tmp_path):
    collection = OperatedCollection(tmp_path / "d", fixed_by(toy_world.make().spec, 0))
    tasks = ("a.b", "a-b", "a b", "a", "a-2d-b")
    collection.discard(collection.next("a.b"))
    assert [collection.next(task).seed for task in tasks] == [1, 0, 0, 0, 0]
    assert len({collection.next(task).path for task in tasks}) == len(tasks)


def test_finishing_tells_of_an_episode_that_was_cut_short(tmp_path, capsys):
    out, robot = tmp_path / "d", toy_world.make()
    collection = OperatedCollection(out, fixed_by(robot.spec, 0))
    for ends in (True, False):
        slot = collection.next("reach")
        with RolloutRecorder(slot.path, robot.spec, task="reach", seed=slot.seed) as recorder:
            observation = robot.reset(slot.seed, "reach")
            recorder.began(observation)
            action = PoseAction(observation.state)
            recorder.stepped(action, robot.step(action))
            if ends:
                recorder.ended(True)
    collection.close()
    assert main([str(argument) for argument in session(out, "--finish")]) == 0
    assert "an episode that was cut short is not kept" in capsys.readouterr().out


def test_two_that_clear_up_at_once_do_not_trip_over_each_other(tmp_path):
    for i in range(300):
        (tmp_path / "staging" / str(i)).mkdir(parents=True)
    with ThreadPoolExecutor(4) as threads:
        for cleared in [threads.submit(clear, tmp_path) for _ in range(4)]:
            cleared.result()
    clear(tmp_path)
    assert not (tmp_path / "staging").exists()
