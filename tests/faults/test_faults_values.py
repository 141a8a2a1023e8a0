"""Commands of any numbers: what is not finite, out of range, too far or too fast never reaches the servos."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.faults.processes import Host, host
from tests.faults.trials import Table
from tests.faults.wire import alive, step
from tests.live_robot import JOINTS, SPEC
from tests.raw_operator import RawOperator

CONTROL_HZ = 50.0  # an action is two ticks long: many commands in little time
FLOATS = st.floats(width=32) | st.sampled_from([1.0, -1.0, 1e30, -1e30, 3.4e38, 1e-45, 0.0])
CHUNKS = st.integers(1, 12).flatmap(lambda k: arrays(np.float32, (k, len(JOINTS)), elements=FLOATS))


@pytest.fixture
def operator(live: Host) -> Iterator[RawOperator]:
    with RawOperator(live.address) as operator, alive(operator):
        operator.begin(task="sweep")
        yield operator


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("joint", JOINTS)
def test_a_number_that_is_not_finite_drops_the_whole_command(joint: str, bad: float, operator: RawOperator) -> None:
    values = np.array([0.5, 0.5])  # of a command that is not carried out, `forbidden` included
    values[JOINTS.index(joint)] = bad
    reply = operator.ask(step=step([values]))
    (change,) = reply.step.interventions
    assert (change.kind, change.field) == ("non_finite", joint)
    assert repr(change.requested) == repr(float(bad)) and np.isfinite(change.applied)


@pytest.mark.parametrize("far", [1.5, 1e30, -1e30])
def test_a_command_out_of_range_is_limited_to_the_range_and_reported(far: float, operator: RawOperator) -> None:
    reply = operator.ask(step=step([[far, 0.0]] * 10))
    kinds = {change.kind for change in reply.step.interventions}
    assert "position" in kinds and "velocity" in kinds
    assert abs(np.frombuffer(reply.step.observation.state.data, "<f4")).max() <= 1.0


def send_anything(live: Host, examples: int) -> int:
    """Send arbitrary chunks; return how many actions."""
    sent = 0
    with RawOperator(live.address, timeout_s=600) as operator, alive(operator):
        operator.begin(task="sweep")

        @given(poses=CHUNKS)
        @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
        def any_chunk_is_carried_out_within_the_limits(poses: np.ndarray) -> None:
            nonlocal sent
            reply = operator.ask(step=step(poses))
            assert reply.step.executed == len(poses)
            for change in reply.step.interventions:
                assert np.isfinite(change.applied)
            sent += len(poses)

        any_chunk_is_carried_out_within_the_limits()
    return sent


@pytest.mark.parametrize("examples", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_whatever_is_commanded_the_setpoints_stay_within_the_limits(
    examples: int, tmp_path_factory: pytest.TempPathFactory, table: Table
) -> None:
    with host(tmp_path_factory.mktemp("live"), "--realtime", control_hz=CONTROL_HZ, watchdog_s=5.0) as live:
        sent = send_anything(live, examples)
        live.evidence.wait_for_rest()
        live.evidence.check(forbidden=False)
        setpoints = live.evidence.read()["setpoint"]
        assert np.abs(np.diff(setpoints, axis=0)).max() > 0.9 * SPEC.limits.velocity[0] / 100  # it did try
    table.add("arbitrary commands (Hypothesis)", "setpoints, judged one by one", [len(setpoints)])
    assert sent >= examples
