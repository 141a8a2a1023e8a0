"""The conformance suite: our servers pass it, and those broken on purpose fail it where they are broken."""

from __future__ import annotations

import json
import socket
from random import Random

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from embodied.bridge.conformance import describe
from embodied.bridge.conformance.bench import Bench
from embodied.bridge.conformance.reflection import differences
from embodied.bridge.conformance.suite import CHECKS, GATES, check_robot, choose_checks, name_of
from embodied.bridge.credentials import ServerCredentials
from embodied.bridge.policy_server import serve_policy
from embodied.bridge.robot_client import RemoteRobot
from embodied.bridge.robot_server import serve_robot
from embodied.cli import main
from embodied.errors import EmbodiedError, UnknownNameError
from embodied.modules import open_robot
from embodied.v1 import robot_pb2 as pb
from embodied.v1 import types_pb2 as types
from policies.hold import make as make_hold
from tests import broken_servers as broken
from tests.broken_servers import Tampering, tampered
from tests.certificates import make_folder
from tests.dummy_robot import DummyRobot
from tests.paced_robot import PacedRobot

TIMEOUT_S = 10.0


def failures(address: str, only: str = "", **options) -> dict[str, str]:
    results = check_robot(address, checks=choose_checks(only), **{"timeout_s": TIMEOUT_S, **options})
    return {result.name: result.reason for result in results if result.verdict == "fail"}


@pytest.mark.parametrize(("robot", "options"), [("tests.dummy_robot", {}), ("envs.so101", {"size": 32})])
def test_our_own_servers_pass(robot, options):
    with serve_robot(lambda: open_robot(robot, options)) as server:
        results = list(check_robot(server.address))
        assert {r.name: r.reason for r in results if r.verdict == "fail"} == {}
        assert [r.name for r in results] == [name_of(check) for check in CHECKS]
        assert all(r.requirement.endswith(".") and r.seconds >= 0 for r in results)
        assert all(r.reason for r in results if r.verdict == "skip")
        with RemoteRobot(server.address) as next_operator:  # it is left free and not stopped
            next_operator.reset(0, next_operator.spec.tasks[0])


def test_a_real_robot_passes_and_is_only_held():
    robot = PacedRobot(period_s=0.05, realtime=True, watchdog_s=0.5)
    with serve_robot(lambda: robot) as server:
        results = list(check_robot(server.address))
    assert {r.name: r.reason for r in results if r.verdict == "fail"} == {}
    passed = {r.name for r in results if r.verdict == "pass"}
    assert {"watchdog.a_silent_operator_loses_a_real_robot", "stop.the_emergency_stop_cuts_a_motion_short"} <= passed
    assert "actions.what_is_not_finite_is_held_and_reported" in passed
    assert "limits.a_command_out_of_range_is_limited" not in passed  # nothing bounds how far it would go


def test_without_motion_nothing_is_reset_or_stepped():
    dummy = DummyRobot()
    with serve_robot(lambda: dummy) as server:
        results = list(check_robot(server.address, motion=False))
    assert dummy.resets == dummy.steps == 0
    assert {r.name: r.reason for r in results if r.verdict == "fail"} == {}
    skipped = {r.name for r in results if r.verdict == "skip" and "--no-motion" in r.reason}
    assert "actions.what_is_not_finite_is_held_and_reported" in skipped
    assert {r.name for r in results if r.verdict == "pass"} >= {
        "describe.reflects_the_schema",
        "handshake.refuses_another_version",
        "lease.of_two_who_race_one_wins",
        "stop.the_emergency_stop_latches",
    }


BREAKAGES = {
    "ignores the lease": (
        Tampering(request=broken.without_lease),
        {
            "lease.a_second_operator_is_refused": "FAILED_PRECONDITION; found opened",
            # Whom the second takes over from is thrown out before he hears that he was let in, or after.
            "lease.of_two_who_race_one_wins": (
                "expected one winner in round 1 of 20; found 2",
                "expected FAILED_PRECONDITION for the loser; found ABORTED",
            ),
        },
    ),
    "carries out late actions": (
        Tampering(request=broken.without_deadline),
        {
            "deadlines.late_actions_are_dropped": "executed 0, dropped 3 of a late chunk; found a step, executed 3",
            "deadlines.late_actions_take_no_time": "time_ns",
        },
    ),
    "forgets the emergency stop": (
        Tampering(after={"EmergencyStop": ("ReleaseEmergencyStop", b"")}),
        {
            "stop.the_emergency_stop_latches": "the first' in a second EmergencyStop; found",
            "stop.a_latched_robot_refuses_to_move": "an error of ERROR_CODE_STOPPED in answer to a step while",
            "stop.a_latch_outlives_sessions": "an error of ERROR_CODE_STOPPED in answer to a reset",
        },
    ),
    "takes NaN": (
        Tampering(robot=broken.NanRobot),
        {
            "actions.what_is_not_finite_is_held_and_reported": "expected a finite state after nan in 'pan'",
            "actions.what_is_not_finite_holds_in_a_chunk_too": "an intervention non_finite of each of",
        },
    ),
    "sends frames of another size": (
        Tampering(robot=broken.SmallRobot),
        {
            "frames.come_when_asked_for": "frame 'front' to be uint8 (224, 224, 3); found uint8 (112, 224, 3)",
            "frames.are_of_an_encoding_on_offer": "found uint8 (112, 224, 3)",
            "frames.in_shared_memory_equal_raw_ones": "found uint8 (112, 224, 3)",
        },
    ),
    "takes a client of any version": (
        Tampering(request=broken.of_any_version),
        {"handshake.refuses_another_version": "an open of version 99; found opened"},
    ),
    "takes a client of any robot": (
        Tampering(request=broken.to_any_robot),
        {
            "handshake.refuses_another_robot_with_every_difference": "found opened",
            "handshake.refuses_another_order_of_joints": "expects the action ['grip', 'lift', 'pan']; found opened",
        },
    ),
    "tells of one difference": (
        Tampering(reply=broken.with_one_difference),
        {"handshake.refuses_another_robot_with_every_difference": "found that ['control_hz', 'pan', 'high', 'elapsed'"},
    ),
    "does not repeat the sequence": (
        Tampering(reply=broken.without_sequence),
        {"episode.echoes_the_sequence": "expected sequence 7 in the reply to reset; found 0"},
    ),
    "refuses without the choices": (
        Tampering(reply=broken.with_nameless_refusals),
        {"episode.refuses_an_unknown_task": "found that ['reach', 'wait'] is not in 'no'"},
    ),
    "forgets the seed": (
        Tampering(robot=broken.ForgetfulRobot),
        {"episode.repeats_itself": "the reset of two episodes of one seed; found that they differ in ['state'"},
    ),
    "does not say what it limited": (
        Tampering(reply=broken.without_interventions),
        {"limits.a_command_out_of_range_is_limited": "an intervention position of 'pan' after"},
    ),
    "does not keep to its limits": (
        Tampering(robot=broken.UnlimitedRobot),
        {
            "limits.a_step_command_keeps_to_the_velocity": "an intervention velocity or acceleration of 'pan' where",
            "limits.a_step_command_keeps_to_the_acceleration": "in one control period; found a step, executed 1",
        },
    ),
    "only says that it keeps to its limits": (
        Tampering(robot=broken.BoastfulRobot),
        {
            "limits.a_step_command_keeps_to_the_velocity": "expected 'pan' to move by at most",
            "limits.a_step_command_keeps_to_the_acceleration": "expected 'pan' to move by at most",
        },
    ),
    "does not hear heartbeats": (
        Tampering(request=broken.without_heartbeats),
        {"watchdog.heartbeats_keep_the_session": "expected 2 stalls counted; found 3"},
    ),
    "has two cameras of one name": (
        Tampering(answers={"Describe": broken.with_twins}),
        {
            "describe.speaks_this_version": "expected protocol 2; found 1",
            "describe.names_are_unique": "found ['front'] more than once",
            "describe.ranges_are_finite": "expected finite low < high of state field 'pan'; found [-1.5, inf]",
            "describe.tiers_fit_the_tasks": "expected no tiers or 2, one a task; found ['easy']",
        },
    ),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_broken_server_fails_where_it_is_broken_and_is_told_why(breakage):
    tampering, expected = BREAKAGES[breakage]
    (group,) = {name.partition(".")[0] for name in expected}
    with tampered(tampering) as address:
        found = failures(address, group)
        # What is broken on purpose is all that fails of its group, and nobody is left holding or stopping the robot.
        assert {name for name in found if name.startswith(f"{group}.")} == set(expected)
        for name, words in expected.items():
            assert any(word in found[name] for word in ([words] if isinstance(words, str) else words))
        assert "afterwards.the_robot_is_left_free" not in failures(address, "afterwards")


def test_the_wire_between_is_not_what_fails():
    with tampered(Tampering()) as address:
        assert failures(address) == {}


def test_a_server_that_keeps_the_lease_of_one_who_left_fails():
    name = "lease.the_end_of_the_stream_frees_the_robot"
    with tampered(Tampering(lingers=True)) as address:
        found = failures(address, name, timeout_s=1.0)
    assert found == {name: "the stream was still open 1 s after its client had ended it"}


def test_an_emergency_stop_that_cannot_be_released_fails():
    with tampered(Tampering(answers={"ReleaseEmergencyStop": broken.latched_still})) as address:
        found = failures(address, "stop.the_emergency_stop_latches")
    (reason,) = found.values()
    assert reason == "expected the emergency stop to be released; found that it is latched still"


def test_answers_that_are_garbage_are_failures_and_no_traceback():
    def garble(answer: bytes) -> bytes:
        return answer[: random.randrange(len(answer) + 1)] + random.randbytes(random.randrange(4))

    random = Random(1)
    with tampered(Tampering(answers={"Control": garble, "Watch": garble})) as address:
        checks = [check for check in CHECKS if check not in GATES]  # so that none is skipped for another
        results = list(check_robot(address, checks=[describe.answers, *checks], timeout_s=1.0))
    assert sum(r.verdict == "fail" for r in results) > 20


def test_a_traceback_in_any_error_fails():
    with tampered(Tampering(reply=broken.with_a_traceback)) as address:
        checks = [*choose_checks("faults.an_empty_request_is_refused"), *choose_checks("afterwards")[-2:]]
        found = {r.name: r.reason for r in check_robot(address, checks=checks) if r.verdict == "fail"}
    assert list(found) == ["afterwards.no_error_carries_a_traceback"]
    assert "expected words for people" in found["afterwards.no_error_carries_a_traceback"]


def test_a_server_that_never_answers_is_a_failed_check_and_not_a_hang():
    with tampered(Tampering(reply=broken.never)) as address:
        results = list(check_robot(address, timeout_s=0.3))
    failed = {r.name: r.reason for r in results if r.verdict == "fail"}
    assert failed == {"handshake.opens": "expected a reply to open; found none within 0.3 s"}
    assert {r.reason for r in results if r.name.startswith("actions.")} == {"no session can be opened"}


def test_a_server_that_describes_nothing_in_time_is_a_failed_check():
    with tampered(Tampering(answers={"Describe": broken.hangs})) as address:
        results = list(check_robot(address, timeout_s=0.3))
    failed = [r for r in results if r.verdict == "fail"]
    assert failed[0].name == "describe.answers" and failed[0].reason == "Describe was not answered within 0.3 s"
    assert {r.verdict for r in results if r.name.startswith("episode.")} == {"skip"}


def test_a_schema_that_differs_is_told_by_name():
    ours, theirs = FileDescriptorProto(), FileDescriptorProto()
    types.DESCRIPTOR.CopyToProto(ours)
    theirs.CopyFrom(ours)
    assert differences([ours], [theirs]) == []
    field = next(m for m in theirs.message_type if m.name == "Camera").field
    field[1].number, field[1].name = 7, field[1].name
    del field[3]
    assert differences([ours], [theirs]) == [
        "embodied.v1.Camera.height: expected uint32 = 2, found uint32 = 7",
        "embodied.v1.Camera.fovy_deg is missing",
    ]
    assert len(differences([theirs], [ours])) == 1  # what only the server has is no difference


def test_a_schema_from_before_a_robot_could_tell_tiers_and_origin_is_as_good():
    ours, older = FileDescriptorProto(), FileDescriptorProto()
    types.DESCRIPTOR.CopyToProto(ours)
    older.CopyFrom(ours)
    del next(m for m in older.message_type if m.name == "RobotSpec").field[-1]
    older.message_type.remove(next(m for m in older.message_type if m.name == "Origin"))
    assert differences([ours], [older]) == []


def test_the_command_prints_every_check_and_exits_with_0_or_1(capfd):
    with serve_robot(DummyRobot) as server:
        assert main(["check", server.address, "--only", "lease"]) == 0
        said = capfd.readouterr().out
        assert "pass  lease.of_two_who_race_one_wins" in said and ", 0 failed, 0 skipped" in said
    with tampered(Tampering(request=broken.without_lease)) as address:
        assert main(["check", address, "--only", "lease", "--json"]) == 1
    report = json.loads(capfd.readouterr().out)
    (second,) = (c for c in report["checks"] if c["name"] == "lease.a_second_operator_is_refused")
    assert second["verdict"] == "fail" and second["requirement"].startswith("A second operator is refused")
    assert report["fail"] == 2 and report["pass"] + report["fail"] + report["skip"] == len(report["checks"])


def test_it_does_not_touch_a_robot_that_somebody_else_holds_or_stopped(capfd):
    with serve_robot(DummyRobot) as server, RemoteRobot(server.address) as operator:
        operator.reset(0, "wait")
        assert main(["check", server.address]) == 2
        assert "error: the robot is held by" in capfd.readouterr().err
        operator.close()
        assert main(["stop", server.address]) == 0
        assert main(["check", server.address]) == 2
        assert "embodied stop" in capfd.readouterr().err
        assert main(["stop", server.address, "--status"]) == 1  # it is still latched


def test_an_interrupted_check_leaves_the_robot_free_and_not_stopped():
    def interrupted(bench: Bench) -> None:
        bench.begin()
        bench.press()
        raise KeyboardInterrupt

    with serve_robot(DummyRobot) as server:
        with pytest.raises(KeyboardInterrupt):
            list(check_robot(server.address, checks=[describe.answers, interrupted]))
        with RemoteRobot(server.address) as next_operator:
            next_operator.reset(0, "wait")


def test_an_emergency_stop_that_a_person_presses_meanwhile_stays_latched():
    with serve_robot(DummyRobot) as server:
        results = check_robot(server.address)
        with pytest.raises(EmbodiedError, match="was pressed by a person"):
            for result in results:
                if result.name == "episode.begins":
                    press(server.address, "a person")
        assert main(["stop", server.address, "--status"]) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "'nowhere' is no address"),
        (["127.0.0.1:1"], "the robot server at 127.0.0.1:1 cannot be reached: nobody listens there"),
        (["127.0.0.1:1", "--only", "dance"], "no check 'dance'; the suite has ['actions', 'actions."),
        (["127.0.0.1:1", "--tls", "/no/such"], "/no/such/authority.pem"),
        (["127.0.0.1:1", "--token", "/no/such"], "/no/such"),
        (["127.0.0.1:1", "--timeout", "0"], "must be above 0 and finite"),
        (["127.0.0.1:1", "--timeout", "soon"], "must be a number"),
    ],
)
def test_a_mistake_of_the_users_is_one_line_and_status_2(arguments, words, capfd):
    assert main(["check", *arguments]) == 2
    said = capfd.readouterr().err
    assert words in said and "Traceback" not in said


def test_what_is_no_robot_server_is_told(capfd):
    with serve_policy(make_hold) as policy:
        assert main(["check", policy.address]) == 2
    assert "answers, but is no robot server" in capfd.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert main(["check", f"127.0.0.1:{silent.getsockname()[1]}", "--timeout", "0.5"]) == 2
    assert "something listens there and says nothing" in capfd.readouterr().err


def test_credentials_that_do_not_match_the_servers_are_told(tmp_path, capfd):
    make_folder(tmp_path / "certs", hosts=("localhost", "127.0.0.1"))
    make_folder(tmp_path / "others", hosts=("localhost", "127.0.0.1"))
    (tmp_path / "token").write_text("0123456789abcdef\n")
    (tmp_path / "token").chmod(0o600)
    with serve_robot(DummyRobot, credentials=ServerCredentials.of(tmp_path / "certs", None)) as server:
        assert main(["check", server.address]) == 2
        assert "it speaks TLS, and this client does not; say --tls DIR" in capfd.readouterr().err
        assert main(["check", server.address, "--tls", str(tmp_path / "others")]) == 2
        assert "its certificate is not signed by" in capfd.readouterr().err
        assert main(["check", server.address, "--tls", str(tmp_path / "certs"), "--only", "lease"]) == 0
        capfd.readouterr()
    with serve_robot(DummyRobot, credentials=ServerCredentials.of(None, tmp_path / "token")) as server:
        assert main(["check", server.address]) == 2
        assert "wants a token that it knows: say --token FILE" in capfd.readouterr().err
        assert main(["check", server.address, "--tls", str(tmp_path / "certs")]) == 2
        assert "it does not speak TLS" in capfd.readouterr().err
        assert main(["check", server.address, "--token", str(tmp_path / "token"), "--only", "stop"]) == 0
        token = ["--token", str(tmp_path / "token")]
        assert main(["stop", server.address, *token]) == 0
        assert main(["check", server.address, *token]) == 2
        release = f"release it first: embodied stop {server.address} --token {tmp_path / 'token'} --release"
        assert release in capfd.readouterr().err


def test_a_check_by_name_brings_those_that_it_needs():
    names = [name_of(check) for check in choose_checks("stop.stop_needs_no_lease")]
    assert names == [
        "describe.answers",
        "describe.ranges_are_finite",
        "describe.limits_fit_the_action",
        "handshake.opens",
        "episode.begins",
        "stop.stop_needs_no_lease",
    ]
    with pytest.raises(UnknownNameError):
        choose_checks("stop.dance")


def press(address: str, name: str) -> None:
    import grpc

    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary("/embodied.v1.RobotService/EmergencyStop")
        call(pb.EmergencyStopRequest(client=name).SerializeToString(), timeout=TIMEOUT_S)
