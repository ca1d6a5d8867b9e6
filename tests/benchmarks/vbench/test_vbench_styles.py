"""Appearance style: CLIP of frames with the style that VBench's list names, every frame of a folder once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoTokenizer, CLIPModel

import vidpref
from benchmarks.vbench.networks import ClipFeatures
from benchmarks.vbench.styles import ClipStyle, StyleMeasure, styles_in
from datamodules.questions.folder_names import Asked, read_asked
from datamodules.video.facts import VideoFacts
from tests.benchmarks.vbench.test_vbench_folder import arguments, proxy
from tests.support.paths import DATA
from tests.support.vbench_samples import save_clip_with_text, sliding_picture, write_videos

FACTS = VideoFacts(6, 8.0, 64, 48)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_clip_with_text(tmp_path_factory.mktemp("clip"))


def test_a_video_scores_the_mean_cosine_of_its_frames_with_the_styles_name(clip: str) -> None:
    network = ClipStyle(clip)
    network.load()
    frames = sliding_picture(3, 6)
    watcher = StyleMeasure(network, {"The bund": "oil painting"}).watch(FACTS, "The bund")
    watcher.see(frames[:4], 0)
    watcher.see(frames[4:], 4)
    images = ClipFeatures(clip)
    images.load()
    whole = CLIPModel.from_pretrained(clip).eval()
    tokens = AutoTokenizer.from_pretrained(clip)(["oil painting"], return_tensors="pt")
    with torch.no_grad():
        states = whole.text_model(**tokens)
        text = whole.text_projection(states.pooler_output)
    expected = F.cosine_similarity(images(frames), text).mean().item()
    result = watcher.result()
    assert result["frame_count"] == 6
    assert result["score"] == pytest.approx(expected, abs=1e-5)
    other = StyleMeasure(network, {"The bund": "watercolor"}).watch(FACTS, "The bund")
    other.see(frames, 0)
    assert abs(other.result()["score"] - expected) > 1e-3, "another style is another score"


def test_the_published_list_names_the_styles() -> None:
    asked = read_asked(DATA / "vbench" / "full_info_excerpt.json")
    assert styles_in(asked) == {"The bund Shanghai, oil painting": "oil painting"}
    assert styles_in(None) == styles_in({"a ball": Asked()}) == {}
    with pytest.raises(ValueError, match="no auxiliary_info that names its appearance_style"):
        styles_in({"a": Asked(None, ({"prompt_en": "a", "dimension": ["appearance_style"]},))})


@pytest.mark.slow
def test_it_is_measured_where_the_list_names_styles_and_missing_elsewhere(clip: str, tmp_path: Path) -> None:
    videos = write_videos(tmp_path / "videos")
    listed = [{"prompt_en": "a ball", "dimension": ["appearance_style"],
               "auxiliary_info": {"appearance_style": {"appearance_style": "oil painting"}}},
              {"prompt_en": "well-known man", "dimension": ["temporal_flickering"]}]  # fmt: skip
    (tmp_path / "list.json").write_text(json.dumps(listed))
    network = ("--model.appearance", "ClipStyle", "--model.appearance.model", clip)
    results: dict[str, Any] = proxy(videos, tmp_path / "out", *network, "--data.prompts", str(tmp_path / "list.json"))
    lines = [json.loads(line) for line in (tmp_path / "out" / "answers.jsonl").read_text().splitlines()]
    scored = [line["scores"]["appearance_style"] for line in lines if "appearance_style" in line["scores"]]
    assert [score["frame_count"] for score in scored] == [13, 13], "not that of the other prompt"
    assert results["appearance_style"] == pytest.approx(sum(score["score"] for score in scored) / 2)
    assert results["about"]["networks"]["appearance_style"]["network"] == "openai/clip-vit-base-patch32"
    without = proxy(videos, tmp_path / "without", *network)
    assert "appearance_style" not in without
    assert without["missing"]["appearance_style"].startswith("needs VBench's list, which names the styles")


def test_a_name_is_its_own_prompt_where_nothing_needs_one(tmp_path: Path) -> None:
    videos = write_videos(tmp_path / "videos")
    for name in sorted(videos.iterdir()):
        name.rename(videos / f"video{len(list(videos.glob('video*')))}.mp4")
    results = proxy(videos, tmp_path / "out")
    assert results["about"]["videos"]["scored"] == 3
    assert results["about"]["videos"]["prompts"] == 3
    assert {"temporal_flickering", "motion_smoothness", "dynamic_degree"} <= set(results)


def test_all_networks_that_are_missing_are_in_one_message_with_what_to_do(tmp_path: Path, capsys: Any) -> None:
    videos = write_videos(tmp_path / "videos")
    (tmp_path / "empty").mkdir()
    flags = ("--model.subject.model", str(tmp_path / "no_dino"), "--model.background.model", str(tmp_path / "empty"),
             "--model.aesthetic.model", str(tmp_path / "no_clip"), "--model.aesthetic.head", str(tmp_path / "h.pth"),
             "--model.flow.weights", str(tmp_path / "no_raft.pth"), "--model.imaging", "null")  # fmt: skip
    assert vidpref.main(arguments("vbench.yaml", videos, tmp_path / "out", *flags)) == 1
    message = capsys.readouterr().err
    assert "4 networks cannot be used; do what each line says, or leave a dimension out by setting" in message
    for words in (
        f"subject_consistency (model.subject): {tmp_path / 'no_dino'}: no such file or folder",
        f"background_consistency (model.background): {tmp_path / 'empty'}: holds no config.json of a model; give a "
        "folder with the model openai/clip-vit-base-patch32, or its hub id",
        f"aesthetic_quality (model.aesthetic): {tmp_path / 'h.pth'}: no such file",
        f"{tmp_path / 'no_clip'}: no such file or folder",
        f"dynamic_degree (model.flow): {tmp_path / 'no_raft.pth'}: no such file",
    ):
        assert words in " ".join(message.split()), words
    assert not (tmp_path / "out" / "answers.jsonl").exists()
