"""From scored videos to a folder's numbers, by the published scripts' rules, and the files that they read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.vbench.published_files import eval_results, full_info, merged_results, read_eval_results
from benchmarks.vbench.results import remarks, totals
from benchmarks.vbench.rules import DIMENSIONS
from benchmarks.vbench.score_log import ScoreLog
from benchmarks.vbench.scores import (
    VBenchMetric,
    folder_scores,
    mean_flow,
    score_intervals,
    static_only,
    with_observed,
)
from datamodules.questions.folder_names import read_asked
from datamodules.questions.video_folder import FolderVideo
from datamodules.video.facts import VideoFacts
from tests.support.goldens import golden
from tests.support.paths import TESTS

GOLDEN = golden("bench_vbench_consistency")
AGGREGATE = golden("bench_vbench_aggregate")


def record(frames: int = 10, flow: float | None = None, **scores: float) -> dict[str, Any]:
    scored: dict[str, Any] = {name: {"score": score} for name, score in scores.items()}
    if flow is not None:
        scored["dynamic_degree"]["flow"] = flow
    return {"frames": frames, "scores": scored}


@pytest.mark.parametrize("kind", ["subject", "background"])
def test_consistency_of_a_folder_is_the_published_score(kind: str) -> None:
    name = f"{kind}_consistency"
    videos = {
        video["video_path"]: record(len(GOLDEN["features"][video["video_path"]]), **{name: video["video_results"]})
        for video in GOLDEN[kind]["videos"]
    }
    assert folder_scores(videos) == {name: GOLDEN[kind]["dataset"]}


def test_other_dimensions_are_means_over_the_videos_that_have_them() -> None:
    videos = {
        "a": record(10, 3.0, dynamic_degree=True, imaging_quality=60.0, motion_smoothness=0.9),
        "b": record(90, 5.0, dynamic_degree=False, imaging_quality=70.0),
        "c": record(2, aesthetic_quality=0.5),
    }
    expected = {"motion_smoothness": 0.9, "dynamic_degree": 0.5, "aesthetic_quality": 0.5, "imaging_quality": 0.65}
    assert folder_scores(videos) == pytest.approx(expected)
    assert list(folder_scores(videos)) == [name for name in DIMENSIONS if name in expected]
    assert mean_flow(videos) == 4.0
    assert mean_flow({"c": videos["c"]}) is None


def test_every_frame_counts_once_where_a_score_tells_of_frames() -> None:
    shares = {"a": (0.5, 16), "b": (1.0, 4)}
    videos = {
        name: {"frames": 81, "scores": {"object_class": {"score": share, "frame_count": count}}}
        for name, (share, count) in shares.items()
    }
    assert folder_scores(videos) == {"object_class": pytest.approx(12 / 20)}
    assert score_intervals(videos, dict.fromkeys(videos, "p"), 0)["object_class"] == pytest.approx([0.6, 0.6])


def test_flickering_counts_the_first_five_static_videos_of_a_prompt() -> None:
    videos = {f"{n}": record(temporal_flickering=n / 10, aesthetic_quality=0.5) for n in range(8)}
    for name, video in videos.items():
        video["scores"]["temporal_flickering"]["static"] = name != "1"
    prompts = dict.fromkeys(videos, "a ball") | {"7": "a cube"}
    records = static_only(videos, prompts)
    assert [name for name, video in records.items() if "temporal_flickering" in video["scores"]] == [
        *list("02345"),
        "7",
    ]
    assert [name for name, video in records.items() if "not_static" in video] == ["1", "6"]
    assert all("aesthetic_quality" in video["scores"] for video in records.values())
    unfiltered = {"a": record(temporal_flickering=0.5)}
    assert static_only(unfiltered, {"a": "a ball"}) == unfiltered


def test_what_was_seen_joins_what_was_measured(tmp_path: Path) -> None:
    facts = VideoFacts(9, 8.0, 64, 48)
    folder = {name: FolderVideo(name, tmp_path / name, "p", 0, facts, "") for name in "abcd"}
    seen = {"scene": {"score": 0.5, "frame_count": 16}}
    records = with_observed({"c": record(9, scene=1.0)}, {"a": seen, "c": seen, "d": seen}, folder, {"d"})
    assert list(records) == ["a", "c"]
    assert records["a"] == {"frames": 9, "scores": seen}
    assert records["c"]["scores"] == seen


def test_a_metric_takes_videos_once_however_often_they_come() -> None:
    metric = VBenchMetric()
    metric.update({"a": record(temporal_flickering=0.5)})
    metric.update({"b": record(temporal_flickering=1.0), "c": {"skipped": "undecodable"}})
    metric.update({"a": record(temporal_flickering=0.5)})
    assert metric.compute() == {"temporal_flickering": 0.75}


def test_intervals_draw_prompts_and_not_videos() -> None:
    videos = {f"{n}": record(temporal_flickering=float(n < 5)) for n in range(10)}
    alike = score_intervals(videos, dict.fromkeys(videos, "one prompt"), seed=1)
    assert alike == {"temporal_flickering": [0.5, 0.5]}
    low, high = score_intervals(videos, {name: name for name in videos}, seed=1)["temporal_flickering"]
    assert 0.1 <= low < 0.35
    assert 0.65 < high <= 0.9
    # A long video weighs more where frames count.
    two = {"a": record(2, subject_consistency=0.0), "b": record(10, subject_consistency=1.0)}
    assert score_intervals(two, dict.fromkeys(two, "p"), 0) == {"subject_consistency": [0.9, 0.9]}


def test_totals_need_everything_that_they_are_made_of() -> None:
    for case in AGGREGATE["cases"].values():
        raw = {name.replace(" ", "_"): value for name, value in case["input"].items()}
        sums = totals(raw)
        assert sums == {name: case[name] for name in sums}
        lacking = {DIMENSIONS[name].group for name in DIMENSIONS if name not in raw}
        assert set(sums) == {"quality", "semantic"} - lacking | (set() if lacking else {"total"})
    assert totals({"temporal_flickering": 0.9}) == {}


def test_files_are_those_that_vbench_reads(tmp_path: Path) -> None:
    facts = VideoFacts(5, 8.0, 64, 48)
    names = ("a person-1.mp4", "a person-0.mp4", "The bund Shanghai, oil painting-0.mp4")
    folder = {name: FolderVideo(name, tmp_path / name, name[:-6], int(name[-5]), facts, "") for name in names}
    videos = {
        names[0]: record(5, 2.5, dynamic_degree=True, background_consistency=0.9),
        names[1]: record(5, 0.5, dynamic_degree=False, background_consistency=0.8),
        names[2]: record(5, imaging_quality=55.0),
    }
    written = eval_results(videos, {name: video.path for name, video in folder.items()})
    score, rows = written["dynamic_degree"]
    assert score == 0.5
    assert rows[0] == {"video_path": str(tmp_path / names[0]), "video_results": True, "flow": 2.5}
    assert {name: len(result[1]) for name, result in written.items()} == {
        "background_consistency": 2,
        "imaging_quality": 1,
        "dynamic_degree": 2,
    }
    assert written["background_consistency"][1][0]["cnt_per_video"] == 4
    assert written["background_consistency"][1][0]["video_sim"] == pytest.approx(3.6)
    assert written["imaging_quality"] == [0.55, [{"video_path": str(tmp_path / names[2]), "video_results": 55.0}]]
    path = tmp_path / "own_eval_results.json"
    path.write_text(json.dumps(written))
    assert read_eval_results(path) == folder_scores(videos)

    own = full_info(folder, None, ["scene"])
    assert own[0] == {
        "prompt_en": "a person",
        "dimension": ["scene"],
        "video_list": [str(tmp_path / "a person-0.mp4"), str(tmp_path / "a person-1.mp4")],
    }
    asked = read_asked(TESTS / "data" / "vbench" / "full_info_excerpt.json")
    theirs = full_info(folder, asked, ["scene"])
    assert [entry["dimension"][0] for entry in theirs] == ["object_class", "appearance_style", "overall_consistency"]
    assert theirs[0]["auxiliary_info"] == {"object_class": {"object": "person"}}


def test_a_file_of_something_else_is_not_merged(tmp_path: Path) -> None:
    path = tmp_path / "x_eval_results.json"
    with pytest.raises(ValueError, match="no such file"):
        read_eval_results(path)
    path.write_text('{"scene": 0.5}')
    with pytest.raises(ValueError, match="is not of the form"):
        read_eval_results(path)
    path.write_text('{"scenes": [0.5, []]}')
    with pytest.raises(ValueError, match="scenes are no dimensions"):
        read_eval_results(path)


@pytest.mark.parametrize("score", ["323.99", "70.9", "NaN", "Infinity", "-0.5", "true", '"0.5"', "null"])
def test_a_score_that_is_none_is_not_merged_and_its_file_is_named(tmp_path: Path, score: str) -> None:
    path = tmp_path / "x_eval_results.json"
    path.write_text(f'{{"scene": [0.5, []], "imaging_quality": [{score}, []]}}')
    with pytest.raises(ValueError, match="raw scores of VBench are numbers from 0 to 1") as error:
        read_eval_results(path)
    assert str(error.value).startswith(f"{path}: ")
    assert f"imaging_quality is {json.loads(score)!r}" in str(error.value)
    assert "scene" not in str(error.value)


def test_a_negative_cosine_is_a_raw_score(tmp_path: Path) -> None:
    path = tmp_path / "x_eval_results.json"
    path.write_text('{"appearance style": [-0.01, []], "scene": [1, []]}')
    assert read_eval_results(path) == {"appearance_style": -0.01, "scene": 1.0}


def test_two_files_that_disagree_are_an_error_and_equal_ones_are_not(tmp_path: Path) -> None:
    first, second = tmp_path / "a_eval_results.json", tmp_path / "b_eval_results.json"
    first.write_text('{"scene": [0.5, []], "color": [0.8, []]}')
    second.write_text('{"scene": [0.5, []], "human_action": [0.9, []]}')
    assert merged_results([first, second]) == {
        "scene": (0.5, first), "color": (0.8, first), "human_action": (0.9, second)
    }  # fmt: skip
    second.write_text('{"scene": [0.6, []]}')
    with pytest.raises(ValueError, match="files to merge disagree") as error:
        merged_results([first, second])
    assert f"scene is 0.5 in {first} and 0.6 in {second}" in str(error.value)


def test_a_log_forgets_a_line_without_an_end_and_refuses_other_videos(tmp_path: Path) -> None:
    log = ScoreLog(tmp_path)
    log.begin({}, fresh=False)
    for key in ("a-0.mp4", "b-0.mp4"):
        log.append(0, [{"key": key, "asked": "first", **record(temporal_flickering=0.5)}])
    part = next(tmp_path.rglob("rank-*.jsonl"))
    part.write_bytes(part.read_bytes()[:-5])
    records = log.read()
    assert list(records) == ["a-0.mp4"]
    assert records["a-0.mp4"]["scores"] == {"temporal_flickering": {"score": 0.5}}
    video = FolderVideo("a-0.mp4", tmp_path, "a", 0, VideoFacts(10, 8.0, 64, 48), "second")
    with pytest.raises(ValueError, match=r"1 videos have changed[^$]*a-0\.mp4"):
        log.check_videos(records, {"a-0.mp4": video})
    part.write_text('{"key": "a-0.mp4", "predict": "yes"}\n')
    with pytest.raises(ValueError, match="something else than scored videos"):
        log.read()


def test_remarks_name_proxies_and_what_is_missing() -> None:
    networks = {"dynamic_degree": {"proxy": True, "differs": ["DIS in place of RAFT"]},
                "motion_smoothness": {"proxy": False, "differs": ["weights from x, not verified to be y"]},
                "imaging_quality": {"proxy": False, "differs": []}}  # fmt: skip
    results = {"mean_flow": 2.0, "missing": {"scene": "not measured here", "color": "not measured here"}}
    lines = "\n".join(remarks(results, {"networks": networks, "left_out": 3, "not_static": 4}))
    assert "dynamic_degree: a proxy, DIS in place of RAFT." in lines
    assert "2.00 pixels" in lines
    assert "missing (not measured here): scene, color." in lines
    assert "3 videos were left out" in lines
    assert "motion_smoothness: weights from x, not verified to be y." in lines
    assert "temporal_flickering: 4 videos do not count" in lines
    assert "imaging" not in lines
