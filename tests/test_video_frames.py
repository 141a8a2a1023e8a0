"""Any frame of a video is had by decoding little, whoever encoded it, and a broken video is named with the row."""

from __future__ import annotations

import json
import multiprocessing
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from embodied.recording.format import DatasetError
from embodied.recording.reader import DatasetReader
from embodied.recording.scheduling import ordinary_scheduling
from embodied.recording.video_decoder import VideoDecoder
from embodied.recording.video_index import index_video
from embodied.recording.video_writer import VideoWriter
from embodied.recording.writer import DatasetWriter
from embodied.types import Camera, RobotSpec
from tests.test_recording import LABELS, SPEC, misread_by_threads, record

FRAMES = 30


def film(path: Path, encoder: str, options: dict[str, str], rate: int = 10) -> Path:
    """Write a video whose frames brighten."""
    with ordinary_scheduling(), av.open(str(path), "w") as container:
        stream = container.add_stream(encoder, rate=Fraction(rate), options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(FRAMES):
            drawn = np.full((48, 64, 3), 20 + 7 * i, np.uint8)
            drawn[i : i + 8, i : i + 8] = (255, 0, 0)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(drawn, format="rgb24")))
        container.mux(stream.encode(None))
    return path


ENCODINGS = {
    "key frames close by": ("libx264", {"g": "2"}),
    "pictures in another order than shown": ("libx264", {"g": "12", "bf": "3"}),
    "groups that lean on the one before": ("libx264", {"g": "6", "bf": "2", "x264-params": "open-gop=1"}),
    "one key frame alone": ("libx264", {"g": "1000", "bf": "0"}),
    "av1": ("libsvtav1", {"g": "8", "preset": "12", "crf": "20", "svtav1-params": "lp=1"}),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_frame_alone_is_the_one_that_playing_shows(tmp_path, encoding):
    path = film(tmp_path / "v.mp4", *ENCODINGS[encoding])
    with av.open(str(path)) as container:
        played = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    index, decoder = index_video(path), VideoDecoder()
    assert len(index) == len(played) == FRAMES and index.fps == pytest.approx(10)
    for i in np.random.default_rng(0).permutation(FRAMES):
        packets, off_s = index.packets_at(np.array([i / 10]))
        ((packet, frame),) = decoder.frames(index, packets.tolist())
        assert packet == packets[0] and off_s[0] < 1e-6
        np.testing.assert_array_equal(frame, played[i])
    together = dict(decoder.frames(index, index.shown.tolist()))
    assert all(np.array_equal(together[int(index.shown[i])], played[i]) for i in range(FRAMES))


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("filmed") / "d"
    writer = DatasetWriter(path, SPEC, label_sizes=LABELS, episodes_per_file=2, video="h264")
    for episode in (("reach", 0, 9), ("reach", 3, 12), ("push", 5, 8)):
        writer.add(record(*episode))
    writer.finish()
    return path


@pytest.fixture
def copy(filmed: Path, tmp_path: Path) -> Path:
    for file in filmed.rglob("*"):
        if file.is_file():
            target = tmp_path / "d" / file.relative_to(filmed)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    return tmp_path / "d"


FRONT = "videos/observation.images.front/chunk-000/file-000.mp4"


def test_a_video_holds_what_was_recorded(filmed):
    reader = DatasetReader(filmed)
    found = reader.frames("front", range(len(reader)))
    seeds = np.repeat([0, 3, 5], [9, 12, 8])
    expected = np.stack([np.full(29, 200), reader.frame_index, seeds], axis=1)
    assert np.abs(found[:, 8, 8].astype(int) - expected).max() <= 4
    assert np.abs(reader.stats["observation.images.front"]["mean"][0][0][0] - 200 / 255) < 0.01
    assert reader.stats["observation.images.front"]["count"] == [29]


def test_threads_and_order_change_nothing(filmed):
    reader = DatasetReader(filmed)
    rows = [28, 3, 3, 9, 8, 20, 0]
    one = reader.frames("front", rows)
    np.testing.assert_array_equal(reader.frames("front", rows, threads=3), one)
    np.testing.assert_array_equal([reader.frame("front", row) for row in rows], one)
    assert misread_by_threads(reader, "front", rows * 5, [*one] * 5) == []


def test_a_forked_process_reads_on(filmed):
    reader = DatasetReader(filmed)
    expected = reader.frames("front", [4, 11]).sum()
    fork = multiprocessing.get_context("fork")
    answers = fork.Queue()
    child = fork.Process(target=lambda: answers.put([reader.frames("front", [4, 11]).sum() for _ in range(3)]))
    child.start()
    assert [reader.frames("front", [4, 11]).sum() for _ in range(3)] == [expected] * 3
    assert answers.get(timeout=30) == [expected] * 3
    child.join(30)


def test_a_truncated_video_is_named_with_the_row(copy):
    file = copy / FRONT
    file.write_bytes(file.read_bytes()[:-300])
    with pytest.raises(DatasetError, match=r"file-000\.mp4: truncated"):
        DatasetReader(copy).frame("front", 3)


def test_a_frame_whose_bytes_are_wrong_is_named_with_its_row_and_episode(copy):
    index = index_video(copy / FRONT)
    data = bytearray((copy / FRONT).read_bytes())
    packet = int(index.key_of(12))
    data[index.offset[packet] : index.offset[packet] + index.size[packet]] = bytes(int(index.size[packet]))
    (copy / FRONT).write_bytes(data)
    reader = DatasetReader(copy)
    with pytest.raises(DatasetError, match=r"file-000\.mp4: row 12 \(episode 1, frame 3\): .*cannot be decoded"):
        reader.frame("front", 12)
    reader.frame("front", 2)  # the others can


def test_a_missing_video_is_named(copy):
    (copy / FRONT).unlink()
    with pytest.raises(DatasetError, match=r"front/chunk-000/file-000\.mp4: no such file"):
        DatasetReader(copy).frame("front", 3)


def test_a_video_of_another_rate_is_named(copy):
    film(copy / FRONT, "libx264", {"g": "2"}, rate=25)
    with pytest.raises(DatasetError, match=r"file-000\.mp4: runs at 25 frames/s, and meta/info\.json says fps 10"):
        DatasetReader(copy).frame("front", 3)


def test_a_video_that_ends_early_is_told_with_the_row_that_it_lacks(copy):
    with av.open(str(copy / FRONT)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)][:12]
    with av.open(str(copy / FRONT), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    reader = DatasetReader(copy)
    assert reader.frame("front", 11).shape == (32, 48, 3)
    with pytest.raises(DatasetError, match=r"row 15 \(episode 1, frame 6\): at 1\.500 s there is no frame.* has 12"):
        reader.frames("front", [11, 15])


def test_frames_of_another_size_are_named(copy):
    info = json.loads((copy / "meta/info.json").read_text())
    spec = json.loads((copy / "meta/robot_spec.json").read_text())
    spec["cameras"][0]["width"] = 64
    info["features"]["observation.images.front"]["shape"] = [32, 64, 3]
    for name, content in (("info", info), ("robot_spec", spec)):
        (copy / f"meta/{name}.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=r"row 3 \(episode 0, frame 3\): is \(32, 48, 3\), .* says \(32, 64, 3\)"):
        DatasetReader(copy).frame("front", 3)


def test_several_video_files_are_written_and_read(tmp_path, monkeypatch):
    monkeypatch.setattr("embodied.recording.format.VIDEO_FILE_SIZE_MB", 1e-6)
    monkeypatch.setattr("embodied.recording.format.FILES_PER_CHUNK", 2)
    writer = DatasetWriter(tmp_path, SPEC, label_sizes=LABELS, episodes_per_file=1, video="h264")
    for seed in range(5):
        writer.add(record("reach", 40 * seed, 3))
    writer.finish()
    files = sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.mp4"))
    assert "videos/observation.images.front/chunk-001/file-000.mp4" in files  # the third
    reader = DatasetReader(tmp_path)
    blue = reader.frames("front", [0, 3, 6, 9, 12])[:, 8, 8, 2].astype(int)
    assert np.abs(blue - [0, 40, 80, 120, 160]).max() <= 4
    assert len(list((tmp_path / "data").rglob("*.parquet"))) == 5


def test_an_odd_size_is_no_video(tmp_path):
    odd = RobotSpec(**{**SPEC.__dict__, "cameras": (Camera("front", 31, 48, 45.0),)})
    with pytest.raises(DatasetError, match="'front' is 31 x 48: a video needs even sizes"):
        DatasetWriter(tmp_path, odd, video="h264")
    with pytest.raises(DatasetError, match=r"no codec 'gif'; there are \['av1', 'h264'\]"):
        DatasetWriter(tmp_path, SPEC, video="gif")


def test_an_encoder_leaves_the_scheduling_of_whoever_opens_it_alone(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/task"))
    writer = VideoWriter(tmp_path, "front", Camera("front", 32, 32, 45.0), fps=10, codec="av1")
    writer.add([np.zeros((32, 32, 3), np.uint8)] * 3)
    its = set(os.listdir("/proc/self/task")) - before
    assert its and {os.sched_getscheduler(int(thread)) for thread in (0, *its)} == {os.SCHED_OTHER}
    writer.close()
