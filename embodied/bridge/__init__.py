"""The gRPC bridge: a robot or a policy in one process, used from another as if it were local."""

import os

# gRPC's core writes lines of its own over a progress bar when a server leaves; what went wrong is raised anyhow.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
