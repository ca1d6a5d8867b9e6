"""`vidpref test` on a folder of videos: every dimension with real networks, resumed, left out, over two processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import vidpref
from benchmarks.vbench.module import VBench
from benchmarks.vbench.networks import DinoFeatures
from benchmarks.vbench.rules import DIMENSIONS
from callbacks.card_scores import benchmark_scores
from datamodules.video.optical_flow import DisFlow
from lightning_modules.file_contents import contents_of
from tests.support.paths import ROOT
from tests.support.vbench_samples import VIDEOS, save_clip, save_dino, save_head, save_raft, write_videos

LIGHT = ("temporal_flickering", "motion_smoothness", "dynamic_degree")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos and networks."""
    place = tmp_path_factory.mktemp("made")
    write_videos(place / "videos")
    save_dino(place / "dino")
    save_clip(place / "clip")
    save_head(place / "head.pth")
    save_raft(place / "raft.pth")
    return place


def arguments(config: str, videos: Path, output: Path, *more: str) -> list[str]:
    return ["test", "--config", str(ROOT / "configs" / "benchmarks" / config), "--seed_everything", "5",
            "--data.folder", str(videos), "--data.num_workers", "0", "--trainer.accelerator", "cpu",
            "--model.output", str(output), "--trainer.default_root_dir", str(output / "run"),
            "--trainer.enable_progress_bar", "false", "--trainer.logger", "false", *more]  # fmt: skip


def run(config: str, videos: Path, output: Path, *more: str) -> dict[str, Any]:
    assert vidpref.main(arguments(config, videos, output, *more)) == 0
    return json.loads((output / "results.json").read_text())  # type: ignore[no-any-return]


def refusal(capsys: Any, config: str, videos: Path, output: Path, *more: str) -> str:
    """What the command says when it refuses."""
    assert vidpref.main(arguments(config, videos, output, *more)) == 1
    return str(capsys.readouterr().err)


def proxy(videos: Path, output: Path, *more: str) -> dict[str, Any]:
    return run("vbench_proxy.yaml", videos, output, *more)


def scores(results: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in results.items() if isinstance(value, float)}


def full(made: Path, output: Path, *more: str) -> dict[str, Any]:
    """All networks that are installed, the real classes."""
    return run(
        "vbench.yaml", made / "videos", output, "--model.subject.model", str(made / "dino"),
        "--model.background.model", str(made / "clip"), "--model.aesthetic.model", str(made / "clip"),
        "--model.aesthetic.head", str(made / "head.pth"), "--model.flow.weights", str(made / "raft.pth"),
        "--model.flow.model", "small", "--model.flow.num_updates", "1", *more
    )  # fmt: skip


@pytest.mark.slow
def test_all_dimensions_are_scored_with_their_networks(made: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("benchmarks.vbench.networks.find_spec", lambda name: None)
    results = full(made, tmp_path)
    scored = ("subject_consistency", "background_consistency", "temporal_flickering", "dynamic_degree")
    assert all(0 <= results[name] <= 1 for name in (*scored, "aesthetic_quality"))
    assert results["mean_flow"] > 0
    assert set(results["missing"]) == set(DIMENSIONS) - {*scored, "aesthetic_quality"}
    assert "pip install pyiqa" in results["missing"]["imaging_quality"]
    assert not {"imaging_quality", "motion_smoothness", "quality", "total"} & results.keys()
    about = results["about"]
    assert about["seed"] == 5
    assert about["versions"]["transformers"]
    assert "pyiqa" in about["versions"]
    assert "git_commit" in about
    assert about["protocol"].startswith("VBench 45e79ec1")
    assert len(about["networks"]["subject_consistency"]["weights"]["sha256"]) == 64
    assert set(about["intervals"]["of"]) == {*scored, "aesthetic_quality"}
    differs = about["paper"]["not_comparable"]
    assert any(difference.startswith("dynamic_degree: RAFT") for difference in differs)

    # Chunks and workers move no number.
    other = full(made, tmp_path / "other", "--data.num_workers", "2", "--data.chunk_frames", "5")
    assert scores(other) == pytest.approx(scores(results), abs=1e-5)


@pytest.mark.slow
def test_files_of_a_scored_folder(made: Path, tmp_path: Path) -> None:
    videos = shutil.copytree(made / "videos", tmp_path / "videos")
    shutil.copytree(made / "clip", tmp_path / "adapter")
    sampler = {"policy": {"contents": contents_of(SimpleNamespace(adapter=str(tmp_path / "adapter")))}}
    listed = {name: {"prompt": name.rpartition("-")[0], "index": int(name[-5])} for name in VIDEOS}
    (videos / "manifest.json").write_text(json.dumps({"made_from": sampler, "videos": listed}))
    results = proxy(videos, tmp_path, "--model.name", "base")
    assert results["about"]["videos"]["made_from"] == sampler
    on_card = benchmark_scores(tmp_path / "adapter", [tmp_path])[0]
    assert {score.address: score.value for score in on_card} == {name: results[name] for name in (*LIGHT, "mean_flow")}
    assert [score.address for score in on_card if score.protocol.startswith("marked: proxy; VBench")] == [
        *LIGHT[1:],
        "mean_flow",
    ]
    assert results["temporal_flickering"] < 1
    assert results["dynamic_degree"] in (1 / 3, 2 / 3)
    assert {name for name, network in results["about"]["networks"].items() if network["proxy"]} == set(LIGHT[1:])
    written = json.loads((tmp_path / "base_eval_results.json").read_text())
    assert {name: score for name, (score, _) in written.items()} == {name: results[name] for name in LIGHT}
    rows = {Path(video["video_path"]).name: video for video in written["dynamic_degree"][1]}
    assert set(rows) == set(VIDEOS)
    assert rows["a ball-0.mp4"]["video_results"] is True
    assert rows["a ball-1.mp4"]["video_results"] is False
    assert rows["a ball-0.mp4"]["flow"] > 3 > 0.2 > rows["a ball-1.mp4"]["flow"]
    info = json.loads((tmp_path / "base_full_info.json").read_text())
    assert [(entry["prompt_en"], len(entry["video_list"])) for entry in info] == [("a ball", 2), ("well-known man", 1)]
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [line["key"] for line in lines] == list(VIDEOS)


@pytest.mark.slow
def test_an_interrupted_scoring_goes_on(made: Path, tmp_path: Path, monkeypatch: Any) -> None:
    whole = proxy(made / "videos", tmp_path)
    answers = tmp_path / "answers.jsonl"
    first, *rest = answers.read_text().splitlines(keepends=True)
    changed = json.loads(first)
    changed["scores"]["temporal_flickering"]["score"] = 0.0
    answers.unlink()
    (tmp_path / "answers").mkdir()
    (tmp_path / "answers" / "rank-00000.jsonl").write_text(json.dumps(changed) + "\n" + rest[0][:30])
    again = proxy(made / "videos", tmp_path)
    assert again["temporal_flickering"] < whole["temporal_flickering"] - 0.2, "what was scored is not scored again"
    assert again["mean_flow"] == whole["mean_flow"]
    # A finished one loads no network and reads no video.
    monkeypatch.setattr("datamodules.questions.video_folder.stream_frames", None)
    assert scores(proxy(made / "videos", tmp_path)) == scores(again)
    monkeypatch.undo()
    assert scores(proxy(made / "videos", tmp_path, "--model.fresh", "true")) == scores(whole)


@pytest.mark.slow
def test_scores_by_other_networks_are_not_continued(made: Path, tmp_path: Path, capsys: Any) -> None:
    proxy(made / "videos", tmp_path)
    message = refusal(capsys, "vbench_proxy.yaml", made / "videos", tmp_path, "--model.flow.preset", "fast")
    assert "other settings" in message
    assert 'dimensions.dynamic_degree.network was "OpenCV DIS medium", is "OpenCV DIS fast"' in message


@pytest.mark.slow
def test_faults_are_listed_before_a_network_is_looked_for(tmp_path: Path, capsys: Any) -> None:
    videos = write_videos(tmp_path / "videos")
    (videos / "no number.mp4").write_bytes(b"")
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a ball\na cube\n")
    flags = ("--data.prompts", str(prompts), "--data.num_samples", "2")
    no_network = ("--model.subject.model", str(tmp_path / "none"))
    message = refusal(capsys, "vbench.yaml", videos, tmp_path / "out", *no_network, *flags)
    assert "4 videos of" in message
    faulty = {"video 0 of 'a cube'", "video 1 of 'a cube'", "no number.mp4", "well-known man-0.mp4"}
    assert all(name in message for name in faulty)
    results = proxy(videos, tmp_path / "out", *flags, "--data.allow_missing", "true")
    assert results["about"]["left_out"] == 4
    assert results["about"]["videos"]["scored"] == 2
    assert results["about"]["allow_missing"] is True
    details = json.loads((tmp_path / "out" / "details.json").read_text())
    assert set(details["skipped"]) == faulty
    flags = (*flags, "--data.prompt_set", "motion_bench")
    assert "holds 2 prompts, motion_bench has 419" in refusal(capsys, "vbench_proxy.yaml", videos, tmp_path, *flags)


@pytest.mark.slow
def test_vbenchs_list_says_what_is_scored(made: Path, tmp_path: Path) -> None:
    listed = [{"prompt_en": "a ball", "dimension": ["dynamic_degree"]},
              {"prompt_en": "well-known man", "dimension": ["object_class"]}]  # fmt: skip
    (tmp_path / "list.json").write_text(json.dumps(listed))
    results = proxy(made / "videos", tmp_path, "--data.prompts", str(tmp_path / "list.json"))
    assert results["dynamic_degree"] == 0.5
    assert set(results["missing"]) == set(DIMENSIONS) - {"dynamic_degree"}
    assert results["missing"]["temporal_flickering"] == "no video has a prompt for it, or none counts"
    assert results["about"]["videos"]["scored"] == 2


@pytest.mark.slow
def test_what_networks_saw_is_scored_beside_what_is_measured(made: Path, tmp_path: Path) -> None:
    listed = [{"prompt_en": "a ball", "dimension": ["object_class", "dynamic_degree"],
               "auxiliary_info": {"object_class": {"object": "ball"}}},
              {"prompt_en": "well-known man", "dimension": ["temporal_style"]}]  # fmt: skip
    (tmp_path / "list.json").write_text(json.dumps(listed))
    saw = {"object_class": {"a ball-0.mp4": [["ball"]] * 3, "a ball-1.mp4": [["cube"]]},
           "temporal_style": {"well-known man-0.mp4": {"rows": [[3, 4]], "text": [1, 0]}}}  # fmt: skip
    (tmp_path / "seen.json").write_text(json.dumps(saw))
    theirs = {"object_class": [0.1, []], "scene": [0.2, []]}
    (tmp_path / "vbench_eval_results.json").write_text(json.dumps(theirs))
    flags = ("--data.prompts", str(tmp_path / "list.json"),
             "--model.observations", json.dumps([str(tmp_path / "seen.json")]),
             "--model.merge", json.dumps([str(tmp_path / "vbench_eval_results.json")]))  # fmt: skip
    results = proxy(made / "videos", tmp_path / "out", *flags)
    expected = {"dynamic_degree": 0.5, "object_class": 0.75, "temporal_style": 0.6, "scene": 0.2}
    assert {name: results[name] for name in expected} == pytest.approx(expected)
    assert set(results["missing"]) == set(DIMENSIONS) - set(expected)
    assert set(results["about"]["observed"]) == {"object_class", "temporal_style"}
    assert set(results["about"]["merged"]) == {"scene"}
    assert results["about"]["videos"]["scored"] == 3
    assert {"object_class", "temporal_style"} <= set(results["about"]["intervals"]["of"])
    written = json.loads((tmp_path / "out" / "videos_eval_results.json").read_text())
    assert [Path(video["video_path"]).name for video in written["temporal_style"][1]] == ["well-known man-0.mp4"]
    # Nothing need be measured.
    alone = proxy(made / "videos", tmp_path / "alone", *flags, "--model.flickering", "false", "--model.flow", "null",
                  "--model.interpolation", "null")  # fmt: skip
    assert alone["object_class"] == 0.75
    assert "dynamic_degree" not in alone


@pytest.mark.slow
def test_flickering_of_static_videos(made: Path, tmp_path: Path) -> None:
    every = proxy(made / "videos", tmp_path / "every")
    results = proxy(made / "videos", tmp_path / "static", "--model.static_filter", "true")
    assert results["temporal_flickering"] == 1 > every["temporal_flickering"], "one of three stands still"
    assert results["about"]["not_static"] == 2
    assert results["about"]["networks"]["temporal_flickering"]["proxy"]
    assert results["dynamic_degree"] == every["dynamic_degree"]
    with pytest.raises(ValueError, match="static_filter says"):
        VBench("out", static_filter=True)


@pytest.mark.slow
def test_vbenchs_own_results_complete_the_totals(made: Path, tmp_path: Path, capsys: Any) -> None:
    theirs = {name: [0.5, []] for name in DIMENSIONS if name not in LIGHT[:2]}
    (tmp_path / "vbench_eval_results.json").write_text(json.dumps(theirs))
    merged = ("--model.merge", json.dumps([str(tmp_path / "vbench_eval_results.json")]))
    theirs |= {"motion_smoothness": [0.5, []], "dynamic_degree": [0.5, []]}
    (tmp_path / "all_eval_results.json").write_text(json.dumps(theirs))
    every = ("--model.merge", json.dumps([str(tmp_path / "all_eval_results.json")]))
    without_proxies = ("--model.flow", "null", "--model.interpolation", "null")
    whole = proxy(made / "videos", tmp_path / "whole", *every, *without_proxies)
    assert whole["missing"] == {}
    assert whole["total"] == pytest.approx((4 * whole["quality"] + whole["semantic"]) / 5)
    capsys.readouterr()
    results = proxy(made / "videos", tmp_path / "out", *merged)
    assert results["missing"] == {}
    # With proxies among its dimensions a total is not VBench's, and does not bear its name.
    assert not {"quality", "total"} & results.keys()
    mixed = results["of_proxies"]
    assert mixed["total"] == pytest.approx((4 * mixed["quality"] + results["semantic"]) / 5)
    about = results["about"]
    assert about["headlines"] == [*DIMENSIONS, "mean_flow", "semantic", "of_proxies/quality", "of_proxies/total"]
    assert about["marks"]["dynamic_degree"] == about["marks"]["mean_flow"] == "proxy"
    assert about["marks"]["scene"] == "merged"
    assert "temporal_flickering" not in about["marks"], "measured as published"
    output = capsys.readouterr().out
    for words in ("mean_flow", "of proxies, not vbench's", "merged from", "semantic"):
        assert words in output.lower()
    assert any("mean_flow" in line and f"{results['mean_flow']:.2f}" in line for line in output.splitlines())
    assert results["dynamic_degree"] != 0.5, "what is measured here is not overwritten"
    assert "dynamic_degree" not in results["about"]["merged"]


@pytest.mark.slow
def test_a_damaged_video_stops_the_run_or_is_left_out(
    made: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    def damaged(path: Path, indices: Any) -> Any:
        if path.name == "a ball-1.mp4":
            raise ValueError("undecodable frame 3: its data is damaged")
        return streamed(path, indices)

    from datamodules.video.codec import stream_frames as streamed

    monkeypatch.setattr("datamodules.questions.video_folder.stream_frames", damaged)
    message = refusal(capsys, "vbench_proxy.yaml", made / "videos", tmp_path)
    assert "a ball-1.mp4: undecodable frame 3" in message
    assert "allow_missing" in message
    results = proxy(made / "videos", tmp_path, "--data.allow_missing", "true")
    assert results["about"]["left_out"] == 1
    assert results["about"]["videos"]["scored"] == 2


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="no dimension is left"):
        VBench("out", flickering=False)
    with pytest.raises(ValueError, match="no paper"):
        VBench("out", paper="nothing/table1/row")
    benchmark = VBench("out", subject=DinoFeatures("folder"), flow=DisFlow())
    assert set(benchmark.measures) == {"subject_consistency", "temporal_flickering", "dynamic_degree"}
    assert benchmark.missing["motion_smoothness"] == "network not given"
    assert benchmark.missing["scene"] == "not measured here"


@pytest.mark.slow
def test_two_processes_score_every_video_once(made: Path, tmp_path: Path) -> None:
    results = proxy(made / "videos", tmp_path / "one")
    command = arguments("vbench_proxy.yaml", made / "videos", tmp_path / "two")
    command += ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "vidpref", *command], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    two = json.loads((tmp_path / "two" / "results.json").read_text())
    assert scores(two) == scores(results)
    assert two["about"]["intervals"] == results["about"]["intervals"]
    answers = [(tmp_path / name / "answers.jsonl").read_text() for name in ("one", "two")]
    assert answers[0] == answers[1]
