"""The stage: lays out a seed's task around the arm, as the simulator would, and says when it has succeeded."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np

from envs.scene import CONTROL_PERIOD_S
from envs.tasks import Task, all_tasks
from tests.servo_emulator.world import World

STEPS_OF_SUCCESS = 3  # envs.so101's; importing that costs a second and a solver
SETTLE_S = 0.3  # until the cubes lie still


class Stage:
    """One scene at a time, judged once a control period of the physics' own time."""

    def __init__(self, world: World, grace_s: float) -> None:
        """Call an episode a failure that takes grace_s longer than the task's horizon."""
        self.outcome: bool | None = None
        self.instruction = ""
        self._world, self._grace_s = world, grace_s
        self._tasks = all_tasks()
        self._task: Task | None = None
        self._tell: Callable[[bool], None] = lambda outcome: None
        self._since_s = self._elapsed_s = 0.0
        self._streak = 0
        world.each_step.append(self._step)

    def begin(self, seed: int, name: str, tell: Callable[[bool], None]) -> str:
        """Lay out the scene of task and seed and return the instruction; tell is called once with the outcome.

        Raise ValueError for a task that does not exist or a negative seed.
        """
        if name not in self._tasks:
            raise ValueError(f"no task {name!r}; there are {sorted(self._tasks)}")
        if seed < 0:
            raise ValueError(f"a seed is 0 or more, got {seed}")
        task = self._tasks[name]
        # The streams of envs.so101: the same seed is the same layout and the same words.
        layout_rng, words_rng, _ = np.random.default_rng([seed, *name.encode()]).spawn(3)
        layout = task.layout(layout_rng)
        colours = (layout.item(layout.target).colour, layout.item(layout.goal).colour)
        instruction = task.instruction(words_rng, *colours)
        with self._world.lock:
            self._world.scene.lay_out(layout)
            self._task, self._tell, self.outcome = task, tell, None
            self.instruction = instruction
            self._since_s = self._elapsed_s = 0.0
            self._streak = 0
        time.sleep(SETTLE_S)
        return instruction

    def objects(self) -> dict[str, list[float]]:
        """Return where everything on the table is, m in the base frame; call it under the world's lock."""
        scene = self._world.scene
        if self._task is None:
            return {}
        scene.refresh()
        return {item.name: scene.position(item.name).tolist() for item in scene.shown.items}

    def _step(self, dt_s: float) -> None:
        if self._task is None or self.outcome is not None:
            return
        self._elapsed_s += dt_s
        self._since_s += dt_s
        if self._since_s < CONTROL_PERIOD_S - dt_s / 2:
            return
        self._since_s = 0.0
        scene = self._world.scene
        scene.refresh()
        self._streak = self._streak + 1 if self._task.success(scene) else 0
        if self._streak >= STEPS_OF_SUCCESS:
            self._settle(True)
        elif self._elapsed_s >= self._task.horizon * CONTROL_PERIOD_S + self._grace_s:
            self._settle(False)

    def _settle(self, outcome: bool) -> None:
        self.outcome = outcome
        threading.Thread(target=self._tell, args=(outcome,), daemon=True).start()  # the physics waits for no socket
