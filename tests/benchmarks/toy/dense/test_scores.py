"""Scores and pictures of toy videos, on rendered ground truth; the stages of the demo's second half."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

import vidpref
from benchmarks.report.page import web_page
from benchmarks.toy.dense.pictures import pair_picture
from benchmarks.toy.dense.scores import COLUMNS, MotionScores, main, motion_table, score_folder
from benchmarks.toy.dense_demo import dense_sections, dense_stages, study_line
from datamodules.schemas import write_shards
from datamodules.toy_world.motion_measures import Measures
from datamodules.toy_world.motion_world import draw_motion_scene, render_motion
from datamodules.video.codec import encode_mp4
from tests.support.flow_shards import pair_row, pair_sample, write_labels, write_pairs
from tests.support.paths import ROOT


def sampled(folder: Path, speed: float = 2.0, pale: float = 0.0, count: int = 6) -> Path:
    """A folder as `predict` leaves it: shapes at about a speed, less bright by a share."""
    folder.mkdir(parents=True)
    requests = {}
    for number in range(count):
        scene = draw_motion_scene(random.Random(number))
        scene = replace(scene, velocities=(speed + 0.25 * number if speed else 0.0,))
        name = f"{scene.motion}-{number}.mp4"
        frames = (20 + (render_motion(scene).astype(float) - 20) * (1 - pale)).astype(np.uint8)
        (folder / name).write_bytes(encode_mp4(frames, 8.0, lossless=True))
        requests[name] = {"prompt": str(scene.motion), "index": number}
    (folder / "manifest.json").write_text(json.dumps({"made_from": {}, "videos": requests}))
    return folder


def test_motion_is_measured_and_a_still_shape_only_looks_good(tmp_path: Path) -> None:
    moving, still = score_folder(sampled(tmp_path / "moving")), score_folder(sampled(tmp_path / "still", speed=0.0))
    base, other = moving.numbers(moving), still.numbers(moving)
    assert base["motion"] == pytest.approx(2.0 + 0.25 * 2.5, abs=0.1)
    assert other["motion"] == 0
    assert min(base["quality"], base["quality_slow"], base["quality_fast"], other["quality"]) > 0.99
    # No still video is as fast as the base's faster ones: their quality there is not known, rather than high.
    assert other["quality_fast"] is None
    assert other["quality_at_base_motion"] is None
    row = motion_table({"base": [base], "still": [base, other]}).rows[1]
    assert row.cells[2].text == "-"


def scores(speeds: Sequence[float], qualities: Sequence[float]) -> MotionScores:
    videos = zip(speeds, qualities, strict=True)
    return MotionScores({f"{index}": Measures(speed, 1 - quality) for index, (speed, quality) in enumerate(videos)})


def test_quality_at_the_bases_speeds_is_not_bought_by_slowing_down() -> None:
    # Quality is 1 - speed / 10 at every speed, for base and method alike.
    speeds = np.linspace(0.0, 4.0, 40)
    base = scores(speeds, 1 - speeds / 10)
    slower = np.concatenate([np.linspace(0.0, 2.0, 30), np.linspace(2.1, 4.0, 10)])
    numbers, before = scores(slower, 1 - slower / 10).numbers(base), base.numbers(base)
    assert numbers["quality"] > before["quality"] + 0.03
    assert numbers["quality_at_base_motion"] == pytest.approx(before["quality_at_base_motion"], abs=0.005)
    assert before["quality_at_base_motion"] == pytest.approx(before["quality"], abs=1e-9)
    assert before["quality_slow"] == pytest.approx(0.9, abs=0.01)
    assert before["quality_fast"] == pytest.approx(0.7, abs=0.01)


def test_pictures_show_a_slow_a_medium_and_a_fast_video() -> None:
    assert scores([3.0, 0.1, 2.0, 1.0, 0.5, 4.0], [1.0] * 6).of_each_speed() == ["4", "2", "5"]
    assert scores([1.0], [1.0]).of_each_speed() == ["0"]


def test_several_seeds_give_a_mean_with_its_spread() -> None:
    one = dict.fromkeys(COLUMNS, 0.25)
    table = motion_table({"both": [one, {**one, "motion": 0.75}], "other": [one]})
    assert [row.name for row in table.rows] == ["both", "other"]
    assert table.header == ("run", *COLUMNS.values())
    assert [row.cells[0].text for row in table.rows] == ["0.500 (0.250 to 0.750)", "0.250"]
    assert [row.cells[0].best for row in table.rows] == [True, False]
    assert not any(row.cells[1].best for row in table.rows), "equal ones are all as good"


def test_a_folder_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no manifest\.json; give a folder that `vidpref predict`"):
        score_folder(tmp_path)
    folder = sampled(tmp_path / "moving", count=2)
    sorted(folder.glob("*.mp4"))[0].unlink()
    with pytest.raises(ValueError, match=r"is missing; the same `vidpref predict` again"):
        score_folder(folder)


def test_the_table_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [sampled(tmp_path / "moving", count=2), sampled(tmp_path / "pale", pale=0.3, count=2)]
    main([*map(str, folders), "--markdown", str(tmp_path / "table.md")])
    assert "moving" in capsys.readouterr().out
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert lines[0] == f"| run | {' | '.join(COLUMNS.values())} |"
    quality = [float(line.split("|")[3].strip(" *")) for line in lines[2:]]
    assert quality[0] > 0.99
    assert quality[1] == pytest.approx(1 - 0.3**2, abs=0.02)
    main([str(folders[1]), "--measures", str(tmp_path / "scores" / "pale.json")])
    pale = MotionScores.read(tmp_path / "scores" / "pale.json")
    assert pale == score_folder(folders[1]), "measures come back to the last digit"
    with pytest.raises(SystemExit):
        main([str(tmp_path)])


def size_of(png: bytes) -> tuple[int, ...]:
    return imread(io.BytesIO(png)).shape


def test_sections_of_the_dense_half(tmp_path: Path) -> None:
    for method in ("base", "dense"):
        sampled(tmp_path / "samples" / method, count=3)
    pairs = write_pairs(tmp_path, 2)
    write_labels(pairs, [(0, 0, 0)])
    (section,) = dense_sections(tmp_path)  # no pair has seconds for either video
    assert section.table is not None
    assert [row.name for row in section.table.rows] == ["the base model", "DenseDPO"]
    assert section.png is not None
    assert min(size_of(section.png)[:2]) > 200
    page = web_page([], [section], "both")
    assert section.image in page
    assert "DenseDPO: videos before and after" in page


def test_the_demo_prints_the_studys_mean_and_range(tmp_path: Path) -> None:
    def seeds(motion: float) -> list[dict[str, float]]:
        return [{"motion": motion, "quality": 0.9}, {"motion": motion + 0.1, "quality": 0.92}]

    runs = {"base": {"seeds": seeds(0.8)}, "dense-all": {"seeds": seeds(0.7)}}
    (tmp_path / "dense.json").write_text(json.dumps({"data": {"runs": runs}}))
    assert "motion -0.100 (-0.100 -0.100), quality +0.000" in study_line(tmp_path / "dense.json")
    (tmp_path / "dense.json").write_text(json.dumps({"data": {}}))
    for part in ("dense.json", "none.json"):
        assert "no fits to compare this with" in study_line(tmp_path / part)


def test_a_pair_is_drawn_with_its_labels(tmp_path: Path) -> None:
    row, video = pair_row("p00"), encode_mp4(render_motion(draw_motion_scene(random.Random(0))), 8.0)
    key, members = pair_sample(row)
    write_shards([(key, members | {"first.mp4": video, "second.mp4": video})], tmp_path / "pairs", "vidpref/pairs")
    pairs = tmp_path / "pairs.index.json"
    labels = Path(write_labels(str(pairs), [(1, -1, 0)]))
    assert min(size_of(pair_picture(pairs, labels))[:2]) > 200
    with pytest.raises(ValueError, match="no labelled pair unknown"):
        pair_picture(pairs, labels, "unknown")


def test_stages_are_commands_of_their_own(tmp_path: Path) -> None:
    stages = dense_stages(tmp_path, 3)
    assert len({stage.name for stage in stages}) == len(stages)
    for stage in stages:
        assert stage.command[0] in vidpref.VERBS
        if "--config" in stage.command:
            assert (ROOT / stage.command[stage.command.index("--config") + 1]).is_file()
