"""A report's numbers are right, and two reports compare only where they share their seeds."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embodied.comparison import IncomparableReportsError, Pairs, compare_reports, mcnemar_exact, protocol_differences
from embodied.intervals import mean_interval, wilson_interval
from embodied.loop import Cycle, Episode
from embodied.report import build_report, protocol_hash
from embodied.summary import summarise
from embodied.types import Fault, Intervention

PROTOCOL = {
    "robot": {"spec": {"name": "dummy", "control_hz": 10.0}},
    "policy": {"module": "policies.hold", "checkpoint_sha256": None, "privileged": False},
    "instruction": None,
    "execution": {"mode": "sync", "delay_ms": 0},
}


def episode(task: str, seed: int, success: bool, *, act_ms: float = 2.0, observed: bool = False) -> Episode:
    return Episode(
        task=task,
        seed=seed,
        instruction="reach for the red cube",
        success=success,
        steps=8,
        reward=0.0,
        reset_ns=5_000_000,
        cycles=(Cycle(int(act_ms * 1e6), 8_000_000, 4), Cycle(int(act_ms * 1e6), 8_000_000, 4)),
        interventions=(Intervention("position", "pan", 9.0, 1.5),) * 2,
        observed=observed,
    )


def report(outcomes: str, first_seed: int = 1_000_000, task: str = "reach") -> dict:
    return build_report(PROTOCOL, [episode(task, first_seed + i, c == "1") for i, c in enumerate(outcomes)], {})


@pytest.mark.parametrize(
    ("successes", "episodes", "low", "high"),
    # The first is Newcombe's worked example (Statistics in Medicine 17 (1998), 857-872, table I).
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_intervals_are_those_of_the_literature(successes, episodes, low, high):
    assert wilson_interval(successes, episodes) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_wilson_interval_holds_the_rate_lies_in_0_to_1_and_mirrors(pair):
    successes, episodes = pair
    low, high = wilson_interval(successes, episodes)
    assert 0 <= low <= successes / episodes <= high <= 1
    mirrored = wilson_interval(episodes - successes, episodes)
    assert (1 - mirrored[1], 1 - mirrored[0]) == pytest.approx((low, high))


def test_more_successes_than_episodes_is_refused():
    with pytest.raises(ValueError, match="21 of 20"):
        wilson_interval(21, 20)


def test_a_report_counts_by_task_and_averages_over_tasks():
    episodes = [episode("reach", 1_000_000 + i, i < 3) for i in range(4)]
    episodes += [episode("stack", 1_000_000 + i, False) for i in range(2)]
    made = build_report(PROTOCOL, episodes, {"workers": 1})
    assert made["tasks"]["reach"]["outcomes"] == [1, 1, 1, 0]
    assert made["tasks"]["reach"]["seeds"] == [1_000_000, 1_000_001, 1_000_002, 1_000_003]
    assert (made["tasks"]["stack"]["episodes"], made["tasks"]["stack"]["successes"]) == (2, 0)
    assert made["mean_of_tasks"] == pytest.approx(0.375) and made["mean_of_tiers"] is None
    assert made["safety"] == {"interventions": {"position": 12}, "episodes_with_interventions": 6}
    assert made["versions"]["numpy"] and json.loads(json.dumps(made)) == made


def test_a_robot_that_says_how_hard_its_tasks_are_has_tiers_in_its_report():
    spec = {"name": "d", "control_hz": 10.0, "tasks": ["reach", "push", "stack"], "tiers": ["easy", "easy", "hard"]}
    made = build_report({**PROTOCOL, "robot": {"spec": spec}}, tiered_episodes(), {})
    assert {name: tier["tasks"] for name, tier in made["tiers"].items()} == {
        "easy": ["reach", "push"],
        "hard": ["stack"],
    }
    assert (made["tiers"]["easy"]["episodes"], made["tiers"]["easy"]["successes"]) == (8, 6)
    assert made["tiers"]["easy"]["wilson95"] == pytest.approx(wilson_interval(6, 8))
    assert made["mean_of_tiers"] == pytest.approx((6 / 8 + 1 / 4) / 2) and made["mean_of_tasks"] == pytest.approx(
        7 / 12
    )
    summary = summarise(made)
    assert "| easy | 2     | 8        | 6         | 75.0% | 40.9% to 92.9% |" in summary
    assert "Mean over tiers: 50.0%, 95 % interval " in summary and "Mean over tasks: 58.3%, 95 % interval " in summary


def tiered_episodes() -> list[Episode]:
    outcomes = {"reach": "1111", "push": "1100", "stack": "1000"}
    return [episode(task, 10 + i, c == "1") for task, row in outcomes.items() for i, c in enumerate(row)]


def test_the_mean_of_one_rate_has_its_wilson_interval_and_more_of_them_a_narrower_one():
    assert mean_interval([(15, 20)]) == pytest.approx((0.75, *wilson_interval(15, 20)))
    mean, low, high = mean_interval([(15, 20), (5, 20)])
    assert mean == 0.5 and high - low < wilson_interval(15, 20)[1] - wilson_interval(15, 20)[0]
    with pytest.raises(ValueError, match="no results"):
        mean_interval([])


def test_a_mean_interval_holds_the_true_mean_as_often_as_it_says():
    rng, rates = np.random.default_rng(0), np.array([0.95, 0.6, 0.3, 0.8])
    drawn = rng.binomial(20, rates, (1000, 4))
    ends = [mean_interval([(int(k), 20) for k in row])[1:] for row in drawn]
    assert 0.94 <= np.mean([low <= rates.mean() <= high for low, high in ends]) <= 0.98


def test_latencies_are_of_the_unobserved_episodes_and_steps_are_counted_singly():
    made = build_report(PROTOCOL, [episode("reach", 1, True), episode("reach", 2, True, act_ms=900, observed=True)], {})
    assert made["latency_ms"]["act"] == {"p50": 2.0, "p95": 2.0, "p99": 2.0}
    assert made["latency_ms"]["step"]["p50"] == 2.0 and made["latency_ms"]["reset"]["p99"] == 5.0
    assert made["control"]["rate_hz"] == pytest.approx(400.0) and made["control"]["cycles"] == 2


def test_every_stage_is_of_a_whole_cycle_under_its_owners_name():
    cycles = [Cycle(9, 9, 2, 0, {"work": 3_000_000}, {"motion": 8_000_000, "wire": ms * 1_000_000}) for ms in (1, 2, 3)]
    made = build_report(PROTOCOL, [replace(episode("reach", 1, True), cycles=tuple(cycles))], {})
    latency = made["latency_ms"]
    assert list(latency) == ["act", "step", "reset", "policy.work", "robot.motion", "robot.wire"]
    assert latency["robot.wire"]["p50"] == 2.0 and latency["robot.motion"]["p99"] == 8.0
    assert "| robot.wire   | 2.00   |" in summarise(made)


def test_actions_are_counted_by_what_became_of_them():
    late = Intervention("late", "pan", 0.1, 0.2)
    dropping = replace(
        episode("reach", 1, False),
        cycles=(Cycle(1, 1, 0, 3), Cycle(1, 1, 8, 1)),
        interventions=(late, late),
        policy_counts={"chunks": 5, "stale_chunks": 2},
    )
    made = build_report(PROTOCOL, [dropping, episode("reach", 2, True)], {})
    assert made["actions"] == {"executed": 16, "dropped": 4, "late": 2, "chunks": 5, "stale_chunks": 2}
    assert made["latency_ms"]["step"]["p99"] < 3  # a cycle without a step has no time a step
    assert "4 dropped, 2 late, 5 chunks, 2 stale_chunks" in summarise(made)


def test_an_episode_of_nothing_but_late_actions_can_be_reported():
    made = build_report(PROTOCOL, [replace(episode("reach", 1, False), steps=0, cycles=(Cycle(1, 1, 0, 3),))], {})
    assert "step" not in made["latency_ms"] and made["control"]["rate_hz"] == 0.0
    assert summarise(made)


def test_a_cycle_longer_than_its_control_periods_is_over_budget():
    made = build_report(PROTOCOL, [episode("reach", 1, True, act_ms=393), episode("reach", 2, True, act_ms=391)], {})
    assert made["control"]["over_budget_cycles"] == 2  # of four: a cycle of 4 steps at 10 Hz has 400 ms


def test_waiting_for_real_time_to_pass_is_not_over_budget_and_counts_for_the_rate():
    waiting = Cycle(1_000_000, 104_000_000, 1, 0, {}, {"wait": 90_000_000})
    made = build_report(PROTOCOL, [replace(episode("reach", 1, True), cycles=(waiting,) * 8)], {})
    assert made["control"]["over_budget_cycles"] == 0
    assert made["control"]["rate_hz"] == pytest.approx(1 / 0.105)


def test_the_protocols_hash_ignores_order_and_sees_every_value():
    assert protocol_hash({"a": 1, "b": {"c": 2}}) == protocol_hash({"b": {"c": 2}, "a": 1})
    assert protocol_hash({"a": 1, "b": {"c": 2}}) != protocol_hash({"a": 1, "b": {"c": 3}})


def test_the_summary_says_what_a_reader_looks_for():
    text = summarise(report("1101"))
    for part in ("dummy · policies.hold", "| reach | 4        | 3         | 75.0% | 30.1% to 95.4%", "8 position"):
        assert part in text


def test_pairs_fall_by_who_succeeded():
    assert compare_reports(report("110010"), report("011010")) == {"reach": Pairs(2, 1, 1, 2)}


@pytest.mark.parametrize(
    ("b", "c", "p"),
    [
        *[(0, 0, 1.0), (5, 5, 1.0), (0, 5, 0.0625), (2, 8, 0.109375), (1, 9, 0.021484)],
        *[(515, 515, 1.0), (485, 515, 0.359117), (0, 5_000, 0.0)],  # beyond the range of a float
        (9800, 10_000, 0.157292),
    ],
)
def test_mcnemars_exact_test_is_the_two_sided_binomial(b, c, p):
    assert mcnemar_exact(b, c) == mcnemar_exact(c, b) == pytest.approx(p, abs=1e-6)


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (report("11", task="push"), "tasks"),
        (report("11", first_seed=1_000_001), "seeds of reach: 2 from 1000000 to 1000001 | 2 from 1000001 to 1000002"),
        (report("111"), "seeds of reach"),
    ],
)
def test_reports_without_shared_seeds_are_not_compared(other, difference):
    with pytest.raises(IncomparableReportsError) as refusal:
        compare_reports(report("10"), other)
    assert difference in str(refusal.value)


def test_protocol_differences_are_named_by_their_path():
    other = {**PROTOCOL, "instruction": "push the blue cube"}
    assert protocol_differences(PROTOCOL, other) == ["protocol.instruction: None | push the blue cube"]


def test_what_a_body_says_of_itself_is_in_the_report_and_only_then():
    assert "hardware" not in report("10")
    hot = Fault("gripper", "temperature", "61 °C; it may have 55")
    episodes = [
        replace(episode("reach", 1, True), health={"bus.retries": (0.0, 2.0)}),
        replace(episode("reach", 2, False), health={"bus.retries": (2.0, 5.0), "x": (1.0, 1.0)}, faults=(hot,)),
    ]
    built = build_report(PROTOCOL, episodes, {})
    assert built["hardware"]["faults"] == {"gripper temperature": 1}
    assert built["hardware"]["health"] == {"bus.retries": [0.0, 5.0], "x": [1.0, 1.0]}
    assert "faults of the robot: 1 gripper temperature." in summarise(built)
