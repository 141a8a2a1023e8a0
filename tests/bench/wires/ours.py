"""Our bridge as it is used: RemotePolicy to serve_policy, with every check, and a policy that takes no time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tests.bench.wires.load import ACTION, CHUNK, STATE, Load

if TYPE_CHECKING:
    from embodied.types import Action, Observation, RobotSpec

NEEDS: tuple[str, ...] = ()


class FixedPolicy:
    """Answers every observation with the same chunk."""

    def __init__(self, load: Load) -> None:
        from embodied.types import PoseAction

        self._chunk = [PoseAction(pose) for pose in load.actions]

    def reset(self, instruction: str, spec: RobotSpec) -> None:
        """Begin an episode."""

    def act(self, observation: Observation) -> Sequence[Action]:
        """Return the chunk, once there is all that a policy needs."""
        assert len(observation.frames) == 2 and len(observation.state) == STATE
        return self._chunk


def serve(load: Load, address: str, ready: Callable[[str], None]) -> None:
    """Serve the policy."""
    from embodied.bridge.policy_server import serve_policy

    with serve_policy(lambda: FixedPolicy(load), address) as server:
        ready(server.address)
        server.wait()


def connect(load: Load, address: str, frames: str) -> Callable[[], None]:
    """Return what makes one round trip, with frames crossing as asked for."""
    from embodied.bridge.policy_client import RemotePolicy
    from embodied.types import Observation

    policy = RemotePolicy(address, frames=frames)
    policy.reset("pick", _spec(load))
    observation = Observation(0, load.frames, load.state, "pick")

    def ask() -> None:
        assert len(policy.act(observation)) == CHUNK

    return ask


def _spec(load: Load) -> RobotSpec:
    from embodied.types import Camera, Field, RobotSpec

    return RobotSpec(
        name="bench",
        control_hz=20.0,
        cameras=tuple(Camera(name, load.height, load.width, 45.0) for name in load.frames),
        state=tuple(Field(f"state{i}", "rad", -2.0, 2.0) for i in range(STATE)),
        action=tuple(Field(f"joint{i}", "rad", -2.0, 2.0) for i in range(ACTION)),
    )
