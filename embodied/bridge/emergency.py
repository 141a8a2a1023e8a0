"""The emergency stop of a robot at an address: it needs no lease, and waits for nothing that the robot does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from embodied.bridge.credentials import OPEN_CLIENT, ClientCredentials
from embodied.bridge.lease import RobotStatus
from embodied.bridge.peer import Peer, my_name
from embodied.bridge.status import decode_status
from embodied.v1 import robot_pb2 as pb

TIMEOUT_S = 5.0


class StopButton:
    """Presses and releases a robot's emergency stop; who presses it is told to everyone whom it stops."""

    def __init__(self, peer: Peer, name: str = "") -> None:
        """Stand before the robot server that is the peer; name is for people."""
        self._peer = peer
        self._name = name or my_name()

    def press(self) -> RobotStatus:
        """Stop the robot, latched: nothing moves until release. May come twice.

        Raise ProtocolError if the server cannot be reached, or the robot itself failed to stop: it is latched then.
        """
        return decode_status(self._peer.ask("EmergencyStop", pb.EmergencyStopRequest(client=self._name), TIMEOUT_S))

    def release(self) -> RobotStatus:
        """Let the robot be moved again; its operator may go on."""
        request = pb.ReleaseEmergencyStopRequest(client=self._name)
        return decode_status(self._peer.ask("ReleaseEmergencyStop", request, TIMEOUT_S))

    def status(self) -> RobotStatus:
        """Return who holds the robot and whether it is stopped."""
        return decode_status(self._peer.ask("Status", pb.StatusRequest(), TIMEOUT_S))


@contextmanager
def stop_button(address: str, name: str = "", *, credentials: ClientCredentials = OPEN_CLIENT) -> Iterator[StopButton]:
    """Yield the emergency stop of the robot at an address, connected to nothing else."""
    peer = Peer(address, pb.DESCRIPTOR.services_by_name["RobotService"], "robot server", credentials)
    try:
        yield StopButton(peer, name)
    finally:
        peer.close()
