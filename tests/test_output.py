"""An output folder appears whole or not at all, and what a fault left is found again."""

from pathlib import Path

import pytest

from embodied.cli.rollout_output import claimed
from embodied.errors import EmbodiedError
from embodied.output import output_folder


@pytest.mark.parametrize("name", ["run", "run[a]", "run*", "run?"])
def test_what_was_left_is_gone_on_with_whatever_the_folder_is_called(name: str, tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        output_folder(tmp_path / name, marker="report", keep=lambda _: True, begun="journal") as left,
    ):
        (left / "journal").touch()
        raise KeyboardInterrupt
    with output_folder(tmp_path / name, marker="report", begun="journal") as again:
        assert again == left
    assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name / "journal").exists()


def test_a_folder_that_another_holds_is_neither_kept_nor_removed(tmp_path: Path) -> None:
    asked: list[Path] = []
    with output_folder(tmp_path / "run", marker="report", begun="journal", claim=claimed) as held:
        (held / "journal").touch()
        with (
            pytest.raises(EmbodiedError, match="still writing"),
            output_folder(
                tmp_path / "run", marker="report", keep=lambda f: bool(asked.append(f)), begun="journal", claim=claimed
            ),
        ):
            pytest.fail("it was begun")
        assert not asked and (held / "journal").exists()
    assert (tmp_path / "run" / "journal").exists()
