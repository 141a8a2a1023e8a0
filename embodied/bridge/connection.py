"""How a client connects to the servers that it is told of, handed from the command line to wherever they are opened."""

from __future__ import annotations

from dataclasses import dataclass

from embodied.bridge.credentials import OPEN_CLIENT, ClientCredentials


@dataclass(frozen=True)
class Connection:
    """What goes with every address of a command: see RemoteRobot and RemotePolicy."""

    credentials: ClientCredentials = OPEN_CLIENT
    takeover: bool = False  # of a robot that somebody else holds
    max_age_s: float | None = None  # of the observation that an action answers; None: the robot's own default
    within_s: float | None = None  # a policy that has not answered by then answers no more; None: whenever
    frames: str | None = None  # how they cross: raw, jpeg, jpeg:QUALITY or shared; None: the best that works


PLAIN = Connection()
