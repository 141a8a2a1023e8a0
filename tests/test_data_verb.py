"""`embodied data` shows a dataset, finds what would spoil a training, and edits by whole episodes without loss."""

import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embodied.cli import main
from embodied.recording import jpeg
from embodied.recording.checks import check_dataset
from embodied.recording.editing import choose
from embodied.recording.episode import EpisodeRecorder
from embodied.recording.findings import Thresholds
from embodied.recording.reader import DatasetReader
from embodied.recording.writer import DatasetWriter
from embodied.types import Camera, Field, Limits, Observation, RobotSpec, Step

ROWS = 20
JOINTS = (Field("a", "rad", -1, 1), Field("b", "rad", -2, 2))
SPEC = RobotSpec(
    name="toy",
    control_hz=10.0,
    cameras=(Camera("front", 32, 48, 45.0), Camera("wrist", 32, 32, 60.0)),
    state=JOINTS,
    action=JOINTS,
    tasks=("reach", "push"),
    limits=Limits(velocity=(2.0, 4.0)),
)
LABELS = {"target": 3}


def picture(height, width, seed, row):
    """Return a ground that is the seed's, and a bright square that moves with the row."""
    ground = np.random.default_rng(seed).integers(60, 180, (height // 8, width // 8, 3)).astype(np.uint8)
    frame = cv2.resize(ground, (width, height), interpolation=cv2.INTER_NEAREST)
    frame[4:12, row : row + 8] = (255, 255, 255)
    return frame


def record(task, seed, *, success=True, rows=ROWS, instruction=None):
    said = f"{task} the red cube" if instruction is None else instruction
    recorder = EpisodeRecorder(task, seed, said)
    phase = np.random.default_rng(seed).uniform(0, 3, 2)
    for row in range(rows):
        state, action = (np.sin(0.1 * at + phase).astype(np.float32) * (0.9, 1.5) for at in (row, row + 1))
        frames = {c.name: picture(c.height, c.width, seed, row) for c in SPEC.cameras}
        step = Step(
            Observation(row, frames, state, said), success=success and row == rows - 1, terminated=row == rows - 1
        )
        labels = {"target": np.full(3, row, np.float32)}
        recorder.add(step.observation, action.astype(np.float32), step, labels=labels, text="move on")
    return recorder.finish(LABELS)


def write(path, episodes, spec=SPEC, about=None, **options):
    writer = DatasetWriter(path, spec, label_sizes=LABELS, **options)
    for episode in episodes:
        writer.add(episode)
    writer.finish(about)
    return path


EPISODES = [record("reach" if seed < 5 else "push", seed, success=seed != 2) for seed in range(10)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write(tmp_path_factory.mktemp("data") / "clean", EPISODES, about={"robot": "toy", "seed": 0})


def with_episode(path, **changes):
    """Write the dataset with episode 3 changed."""
    return write(path, [*EPISODES[:3], replace(EPISODES[3], **changes), *EPISODES[4:]])


def with_column(dataset, path, name, change):
    """Copy a dataset and change a column of its one data file."""
    shutil.copytree(dataset, path)
    file = path / "data/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    values = table.column(name).to_numpy().copy()
    change(values)
    at = table.column_names.index(name)
    pq.write_table(table.set_column(at, table.schema.field(name), pa.array(values)), file, row_group_size=64)
    return path


def with_json(dataset, path, name, change):
    shutil.copytree(dataset, path)
    file = path / "meta" / name
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    return path


def changed(values, *at, to):
    values = values.copy()
    values[at] = to
    return values


def found_in(path, level="error"):
    return [(f.check, f.episode, f.row) for f in check_dataset(path) if f.level == level]


def test_nothing_is_wrong_with_a_clean_dataset(dataset, capfd):
    assert main(["data", "check", str(dataset)]) == 0
    assert capfd.readouterr().out == "nothing is wrong\n"


def test_an_error_is_a_line_with_its_file_episode_and_row_and_the_exit_status_is_one(tmp_path, capfd):
    action = changed(EPISODES[3].action, 7, 1, to=np.nan)
    assert main(["data", "check", str(with_episode(tmp_path / "nan", action=action))]) == 1
    line, count = capfd.readouterr().out.strip().splitlines()
    assert line.startswith(
        "error    not_finite  data/chunk-000/file-000.parquet episode 3 row 7: action field 'b' is nan"
    )
    assert "--episodes 3" in line and count == "1 error, 0 warnings"


def dark(camera):
    black = jpeg.encode(np.zeros((camera.height, camera.width, 3), np.uint8))
    return {**EPISODES[3].frames, camera.name: (black,) * ROWS}


FROZEN = {name: (frames[0],) * ROWS for name, frames in EPISODES[3].frames.items()}
STALLED = {name: (*frames[:4], *[frames[4]] * 12, *frames[16:]) for name, frames in EPISODES[3].frames.items()}
SHIFTED = np.concatenate([EPISODES[3].state[:1]] * 2 + [EPISODES[3].state[:-2]])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"state": changed(EPISODES[3].state, 5, 0, to=np.inf)}, ("not_finite", 3, 5)),
        ({"action": changed(EPISODES[3].action, 4, 1, to=2.5)}, ("range", 3, 4)),
        ({"state": changed(EPISODES[3].state, slice(9, None), 0, to=-0.9)}, ("jump", 3, 9)),
        ({"action": EPISODES[3].state}, ("lead", 3, None)),
        ({"action": SHIFTED}, ("lead", 3, None)),
        ({"instruction": " "}, ("instruction", 3, None)),
        ({"done": changed(EPISODES[3].done, 6, to=True)}, ("rows", 3, 6)),
        ({"state": EPISODES[1].state, "action": EPISODES[1].action}, ("duplicate", 3, None)),
        ({"frames": FROZEN}, ("frozen", 3, None)),
        ({"frames": dark(SPEC.cameras[1])}, ("black", 3, None)),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_episode_is_found_there(tmp_path, changes, expected):
    found = found_in(with_episode(tmp_path / "bad", **changes))
    assert expected in found and {episode for _, episode, _ in found} == {3}


def break_picture(path, row):
    """Make a picture of episode 3 one that is none."""
    file, picture = path / "data/chunk-000/file-000.parquet", EPISODES[3].frames["front"][row]
    data = file.read_bytes()
    assert data.count(picture) == 1
    file.write_bytes(data.replace(picture, bytes(len(picture))))


def test_a_picture_that_is_none_is_found_and_hides_nothing_else(tmp_path):
    path = with_episode(tmp_path / "bad", action=changed(EPISODES[3].action, 7, 1, to=np.nan))
    break_picture(path, 0)
    assert found_in(path) == [("frame", 3, None), ("not_finite", 3, 7)]


@pytest.mark.parametrize(
    ("column", "change", "expected"),
    [
        ("timestamp", lambda v: v.__setitem__(slice(50, 60), v[50:60] + 0.3), ("gap", 2, 10)),
        ("timestamp", lambda v: v.__imul__(2), ("rate", 0, None)),
        ("frame_index", lambda v: v.__setitem__(slice(50, 60), v[50:60] + 1), ("gap", 2, 10)),
    ],
)
def test_gaps_and_wrong_rates_are_found(dataset, tmp_path, column, change, expected):
    assert expected in found_in(with_column(dataset, tmp_path / "bad", column, change))


@pytest.mark.parametrize(
    ("file", "change", "check"),
    [
        ("info.json", lambda c: c.update(fps=30), "rate"),
        ("stats.json", lambda c: c["action"]["mean"].__setitem__(1, 0.7), "statistics"),
        ("stats.json", lambda c: c["observation.state"].update(max=[9.0]), "statistics"),
        ("info.json", lambda c: c.update(total_frames=7), "unreadable"),
    ],
)
def test_what_is_wrong_beside_the_rows_is_found(dataset, tmp_path, file, change, check):
    assert check in {found for found, _, _ in found_in(with_json(dataset, tmp_path / "bad", file, change))}


def test_a_truncated_file_is_an_error_that_names_it(dataset, tmp_path):
    path = shutil.copytree(dataset, tmp_path / "cut")
    file = path / "data/chunk-000/file-000.parquet"
    file.write_bytes(file.read_bytes()[:-100])
    (finding,) = check_dataset(path)
    assert finding.file == "data/chunk-000/file-000.parquet" and "truncated" in finding.found


def test_what_deserves_a_look_is_a_warning_and_not_an_error(tmp_path):
    def still(episode):
        return replace(episode, **{n: changed(getattr(episode, n), ..., 1, to=0.5) for n in ("state", "action")})

    path = write(tmp_path / "still", [*map(still, EPISODES[:6]), still(record("push", 9, rows=3))])
    found = {check for check, _, _ in found_in(path, "warning")}
    assert found == {"constant", "few", "short"} and not found_in(path)
    assert not [f for f in check_dataset(path, Thresholds(3, 2)) if f.check in {"few", "short"}]


def test_a_camera_that_stalls_for_a_second_and_a_command_that_jumps_are_warnings(tmp_path):
    action = changed(EPISODES[3].action, 9, 0, to=-0.9)
    path = with_episode(tmp_path / "odd", frames=STALLED, action=action)
    assert {("frozen", 3, 4), ("jump", 3, 9)} <= set(found_in(path, "warning")) and not found_in(path)


def test_a_video_that_ends_before_its_rows_is_found(tmp_path):
    path = write(tmp_path / "filmed", EPISODES[:5], video="h264")
    assert not found_in(path)
    video = "videos/observation.images.front/chunk-000/file-000.mp4"
    write(tmp_path / "short", EPISODES[:3], video="h264")
    shutil.copy(tmp_path / "short" / video, path / video)
    found = [f for f in check_dataset(path) if f.level == "error"]
    assert {(f.check, f.episode, f.file) for f in found} == {("frame", episode, video) for episode in (3, 4)}


def test_show_tells_lengths_instructions_fields_and_where_it_came_from(dataset, capfd):
    assert main(["data", "show", str(dataset)]) == 0
    printed = capfd.readouterr().out
    assert "10 episodes, 9 of 10 (90%) successes" in printed and "200 rows, 20.0 s at 10 Hz" in printed
    assert "| reach the red cube | 5        | 4 of 5 (80%)  | 100  |" in printed
    assert "| wrist  | 32 x 32        | 60 deg        | image     |" in printed and "robot: toy" in printed
    assert main(["data", "show", str(dataset), "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    state = np.concatenate([e.state for e in EPISODES])
    assert found["state"][1]["mean"] == pytest.approx(state[:, 1].mean(), abs=1e-6)
    assert found["episodes"]["rows"] == {"min": 20, "median": 20.0, "max": 20}
    assert found["collection"] == {"robot": "toy", "seed": 0}


def test_show_tells_the_share_outside_of_the_range_and_survives_what_is_not_finite(tmp_path, capfd):
    action = changed(changed(EPISODES[3].action, slice(5), 0, to=1.2), slice(None), 1, to=np.nan)
    assert main(["data", "show", str(with_episode(tmp_path / "odd", action=action)), "--episode", "3", "--json"]) == 0
    first, second = json.loads(capfd.readouterr().out)["action"]
    assert first["outside"] == 0.25 and second["mean"] is None and second["outside"] == 1.0


def test_pictures_show_frames_of_both_tasks_or_of_one_episode(dataset, tmp_path):
    for name, arguments in (("all.png", []), ("one.png", ["--episode", "3"])):
        assert main(["data", "show", str(dataset), *arguments, "--pictures", str(tmp_path / name)]) == 0
    sheet, one = (cv2.imread(str(tmp_path / name)) for name in ("all.png", "one.png"))
    assert sheet.shape[0] == 8 * (160 + 40) and one.shape[0] == 2 * 160 + 40
    shown = cv2.resize(sheet[40:200, :240], (48, 32), interpolation=cv2.INTER_AREA)[..., ::-1]
    assert np.abs(shown[:24].astype(int) - DatasetReader(dataset).frame("front", 0)[:24]).mean() < 12


def test_split_gives_every_task_its_share_and_keeps_every_byte(dataset, tmp_path):
    outs = [tmp_path / "a", tmp_path / "b"]
    assert main(["data", "split", str(dataset), "--out", *map(str, outs), "--share", "0.6"]) == 0
    kept = []
    for out, share in zip(outs, (3, 2), strict=True):
        reader = DatasetReader(out)
        assert [sum(e.task == task for e in reader.episodes) for task in ("reach", "push")] == [share, share]
        assert not found_in(out) and reader.collection["sources"][0]["collection"] == {"robot": "toy", "seed": 0}
        for i, (source, original) in enumerate(reader.collection["came_from"]):
            ours, theirs = reader.episode(i), EPISODES[original]
            assert source == 0 and ours.frames == theirs.frames and ours.text == theirs.text
            assert np.array_equal(ours.state, theirs.state) and np.array_equal(
                ours.labels["target"], theirs.labels["target"]
            )
            kept.append(original)
    assert sorted(kept) == list(range(10))


def test_the_same_seed_gives_the_same_split_and_another_another(dataset):
    reader = DatasetReader(dataset, frames=False)
    splits = [choose(reader, 0.6, seed) for seed in (0, 0, 1, 2)]
    assert splits[0] == splits[1] and len(set(map(frozenset, splits))) > 1 and {len(s) for s in splits} == {6}


def test_merge_joins_instructions_and_says_what_is_there_twice(dataset, tmp_path, capfd):
    more = [record("reach", 20, instruction="Reach  the red cube.")]
    other = write(tmp_path / "more", [*more, EPISODES[0]], replace(SPEC, tasks=("stack",)))
    assert main(["data", "merge", str(dataset), str(other), "--out", str(tmp_path / "all")]) == 0
    printed = capfd.readouterr()
    assert "12 episodes, 240 rows" in printed.out
    assert "1 episodes are there more than once" in printed.err and "Reach  the red cube." in printed.err
    reader = DatasetReader(tmp_path / "all")
    assert reader.instructions == ("reach the red cube", "push the red cube")
    assert reader.spec.tasks == ("reach", "push", "stack") and reader.collection["came_from"][10] == [1, 0]
    assert found_in(tmp_path / "all") == [("duplicate", 11, None)]


def test_a_label_that_only_one_dataset_has_is_nan_in_the_other(dataset, tmp_path):
    writer = DatasetWriter(tmp_path / "bare", SPEC)
    writer.add(replace(record("reach", 30), labels={}))
    writer.finish()
    assert main(["data", "merge", str(tmp_path / "bare"), str(dataset), "--out", str(tmp_path / "all")]) == 0
    target = DatasetReader(tmp_path / "all").labels["target"]
    assert np.isnan(target[:ROWS]).all() and np.isfinite(target[ROWS:]).all()


def test_merging_another_robot_lists_every_difference_and_writes_nothing(dataset, tmp_path, capfd):
    spec = replace(SPEC, control_hz=20.0, action=(JOINTS[0], replace(JOINTS[1], high=3.0)))
    other = write(tmp_path / "other", EPISODES[:1], spec)
    assert main(["data", "merge", str(dataset), str(other), "--out", str(tmp_path / "all")]) == 2
    error = capfd.readouterr().err
    assert "control_hz: expected 10.0, found 20.0" in error and "action.b.high: expected 2, found 3.0" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other"]


def test_drop_leaves_out_what_was_named_what_failed_and_what_is_broken(tmp_path):
    path = with_episode(tmp_path / "bad", action=changed(EPISODES[3].action, 7, 1, to=np.nan))
    before = {file: file.read_bytes() for file in path.rglob("*.*")}
    arguments = ["--episodes", "0,8-9", "--failed", "--found", "--out", str(tmp_path / "clean")]
    assert main(["data", "drop", str(path), *arguments]) == 0
    reader = DatasetReader(tmp_path / "clean")
    assert [original for _, original in reader.collection["came_from"]] == [1, 4, 5, 6, 7]
    assert reader.collection["dropped"] == [0, 2, 3, 8, 9] and np.isfinite(reader.action).all()
    assert not found_in(tmp_path / "clean")
    assert {file: file.read_bytes() for file in path.rglob("*.*")} == before


def test_a_dataset_can_be_written_anew_as_videos_and_back(dataset, tmp_path, capfd):
    filmed, back = tmp_path / "filmed", tmp_path / "back"
    assert main(["data", "drop", str(dataset), "--episodes", "2-9", "--out", str(filmed), "--video", "h264"]) == 0
    assert DatasetReader(filmed).info["features"]["observation.images.front"]["dtype"] == "video"
    assert main(["data", "merge", str(filmed), "--out", str(back)]) == 0
    assert "written as JPEGs" in capfd.readouterr().err
    difference = DatasetReader(back).frame("front", 25).astype(int) - DatasetReader(dataset).frame("front", 25)
    assert np.abs(difference).mean() < 12 and not found_in(back)


def test_rows_of_another_rate_are_not_written_as_if_they_were_of_this(dataset, tmp_path, capfd):
    slow = with_column(dataset, tmp_path / "slow", "timestamp", lambda v: v.__imul__(2))
    assert main(["data", "merge", str(slow), "--out", str(tmp_path / "new")]) == 2
    assert "is at 0.200 s, and at 10 Hz it would be written at 0.100 s" in capfd.readouterr().err
    assert not (tmp_path / "new").exists() and not (tmp_path / "new.partial").exists()


@pytest.mark.parametrize("video", [[], ["--video", "h264"]])
def test_a_picture_that_is_none_is_told_with_its_place_by_every_edit_and_leaves_nothing(
    dataset, tmp_path, capfd, video
):
    path = shutil.copytree(dataset, tmp_path / "bad")
    break_picture(path, 5)
    file, two = path / "data/chunk-000/file-000.parquet", ["--out", str(tmp_path / "a"), str(tmp_path / "b")]
    for arguments in (["drop", "--episodes", "0", *two[:2]], ["merge", *two[:2]], ["split", *two]):
        verb, *rest = arguments
        assert main(["data", verb, str(path), *rest, *video]) == 2
        (error,) = (line for line in capfd.readouterr().err.splitlines() if "error" in line)
        assert f"{file}: 'observation.images.front' of row 65 (episode 3, frame 5)" in error
        assert "that are no image; drop the episode: embodied data drop --episodes 3" in error
        assert [found.name for found in tmp_path.iterdir()] == ["bad"]
    assert main(["data", "drop", str(path), "--episodes", "3", *two[:2], *video]) == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["show", "nowhere"], "no such dataset"),
        (["check", "nowhere"], "no such dataset"),
        (["check", "EMPTY"], "holds no meta/info.json"),
        (["show", "DATA", "--episode", "10"], "episodes 0 to 9, not 10"),
        (["show", "DATA", "--pictures", "sheet.jpg"], "does not end in .png"),
        (["split", "DATA", "--out", "NEW", "NEW"], "twice"),
        (["split", "DATA", "--out", "NEW", "NEW2", "--share", "0.01"], "leaves one side without any"),
        (["split", "DATA", "--out", "NEW", "NEW2", "--share", "1.5"], "below 1"),
        (["merge", "DATA", "--out", "DATA"], "exists already"),
        (["merge", "DATA", "--out", "DATA/within"], "is left alone"),
        (["merge", "DATA", "nowhere", "--out", "NEW"], "no such dataset"),
        (["drop", "DATA", "--out", "NEW"], "needs --episodes, --failed or --found"),
        (["drop", "DATA", "--out", "NEW", "--episodes", "9-3"], "no episode and no range"),
        (["drop", "DATA", "--out", "NEW", "--episodes", "3,12"], "episodes 0 to 9, not 12"),
        (["drop", "DATA", "--out", "NEW", "--episodes", "0-9"], "all 10 episodes would be dropped"),
        (["drop", "DATA", "--out", "NEW", "--found"], "nothing to drop"),
        (["drop", "DATA", "--out", "NEW", "--failed", "--video", "vhs"], "no codec 'vhs'"),
        ([], "ACTION"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_leaves_nothing(dataset, tmp_path, capfd, arguments, reason):
    (tmp_path / "EMPTY").mkdir()
    places = {"DATA": dataset, "NEW": tmp_path / "new", "NEW2": tmp_path / "new2", "EMPTY": tmp_path / "EMPTY"}
    words = [str(places.get(word, word)).replace("DATA/", f"{dataset}/") for word in arguments]
    assert main(["data", *words]) == 2
    error = capfd.readouterr().err.strip()
    assert reason in error and len(error.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["EMPTY"]
