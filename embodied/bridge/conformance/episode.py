"""Checks of an episode: how it begins, what its observations are, that it can be repeated."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from embodied.bridge.conformance.bench import Bench
from embodied.bridge.conformance.frames import require_frames
from embodied.bridge.conformance.handshake import NO_SUCH_TASK
from embodied.bridge.conformance.session import SEED, observation_of, state_of, step_request
from embodied.bridge.conformance.verdict import NotApplicableError, require
from embodied.v1 import robot_pb2 as pb
from embodied.v1 import types_pb2 as types

SEQUENCES = (7, 1, 2**64 - 1)  # a client chooses as it likes
MOST_ACTIONS = 2000
CHUNK = 50


def begins(bench: Bench) -> None:
    """A reset is answered with an observation."""
    bench.begin()


def shows_the_state_and_every_camera(bench: Bench) -> None:
    """The observation of a reset has a finite float32 state, a frame of every camera and an instruction."""
    session = bench.begin()
    for task in bench.spec.tasks:
        reply = session.ask(pb.ControlRequest(reset=pb.Reset(seed=SEED, task=task)), "observation")
        state = state_of(reply, bench.spec)
        odd = [f.name for f, value in zip(bench.spec.state, state, strict=True) if not np.isfinite(value)]
        require(not odd, "a finite state", f"that {odd} is not")
        require(bool(observation_of(reply).instruction.strip()), f"an instruction in task {task!r}", "none")
        require_frames(reply, bench.spec)


def refuses_an_unknown_task(bench: Bench) -> None:
    """A reset to a task that the robot does not have is refused with UNKNOWN_NAME and the tasks that it has."""
    bench.needs_motion()
    session = bench.open()
    said = session.refused(
        pb.ControlRequest(reset=pb.Reset(seed=SEED, task=NO_SUCH_TASK)),
        types.ERROR_CODE_UNKNOWN_NAME,
        f"a reset to task {NO_SUCH_TASK!r}",
    )
    missing = [task for task in bench.spec.tasks if task not in said]
    require(not missing, "every task in the refusal", f"that {missing} is not in {said!r}")


def refuses_a_step_before_reset(bench: Bench) -> None:
    """A step before the session's first reset is refused: another's episode is not this operator's to go on with."""
    first = bench.begin()
    first.end()
    session = bench.open("the next")
    session.refused(step_request(first.hold), types.ERROR_CODE_PROTOCOL, "a step before reset")


def refuses_a_step_after_the_end(bench: Bench) -> None:
    """A step after the end of an episode is refused, and a reset begins the next one."""
    bench.needs_simulation("waiting for the end of an episode")
    session = bench.begin()
    for _ in range(MOST_ACTIONS // CHUNK):
        session.step(np.tile(session.hold, (CHUNK, 1)))
        if session.done:
            break
    if not session.done:
        raise NotApplicableError(f"the episode did not end within {MOST_ACTIONS} actions")
    session.refused(step_request(session.hold), types.ERROR_CODE_PROTOCOL, "a step after the end")
    session.reset()


def repeats_itself(bench: Bench) -> None:
    """Where time is simulated, the same seed and task give the same episode to the last bit."""
    bench.needs_simulation("repeating an episode to the last bit")
    session = bench.begin()
    episodes = []
    for _ in range(2):
        replies = [session.reset(), *(session.step(session.hold, frames=True) for _ in range(2))]
        episodes.append([_lasting(reply) for reply in replies])
    for index, (one, other) in enumerate(zip(*episodes, strict=True)):
        what = f"step {index} of" if index else "the reset of"
        unlike = [name for name in one if one[name] != other[name]]
        require(not unlike, f"the same {what} two episodes of one seed", f"that they differ in {unlike}")


def echoes_the_sequence(bench: Bench) -> None:
    """Every reply repeats the sequence of the request that it answers, an error too."""
    session = bench.begin()
    wrong = step_request(np.append(session.hold, np.float32(0)))
    asked = {
        "reset": pb.ControlRequest(reset=pb.Reset(seed=SEED, task=bench.spec.tasks[0])),
        "step": step_request(session.hold),
        "a step that is refused": wrong,
    }
    for what, request in asked.items():
        for sequence in SEQUENCES:
            request.sequence = sequence
            session.send(request)
            found = session.receive(what).sequence
            require(found == sequence, f"sequence {sequence} in the reply to {what}", found)


def tells_the_time(bench: Bench) -> None:
    """server_ns and the observation's time_ns grow from reply to reply."""
    session = bench.begin()
    replies = [session.last]
    while len(replies) < 4 and not session.done:
        replies.append(session.step(session.hold))
    for name, times in (
        ("server_ns", [reply.server_ns for reply in replies]),
        ("time_ns", [observation_of(reply).time_ns for reply in replies]),
    ):
        require(all(a < b for a, b in pairwise(times)), f"{name} to grow", times)
    require(replies[0].server_ns > 0, "server_ns above 0", replies[0].server_ns)


CHECKS = (
    begins,
    shows_the_state_and_every_camera,
    refuses_an_unknown_task,
    refuses_a_step_before_reset,
    refuses_a_step_after_the_end,
    repeats_itself,
    echoes_the_sequence,
    tells_the_time,
)


def _lasting(reply: pb.ControlReply) -> dict[str, bytes]:
    """Return what of a reply is the episode's own: all but clocks of the server and what its stages took."""
    kept = pb.ControlReply()
    kept.CopyFrom(reply)
    if kept.HasField("step"):
        kept.step.timing_ns.clear()
    observation = observation_of(kept)
    return {
        "state": observation.state.data,
        "time_ns": str(observation.time_ns).encode(),
        "instruction": observation.instruction.encode(),
        "frames": b"".join(frame.SerializeToString(deterministic=True) for frame in kept.frames),
        "the step": kept.step.SerializeToString(deterministic=True),
    }
