"""Runs lerobot 0.4.4 in its own environment: writes a dataset, prints what it reads of one, or times its loader.

This file imports nothing of this project: the two share only what is on disk. `make lerobot` makes the environment.
Usage: .venv-lerobot/bin/python tests/lerobot/peer.py {write,read,time} DIR [...]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from content import picture, states

FEATURES = {
    "observation.state": {"dtype": "float32", "shape": (3,), "names": ["pan", "lift", "jaw"]},
    "action": {"dtype": "float32", "shape": (3,), "names": {"motors": ["pan", "lift", "jaw"]}},
    "observation.force": {"dtype": "float64", "shape": (2, 3), "names": None},
    "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
    "counter": {"dtype": "int64", "shape": (1,), "names": None},
}
NAMES = ["height", "width", "channels"]


def declare_operators() -> None:
    """Let torchvision be imported beside a CPU-only torch: its operators, built for CUDA, are declared and absent."""
    source = Path(importlib.util.find_spec("torchvision").origin).parent / "_meta_registrations.py"
    library = torch.library.Library("torchvision", "DEF")
    found = re.findall(r'(?:register_meta|register_fake)\("(?:torchvision::)?(\w+)"', source.read_text())
    for name in sorted(set(found)):
        library.define(f"{name}(Tensor x) -> Tensor")
    globals()["_kept"] = library  # its declarations go with it


declare_operators()
warnings.filterwarnings("ignore")
from lerobot.datasets.lerobot_dataset import LeRobotDataset  # noqa: E402  needs what was declared


def write(path: Path, args: argparse.Namespace) -> None:
    """Write a dataset of smooth pictures and random walks."""
    features = dict(FEATURES)
    for name in args.videos:
        features[f"observation.images.{name}"] = {"dtype": "video", "shape": (args.size, args.size, 3), "names": NAMES}
    for name in args.images:
        features[f"observation.images.{name}"] = {"dtype": "image", "shape": (args.size, args.size, 3), "names": NAMES}
    dataset = LeRobotDataset.create(
        "peer/tiny", args.fps, features, root=path, robot_type="peer_arm", use_videos=True, vcodec=args.codec
    )
    if args.file_mb:
        dataset.meta.update_chunk_settings(2, args.file_mb, args.file_mb)
    for episode, state in enumerate(states(args.episodes, args.rows)):
        for row, values in enumerate(state):
            numbers = {
                "observation.state": values,
                "action": values * 0.5,
                "observation.force": np.full((2, 3), row, np.float64),
                "next.reward": np.array([row / 10], np.float32),
                "counter": np.array([row], np.int64),
            }
            pictures = {
                f"observation.images.{n}": picture(row, episode, args.size) for n in (*args.videos, *args.images)
            }
            dataset.add_frame({**numbers, **pictures, "task": f"lift cube {episode % 2}"})
        dataset.save_episode(parallel_encoding=False)
    dataset.finalize()


def read(path: Path, args: argparse.Namespace) -> None:
    """Print every number of the dataset in each folder of path, and save their frames beside it: NAME.npz."""
    for folder in sorted(found for found in path.iterdir() if found.is_dir()):
        dataset = LeRobotDataset("peer/read", root=folder)
        rows = []
        frames: dict[str, list[np.ndarray]] = {name: [] for name in dataset.meta.camera_keys}
        for item in (dataset[row] for row in range(len(dataset))):
            for name, pictures in frames.items():
                pictures.append((item.pop(name).permute(1, 2, 0) * 255).round().to(torch.uint8).numpy())
            rows.append({n: v.tolist() if isinstance(v, torch.Tensor) else v for n, v in item.items()})
        np.savez(folder.with_suffix(".npz"), **{name: np.stack(pictures) for name, pictures in frames.items()})
        print(json.dumps({"name": folder.name, "fps": dataset.fps, "rows": rows, "stats": sorted(dataset.meta.stats)}))


def clock(path: Path, args: argparse.Namespace) -> None:
    """Print the frames a second of random access through __getitem__, of each turn whose rows a line of stdin gives."""
    dataset = LeRobotDataset("peer/time", root=path, tolerance_s=1e-3, video_backend=args.backend)
    cameras = dataset.meta.camera_keys
    torch.set_num_threads(1)
    print(json.dumps({"ready": dataset.video_backend}), flush=True)
    while line := input():
        rows = json.loads(line)
        began_s = time.perf_counter()
        for row in rows:
            item = dataset[row]
            assert all(item[name].shape[0] == 3 for name in cameras)
        took_s = time.perf_counter() - began_s
        print(json.dumps({"frames_per_s": len(rows) * len(cameras) / took_s}), flush=True)


def main() -> None:
    """Do what the command line asks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["write", "read", "time"])
    parser.add_argument("path", type=Path)
    parser.add_argument("--episodes", type=int, default=2)
    parser.add_argument("--rows", type=int, default=6, help="of the first episode")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--fps", type=int, default=10)
    parser.add_argument("--codec", default="libsvtav1")
    parser.add_argument("--videos", nargs="*", default=[])
    parser.add_argument("--images", nargs="*", default=[])
    parser.add_argument("--file-mb", type=float, default=0)
    parser.add_argument("--backend")
    args = parser.parse_args()
    {"write": write, "read": read, "time": clock}[args.what](args.path, args)


if __name__ == "__main__":
    main()
