"""The toy robot, in tiers, that kills its own process where a test wants it to.

MORTAL_ROBOT is "always", "slow", or a file in which a first death is written and which spares the second.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

from embodied.safety import SafeRobot
from embodied.types import Action, Step
from tests.toy_world import ToyRobot

FATAL = ("push", 1_000_002)


class MortalRobot(ToyRobot):
    def __init__(self) -> None:
        super().__init__(16, -1)
        self.spec = replace(self.spec, tiers=("easy", "hard"))

    def step(self, *actions: Action, frames: bool = True) -> Step:
        will = os.environ.get("MORTAL_ROBOT", "")
        if will == "slow":
            time.sleep(0.003)
        elif will and (self.task, self.seed) == FATAL and self.steps == 5 and not Path(will).exists():
            if will != "always":
                Path(will).write_text(f"{self.task} {self.seed}\n")
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(*actions, frames=frames)


def make() -> SafeRobot[MortalRobot]:
    return SafeRobot(MortalRobot())
