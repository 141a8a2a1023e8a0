"""The gRPC bridge: a robot or a policy in one process, used from another as if it were local."""
