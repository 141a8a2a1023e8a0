"""Checks of what an operator may ask of the robot: what is no action is refused, and what is refused moves nothing."""

from __future__ import annotations

import numpy as np

from embodied.bridge.arrays import encode_array
from embodied.bridge.conformance.bench import Bench
from embodied.bridge.conformance.moves import nudge, require_still
from embodied.bridge.conformance.session import Session, Vector, state_of, step_request, told
from embodied.bridge.conformance.verdict import NonconformityError, require
from embodied.v1 import robot_pb2 as pb
from embodied.v1 import types_pb2 as types

CHUNK = 3
NO_SUCH_VERB = "no verb of the conformance suite"


def a_hold_is_carried_out_as_it_is(bench: Bench) -> None:
    """An action that holds is carried out without an intervention, and the robot stays where it is."""
    session = bench.begin()
    for _ in range(3):
        reply = session.step(session.hold)
        require(reply.step.executed == 1 and not reply.step.dropped, "1 action executed, 0 dropped", told(reply))
        require(not reply.step.interventions, "no intervention in a hold", told(reply))
        require_still(session, reply, "while it holds")


def a_chunk_is_carried_out_and_counted(bench: Bench) -> None:
    """Step.executed counts the actions of a chunk that ran, all of them unless the episode ended."""
    session = bench.begin()
    for kind in ("poses", "mixed"):
        request = step_request(np.tile(session.hold, (CHUNK, 1)))
        if kind == "mixed":
            pose = types.Action(pose=encode_array(session.hold))
            request.step.actions.CopyFrom(types.Actions(mixed=[pose] * CHUNK))
        reply = session.ask(request, "step")
        over = reply.step.terminated or reply.step.truncated
        counted = reply.step.executed == CHUNK or (over and 1 <= reply.step.executed < CHUNK)
        require(counted and not reply.step.dropped, f"{CHUNK} actions of {kind} executed, 0 dropped", told(reply))
        session.reset()


def a_wrong_length_is_refused_and_moves_nothing(bench: Bench) -> None:
    """Poses with a number too many or too few, of the wrong rank, or of none are refused, and nothing moves."""
    session = bench.begin()
    wide = np.append(nudge(session), np.float32(0))
    wrong = {
        "a pose with a number too many": wide,
        "a chunk whose poses have a number too few": wide[None, :-2],
        "a chunk without a pose": np.zeros((0, len(session.hold)), np.float32),
        "poses of three dimensions": wide[None, None, :-1],
    }
    for what, poses in wrong.items():
        request = step_request(poses)
        request.step.actions.poses.CopyFrom(encode_array(np.atleast_2d(poses)))
        _refused_unmoved(bench, session, request, what)
    _refused_unmoved(bench, session, pb.ControlRequest(step=pb.StepRequest()), "a step without actions")


def a_chunk_of_two_kinds_is_refused(bench: Bench) -> None:
    """Actions that are poses and mixed at once, or that hold an action of no kind, are refused, and nothing moves."""
    session = bench.begin()
    both = step_request(nudge(session))
    both.step.actions.mixed.append(types.Action(text="stop"))
    _refused_unmoved(bench, session, both, "a chunk of poses and mixed")
    empty = pb.ControlRequest(step=pb.StepRequest(actions=types.Actions(mixed=[types.Action()])))
    _refused_unmoved(bench, session, empty, "an action of no kind")


def an_unknown_verb_moves_nothing(bench: Bench) -> None:
    """A text action or a skill that the robot does not know is refused or reported, and nothing moves."""
    session = bench.begin()
    for what, action in {
        "an unknown verb": types.Action(text=NO_SUCH_VERB),
        "an empty sentence": types.Action(text=""),
        "an unknown skill": types.Action(skill=types.SkillCall(name=NO_SUCH_VERB)),
    }.items():
        request = pb.ControlRequest(step=pb.StepRequest(actions=types.Actions(mixed=[action])))
        session.send(request)
        reply = session.receive(what)
        kind = reply.WhichOneof("reply")
        if kind == "error":
            require(
                reply.error.code in (types.ERROR_CODE_INVALID_ACTION, types.ERROR_CODE_UNKNOWN_NAME),
                f"INVALID_ACTION or UNKNOWN_NAME in answer to {what}",
                told(reply),
            )
            reply = session.step(session.hold)
        else:
            require(kind == "step" and bool(reply.step.interventions), f"a refusal or report of {what}", told(reply))
        require_still(session, reply, f"after {what}")


def what_is_not_finite_is_held_and_reported(bench: Bench) -> None:
    """NaN or an infinity in any field holds the whole action and is reported with the field; the state stays finite."""
    session = bench.begin()
    for index, field in enumerate(bench.spec.action):
        for bad in (np.nan, np.inf, -np.inf):
            if session.done:
                session.reset()
            what = f"{bad} in {field.name!r}"
            values = nudge(session)
            values[index] = bad
            reply = _step(session, values, what)
            found = [i for i in reply.step.interventions if i.kind == "non_finite" and i.field == field.name]
            require(bool(found), f"an intervention non_finite of {field.name!r} after {what}", told(reply))
            require(bool(np.isfinite(found[0].applied)), f"a finite number applied for {what}", told(reply))
            require(
                repr(found[0].requested) == repr(float(bad)), f"{bad} to be reported as what was requested", told(reply)
            )
            require_still(session, reply, f"after {what}")


def what_is_not_finite_holds_in_a_chunk_too(bench: Bench) -> None:
    """NaN in the middle of a chunk is held and reported, and nothing that is not finite reaches the state."""
    session = bench.begin()
    poses = np.tile(session.hold, (CHUNK, 1))
    poses[1, :] = np.nan
    reply = _step(session, poses, "a chunk with NaN in the middle")
    named = {i.field for i in reply.step.interventions if i.kind == "non_finite"}
    wanted = {field.name for field in bench.spec.action}
    require(named == wanted, f"an intervention non_finite of each of {sorted(wanted)}", told(reply))
    require_still(session, reply, "after a chunk with NaN in the middle")


CHECKS = (
    a_hold_is_carried_out_as_it_is,
    a_chunk_is_carried_out_and_counted,
    a_wrong_length_is_refused_and_moves_nothing,
    a_chunk_of_two_kinds_is_refused,
    an_unknown_verb_moves_nothing,
    what_is_not_finite_is_held_and_reported,
    what_is_not_finite_holds_in_a_chunk_too,
)


def _step(session: Session, poses: Vector, what: str) -> pb.ControlReply:
    """Carry out poses and return the step; raise NonconformityError if its state is not finite."""
    reply = session.step(poses)
    state = state_of(reply, session.spec)
    if not np.isfinite(state).all():
        raise NonconformityError(f"expected a finite state after {what}; found {state.tolist()}")
    return reply


def _refused_unmoved(bench: Bench, session: Session, request: pb.ControlRequest, what: str) -> None:
    session.refused(request, types.ERROR_CODE_INVALID_ACTION, what)
    require_still(session, session.step(session.hold), f"after {what}")
