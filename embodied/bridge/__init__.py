"""The gRPC bridge: a robot or a policy in one process, used from another as if it were local."""

import os

# gRPC's core writes lines of its own over a progress bar when a server leaves; what went wrong is raised anyhow.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

# Since grpcio 1.80 sockets are read by threads of gRPC's "event engine", and every message changes threads twice more:
# 0.30 ms instead of 0.16 for a small message there and back. A version that knows these names no more ignores them.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")

# glibc maps every block above a threshold anew, and touching new pages takes longer than all else that happens to a
# frame. The threshold, 128 kB at first, becomes the size of the largest such block freed so far (mallopt(3)).
bytearray(31 * 1024 * 1024)
