"""The doctor names what is there, what is not, and the command that mends it; its exit status can be trusted."""

import json

import pytest

from embodied.cli import main
from embodied.cli.doctor import EXTRAS, Finding, examine, render_error


def test_the_exit_status_agrees_with_the_findings(capsys):
    status = main(["doctor", "--json"])
    report = json.loads(capsys.readouterr().out)
    missing = [f["name"] for f in report["findings"] if f["needed"] and not f["ok"]]
    assert report["ready"] == (missing == [])
    assert status == (0 if report["ready"] else 1)


def test_everything_that_fails_has_a_command_that_mends_it():
    findings = list(examine())
    assert {"python", "cores", "memory", "disk", "gpu"} <= {f.name for f in findings}
    assert all(f.mend for f in findings if not f.ok)


def test_every_extra_is_looked_at():
    names = {f.name.partition(":")[0] for f in examine()}
    assert set(EXTRAS) <= names


def test_a_backend_that_cannot_render_says_why():
    error = render_error("nonsense")
    assert error is not None
    assert "nonsense" in error


@pytest.mark.parametrize(("needed", "mark", "status"), [(True, "MISSING", 1), (False, "absent", 0)])
def test_a_missing_thing_is_shown_with_its_command(monkeypatch, capsys, needed, mark, status):
    finding = Finding("arm", "no arm", ok=False, needed=needed, mend="install arm")
    monkeypatch.setattr("embodied.cli.doctor.examine", lambda: [finding])
    assert main(["doctor"]) == status
    shown = capsys.readouterr().out
    assert f"{mark:8} arm: no arm" in shown
    assert "mend: install arm" in shown
