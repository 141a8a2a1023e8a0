"""Records demonstrations in processes of their own, each with its own simulator and renderer."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

from embodied.errors import EmbodiedError, InvalidObservationError, LostError
from embodied.modules import open_expert, open_policy, open_robot
from embodied.recording.demonstration import TAKEOVER_STEPS, demonstrate
from embodied.recording.episode import Episode
from embodied.recording.plan import Plan
from embodied.recording.survey import survey
from embodied.safety import LabelSizes, bare, truth
from embodied.types import Policy, Robot, RobotSpec


class CollectionStoppedError(EmbodiedError):
    """A collection that ended before its last seed; what it finished is kept."""


@dataclass(frozen=True)
class Failure:
    """An episode that was dropped, and why."""

    task: str
    seed: int
    reason: str


Job = tuple[str, int]  # task, seed


@dataclass(frozen=True)
class Probe:
    """What the rows of a dataset will look like: the robot's spec, and the size of each label over all tasks."""

    spec: RobotSpec
    label_sizes: Mapping[str, int]


def probe(robot_module: str, options: Mapping[str, Any], tasks: Sequence[str], seed: int) -> Probe:
    """Open the robot and its expert, step each task, or one if it knows its labels, and return what was found.

    No tasks means all that the robot has. Raises UnknownNameError for a module, option or task that does not exist, and
    InvalidObservationError for a robot whose frames or state are not what it declares.
    """
    robot = open_robot(robot_module, options)
    try:
        for task in tasks:
            robot.spec.require_task(task)
        expert = open_expert(robot_module, robot)
        known = body.label_sizes if isinstance(body := bare(robot), LabelSizes) else None
        sizes = dict(known or {})
        for task in (tasks or robot.spec.tasks)[: None if known is None else 1]:
            observation = robot.reset(seed, task)
            robot.spec.check_observation(observation)
            if missing := [c.name for c in robot.spec.cameras if c.name not in observation.frames]:
                raise InvalidObservationError(f"{robot.spec.name} sent no frame of {missing}; nothing can be recorded")
            expert.reset(observation.instruction, robot.spec)
            before = truth(robot)
            after = robot.step(expert.act(observation)[0]).labels
            sizes |= {name: len(values) for name, values in {**before, **after}.items()}
        return Probe(robot.spec, sizes)
    finally:
        robot.close()


def record(
    plan: Plan, label_sizes: Mapping[str, int], jobs: Sequence[Job], workers: int
) -> Iterator[tuple[Job, Episode | Failure]]:
    """Yield every job's episode or failure as it comes, in no order; what a job gives does not depend on the others.

    Raise CollectionStoppedError where the driver is lost or a worker dies, for no seed is to blame for that.
    """
    # Mesa draws with a thread a core unless told otherwise, which loses to one simulator a core.
    for library in ("LP", "OMP"):  # and so does torch, of a policy that drives
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    context = multiprocessing.get_context("spawn")  # a fork would share the parent's GL context
    with ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(plan, label_sizes)) as pool:
        try:
            waiting = {pool.submit(_record_one, job): job for job in jobs}
            for future in as_completed(list(waiting)):
                yield waiting.pop(future), future.result()
        except LostError as error:
            raise _stopped(f"the driver was lost: {error}") from error
        except BrokenProcessPool as error:
            reason = "a worker died without a word; was it out of memory? fewer --workers need less"
            raise _stopped(reason) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _stopped(reason: str) -> CollectionStoppedError:
    return CollectionStoppedError(f"{reason}; what is finished is kept: the same command with --resume goes on")


class _Worker:
    """One process's simulator and expert."""

    def __init__(self, plan: Plan, label_sizes: Mapping[str, int]) -> None:
        self.plan, self.label_sizes = plan, label_sizes
        self.robot: Robot = open_robot(plan.robot, plan.options)
        self.expert: Policy = open_expert(plan.robot, self.robot)
        self.driver: Policy | None = None
        if (drive := plan.drive) is not None:
            self.driver = open_policy(drive.policy, drive.checkpoint, drive.options).policy

    def record(self, task: str, seed: int) -> Episode:
        """Record what the plan has of a task and seed: a scene, or a demonstration that may have failed."""
        plan = self.plan
        if plan.scenes:
            return survey(self.robot, task=task, seed=seed, pictures=plan.scenes, label_sizes=self.label_sizes)
        return demonstrate(
            self.robot,
            self.expert,
            task=task,
            seed=seed,
            perturb=plan.perturb,
            bursts=plan.bursts,
            driver=self.driver,
            within=plan.drive.within if plan.drive else TAKEOVER_STEPS,
            label_sizes=self.label_sizes,
            rehearse=plan.rehearse,
        )


_worker: _Worker | Exception | None = None  # or why there is none


def _begin(plan: Plan, label_sizes: Mapping[str, int]) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        _worker = _Worker(plan, label_sizes)
    except (EmbodiedError, OSError) as error:  # told by the first job: the pool would say only that a worker broke
        _worker = _stopped(f"a worker cannot begin: {error}")
    except Exception:
        _worker = RuntimeError(f"in a worker:\n{traceback.format_exc()}")


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _record_one(job: Job) -> Episode | Failure:
    if _worker is None:
        raise RuntimeError("a worker was asked to record before it began")
    if isinstance(_worker, Exception):
        raise _worker
    task, seed = job
    try:
        episode = _worker.record(task, seed)
    except LostError:  # a driver that is gone fails every seed, and none of them is to blame
        raise
    except Exception as error:  # one bad seed must not lose the hours before it; it is reported by name
        return Failure(task, seed, f"{type(error).__name__}: {error}")
    if _worker.plan.scenes or episode.succeeded:
        return episode
    return Failure(task, seed, f"no success in {len(episode)} steps")
