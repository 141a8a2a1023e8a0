"""From a run's config to what is trained, and what on: a fresh model for the data, a given one, or the run's own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from embodied.errors import EmbodiedError
from embodied.holding import require_holdable
from embodied.recording.reader import DatasetReader
from embodied.types import RobotSpec
from policies.backbones.words import load_vocabulary
from policies.checkpoint import Checkpoint, load_checkpoint
from policies.denoising import Denoising
from policies.embodiments import by_robot, labels_of, require_part, unite
from policies.examples import Examples
from policies.layout import Plan
from policies.mixture import Mixture, Source
from policies.model import ModelConfig, PolicyModel
from policies.refusing import Refusing
from policies.texts import Texts, read_texts
from policies.training.config import CHUNK, LATENTS, Given, TrainConfig
from policies.training.form import require_no_eye, require_same_model, require_same_run, require_use, settle
from policies.vocabulary import Vocabulary

ROOM = 4  # tokens that a plan's instruction has room for beyond the longest that it was made for
EYE = ("stems.", "resamplers.", "text_encoder.")
WAVES = 5  # octaves: the highest turns eight times in a frame
REBUILD = 8  # cells a side of a frame that is denoised


@dataclass(frozen=True)
class Data:
    """The datasets of a run, opened."""

    given: tuple[Given, ...]
    readers: tuple[DatasetReader, ...]

    @classmethod
    def open(cls, given: Sequence[Given]) -> Data:
        """Read them; raise DatasetError for one that is absent or broken, EmbodiedError where there is none."""
        if not given:
            raise EmbodiedError("there is no demonstration to learn from; give a --dataset")
        return cls(tuple(given), tuple(DatasetReader(each.path) for each in given))

    @property
    def instructions(self) -> list[str]:
        """Return the instructions of all datasets."""
        return [text for reader in self.readers for text in reader.instructions]

    @property
    def episodes(self) -> int:
        """Return how many episodes there are."""
        return sum(len(reader.episodes) for reader in self.readers)


def go_on(config: TrainConfig, data: Data) -> Checkpoint:
    """Return the checkpoint of the run in config.out, whose plans and vocabulary its weights are bound to.

    Raise SpecMismatchError for data of another robot, EmbodiedError for a change that would make it another run.
    """
    run = load_checkpoint(config.out, backbone=config.backbone, vision=config.vision)
    _require_known(run, data, f"the run in {config.out}")
    require_same_run(config, run)
    return run


def begin(config: TrainConfig, data: Data) -> Checkpoint:
    """Return what a run begins with: config.start with the data's words added to it, or a fresh model for the data.

    Raise EmbodiedError for what the config asks of the model and it does not have.
    """
    words = frozenset(re.findall(r"\w+", " ".join(data.instructions).lower()))
    if config.start is not None:
        start = load_checkpoint(config.start, backbone=config.backbone, vision=config.vision)
        _require_known(start, data, f"checkpoint {config.start}")
        require_no_eye(config)
        require_same_model(config, start)
        made = replace(start, words=start.words | words)
        made.model.config = replace(made.model.config, shrink=config.shrink or made.model.config.shrink)
    else:
        require_use(config)
        made = _fresh(config, data, words)
    _require_pixels(made.model)
    return made.with_trained(settle(config, made).account(0))


def _require_pixels(model: PolicyModel) -> None:
    """Raise EmbodiedError where a shrunk frame has fewer pixels a side than a grid cell."""
    if model.eye is not None:
        return  # which takes frames of any size
    for plan in model.plans:
        for camera, stride in zip(plan.spec.cameras, model.config.strides, strict=False):
            side = round(model.config.shrink * min(camera.height, camera.width))
            if side < stride:
                raise EmbodiedError(
                    f"--shrink {model.config.shrink:g} leaves {side} pixels a side of {camera.name!r}, which has "
                    f"{camera.width}x{camera.height}; a cell of the grid takes {stride}"
                )


def _fresh(config: TrainConfig, data: Data, words: frozenset[str]) -> Checkpoint:
    vocabulary = load_vocabulary(config.backbone) if config.backbone else Vocabulary.train(_corpus(config, data))
    plans = _plans(config, data, vocabulary)
    cameras = max(len(plan.spec.cameras) for plan in plans)
    if config.history and not cameras:
        raise EmbodiedError(f"--history {config.history}: of a camera's frames, and no dataset has a camera")
    eye = load_checkpoint(config.eye).model if config.eye else None
    sizes = ModelConfig(
        waves=eye.config.waves if eye else WAVES,
        shrink=config.shrink or 1.0,
        strides=_strides(plans, cameras),
        backbone=config.pretrained(config.backbone),
        vision=config.pretrained(config.vision),
    )
    model = PolicyModel(plans, sizes, vocabulary.size)
    if eye:
        _take_eye(model, eye, config)
    return Checkpoint(model, vocabulary, words, {})


def _strides(plans: Sequence[Plan], cameras: int) -> tuple[int, ...]:
    """Return how many pixels a grid cell has: 4, and 8 in frames beside the first but where they are half as wide."""
    sides = [max(plan.spec.cameras[i].width for plan in plans if i < len(plan.spec.cameras)) for i in range(cameras)]
    return tuple(4 if i == 0 or 2 * side <= sides[0] else 8 for i, side in enumerate(sides))


def _take_eye(model: PolicyModel, eye: PolicyModel, config: TrainConfig) -> None:
    """Begin with a checkpoint's eye: what it sees with, and how it reads; raise EmbodiedError where none of it fits."""
    trained, own = eye.state_dict(), model.state_dict()
    fits = {n: t for n, t in trained.items() if n.startswith(EYE) and n in own and own[n].shape == t.shape}
    if not any(name.startswith(EYE[0]) for name in fits):
        raise EmbodiedError(f"--eye {config.eye}: none of its stems is of a size that this model has")
    model.load_state_dict(fits, strict=False)


def mix(config: TrainConfig, data: Data, checkpoint: Checkpoint) -> Mixture:
    """Return what batches are drawn from."""
    sources = [
        Source(_examples(reader, checkpoint), given.weight, given.share)
        for given, reader in zip(data.given, data.readers, strict=True)
    ]
    texts = [Source(Texts(given.path, checkpoint.vocabulary), given.weight, given.share) for given in config.texts]
    if config.refuse:
        _require_refusals(data)
    denoising, refusing = Denoising(config.denoise), Refusing(config.refuse)
    return Mixture([*sources, *texts], width=config.pack, denoising=denoising, refusing=refusing)


def _require_refusals(data: Data) -> None:
    """Raise EmbodiedError where no dataset has another task's sentence, SpecMismatchError for a robot not held."""
    for reader in data.readers:
        require_holdable(reader.spec, "--refuse")
    tasks = [{episode.task for episode in reader.episodes} for reader in data.readers]
    if all(len(each) < 2 for each in tasks):
        alone = sorted(set().union(*tasks))
        raise EmbodiedError(f"--refuse takes another task's sentence, and each dataset has one task alone: {alone}")


def _examples(reader: DatasetReader, checkpoint: Checkpoint) -> Examples:
    return Examples(reader, checkpoint.plan_of(reader.spec.name), checkpoint.vocabulary)


def _plans(config: TrainConfig, data: Data, vocabulary: Vocabulary) -> list[Plan]:
    longest = max(len(vocabulary.encode_text(text)) for text in data.instructions)
    specs: Mapping[str, RobotSpec] = unite(data.readers)
    return [
        Plan(
            spec=specs[robot],
            labels=labels_of(readers),
            chunk=config.chunk or CHUNK,
            text_length=longest + ROOM,
            latents=config.latents or LATENTS,
            history=config.history or 0,
            rebuild=REBUILD if config.denoise else 0,
        )
        for robot, readers in by_robot(data.readers).items()
    ]


def _corpus(config: TrainConfig, data: Data) -> list[str]:
    corpus = [*data.instructions, *(skill for reader in data.readers for skill in reader.spec.skills)]
    corpus += sorted({text for reader in data.readers for text in reader.text if text})
    return corpus + [text for given in config.texts for pair in read_texts(given.path) for text in pair if text]


def _require_known(checkpoint: Checkpoint, data: Data, expected: str) -> None:
    """Raise unless the checkpoint was made for each dataset's robot, and its plan has room for what is said there."""
    plans = {plan.spec.name: plan for plan in checkpoint.plans}
    for reader in data.readers:
        plan = plans.get(reader.spec.name, checkpoint.plan)
        require_part(plan.spec, reader.spec, expected=expected)
