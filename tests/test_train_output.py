"""What a person sees of a run: a dry run, logs, samples, pictures, a folder that explains itself, rollouts."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from embodied.cli import main
from policies.checkpoint import CONFIG
from policies.train import Given, TrainConfig
from policies.training.folder import CURVES, EVENTS, LOG, README, SAMPLES
from tests.training_data import Material, losses_of


@pytest.fixture(scope="module")
def run(material: Material, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train, with rollouts of the toy robot at the end."""
    out = tmp_path_factory.mktemp("output") / "run"
    rollouts = ("--rollout", "tests.toy_world", "--rollout-every", "4", "--rollout-episodes", "1")
    assert main(material.arguments(out, "--steps", "4", "--save-every", "2", "--pack", "60", *rollouts)) == 0
    return out


def log_of(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / LOG).read_text().splitlines()]


def test_every_save_tells_losses_by_kind_and_pace(run: Path) -> None:
    for entry in log_of(run)[:2]:
        assert {"loss", "loss_pose", "loss_locate", "loss_text", "tokens_per_s", "of_matrix_rate"} <= entry.keys()
        assert 0.0 <= entry["waiting"] <= 1.0 and 0.0 < entry["used"] <= 1.0


def test_every_step_is_logged_once(run: Path) -> None:
    assert [entry["step"] for entry in losses_of(run)] == [1, 2, 3, 4]


def test_samples_show_what_was_said_answered_and_true(run: Path) -> None:
    text = (run / SAMPLES / "00000004.txt").read_text()
    assert "the target" in text and "answered" in text and "true" in text and "gripper" in text


def test_pictures_show_where_the_image_tokens_looked(run: Path) -> None:
    picture = cv2.imread(str(run / SAMPLES / "00000004.png"))
    assert picture is not None and picture.std() > 0
    assert cv2.imread(str(run / CURVES)) is not None


def test_rollouts_of_the_policy_as_it_is_are_in_the_log(run: Path) -> None:
    (entry,) = [entry for entry in log_of(run) if "rollout_step" in entry]
    assert entry["rollout_step"] == 4 and 0.0 <= entry["rollout_success"] <= 1.0, entry
    report = json.loads((run / "rollouts" / "00000004" / "report" / "report.json").read_text())
    assert min(seed for task in report["tasks"].values() for seed in task["seeds"]) >= 900_000_000
    assert not (run / "rollouts" / "00000004" / "checkpoint").exists()


def test_tensorboard_has_the_numbers(run: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(run / EVENTS))
    events.Reload()
    assert [event.step for event in events.Scalars("loss_pose")] == [2, 4]


def test_the_folder_explains_itself(material: Material, run: Path) -> None:
    text = (run / README).read_text()
    for said in ("toy_data", "embodied finetune --dataset", "--pack 60", "--resume", "embodied serve", "torch 2."):
        assert said in text, said


def test_the_command_of_a_readme_is_the_run(material: Material) -> None:
    config = TrainConfig((Given(Path("a b"), 2.0), Given(Path("old"), share=0.2)), Path("out"), 7, precision="fp32")
    command = config.command(world=2)
    assert command == (
        "torchrun --nproc-per-node 2 -m -- embodied finetune --dataset 'a b:2' --dataset old:20% --out out --steps 7 "
        "--precision fp32"
    )


def test_a_dry_run_tells_what_a_run_needs_and_writes_nothing(
    material: Material, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(material.arguments(tmp_path / "run", "--steps", "100", "--dry-run")) == 0
    said = capsys.readouterr().out
    for what in ("parameters", "tokens a batch", "padded", "packed", "memory", "activations", "s a step", "disk"):
        assert what in said, said
    assert not (tmp_path / "run").exists()


def mistakes(material: Material) -> dict[str, tuple[tuple[str, ...], str]]:
    return {
        "a weight that is none": (("--weight", "pose=much"), "--weight takes TERM=X"),
        "a term that is none": (("--weight", "joy=1"), "no term 'joy'; the loss has"),
        "a negative weight": (("--weight", "pose=-1"), "the weight of pose is -1"),
        "a decay of more than all": (("--decay", "2"), "the decay is 2"),
        "a share of all": (("--dataset", f"{material.dataset}:100%"), "it takes a percentage between 0 and 100"),
        "a dataset of no weight": (("--dataset", f"{material.dataset}:0"), "it takes a number above 0"),
        "denoising of everything": (("--denoise", "1"), "the share of denoising is 1"),
        "rollouts of what is not saved": (
            ("--save-every", "2", "--rollout", "tests.toy_world", "--rollout-every", "3"),
            "the number of steps between rollouts is 3; it takes a multiple of the 2 between two saves",
        ),
        "a text that is not there": (("--text", "nowhere.txt"), "nowhere.txt: cannot be read"),
    }


def test_a_mistake_is_one_line_and_nothing_is_written(
    material: Material, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for what, (more, said) in mistakes(material).items():
        assert main(material.arguments(tmp_path / "run", "--steps", "1", *more)) == 2, what
        error = capsys.readouterr().err
        assert "Traceback" not in error and said in error.strip().splitlines()[-1], (what, error)
        assert not (tmp_path / "run").exists(), what


def test_a_checkpoint_tells_nothing_of_where_it_was_made(run: Path, tmp_path: Path) -> None:
    assert str(tmp_path.parent) not in (run / CONFIG).read_text()
