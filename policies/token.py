"""The token policy: an observation becomes a sequence, the model answers in tokens, the tokens become actions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from embodied.errors import (
    EmbodiedError,
    InvalidInstructionError,
    InvalidObservationError,
    ProtocolError,
    SpecMismatchError,
)
from embodied.loop import check_instruction
from embodied.types import Action, Observation, PoseAction, RobotSpec, Vector
from policies.batch import Part, pack
from policies.checkpoint import Checkpoint, load_checkpoint
from policies.grammar import SkillTree, parse, write_pose
from policies.hold import HoldPolicy
from policies.layout import Gaps, Plan, lay_out
from policies.losses import likely_bins, mean_bins, quantile_bins
from policies.memory import Memory, require_horizon
from policies.model import Answers
from policies.values import decode_values, ranges
from policies.vocabulary import EOS, TEXT

SHIPPED = Path(__file__).parent / "checkpoints" / "so101"
OLD_WEIGHT = 0.5  # of a prediction, for each answer that came after it


def make(
    checkpoint: Path = SHIPPED,
    *,
    horizon: int = 3,
    mode: Literal["pose", "text"] = "pose",
    ensemble: bool = True,
    embodiment: str | None = None,
    backbone: str | None = None,
    vision: str | None = None,
    rows: int | None = None,
    sampling: float = 0.0,
) -> TokenPolicy:
    """Load a checkpoint; horizon is how many steps of a chunk are handed out before looking again.

    embodiment is the name of the robot it is to drive, by default whichever it is begun with; backbone and vision are
    where its pretrained folders are now, if not where they were when it was trained. rows is how many observations a
    forward pass answers, always, filled up where fewer ask: an answer is then the same to the last bit whoever else
    asks at the same time, where it else differs in the rounding of sums (in passes of one thread, as a server's are).

    sampling draws poses in place of the likeliest: from the middle 0.8 of each distribution with 0.8, from all of it
    with 1. So a robot that would stand still for ever, as the likeliest is to wait, does in time what is likely too.
    """
    base, sight = (Path(folder) if folder else None for folder in (backbone, vision))
    loaded = load_checkpoint(Path(checkpoint), backbone=base, vision=sight)
    return TokenPolicy(
        loaded,
        horizon=horizon,
        mode=mode,
        ensemble=ensemble,
        embodiment=embodiment,
        rows=rows,
        sampling=sampling,
    )


class Instruction(NamedTuple):
    """What an episode is begun with."""

    ids: list[int]
    read: torch.Tensor  # (1, text_length, vision width) what the model's eye was told


class TokenPolicy:
    """A trained model as a Policy: poses a chunk at a time, ensembled over time, or one text action."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        horizon: int | None = 3,
        mode: Literal["pose", "text"] = "pose",
        ensemble: bool = True,
        embodiment: str | None = None,
        rows: int | None = None,
        sampling: float = 0.0,
    ) -> None:
        """Act as make says; a horizon of None is all of a chunk, for one who says himself when to look again."""
        if not isinstance(ensemble, bool):  # the command line hands over text where it reads no JSON
            raise EmbodiedError(f"ensemble is {ensemble!r}; it takes true or false")
        if mode not in ("pose", "text"):
            raise EmbodiedError(f"no output mode {mode!r}; a token policy has ['pose', 'text']")
        if rows is not None and (rows < 1 or mode == "text"):
            raise EmbodiedError(f"rows is {rows} in mode {mode}; it is at least 1, and goes with mode pose")
        if not isinstance(sampling, int | float) or not 0 <= sampling <= 1:
            raise EmbodiedError(f"sampling is {sampling!r}; it is a share of each distribution, from 0 to 1")
        if sampling and mode == "text":
            raise EmbodiedError(f"sampling is {sampling} in mode text; it goes with mode pose")
        self.checkpoint, self.mode, self.ensemble, self._sampling = checkpoint, mode, ensemble, sampling
        self._horizon, self._embodiment, self._rows = horizon, embodiment, rows
        self._drive(checkpoint.plan if embodiment is None else checkpoint.plan_of(embodiment))
        self.labels: dict[str, Vector] = {}  # where the policy believes the named things are
        self.outside = 0  # state numbers so far that lay out of their field's range
        self._instruction: Instruction | None = None
        self._spec = self.plan.spec
        self._hold = HoldPolicy()
        self._chunks: list[tuple[int, NDArray[np.float32]]] = []  # (step it began at, (chunk, n)), oldest first
        self._looked: tuple[int, int] | None = None  # when (ns) and at which step of its own plan it last did

    @property
    def spec(self) -> RobotSpec:
        """Return the robot it was trained for; of several that which it drives, before the first reset the first."""
        return self.plan.spec

    @property
    def chunk(self) -> int:
        """Return how many actions an answer hands out."""
        return self.horizon if self.mode == "pose" else 1

    @property
    def last_boxes(self) -> dict[str, tuple[float, float, float, float]]:
        """Return the boxes (y1, x1, y2, x2), fractions of the first camera's frame, that the policy last located."""
        return {
            name.removesuffix("_box"): (float(box[0]), float(box[1]), float(box[2]), float(box[3]))
            for name, box in self.labels.items()
            if name.endswith("_box")
        }

    def whole(self) -> TokenPolicy:
        """Return the same policy handing out each chunk whole and not ensembled, for one who blends them himself."""
        return self._like(horizon=None, ensemble=False)

    def reset(self, instruction: str, spec: RobotSpec) -> None:
        """Begin an episode.

        Raise SpecMismatchError listing every difference to the robot it was trained for, to that of its name where
        there are several, and InvalidInstructionError for a sentence that is empty, too long, or mostly of words it
        never saw.
        """
        self._instruction = None  # a refused reset leaves nothing to act on
        self._drive(self._plan_for(spec))
        self.plan.spec.require_same(spec, expected="the checkpoint")
        if self.mode == "text" and not spec.skills:
            raise EmbodiedError(f"robot {spec.name!r} has no skills, so there is no text action to choose")
        ids = self._read(check_instruction(instruction))
        self._hold.reset(instruction, spec)
        with torch.inference_mode():
            self._instruction = Instruction(ids, self.checkpoint.model.read(self.plan, ids))
        self._spec, self._chunks, self.outside, self.labels = spec, [], 0, {}
        self._looked = None
        self._rng = np.random.default_rng(0)  # every episode draws alike, so it can be played again

    def act(self, observation: Observation) -> Sequence[Action]:
        """Return the next horizon actions, or one text action."""
        (answer,) = self.act_together([self], [observation])
        if isinstance(answer, EmbodiedError):
            raise answer
        return answer

    def fork(self) -> TokenPolicy:
        """Return a policy for another episode at the same time, not yet reset, of the same model."""
        return self._like(horizon=self._horizon, ensemble=self.ensemble)

    @classmethod
    @torch.inference_mode()
    def act_together(
        cls, policies: Sequence[TokenPolicy], observations: Sequence[Observation]
    ) -> list[Sequence[Action] | EmbodiedError]:
        """Return what each policy, forks of one another, answers to its observation, or refuses it with.

        One forward pass answers all of one robot. Sums are then taken in another order than for one alone, so logits
        differ in their last bits, unless each pass is of the same number of rows.
        """
        refusals = [policy._refusal(observation) for policy, observation in zip(policies, observations, strict=True)]
        asked = [row for row, refusal in enumerate(refusals) if refusal is None]
        answers: dict[int, Sequence[Action]] = {}
        for robot in dict.fromkeys(policies[row].plan.spec.name for row in asked):
            rows = [row for row in asked if policies[row].plan.spec.name == robot]
            at_once = policies[rows[0]]._rows or len(rows)
            for some in (rows[start : start + at_once] for start in range(0, len(rows), at_once)):
                found = _answer([policies[row] for row in some], [observations[row] for row in some])
                answers.update(zip(some, found, strict=True))
        return [answers[row] if refusal is None else refusal for row, refusal in enumerate(refusals)]

    def _like(self, *, horizon: int | None, ensemble: bool) -> TokenPolicy:
        return TokenPolicy(
            self.checkpoint,
            horizon=horizon,
            mode=self.mode,
            ensemble=ensemble,
            embodiment=self._embodiment,
            rows=self._rows,
            sampling=self._sampling,
        )

    def _plan_for(self, spec: RobotSpec) -> Plan:
        """Return the plan for a robot; raise SpecMismatchError where it was trained for several and not for this."""
        if self._embodiment is not None or len(self.checkpoint.plans) == 1:
            return self.plan
        found = {plan.spec.name: plan for plan in self.checkpoint.plans}
        if spec.name not in found:
            difference = f"name: expected one of {[*found]}, found {spec.name}"
            raise SpecMismatchError("the checkpoint", f"robot {spec.name!r}", [difference])
        return found[spec.name]

    def _drive(self, plan: Plan) -> None:
        """Turn to a plan, remembering nothing; raise EmbodiedError for a horizon that does not suit it."""
        horizon = plan.chunk if self._horizon is None else self._horizon
        if not isinstance(horizon, int) or not 1 <= horizon <= plan.chunk:
            raise EmbodiedError(f"horizon {horizon} is not within the chunk of 1 to {plan.chunk} steps")
        if self._horizon is not None:
            require_horizon(plan, horizon)
        self.plan, self.horizon, self._memory = plan, horizon, Memory(plan)

    def _refusal(self, observation: Observation) -> EmbodiedError | None:
        if self._instruction is None:
            return ProtocolError("act before reset: begin an episode first")
        try:
            self._spec.check_observation(observation)
        except EmbodiedError as error:
            return error
        cameras = self.plan.spec.cameras
        if missing := [c.name for c in cameras if c.name not in observation.frames]:
            return InvalidObservationError(f"no frame of {missing} in the observation; it has {[*observation.frames]}")
        return None

    def _decide(self, tokens: list[int], observation: Observation) -> Sequence[Action]:
        """Read an answer."""
        actions = parse(tokens, self._spec, self.checkpoint.vocabulary, chunk=self.plan.chunk)
        if actions is None:
            return self._hold.act(observation)
        if self.mode == "text":
            return actions
        chunk = np.stack([a.values for a in actions if isinstance(a, PoseAction)])
        return [PoseAction(values) for values in self._blend(observation.time_ns, chunk)[: self.horizon]]

    def _read(self, instruction: str) -> list[int]:
        words = re.findall(r"\w+", instruction.lower())
        unknown = [word for word in words if word not in self.checkpoint.words]
        if not words:
            raise InvalidInstructionError(f"the instruction has no words: {instruction[:80]!r}")
        if len(unknown) > len(words) / 2:
            raise InvalidInstructionError(
                f"the policy was trained on {len(self.checkpoint.words)} English words and does not know {unknown[:8]}"
            )
        ids = self.checkpoint.vocabulary.encode_text(instruction)
        if len(ids) > self.plan.text_length:
            raise InvalidInstructionError(
                f"the instruction has {len(ids)} tokens; the policy reads at most {self.plan.text_length}"
            )
        return ids

    def _draw(self) -> torch.Tensor:
        """Draw the quantile (n,) of each field that all steps of a chunk take, so that they are one answer."""
        drawn = self._rng.random(len(self.plan.spec.action), np.float32)
        return torch.from_numpy(0.5 + self._sampling * (drawn - 0.5))

    def _locate(self, bins: NDArray[np.float32]) -> None:
        for label, row in zip(self.plan.labels, bins, strict=True):
            low, high = ranges(label.fields)
            self.labels[label.name] = decode_values(row[: len(label.fields)], low, high).astype(np.float32)

    def _blend(self, time_ns: int, chunk: NDArray[np.float32]) -> NDArray[np.float32]:
        """Average each step with what earlier chunks said of it (temporal ensembling, Zhao et al. 2023)."""
        now = self._step_at(time_ns)
        self._chunks = [(at, old) for at, old in self._chunks if at < now < at + len(old)] if self.ensemble else []
        total, weight = chunk.astype(np.float64), np.ones((len(chunk), 1))
        for age, (at, old) in enumerate(reversed(self._chunks), start=1):
            ahead = old[now - at :]
            total[: len(ahead)] += OLD_WEIGHT**age * ahead
            weight[: len(ahead)] += OLD_WEIGHT**age
        self._chunks.append((now, chunk))
        return (total / weight).astype(np.float32)

    def _step_at(self, time_ns: int) -> int:
        """Return how far the plan got: no further than what was handed out, for then the robot waits."""
        last_ns, last = self._looked or (time_ns, 0)
        passed = round((time_ns - last_ns) * 1e-9 * self._spec.control_hz)
        self._looked = (time_ns, last + min(passed, self.horizon))
        return self._looked[1]


def _answer(policies: Sequence[TokenPolicy], observations: Sequence[Observation]) -> list[Sequence[Action]]:
    """Answer observations that can be read, of forks of one policy, in one forward pass."""
    first = policies[0]
    plan, model = first.plan, first.checkpoint.model
    past = [policy._memory.recall(o) for policy, o in zip(policies, observations, strict=True)]
    # Rows that nobody asked for are like the first, and what they are answered goes nowhere.
    filled = [*range(len(policies)), *[0] * ((first._rows or 0) - len(policies))]
    told = [instruction for row in filled if (instruction := policies[row]._instruction)]
    shown, past = [observations[row] for row in filled], [past[row] for row in filled]
    gaps = Gaps(past=np.array([there for _, there in past]).reshape(len(past), plan.history))
    sequences = lay_out(plan, instruction=[i.ids for i in told], state=np.stack([o.state for o in shown]), gaps=gaps)
    frames = [torch.from_numpy(np.stack([o.frames[c.name] for o in shown])) for c in plan.spec.cameras]
    remembered = torch.from_numpy(np.stack([frames for frames, _ in past])) if plan.history else None
    part = Part(plan, sequences, frames, remembered, torch.cat([i.read for i in told]))
    writes = first.mode == "text"
    # One alone needs no padding; of several all are padded alike, whoever they are, and so is what is written to.
    batch = pack([part], 0 if writes or len(filled) > 1 else plan.prefix)
    (answers,) = model(batch, use_cache=writes)
    located, outside = mean_bins(answers.locate).numpy(), sequences.outside.sum(1)
    written = _spell(policies, answers) if writes else _point(policies, answers)
    actions = []
    for row, (policy, observation) in enumerate(zip(policies, observations, strict=True)):
        policy.outside += int(outside[row])
        policy._locate(located[row])
        actions.append(policy._decide(written[row], observation))
    return actions


def _point(policies: Sequence[TokenPolicy], answers: Answers) -> list[list[int]]:
    poses = answers.pose[: len(policies)]
    if policies[0]._sampling:
        bins = quantile_bins(poses, torch.stack([policy._draw() for policy in policies])[:, None])
    else:
        bins = likely_bins(poses).round().long()
    return [write_pose(each) for each in bins.numpy()]


def _spell(policies: Sequence[TokenPolicy], answers: Answers) -> list[list[int]]:
    """Write text actions token by token, all rows in step, each until its own end."""
    checkpoint = policies[0].checkpoint
    trees = [SkillTree(policy._spec.skills, checkpoint.vocabulary) for policy in policies]
    written = [[TEXT] for _ in policies]
    writing = {row: allowed for row, tree in enumerate(trees) if (allowed := tree.allowed([]))}
    length = policies[0].plan.prefix
    while writing:
        logits = checkpoint.model.next_text([answer[-1] for answer in written], answers, length)
        length += 1
        for row, allowed in list(writing.items()):
            del writing[row]
            likely = logits[row, allowed]
            if likely.isnan().any():
                continue  # prefers nothing, so it says nothing
            written[row].append(allowed[int(likely.argmax())])
            if written[row][-1] != EOS and (allowed := trees[row].allowed(written[row][1:])):
                writing[row] = allowed
    return written
