"""A run tells of the model that it trains, and refuses a flag that says otherwise of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from embodied.cli import main
from embodied.recording.reader import DatasetReader
from embodied.recording.writer import DatasetWriter
from policies.checkpoint import load_checkpoint
from policies.token import SHIPPED
from policies.training.config import Given, TrainConfig
from policies.training.folder import README
from policies.training.start import WAVES, Data, begin
from tests.training_data import Material


@pytest.fixture(scope="module")
def run(material: Material, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Go on from a checkpoint of 4 actions and 2 image tokens."""
    out = tmp_path_factory.mktemp("run") / "run"
    assert main(material.arguments(out, "--steps", "1", "--save-every", "1")) == 0
    return out


def test_what_a_run_tells_of_its_model_is_what_the_checkpoint_it_began_from_has(run: Path) -> None:
    checkpoint = load_checkpoint(run)
    told = [checkpoint.trained[name] for name in ("chunk", "latents", "history", "backbone", "adapt", "rank", "bits")]
    assert told == [checkpoint.plan.chunk, checkpoint.plan.latents, 0, None, None, None, None] and told[:2] == [4, 2]
    assert "--chunk 4 --latents 2" in (run / README).read_text()


def test_what_a_checkpoint_has_may_be_said(material: Material, tmp_path: Path) -> None:
    said = ("--chunk", "4", "--latents", "2", "--history", "0")
    assert main(material.arguments(tmp_path / "run", "--steps", "1", *said)) == 0


MISTAKES = {
    "another chunk": (("--chunk", "12"), "has chunk 4, not 12; ask for what it has, or begin a fresh model"),
    "other image tokens and a past": (("--latents", "6", "--history", "1"), "latents 2, not 6, history 0, not 1"),
    "what is hidden": (("--denoise", "0.3"), "was made without --denoise and cannot tell what is hidden"),
    "how a backbone that it has not is adapted": (("--adapt", "lora"), "has adapt None, not lora"),
    "an eye beside its own": (("--eye", "."), "--eye . goes with a fresh model, and --start has one"),
    "a backbone that it has not": (("--backbone", "."), "stands on no backbone that it could be"),
}
FRESH = {
    "how none is adapted": (("--adapt", "lora"), "--adapt lora: of a pretrained model, and none is named"),
    "the bits and rank of none": (("--bits", "4", "--rank", "2"), "--rank 2, --bits 4: of a pretrained model"),
    "the eye of another size": (("--eye", "TINY"), "none of its stems is of a size that this model has"),
    "a rank without LoRA": (("--vision", ".", "--adapt", "frozen", "--rank", "2"), "--rank 2: of LoRA's matrices"),
}


@pytest.mark.parametrize("what", [*MISTAKES, *FRESH])
def test_a_flag_that_could_not_be_followed_is_refused(
    material: Material, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    more, said = {**MISTAKES, **FRESH}[what]
    more = tuple(str(material.start) if each == "TINY" else each for each in more)
    arguments = material.arguments(tmp_path / "run", "--steps", "1", *more)
    if what in FRESH:
        at = arguments.index("--start")
        del arguments[at : at + 2]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error and said in error.strip().splitlines()[-1], error
    assert not (tmp_path / "run").exists()


def test_a_fresh_model_may_begin_with_a_trained_eye_and_its_trunk_does_not(material: Material, tmp_path: Path) -> None:
    data = Data.open((Given(material.dataset),))
    config = TrainConfig(data.given, tmp_path / "run", 1, eye=SHIPPED)
    made, trained = begin(config, data), load_checkpoint(SHIPPED).model.state_dict()
    same = {name for name, t in made.model.state_dict().items() if name in trained and t.equal(trained[name])}
    assert {"stems.0.patches.0.weight", "resamplers.0.latents", "text_encoder.norm.weight"} <= same
    assert not any(name.startswith(("trunk.", "ports.", "embedding.")) for name in same)
    assert made.trained["eye"] == "so101" and made.trained["start"] is None
    assert made.model.config.waves == 0 and "resamplers.0.layers.1.look.to_key" in same  # it is told places as before
    assert begin(replace(config, eye=None), data).model.config.waves == WAVES


@pytest.mark.parametrize(
    ("more", "said"),
    [(("--denoise", "0.3"), "denoise 0.0, not 0.3"), (("--chunk", "12", "--rank", "4"), "chunk 4, not 12, rank None")],
)
def test_a_run_that_goes_on_keeps_what_it_began_with(
    material: Material, run: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], said: str
) -> None:
    assert main(material.arguments(run, "--steps", "2", "--resume", *more)) == 2
    assert said in capsys.readouterr().err


def test_a_past_is_refused_where_no_robot_has_a_camera(
    material: Material, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    seeing = DatasetReader(material.dataset)
    sizes = {name: values.shape[1] for name, values in seeing.labels.items()}
    writer = DatasetWriter(tmp_path / "blind", replace(seeing.spec, cameras=()), label_sizes=sizes)
    writer.add(replace(seeing.episode(0), frames={}))
    writer.finish()
    given = [
        "finetune",
        "--dataset",
        str(tmp_path / "blind"),
        "--out",
        str(tmp_path / "run"),
        "--history",
        "2",
        "--steps",
        "1",
    ]
    assert main(given) == 2
    assert "--history 2: of a camera's frames, and no dataset has a camera" in capfd.readouterr().err
    assert not (tmp_path / "run").exists()
