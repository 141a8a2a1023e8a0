"""The loop: one episode of a policy on a robot, with what every stage of it took."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from embodied.errors import InvalidActionError, InvalidInstructionError
from embodied.types import Action, Intervention, Observation, Policy, Robot, Step

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


@dataclass(frozen=True)
class Cycle:
    """One decision: the policy's time, the robot's time for the whole chunk, and the actions carried out."""

    act_ns: int
    step_ns: int
    steps: int


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


def run_episode(
    robot: Robot,
    policy: Policy,
    *,
    task: str,
    seed: int,
    instruction: str | None = None,
    max_steps: int = MAX_STEPS,
    observers: Sequence[Observer] = (),
) -> Episode:
    """Run one episode to its end, or for exactly max_steps, and return what came of it.

    The instruction is the robot's own unless given; the robot judges success by its own either way. Without
    observers a chunk is one message, and only its last step is rendered, since the policy looks at nothing between.
    With any the chunk goes action by action; the outcome is the same.
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

    cycles: list[Cycle] = []
    interventions: list[Intervention] = []
    steps, reward, success, done = 0, 0.0, False, False
    while not done and steps < max_steps:
        robot.spec.check_observation(observation)
        chunk, act_ns = _decide(policy, replace(observation, instruction=instruction))
        step_ns = executed = 0
        for step, took_ns in _carry_out(robot, chunk[: max_steps - steps], observers):
            step_ns += took_ns
            executed += step.executed
            reward += step.reward
            interventions += step.interventions
            observation, success, done = step.observation, step.success, step.done
        steps += executed
        cycles.append(Cycle(act_ns, step_ns, executed))
    for observer in observers:
        observer.ended(success)
    return Episode(
        task=task,
        seed=seed,
        instruction=instruction,
        success=success,
        steps=steps,
        reward=reward,
        reset_ns=reset_ns,
        cycles=tuple(cycles),
        interventions=tuple(interventions),
        observed=bool(observers),
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


def _decide(policy: Policy, observation: Observation) -> tuple[Sequence[Action], int]:
    """Return what the policy answers, with the nanoseconds it took."""
    began_ns = time.monotonic_ns()
    chunk = policy.act(observation)
    took_ns = time.monotonic_ns() - began_ns
    if not chunk:
        raise InvalidActionError("the policy returned no action")
    return chunk, took_ns


def _carry_out(robot: Robot, chunk: Sequence[Action], observers: Sequence[Observer]) -> Iterator[tuple[Step, int]]:
    """Yield the steps that the chunk takes, with the nanoseconds each took."""
    for actions in [[action] for action in chunk] if observers else [chunk]:
        began_ns = time.monotonic_ns()
        step = robot.step(*actions, frames=True)
        took_ns = time.monotonic_ns() - began_ns
        for observer in observers:
            observer.stepped(actions[0], step)
        yield step, took_ns
        if step.done:
            return
