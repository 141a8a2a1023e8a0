"""What a rollout runs and with what: the robot and policy that are opened, and one episode after another of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from embodied.delay import SYNC, Execution, executing
from embodied.errors import EmbodiedError
from embodied.failures import Trace
from embodied.hosting import HostProcess
from embodied.loop import MAX_STEPS, Episode, Observer, run_episode
from embodied.modules import (
    OpenPolicy,
    is_address,
    open_expert,
    open_policy,
    open_robot,
    policy_origin,
    robot_origin,
)
from embodied.origin import Origin
from embodied.types import Policy, Robot, RobotSpec

if TYPE_CHECKING:
    from embodied.bridge.connection import Connection
    from embodied.recording.strip import FilmStrip

EXPERT = "expert"  # in a policy's place: the scripted expert that the robot's own module offers


@dataclass(frozen=True)
class Setup:
    """What every worker opens, and how it runs an episode."""

    robot: str
    policy: str
    checkpoint: Path | None = None
    robot_options: Mapping[str, Any] = field(default_factory=dict)
    policy_options: Mapping[str, Any] = field(default_factory=dict)
    remote: bool = False  # drive the robot's module through a child process and gRPC
    environment: Path | None = None  # whose Python that child process is; None: this one's
    shared_policy: str | None = None  # the address of a server that this rollout started for all of its workers
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
    strip: Path | None = None  # frames of it in a row, should it fail


@dataclass(frozen=True)
class Opened:
    """What was found when robot and policy had been opened."""

    spec: RobotSpec
    robot: Origin
    policy: Origin  # of one at an address what its server tells; else the checkpoint is hashed as it was loaded
    host_pid: int | None = None  # of the child process that hosts the robot


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
            robot, policy, self.opened = open_both(setup, self._stack)
            self._robot, self._watch = self._stack.enter_context((watched or _unwatched)(robot))
        except BaseException:
            self.close()
            raise
        self._policy = policy

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Episode]]:
        """Run the jobs in their order and yield each with its episode as it ends. Where one fails, stop the robot."""
        for job in jobs:
            try:
                episode = run_job(job, self._setup, self._robot, self._policy, self._watch)
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


def open_both(setup: Setup, stack: contextlib.ExitStack) -> tuple[Robot, Policy, Opened]:
    """Open robot and policy, to be closed by the stack; raise as open_robot and open_policy."""
    robot, host = _open_robot(setup, stack)
    opened = _open_policy(setup, robot)
    stack.callback(opened.close)
    origin = getattr(robot, "origin", None) or robot_origin(setup.robot, setup.robot_options)
    made_of = opened.origin or policy_origin(setup.policy, opened.checkpoint, opened.options)
    return robot, opened.policy, Opened(robot.spec, origin, made_of, None if host is None else host.pid)


def _open_robot(setup: Setup, stack: contextlib.ExitStack) -> tuple[Robot, HostProcess | None]:
    if is_address(setup.robot) or not (setup.remote or setup.environment):
        robot, host = open_robot(setup.robot, setup.robot_options, setup.connection), None
    else:
        host = stack.enter_context(HostProcess(setup.robot, setup.robot_options, setup.environment))
        robot = open_robot(host.address, {}, _to_our_own(setup.connection))
    stack.callback(robot.close)
    return robot, host


def _to_our_own(connection: Connection | None) -> Connection | None:
    """Return how to connect to a host that this rollout started, on loopback: the credentials are another server's."""
    if connection is None:
        return None
    from embodied.bridge.credentials import OPEN_CLIENT  # what is local needs no grpc

    return replace(connection, credentials=OPEN_CLIENT)


def _open_policy(setup: Setup, robot: Robot) -> OpenPolicy:
    if setup.policy == EXPERT:
        return OpenPolicy(open_expert(setup.robot, robot), None, {})
    if setup.shared_policy is not None:
        return open_policy(setup.shared_policy, None, {})
    return open_policy(setup.policy, setup.checkpoint, setup.policy_options, setup.connection)


def run_job(job: Job, setup: Setup, robot: Robot, policy: Policy, watch: Watch) -> Episode:
    """Run one episode, and write what the job wants of it."""
    trace, strip = Trace(robot.spec.state), _strip(job, setup, robot.spec)
    with contextlib.ExitStack() as stack:
        watched = watch(stack.enter_context(executing(policy, job.execution, robot.spec)))
        episode = run_episode(
            robot,
            watched,
            task=job.task,
            seed=job.seed,
            instruction=setup.instruction,
            max_steps=setup.max_steps,
            observers=list(_observers(job, setup, robot.spec, watched, stack)),
            witnesses=[trace, strip] if strip else [trace],
        )
    if episode.success:
        return episode
    failure = trace.failure()
    if strip is not None and job.strip is not None:
        strip.write(job.strip, f"{job.task}, seed {job.seed}: {failure.cause if failure else 'failed'}")
    return replace(episode, failure=failure)


def _strip(job: Job, setup: Setup, spec: RobotSpec) -> FilmStrip | None:
    if job.strip is None or not spec.cameras:
        return None
    from embodied.recording.strip import FilmStrip  # needs cv2, as little else here does

    return FilmStrip(setup.cameras[0] if setup.cameras else spec.cameras[0].name)


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
