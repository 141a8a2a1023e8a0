"""Runs many episodes on worker processes, each with a robot and a policy of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

from embodied.delay import SYNC, Execution, executing
from embodied.errors import EmbodiedError
from embodied.hosting import HostProcess
from embodied.loop import MAX_STEPS, Episode, Observer, run_episode
from embodied.modules import OpenPolicy, is_address, open_expert, open_policy, open_robot
from embodied.types import Action, Observation, Policy, Robot, RobotSpec

if TYPE_CHECKING:
    from embodied.bridge.connection import Connection

EXPERT = "expert"  # in a policy's place: the scripted expert that the robot's own module offers
JOIN_TIMEOUT_S = 15.0
FAR_JOIN_TIMEOUT_S = 5.0  # a robot at an address is stopped by its own server when its operator is killed


class WorkerError(EmbodiedError):
    """The user's mistake, found by a worker."""


@dataclass(frozen=True)
class Setup:
    """What every worker opens, and how it runs an episode."""

    robot: str
    policy: str
    checkpoint: Path | None = None
    robot_options: Mapping[str, Any] = field(default_factory=dict)
    policy_options: Mapping[str, Any] = field(default_factory=dict)
    remote: bool = False  # drive the robot's module through a child process and gRPC
    instruction: str | None = None
    max_steps: int = MAX_STEPS
    cameras: tuple[str, ...] = ()  # drawn in videos; all if empty
    connection: Connection | None = None  # to whatever is at an address
    intervene: str | None = None  # the device by which an operator may take over: see InProcess


@dataclass(frozen=True)
class Job:
    """One episode to run, and the files to write of it."""

    task: str
    seed: int
    execution: Execution = SYNC
    video: Path | None = None
    recording: Path | None = None  # the spool of this episode


@dataclass(frozen=True)
class Opened:
    """What a worker found when it had opened its robot and policy."""

    spec: RobotSpec
    checkpoint: Path | None  # the policy's own default where none was named
    policy_options: Mapping[str, Any]  # with the defaults filled in


@dataclass(frozen=True)
class _Failure:
    message: str
    users_mistake: bool


class Workers:
    """Processes that run episodes; a context manager that ends them, and whatever they started."""

    opened: Opened

    def __init__(self, setup: Setup, count: int) -> None:
        """Start count workers and wait until each has its robot and policy; raise WorkerError if one cannot."""
        context = multiprocessing.get_context("spawn")
        threads = max(1, _cores() // count)
        self._join_timeout_s = FAR_JOIN_TIMEOUT_S if is_address(setup.robot) else JOIN_TIMEOUT_S
        self._workers = []
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, setup, threads), daemon=True)
            process.start()
            theirs.close()  # so that a worker's death reads as the end of its pipe
            self._workers.append((process, ours))
        try:
            self.opened, *_ = [_receive(pipe) for _, pipe in self._workers]
        except BaseException:
            self.close()
            raise

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Episode]]:
        """Run the jobs and yield each with its episode as it ends, in no particular order."""
        waiting = iter(jobs)
        idle = [pipe for _, pipe in self._workers]
        busy: dict[Pipe, Job] = {}
        while True:
            while idle and (job := next(waiting, None)) is not None:
                pipe = idle.pop()
                pipe.send(job)
                busy[pipe] = job
            if not busy:
                return
            ready = wait(list(busy))
            for pipe in [pipe for pipe in busy if pipe in ready]:
                episode: Episode = _receive(pipe)
                idle.append(pipe)
                yield busy.pop(pipe), episode

    def close(self) -> None:
        """End the workers, in the middle of an episode if need be; idempotent."""
        for process, pipe in self._workers:
            pipe.close()
            process.terminate()
        for process, _ in self._workers:
            process.join(self._join_timeout_s)
            if process.is_alive():
                process.kill()
                process.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


Watch = Callable[[Policy], Policy]


class InProcess:
    """Runs episodes one by one in this process, where an operator's terminal is; otherwise as Workers."""

    opened: Opened

    def __init__(
        self,
        setup: Setup,
        watched: Callable[[Robot], AbstractContextManager[tuple[Robot, Watch]]] | None = None,
    ) -> None:
        """Open robot and policy; watched says which robot the loop is given, and what becomes of each policy."""
        self._setup = setup
        self._stack = contextlib.ExitStack()
        try:
            robot, self._opened = _open(setup, self._stack)
            self._robot, self._watch = self._stack.enter_context((watched or _unwatched)(robot))
        except BaseException:
            self.close()
            raise
        self.opened = Opened(robot.spec, self._opened.checkpoint, self._opened.options)

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Episode]]:
        """Run the jobs in their order and yield each with its episode as it ends. Where one fails, stop the robot."""
        for job in jobs:
            try:
                episode = _run(job, self._setup, self._robot, self._opened.policy, self._watch)
            except BaseException:
                with contextlib.suppress(EmbodiedError):  # it may be the robot that is gone
                    self._robot.stop()
                raise
            yield job, episode

    def close(self) -> None:
        """Let go of robot, policy and operator; idempotent."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@contextlib.contextmanager
def _unwatched(robot: Robot) -> Iterator[tuple[Robot, Watch]]:
    yield robot, lambda policy: policy


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _receive(pipe: Pipe) -> Any:  # noqa: ANN401  whatever the worker sends but a failure
    try:
        answer = pipe.recv()
    except (EOFError, ConnectionError):
        raise RuntimeError("a worker died without a word; was it out of memory?") from None
    if isinstance(answer, _Failure):
        raise WorkerError(answer.message) if answer.users_mistake else RuntimeError(f"in a worker:\n{answer.message}")
    return answer


class _Ending:
    """Remembers that the worker was asked to end; to raise from the signal itself could leave gRPC's locks held."""

    asked = False

    def ask(self, signum: int, frame: FrameType | None) -> None:
        """Be the handler of a signal."""
        self.asked = True


class _EndablePolicy:
    """A policy that ends the process, in order, at the first decision after it was asked to or its parent has died."""

    def __init__(self, policy: Policy, ending: _Ending) -> None:
        self._policy, self._ending = policy, ending

    def reset(self, instruction: str, spec: RobotSpec) -> None:
        self._policy.reset(instruction, spec)

    def act(self, observation: Observation) -> Sequence[Action]:
        parent = multiprocessing.parent_process()
        if self._ending.asked or (parent is not None and not parent.is_alive()):  # nobody is left to stop the robot
            raise SystemExit(0)
        return self._policy.act(observation)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  what a policy may have besides: timing_ns, counts
        return getattr(self._policy, name)


def _work(pipe: Pipe, setup: Setup, threads: int) -> None:
    """Open the robot and the policy, then run jobs until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends us in order
    ending = _Ending()
    signal.signal(signal.SIGTERM, ending.ask)
    # Before torch or a renderer is imported; workers that each took every core would only stand in each other's way.
    for name in ("OMP_NUM_THREADS", "LP_NUM_THREADS"):
        os.environ.setdefault(name, str(threads))
    try:
        with contextlib.ExitStack() as stack:
            robot, opened = _open(setup, stack)
            pipe.send(Opened(robot.spec, opened.checkpoint, opened.options))
            for job in _jobs(pipe):
                pipe.send(_run(job, setup, robot, opened.policy, lambda policy: _EndablePolicy(policy, ending)))
    except Exception as error:
        users_mistake = isinstance(error, EmbodiedError | OSError)  # OSError: a disk that is full or read-only
        with contextlib.suppress(ConnectionError):  # the parent may be gone
            pipe.send(_Failure(str(error) if users_mistake else traceback.format_exc(), users_mistake))


def _jobs(pipe: Pipe) -> Iterator[Job]:
    while True:
        try:
            yield pipe.recv()
        except EOFError:  # the parent has no more, or is gone
            return


def _open(setup: Setup, stack: contextlib.ExitStack) -> tuple[Robot, OpenPolicy]:
    if setup.remote and not is_address(setup.robot):
        host = stack.enter_context(HostProcess(setup.robot, setup.robot_options))
        robot = open_robot(host.address, {}, setup.connection)
    else:
        robot = open_robot(setup.robot, setup.robot_options, setup.connection)
    stack.callback(robot.close)
    if setup.policy == EXPERT:
        opened = OpenPolicy(open_expert(setup.robot, robot), None, {})
    else:
        opened = open_policy(setup.policy, setup.checkpoint, setup.policy_options, setup.connection)
    if callable(close := getattr(opened.policy, "close", None)):
        stack.callback(close)
    return robot, opened


def _run(job: Job, setup: Setup, robot: Robot, policy: Policy, watch: Watch) -> Episode:
    with contextlib.ExitStack() as stack:
        watched = watch(stack.enter_context(executing(policy, job.execution, robot.spec)))
        return run_episode(
            robot,
            watched,
            task=job.task,
            seed=job.seed,
            instruction=setup.instruction,
            max_steps=setup.max_steps,
            observers=list(_observers(job, setup, robot.spec, watched, stack)),
        )


def _observers(
    job: Job, setup: Setup, spec: RobotSpec, policy: Policy, stack: contextlib.ExitStack
) -> Iterator[Observer]:
    """Yield what writes the job's files, to be closed by the stack; imported here, since a plain run needs none."""
    if job.video is not None:
        from embodied.recording.video import VideoRecorder

        job.video.parent.mkdir(parents=True, exist_ok=True)
        yield stack.enter_context(
            VideoRecorder(job.video, spec, policy, cameras=setup.cameras, instruction=setup.instruction)
        )
    if job.recording is not None:
        from embodied.recording.rollout import RolloutRecorder

        yield stack.enter_context(
            RolloutRecorder(
                job.recording, spec, task=job.task, seed=job.seed, instruction=setup.instruction, policy=policy
            )
        )
