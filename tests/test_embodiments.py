"""Recordings of one robot are one robot where they agree, and its ranges hold whatever any of them has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embodied.cli import main
from embodied.errors import EmbodiedError, SpecMismatchError
from embodied.recording.foreign import DERIVED
from embodied.recording.format import SPEC, DatasetError
from embodied.recording.reader import DatasetReader
from embodied.types import Field
from policies.embodiments import labels_of, require_part, unite
from policies.examples import Examples
from policies.layout import UNSUPERVISED, Label, Plan, lay_out
from tests.tiny_policy import TOY_LABEL, TOY_PLAN, record_toy, tiny_vocabulary

VOCABULARY = tiny_vocabulary()


@pytest.fixture(scope="module")
def declared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record_toy(tmp_path_factory.mktemp("toy") / "data")


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Record one robot twice without saying which; one of the recordings goes further than the other."""
    folder = tmp_path_factory.mktemp("foreign")
    paths = [record_toy(folder / f"{count}", episodes=count) for count in (1, 4)]
    for path in paths:
        (path / SPEC).unlink()
    return paths


def ends(fields: tuple[Field, ...]) -> np.ndarray:
    return np.array([(field.low, field.high) for field in fields])


def test_recordings_whose_ranges_are_only_seen_make_one_robot_of_the_widest(foreign: list[Path]) -> None:
    short, long = (DatasetReader(path) for path in foreign)
    assert short.spec.version == DERIVED and (ends(short.spec.action) != ends(long.spec.action)).any()
    for order in ((short, long), (long, short)):
        (spec,) = unite(order).values()
        for group in ("state", "action"):
            each = [ends(getattr(reader.spec, group)) for reader in order]
            low, high = ends(getattr(spec, group)).T
            np.testing.assert_array_equal(low, np.min([one[:, 0] for one in each], 0))
            np.testing.assert_array_equal(high, np.max([one[:, 1] for one in each], 0))
        for reader in order:
            require_part(spec, reader.spec, expected="the checkpoint")
            plan = Plan(spec, labels_of([reader]), chunk=3, text_length=8, latents=2)
            assert len(Examples(reader, plan, VOCABULARY)) > 0


def test_a_robot_that_was_declared_is_none_whose_ranges_are_only_seen(declared: Path, foreign: list[Path]) -> None:
    for order in ((declared, foreign[1]), (foreign[1], declared)):
        with pytest.raises(SpecMismatchError, match="version: expected"):
            unite([DatasetReader(path) for path in order])


def test_recordings_whose_ranges_are_only_seen_can_be_merged(foreign: list[Path], tmp_path: Path) -> None:
    assert main(["data", "merge", *map(str, foreign), "--out", str(tmp_path / "all")]) == 0
    merged, readers = DatasetReader(tmp_path / "all"), [DatasetReader(path) for path in foreign]
    assert merged.spec == unite(readers)[merged.spec.name]
    assert len(unite([merged, readers[0]])) == 1  # and what was merged may be mixed with more
    np.testing.assert_array_equal(merged.action, np.concatenate([reader.action for reader in readers]))


@pytest.mark.parametrize(("name", "value"), [("version", "2"), ("watchdog_s", 0.25), ("control_hz", 99.0)])
def test_another_version_watchdog_or_rate_is_another_robot(declared: Path, name: str, value: object) -> None:
    one, other = DatasetReader(declared), DatasetReader(declared)
    other.spec = replace(one.spec, **{name: value})  # type: ignore[arg-type]
    said = rf"{name}: expected {getattr(one.spec, name)}, found {value}"
    with pytest.raises(SpecMismatchError, match=said):
        unite([one, other])
    with pytest.raises(SpecMismatchError, match=said):
        require_part(one.spec, other.spec, expected="the checkpoint")


def test_a_number_that_the_plan_has_no_bin_for_is_named_and_not_clipped(foreign: list[Path]) -> None:
    short, long = (DatasetReader(path) for path in foreign)
    plan = Plan(short.spec, (), chunk=3, text_length=8, latents=2)
    with pytest.raises(DatasetError, match=r"is .* at '.*' in row \d+ \(episode \d, frame \d+\), and its range is"):
        Examples(long, plan, VOCABULARY)


def test_of_a_label_beyond_its_range_nothing_is_asked_and_nothing_is_clipped(declared: Path) -> None:
    """A new task's things may stand where no old one's did: that keeps nobody from learning its actions."""
    reader = DatasetReader(declared)
    reader.labels["target_position"] = reader.labels["target_position"].copy()
    reader.labels["target_position"][7, 1] = 1.5
    samples = Examples(reader, TOY_PLAN, VOCABULARY).samples(np.array([6, 7]))
    sequences = lay_out(TOY_PLAN, instruction=samples.instruction, state=samples.state, labels=samples.labels)
    asked = sequences.locate_targets[:, 0] != UNSUPERVISED
    assert asked.tolist() == [[True, True, True], [True, False, True]]


def test_a_label_of_another_size_than_the_plans_is_named(declared: Path) -> None:
    plan = replace(TOY_PLAN, labels=(Label(TOY_LABEL.name, TOY_LABEL.fields[:2]),))
    with pytest.raises(EmbodiedError, match="'target_position' has 3 numbers; the plan takes 2"):
        Examples(DatasetReader(declared), plan, VOCABULARY)
