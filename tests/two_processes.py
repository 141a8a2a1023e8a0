"""What one of the processes that torchrun starts for a test does: each line of a file of command lines, in turn."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from embodied.cli import main

if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")  # once, as joining takes longer than the runs do
    for arguments in json.loads(Path(sys.argv[1]).read_text()):
        if status := main(arguments):
            sys.exit(status)
    torch.distributed.destroy_process_group()
