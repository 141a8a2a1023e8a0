"""Processes that run episodes side by side, each with a robot and a policy of its own; one that is lost is replaced."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Any, Self

from embodied.comparison import protocol_differences
from embodied.errors import EmbodiedError, LostError
from embodied.loop import Episode
from embodied.machine import cores
from embodied.modules import is_address
from embodied.rollouts import Job, Opened, Setup, open_both, run_job
from embodied.types import Action, Observation, Policy, Robot, RobotSpec

JOIN_TIMEOUT_S = 15.0
FAR_JOIN_TIMEOUT_S = 5.0  # a robot at an address is stopped by its own server when its operator is killed
AGAIN_S = 0.05  # between two words to a robot that is to stop
MAX_LOSSES = 3  # of one episode's workers: what kills every robot that tries it would go on for ever


class WorkerError(EmbodiedError):
    """The user's mistake, found by a worker, or a robot that was lost and cannot be replaced."""


class DifferentRobotsError(EmbodiedError):
    """Robots, or policies, that were to share a rollout and are not the same; the message lists every difference."""


@dataclass(frozen=True)
class _Failure:
    message: str
    users_mistake: bool


@dataclass(frozen=True)
class _Lost:
    """What a worker says whose robot, or policy, went away in the middle of an episode."""

    message: str


@dataclass(eq=False)
class _Worker:
    """One process, from our side."""

    setup: Setup
    process: SpawnProcess
    pipe: Pipe
    opened: Opened | None = None  # None: it is still starting
    job: Job | None = None
    task: str | None = None  # of its last job

    def hear(self) -> Any:  # noqa: ANN401  Opened, Episode, _Failure
        """Return what it sends next, its death as a loss."""
        try:
            return self.pipe.recv()
        except (EOFError, ConnectionError):
            return _Lost("a worker died without a word; was it out of memory?")

    def end(self, timeout_s: float) -> None:
        """Wait until the process has ended, as it was told to, or end it by force."""
        self.process.join(timeout_s)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        if self.process.exitcode and self.opened is not None and self.opened.host_pid is not None:  # it left it behind
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.opened.host_pid, signal.SIGTERM)


class Workers:
    """Processes that run episodes; a context manager that ends them, and whatever they started.

    Where a worker or its robot is lost, its episode is run again by another: whatever the worker had not handed over
    is not counted. One whose robot is made here is replaced; a robot at an address is not, and one that is real is
    never begun again.
    """

    opened: Opened

    def __init__(self, setups: Sequence[Setup], on_loss: Callable[[str], None] = lambda words: None) -> None:
        """Start a worker a setup and wait until each has its robot and policy; on_loss is told of each that is lost.

        Raise WorkerError if one cannot, and DifferentRobotsError where the robots differ.
        """
        self._on_loss = on_loss
        self._threads = max(1, cores() // len(setups))
        self._workers: list[_Worker] = []
        try:
            self._workers += [self._start(setup) for setup in setups]
            for worker in self._workers:
                worker.opened = _told(worker.hear())
            self.opened = _require_same([w.opened for w in self._workers if w.opened is not None])
        except BaseException:
            self.close()
            raise

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Episode]]:
        """Run the jobs and yield each with its episode as it ends, in no particular order."""
        waiting, losses = deque(jobs), Counter[Job]()
        while True:
            for worker in self._workers:
                if waiting and worker.opened is not None and worker.job is None:
                    worker.job = self._pick(worker, waiting)
                    with contextlib.suppress(ConnectionError):  # that it has died is heard below
                        worker.pipe.send(worker.job)
            if not waiting and not any(worker.job for worker in self._workers):
                return
            for worker in self._heard():
                answer = worker.hear()
                if isinstance(answer, _Lost):
                    if (job := self._replace(worker, answer.message, losses)) is not None:
                        waiting.appendleft(job)
                elif worker.opened is None:
                    worker.opened = _told(answer)
                    _require_same([self.opened, worker.opened])  # the checkpoint may have been written anew meanwhile
                else:
                    job, worker.job = worker.job, None
                    assert job is not None
                    yield job, _told(answer)

    def close(self) -> None:
        """End the workers, in the middle of an episode if need be; idempotent."""
        for worker in self._workers:
            worker.pipe.close()
            worker.process.terminate()
        for worker in self._workers:
            worker.end(FAR_JOIN_TIMEOUT_S if is_address(worker.setup.robot) else JOIN_TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _start(self, setup: Setup) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, setup, self._threads), daemon=True)
        process.start()
        theirs.close()  # so that a worker's death reads as the end of its pipe
        return _Worker(setup, process, ours)

    def _pick(self, worker: _Worker, waiting: deque[Job]) -> Job:
        """Take a job of the task that the worker is at, else of one that nobody is: a new task may mean a new scene."""
        others = {other.task for other in self._workers}
        tasks = dict.fromkeys(job.task for job in waiting)
        free = (task for task in tasks if task not in others)
        task = worker.task if worker.task in tasks else next(free, next(iter(tasks)))
        job = next(job for job in waiting if job.task == task)
        waiting.remove(job)
        worker.task = task
        return job

    def _heard(self) -> list[_Worker]:
        """Wait for workers that have something to say; of the idle ones nothing is expected."""
        busy = {worker.pipe: worker for worker in self._workers if worker.job or worker.opened is None}
        ready = wait(list(busy))
        return [worker for pipe, worker in busy.items() if pipe in ready]

    def _replace(self, worker: _Worker, words: str, losses: Counter[Job]) -> Job | None:
        """Put another in a lost worker's place, if one can be had; return the job that is to be run again.

        Raise WorkerError where none is left, or where the job has cost MAX_LOSSES workers.
        """
        worker.pipe.close()
        worker.end(JOIN_TIMEOUT_S)
        self._workers.remove(worker)
        if worker.job is not None:
            losses[worker.job] += 1
            if losses[worker.job] >= MAX_LOSSES:
                raise WorkerError(f"{_name(worker.job)} was lost {MAX_LOSSES} times: {words}")
        if worker.opened is None or worker.opened.spec.realtime or is_address(worker.setup.robot):
            if not self._workers:
                raise WorkerError(words)
        else:
            self._workers.append(self._start(worker.setup))
        self._on_loss(words if worker.job is None else f"{_name(worker.job)} will be run again: {words}")
        return worker.job


def _name(job: Job) -> str:
    return f"{job.task} with seed {job.seed}"


def _told(answer: Any) -> Any:  # noqa: ANN401  whatever the worker sends but a failure
    if isinstance(answer, _Lost):
        raise WorkerError(answer.message)
    if isinstance(answer, _Failure):
        raise WorkerError(answer.message) if answer.users_mistake else RuntimeError(f"in a worker:\n{answer.message}")
    return answer


def _require_same(opened: Sequence[Opened]) -> Opened:
    """Return what all workers found; a report is of one robot and one policy, each made in one way."""
    first, *others = opened
    for other in others:
        first.spec.require_same(other.spec, expected="the first robot of this rollout")
        if differences := protocol_differences(_made(first), _made(other), "rollout"):
            lines = "".join(f"\n  - {difference}" for difference in differences)
            raise DifferentRobotsError(f"the robots of one rollout must be made alike, and the policies:{lines}")
    return first


def _made(opened: Opened) -> dict[str, Any]:
    """Return what decides how the episodes of a worker go, beside its spec."""
    robot, policy = opened.robot, opened.policy
    return {
        "robot": {
            "module": robot.module,
            "options": robot.traits,
            "tasks": opened.spec.tasks,
            "tiers": opened.spec.tiers,
            "versions": robot.packages,
        },
        "policy": {
            "module": policy.module,
            "options": dict(policy.options),
            "checkpoint_sha256": policy.checkpoint_sha256,
            "versions": policy.packages,
        },
    }


class _Ending:
    """Remembers that the worker was asked to end, or that its parent has died; the signal itself raises nothing.

    It could leave gRPC's locks held.
    """

    def __init__(self) -> None:
        self.asked = False
        self._woken, self._wake = multiprocessing.Pipe(duplex=False)

    def ask(self, signum: int, frame: FrameType | None) -> None:
        """Be the handler of a signal."""
        self.asked = True
        self._wake.send_bytes(b"!")  # a handler may interrupt another, and an Event's lock is not to be had twice

    @contextlib.contextmanager
    def stopping(self, robot: Robot) -> Iterator[None]:
        """Have the robot stopped as soon as the worker is asked to end, whatever it is doing.

        It is told again and again: one that was about to move took no note of it.
        """
        over = threading.Event()

        def stop() -> None:
            parent = multiprocessing.parent_process()
            wait([self._woken] if parent is None else [self._woken, parent.sentinel])
            self.asked = True  # by a parent that has died too: nobody else is left to stop the robot
            while not over.is_set():
                with contextlib.suppress(EmbodiedError, OSError):  # it may be the robot that is gone
                    robot.stop()
                over.wait(AGAIN_S)

        threading.Thread(target=stop, name="ending", daemon=True).start()
        try:
            yield
        finally:
            over.set()


class _EndablePolicy:
    """A policy that ends the process, in order, before or after the decision during which it was asked to."""

    def __init__(self, policy: Policy, ending: _Ending) -> None:
        self._policy, self._ending = policy, ending

    def reset(self, instruction: str, spec: RobotSpec) -> None:
        self._policy.reset(instruction, spec)

    def act(self, observation: Observation) -> Sequence[Action]:
        self._end_if_asked()
        actions = self._policy.act(observation)
        self._end_if_asked()
        return actions

    def _end_if_asked(self) -> None:
        if self._ending.asked:
            raise SystemExit(0)

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
            robot, policy, opened = open_both(setup, stack)
            stack.enter_context(ending.stopping(robot))
            pipe.send(opened)
            for job in _jobs(pipe):
                pipe.send(run_job(job, setup, robot, policy, lambda policy: _EndablePolicy(policy, ending)))
    except LostError as error:
        _say(pipe, _Lost(str(error)))
    except Exception as error:
        users_mistake = isinstance(error, EmbodiedError | OSError)  # OSError: a disk that is full or read-only
        _say(pipe, _Failure(str(error) if users_mistake else traceback.format_exc(), users_mistake))


def _say(pipe: Pipe, last: _Failure | _Lost) -> None:
    with contextlib.suppress(ConnectionError):  # the parent may be gone
        pipe.send(last)


def _jobs(pipe: Pipe) -> Iterator[Job]:
    while True:
        try:
            yield pipe.recv()
        except EOFError:  # the parent has no more, or is gone
            return
