"""The conformance suite: what proto/embodied/v1/robot.proto asks of a robot server, tested over the wire alone."""
