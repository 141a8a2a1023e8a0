"""Episodes a minute of Meta-World: our evaluation beside LeRobot's own environment and loop, turn by turn in one run.

`.venv-metaworld/bin/python -m tests.bench.metaworld_loop`, on a quiet machine. Ours are workers whose robots draw a
frame when the policy looks, a chunk of actions in one message. Theirs is written as lerobot's `MetaworldEnv` and its
evaluation do it, without lerobot: one environment, 480 x 480 with MuJoCo's own rendering, a frame after every step,
whether or not the policy, which has a chunk to hand out, looks at it. Both act by chance, in chunks of one length; an
episode is 500 steps, and a shorter one (`--steps`) is scaled up to that. What is done once a task (building the scene)
is no part of either.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

import envs.gl  # noqa: F401 - chooses how MuJoCo draws, before it is imported
from embodied.rollouts import Job, Setup
from embodied.types import Observation, PoseAction
from embodied.workers import Workers
from envs.metaworld import HORIZON, make
from policies.random import RandomPolicy

SIZE_PX = 480
FIRST_SEED = 1_000_000


class TheirEnvironment:
    """One task as LeRobot's MetaworldEnv has it (lerobot 0.4.4, lerobot/envs/metaworld.py)."""

    def __init__(self, task: str) -> None:
        import metaworld

        benchmark = metaworld.MT1(task, seed=42)
        self._env: Any = benchmark.train_classes[task](render_mode="rgb_array", camera_name="corner2")
        self._env.set_task(benchmark.train_tasks[0])
        self._env.model.cam_pos[2] = [0.75, 0.075, 0.7]
        self._env._freeze_rand_vec = False

    def reset(self, seed: int) -> Observation:
        """Begin an episode."""
        return self._observation(self._env.reset(seed=seed)[0])

    def step(self, action: np.ndarray) -> tuple[Observation, bool]:
        """Carry out one action, and draw."""
        seen, _, _, truncated, info = self._env.step(action)
        return self._observation(seen), bool(info["success"]) or truncated

    def _observation(self, seen: np.ndarray) -> Observation:
        frame = np.flip(self._env.render(), (0, 1)).copy()
        assert frame.shape == (SIZE_PX, SIZE_PX, 3)
        return Observation(0, {"corner2": frame}, seen[:4].astype(np.float32), "")


def their_episode_s(environment: TheirEnvironment, policy: RandomPolicy, seed: int, steps: int) -> float:
    """Return how long an episode takes, scaled to HORIZON steps."""
    began_s = time.perf_counter()
    observation = environment.reset(seed)
    reset_s = time.perf_counter() - began_s
    actions: Iterator[Any] = iter(())
    done = taken = 0
    while taken < steps and not done:
        action = next(actions, None)
        if action is None:
            actions = iter(policy.act(observation))
            action = next(actions)
        assert isinstance(action, PoseAction)
        observation, done = environment.step(action.values)
        taken += 1
    return reset_s + (time.perf_counter() - began_s - reset_s) * HORIZON / taken


def our_episode_s(workers: Workers, task: str, first_seed: int, episodes: int) -> float:
    """Return how long an episode takes with all workers at it, scaled to HORIZON steps."""
    jobs = [Job(task, first_seed + i) for i in range(episodes)]
    began_s = time.perf_counter()
    played = [episode for _, episode in workers.run(jobs)]
    return (time.perf_counter() - began_s) * HORIZON / sum(episode.steps for episode in played)


def main() -> None:
    """Print a line a round, and the ratio of the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="pick-place-v3")
    parser.add_argument("--chunk", type=int, default=10, help="actions between two looks")
    parser.add_argument("--size", type=int, default=128, help="pixels of our frames")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--local", action="store_true", help="robots in the workers' own processes, without gRPC")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=HORIZON, help="of an episode, scaled up to 500")
    parser.add_argument("--episodes", type=int, default=8, help="of ours, a round")
    args = parser.parse_args()
    setup = Setup(
        robot="envs.metaworld",
        policy="policies.random",
        robot_options={"size": args.size},
        policy_options={"horizon": args.chunk},
        remote=not args.local,
        max_steps=args.steps,
    )
    theirs, ours = [], []
    environment, policy = TheirEnvironment(args.task), RandomPolicy(args.chunk)
    policy.reset("chance", _their_spec())
    their_episode_s(environment, policy, 0, 20)  # shaders
    with Workers([setup] * args.workers) as workers:
        our_episode_s(workers, args.task, FIRST_SEED, args.workers)  # scenes
        for number in range(args.rounds):
            theirs.append(their_episode_s(environment, policy, number, args.steps))
            ours.append(our_episode_s(workers, args.task, FIRST_SEED + 100 * number, args.episodes))
            print(f"episodes a minute: theirs {60 / theirs[-1]:.2f}, ours {60 / ours[-1]:.1f}", flush=True)
    where = "in the workers' processes" if args.local else "over gRPC"
    print(
        f"{args.task}, chunks of {args.chunk}, {args.workers} workers {where}, {os.cpu_count()} cores, {args.size} px"
    )
    print(f"ratio of the medians: {np.median(theirs) / np.median(ours):.1f}")


def _their_spec() -> Any:
    """Return the robot's spec with their frames."""
    return make(size=SIZE_PX, effects=True, render=False).spec


if __name__ == "__main__":
    main()
