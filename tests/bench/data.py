"""Prints frames a second of random access, beside lerobot 0.4.4's loader on the same datasets, and what opening costs.

lerobot runs in its own environment (`make lerobot`), and writes the first dataset itself: AV1, as it does by default.
The two take turns, each turn on the same random rows; every row is a frame of each of two cameras. No frame is kept
from one turn to the next: the row's neighbours are all that either could gain from.
Usage: python -m tests.bench.data [--episodes N] [--size PX] [--turns N] [--rows N]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from embodied.recording.reader import DatasetReader
from embodied.recording.writer import DatasetWriter

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-lerobot" / "bin" / "python"
PEER = str(ROOT / "tests" / "lerobot" / "peer.py")
BATCH = 32  # rows that a training batch asks for at once


class Peer:
    """lerobot's loader in a process of its own, on one dataset; a context manager."""

    def __init__(self, path: Path) -> None:
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(path) + ".hf", "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [str(PYTHON), PEER, "time", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.backend = self._answer()["ready"]

    def __call__(self, rows: list[int]) -> float:
        """Return the frames a second of these rows, one at a time as its loader has them."""
        self._process.stdin.write(json.dumps(rows) + "\n")
        self._process.stdin.flush()
        return self._answer()["frames_per_s"]

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.stdin.close()
        self._process.wait(30)

    def _answer(self) -> dict:
        while not (line := self._process.stdout.readline()).startswith("{"):
            if not line:
                raise SystemExit("lerobot's process ended; run tests/lerobot/peer.py by hand to see why")
        return json.loads(line)


def one_by_one(reader: DatasetReader) -> Callable[[list[int]], float]:
    """Return a timing of frame(), a row and a camera at a time."""

    def timed(rows: list[int]) -> float:
        began_s = time.perf_counter()
        for row in rows:
            for camera in reader.cameras:
                reader.frame(camera, row)
        return len(rows) * len(reader.cameras) / (time.perf_counter() - began_s)

    return timed


def in_batches(reader: DatasetReader, threads: int) -> Callable[[list[int]], float]:
    """Return a timing of frames(), a batch of random rows at a time."""

    def timed(rows: list[int]) -> float:
        began_s = time.perf_counter()
        for at in range(0, len(rows), BATCH):
            for camera in reader.cameras:
                reader.frames(camera, rows[at : at + BATCH], threads=threads)
        return len(rows) * len(reader.cameras) / (time.perf_counter() - began_s)

    return timed


def compare(path: Path, turns: int, count: int) -> None:
    """Print a table of one dataset."""
    began_s = time.perf_counter()
    reader = DatasetReader(path)
    opened_ms = (time.perf_counter() - began_s) * 1e3
    feature = reader.info["features"][f"observation.images.{reader.cameras[0]}"]
    codec = feature.get("info", {}).get("video.codec", "pictures")
    print(f"{path.name}: {len(reader)} rows, {codec}, {feature['shape']}, opened in {opened_ms:.0f} ms")
    ways = {
        "ours, frame by frame": one_by_one(reader),
        f"ours, batches of {BATCH}": in_batches(reader, 1),
        f"ours, batches of {BATCH}, 2 threads": in_batches(reader, 2),
    }
    rng = np.random.default_rng(0)
    found: dict[str, list[float]] = {name: [] for name in ways}
    if PYTHON.exists():
        with Peer(path) as peer:
            theirs = f"lerobot 0.4.4, {peer.backend}"
            _take_turns({theirs: peer, **ways}, found | {theirs: []}, rng, (len(reader), turns, count))
    else:
        print("lerobot is not here: `make lerobot`")
        _take_turns(ways, found, rng, (len(reader), turns, count))


def _take_turns(ways: dict, found: dict[str, list[float]], rng: np.random.Generator, size: tuple[int, ...]) -> None:
    length, turns, count = size
    for turn in range(turns + 1):
        rows = rng.integers(length, size=count).tolist()
        for name, way in ways.items():
            rate = way(rows)
            if turn:  # the first opens files and decoders on either side
                found[name].append(rate)
    base = np.median(found[next(iter(ways))])
    for name in ways:
        median, low, high = np.median(found[name]), min(found[name]), max(found[name])
        print(f"  {name:36}{median:9.0f} frames/s ({low:.0f} to {high:.0f}){median / base:8.2f}")
    print(flush=True)


def write_again(source: DatasetReader, path: Path, video: str | None) -> None:
    """Write a dataset once more, as pictures or with another codec, and print how fast."""
    began_s = time.perf_counter()
    writer = DatasetWriter(path, source.spec, video=video)
    for index in range(len(source.episodes)):
        writer.add(source.episode(index))
    writer.finish()
    took_s = time.perf_counter() - began_s
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    print(f"{path.name}: written at {2 * len(source) / took_s:.0f} frames/s, {size / len(source):.0f} bytes a row")


def main(episodes: int, size: int, turns: int, rows: int) -> None:
    """Write the datasets, and print a table of each."""
    print(
        f"load before: {os.getloadavg()[0]:.2f}; cores: {os.cpu_count()}; each way takes {turns} turns of {rows} rows"
    )
    with tempfile.TemporaryDirectory() as folder:
        theirs = Path(folder) / "lerobot-av1"
        if not PYTHON.exists():
            raise SystemExit("this needs lerobot, which writes the dataset: `make lerobot`")
        command = [str(PYTHON), PEER, "write", str(theirs), "--episodes", str(episodes), "--rows", "200"]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": folder + "/home.hf", "SVT_LOG": "1"}
        command += ["--size", str(size), "--fps", "30", "--videos", "front", "wrist"]
        subprocess.run(command, check=True, env=environment, capture_output=True)
        source = DatasetReader(theirs)
        for name, video in (("ours-h264", "h264"), ("ours-av1", "av1"), ("ours-pictures", None)):
            write_again(source, Path(folder) / name, video)
        print()
        for name in ("lerobot-av1", "ours-h264", "ours-av1", "ours-pictures"):
            compare(Path(folder) / name, turns, rows)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB; "
          f"load after: {os.getloadavg()[0]:.2f}")  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=50, help="of 200 rows or two more (default 50)")
    parser.add_argument("--size", type=int, default=128, help="of the frames, px (default 128)")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--rows", type=int, default=256, help="random rows a turn")
    arguments = parser.parse_args()
    main(arguments.episodes, arguments.size, arguments.turns, arguments.rows)
