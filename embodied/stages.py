"""The stages of a step, as Step.timing_ns names them: they do not overlap, and add up to what the step took."""

QUEUE = "queue"  # from its arrival at the server until the robot's thread began with it
WAIT = "wait"  # for the actions under way, where time is real
MOTION = "motion"  # carrying out the actions
RENDER = "render"  # drawing the frames, or reading the cameras
ROBOT = "robot"  # of the robot's time, what the robot itself did not name
ENCODE = "encode"  # the request, by the client
WIRE = "wire"  # between the client and the robot's thread, both ways: gRPC, the network, the packing of the reply
DECODE = "decode"  # the reply, by the client
