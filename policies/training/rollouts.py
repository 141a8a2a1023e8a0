"""Rollouts while training goes on: a process of its own runs the policy as it is, on seeds that nothing else uses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from policies.checkpoint import CONFIG, TOKENIZER, WEIGHTS
from policies.training.config import RolloutPlan

SEED = 900_000_000  # evaluations count from 1 000 000 up, and none comes as far
FOLDER = "rollouts"
PATIENCE_S = 600.0  # for the last one, once training is over


class Rollouts:
    """At most one at a time; one that is not over when the next is due is waited for."""

    def __init__(self, out: Path, plan: RolloutPlan) -> None:
        self._out, self.plan = out, plan
        self._process: subprocess.Popen[bytes] | None = None
        self._step = 0

    def begin(self, step: int) -> None:
        """Begin to run the checkpoint in the run's folder, as it is now."""
        self._step, folder = step, self._out / FOLDER / f"{step:08d}"
        checkpoint = folder / "checkpoint"  # a copy: the run's own is replaced meanwhile
        checkpoint.mkdir(parents=True, exist_ok=True)
        for name in (CONFIG, WEIGHTS, TOKENIZER):
            shutil.copy2(self._out / name, checkpoint / name)
        command = [
            sys.executable,
            "-m",
            "embodied",
            "rollout",
            "--robot",
            self.plan.robot,
            "--policy",
            "policies.token",
        ]
        command += ["--checkpoint", str(checkpoint), "--task", self.plan.task, "--episodes", str(self.plan.episodes)]
        command += ["--seed", str(SEED), "--videos", "1", "--out", str(folder / "report"), "--force"]
        with (folder / "rollout.log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=_environment())

    def poll(self, *, wait: bool = False) -> dict[str, Any] | None:
        """Return what the rollouts begun last came to, once they are over; None before that."""
        if self._process is None:
            return None
        try:
            code = self._process.wait(PATIENCE_S) if wait else self._process.poll()
        except subprocess.TimeoutExpired:
            self.close()
            return {"rollout_step": self._step, "rollout_failed": f"not over after {PATIENCE_S:g} s"}
        if code is None:
            return None
        self._process = None
        return {"rollout_step": self._step, **self._read(code)}

    def close(self) -> None:
        """End what still runs."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def _read(self, code: int) -> dict[str, Any]:
        folder = self._out / FOLDER / f"{self._step:08d}"
        shutil.rmtree(folder / "checkpoint", ignore_errors=True)
        if code != 0:
            lines = (folder / "rollout.log").read_text(errors="replace").strip().splitlines()
            return {"rollout_failed": lines[-1] if lines else f"exit status {code}"}
        report = json.loads((folder / "report" / "report.json").read_text())
        tasks = {name: task["successes"] / task["episodes"] for name, task in report["tasks"].items()}
        return {"rollout_success": float(report["mean_of_tasks"]), **{f"rollout_{n}": v for n, v in tasks.items()}}


def _environment() -> dict[str, str]:
    """Return the environment less what torchrun put there: a rollout is no part of the team."""
    team = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    return {k: v for k, v in os.environ.items() if k not in team and not k.startswith("TORCHELASTIC")}
