"""The loop: one episode of a policy on a robot, with what every stage of it took."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from embodied.errors import InvalidActionError, InvalidInstructionError, InvalidObservationError
from embodied.failures import Failure
from embodied.types import Action, Fault, Intervention, Observation, Policy, Robot, RobotSpec, Step

FIRST_EVALUATION_SEED = 1_000_000  # demonstrations draw from below, so no policy is judged on what it was shown
MAX_INSTRUCTION_CHARACTERS = 1000
MAX_STEPS = 1000  # robots end their own episodes; this bounds one that does not


class Observer(Protocol):
    """Watches an episode; while one does, every step carries frames."""

    def began(self, observation: Observation) -> None:
        """See the first observation."""

    def stepped(self, action: Action, step: Step) -> None:
        """See an action and what came of it."""

    def ended(self, success: bool) -> None:
        """See the outcome."""


class Witness(Protocol):
    """Sees how an episode goes without asking for more frames than the policy does."""

    def began(self, observation: Observation) -> None:
        """See the first observation."""

    def decided(self, step: Step) -> None:
        """See the step with which a decision's actions ended."""


@dataclass(frozen=True)
class Cycle:
    """One decision: the policy's time, the robot's time for the whole chunk, and what became of its actions."""

    act_ns: int
    step_ns: int
    steps: int  # actions carried out
    dropped: int = 0  # actions that were not: late, or cut short by a stop
    policy_ns: Mapping[str, int] = field(default_factory=dict)  # the stages of act_ns, as far as the policy names them
    robot_ns: Mapping[str, int] = field(default_factory=dict)  # the stages of step_ns, as far as the robot names them


@dataclass(frozen=True)
class Episode:
    """What came of one episode."""

    task: str
    seed: int
    instruction: str
    success: bool
    steps: int
    reward: float
    reset_ns: int
    cycles: tuple[Cycle, ...]
    interventions: tuple[Intervention, ...]
    observed: bool  # frames were rendered at every step, so its step times are not those of a plain run
    policy_counts: Mapping[str, int] = field(default_factory=dict)  # what the policy counted, as an AsyncPolicy does
    faults: tuple[Fault, ...] = ()  # what the robot said was wrong with it, each part and kind once
    health: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # least and most of what it measured
    failure: Failure | None = None  # why it failed, where the robot tells the truth about it


def run_episode(
    robot: Robot,
    policy: Policy,
    *,
    task: str,
    seed: int,
    instruction: str | None = None,
    max_steps: int = MAX_STEPS,
    observers: Sequence[Observer] = (),
    witnesses: Sequence[Witness] = (),
) -> Episode:
    """Run one episode to its end, or for exactly max_steps, and return what came of it.

    The instruction is the robot's own unless given; the robot judges success by its own either way. Without
    observers a chunk is one message, and only its last step is rendered, since the policy looks at nothing between.
    With any the chunk goes action by action; the outcome is the same. Where the policy has them, `timing_ns` is read
    after each decision (stage: what it took) and `counts` after the episode.
    Where the robot says that a part of it is at fault, and a policy or observer cannot do without what is missing then,
    the robot is stopped and the episode has failed; so too where a real robot's camera gives no frame as it begins.
    Raise UnknownNameError for a bad task, InvalidInstructionError, InvalidObservationError for what the robot should
    never have sent, and SpecMismatchError if the policy was made for another robot.
    """
    robot.spec.require_task(task)
    if instruction is not None:
        check_instruction(instruction)  # before anything moves
    began_ns = time.monotonic_ns()
    observation = robot.reset(seed, task)
    reset_ns = time.monotonic_ns() - began_ns
    instruction = check_instruction(observation.instruction if instruction is None else instruction)
    policy.reset(instruction, robot.spec)
    for observer in observers:
        observer.began(observation)
    for witness in witnesses:
        witness.began(observation)
    blind = _blind_at_first(robot.spec, observation)
    tally = _Tally(faults={(fault.part, fault.kind): fault for fault in blind}, at_fault=bool(blind))
    while not tally.done and tally.spent < max_steps:
        robot.spec.check_observation(observation)
        try:
            decision = _decide(policy, replace(observation, instruction=instruction))
            steps = list(_carry_out(robot, decision.chunk[: max_steps - tally.spent], observers))
        except InvalidObservationError:
            if not tally.at_fault:
                raise
            robot.stop()
            break
        observation = steps[-1][0].observation
        tally.add(decision, steps)
        for witness in witnesses:
            witness.decided(steps[-1][0])
    for observer in observers:
        observer.ended(tally.success)
    return Episode(
        task=task,
        seed=seed,
        instruction=instruction,
        success=tally.success,
        steps=sum(cycle.steps for cycle in tally.cycles),
        reward=tally.reward,
        reset_ns=reset_ns,
        cycles=tuple(tally.cycles),
        interventions=tuple(tally.interventions),
        observed=bool(observers),
        policy_counts=dict(getattr(policy, "counts", {})),
        faults=tuple(tally.faults.values()),
        health=tally.health,
    )


def check_instruction(text: str) -> str:
    """Return the instruction without surrounding blanks; raise InvalidInstructionError if empty, too long or no text.

    Whether the words can be read is for the policy to say.
    """
    stripped = text.strip()
    if not stripped:
        raise InvalidInstructionError("the instruction is empty; say what to do, as in 'pick up the red cube'")
    if len(stripped) > MAX_INSTRUCTION_CHARACTERS:
        raise InvalidInstructionError(
            f"the instruction has {len(stripped)} characters; at most {MAX_INSTRUCTION_CHARACTERS} are read"
        )
    if any("\ud800" <= character <= "\udfff" for character in stripped):  # of bytes that were not UTF-8
        raise InvalidInstructionError(f"the instruction is not text: it has half a character in {stripped!r}")
    return stripped


@dataclass(frozen=True)
class _Decision:
    """What the policy answered, how long that took, and what the time went into."""

    chunk: Sequence[Action]
    took_ns: int
    stages_ns: Mapping[str, int]


@dataclass
class _Tally:
    """What came of an episode so far."""

    spent: int = 0  # of max_steps
    reward: float = 0.0
    success: bool = False
    done: bool = False
    cycles: list[Cycle] = field(default_factory=list)
    interventions: list[Intervention] = field(default_factory=list)
    faults: dict[tuple[str, str], Fault] = field(default_factory=dict)
    health: dict[str, tuple[float, float]] = field(default_factory=dict)
    at_fault: bool = False  # now

    def add(self, decision: _Decision, timed_steps: Sequence[tuple[Step, int]]) -> None:
        """Add what came of a decision. A dropped action is spent too, else one who is always late would never end."""
        steps = [step for step, _ in timed_steps]
        executed, dropped = sum(step.executed for step in steps), sum(step.dropped for step in steps)
        robot_ns = sum((Counter(step.timing_ns) for step in steps), Counter[str]())
        took_ns = sum(took_ns for _, took_ns in timed_steps)
        self.cycles.append(Cycle(decision.took_ns, took_ns, executed, dropped, decision.stages_ns, dict(robot_ns)))
        self.spent += max(1, executed + dropped)
        self.reward += sum(step.reward for step in steps)
        self.interventions += (intervention for step in steps for intervention in step.interventions)
        self.success, self.done, self.at_fault = steps[-1].success, steps[-1].done, bool(steps[-1].faults)
        for step in steps:
            self.faults |= {(fault.part, fault.kind): fault for fault in step.faults}
            for name, value in step.health.items():
                least, most = self.health.get(name, (value, value))
                self.health[name] = min(least, value), max(most, value)


def _decide(policy: Policy, observation: Observation) -> _Decision:
    began_ns = time.monotonic_ns()
    chunk = policy.act(observation)
    took_ns = time.monotonic_ns() - began_ns
    if not chunk:
        raise InvalidActionError("the policy returned no action")
    return _Decision(chunk, took_ns, dict(getattr(policy, "timing_ns", {})))


def _carry_out(robot: Robot, chunk: Sequence[Action], observers: Sequence[Observer]) -> Iterator[tuple[Step, int]]:
    """Yield the steps that the chunk takes, with the nanoseconds each took; a camera that fails cuts it short."""
    for actions in [[action] for action in chunk] if observers else [chunk]:
        began_ns = time.monotonic_ns()
        step = robot.step(*actions, frames=True)
        took_ns = time.monotonic_ns() - began_ns
        for observer in observers:
            observer.stepped(actions[0], step)
        yield step, took_ns
        if step.done or _blind(robot, step):
            return


def _blind(robot: Robot, step: Step) -> bool:
    """Say whether a camera is at fault and has given no frame."""
    at_fault = {fault.part for fault in step.faults}
    return any(c.name in at_fault and c.name not in step.observation.frames for c in robot.spec.cameras)


def _blind_at_first(spec: RobotSpec, observation: Observation) -> list[Fault]:
    """Return the cameras that gave no frame as the episode began; in a simulation that is a mistake and no fault."""
    missing = [c.name for c in spec.cameras if c.name not in observation.frames] if spec.realtime else []
    return [Fault(name, "camera_lost", "it gave no frame as the episode began") for name in missing]
