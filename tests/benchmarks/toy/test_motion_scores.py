"""Scores and pictures of toy videos, on rendered ground truth; the stages of the demo's second half and the study."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

import vidpref
from benchmarks.report.page import web_page
from benchmarks.toy.dense_demo import dense_sections, dense_stages
from benchmarks.toy.motion_pictures import pair_picture
from benchmarks.toy.motion_scores import main, motion_table, one_of_each_speed, score_folder
from benchmarks.toy.study import METHODS, Size, study_stages
from callbacks.cli.recipes.stage import Stage
from datamodules.schemas import write_shards
from datamodules.toy_world.motion_world import SPEEDS, draw_motion_scene, render_motion
from datamodules.video.codec import encode_mp4
from tests.support.flow_shards import pair_row, pair_sample, write_labels, write_pairs
from tests.support.paths import ROOT


def sampled(folder: Path, still: bool = False, count: int = 6) -> Path:
    """A folder as `predict` leaves it: what the prompts say, or shapes that stand still."""
    folder.mkdir(parents=True)
    asked = {}
    for number in range(count):
        scene = draw_motion_scene(random.Random(number), SPEEDS[number % len(SPEEDS)])
        name = f"{scene.motion}-0.mp4"
        frames = render_motion(scene)
        frames = np.repeat(frames[:1], len(frames), axis=0) if still else frames
        (folder / name).write_bytes(encode_mp4(frames, 8.0, lossless=True))
        asked[name] = {"prompt": str(scene.motion), "index": 0}
    (folder / "manifest.json").write_text(json.dumps({"made_from": {}, "videos": asked}))
    return folder


def test_ground_truth_moves_as_told_and_a_still_shape_only_looks_good(tmp_path: Path) -> None:
    moving, still = score_folder(sampled(tmp_path / "moving")), score_folder(sampled(tmp_path / "still", still=True))
    for speed in (None, *SPEEDS):
        assert moving.value("motion", speed) == pytest.approx(1.0, abs=0.03)
        assert still.value("motion", speed) == pytest.approx(0.0, abs=0.03)
        assert still.value("quality", speed) > 0.9
    table = motion_table({"moving": [moving], "still": [still]})
    assert [row.name for row in table.rows] == ["moving", "still"]
    assert table.header[1] == "motion"
    assert table.rows[0].cells[0].text == "1.000"
    assert table.rows[0].cells[0].best


def test_several_seeds_give_a_mean_with_its_spread(tmp_path: Path) -> None:
    moving, still = score_folder(sampled(tmp_path / "moving")), score_folder(sampled(tmp_path / "still", still=True))
    assert motion_table({"both": [moving, still]}).rows[0].cells[0].text == "0.500 (0.00 to 1.00)"


def test_a_folder_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no manifest\.json; give a folder that `vidpref predict`"):
        score_folder(tmp_path)
    folder = sampled(tmp_path / "moving", count=2)
    gone = sorted(folder.glob("*.mp4"))[0]
    gone.unlink()
    with pytest.raises(ValueError, match=r"is missing; the same `vidpref predict` again"):
        score_folder(folder)


def test_the_table_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = sampled(tmp_path / "moving", count=3)
    main([str(folder), "--markdown", str(tmp_path / "table.md")])
    assert "moving" in capsys.readouterr().out
    assert (tmp_path / "table.md").read_text().startswith("| run | motion | slow | medium | fast | quality |")
    with pytest.raises(SystemExit):
        main([str(tmp_path)])


def size_of(png: bytes) -> tuple[int, ...]:
    return imread(io.BytesIO(png)).shape


def test_sections_of_the_dense_half(tmp_path: Path) -> None:
    for method in ("base", "dense"):
        sampled(tmp_path / "samples" / method)
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


def test_a_pair_is_drawn_with_its_labels(tmp_path: Path) -> None:
    row, video = pair_row("p00"), encode_mp4(render_motion(draw_motion_scene(random.Random(0))), 8.0)
    key, members = pair_sample(row)
    write_shards([(key, members | {"first.mp4": video, "second.mp4": video})], tmp_path / "pairs", "vidpref/pairs")
    pairs = tmp_path / "pairs.index.json"
    labels = Path(write_labels(str(pairs), [(1, -1, 0)]))
    assert min(size_of(pair_picture(pairs, labels))[:2]) > 200
    with pytest.raises(ValueError, match="no labelled pair unknown"):
        pair_picture(pairs, labels, "unknown")


def check(stages: list[Stage]) -> None:
    assert len({stage.name for stage in stages}) == len(stages)
    for stage in stages:
        assert stage.command[0] in vidpref.VERBS
        if "--config" in stage.command:
            assert (ROOT / stage.command[stage.command.index("--config") + 1]).is_file()


def test_stages_are_commands_of_their_own(tmp_path: Path) -> None:
    check(dense_stages(tmp_path, 3))
    found = study_stages(tmp_path, [0, 1], Size(pairs=8))
    check(found)
    assert sum(stage.command[0] == "fit" for stage in found) == 2 * len(METHODS)


def test_a_study_too_small_for_its_table_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="prompts is 2; give 3 or more"):
        Size(prompts=2)
    names = ["a red circle moves vertically fast-0.mp4", "a red circle moves vertically slowly-0.mp4"]
    with pytest.raises(ValueError, match="no video is medium"):
        one_of_each_speed(names)
    steady = "a red circle moves vertically steadily-0.mp4"
    assert one_of_each_speed([*names, steady]) == [names[1], steady, names[0]]


def test_methods_of_the_study_differ_in_pairs_and_labels_alone(tmp_path: Path) -> None:
    fits = {
        stage.name: list(stage.command) for stage in study_stages(tmp_path, [5], Size()) if stage.command[0] == "fit"
    }

    def of(name: str) -> dict[str, str]:
        arguments = fits[f"fit-{name}-5"][1:]
        return dict(zip(arguments[::2], arguments[1::2], strict=True))

    own = {"--trainer.default_root_dir", "--data.train_labels"}
    changed = {key for key in of("structural") | of("vanilla") if of("structural").get(key) != of("vanilla").get(key)}
    assert changed == own | {"--data.train"}
    assert {key for key in of("dense") if of("dense")[key] != of("dense-all")[key]} == {
        "--trainer.default_root_dir",
        "--data.label_fraction",
    }
    assert of("dense")["--data.train"] == of("structural")["--data.train"]
