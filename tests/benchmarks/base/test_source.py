"""Options that all benchmarks have in common are defined once, and are seen in the help of each."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

import pytest
from jsonargparse import ArgumentParser

from benchmarks.base.benchmark import Benchmark
from benchmarks.base.source import Source

CLASSES = {
    "video_hallucer.module.VideoHallucer": (32, "policy"),
    "event_hallusion.module.EventHallusion": (256, "policy"),
    "mvbench.module.MVBench": (16, "policy"),
    "videochatgpt.module.VideoChatGpt": (512, "policy"),
    "open_qa.module.MsvdQa": (64, "policy"),
    "ratings.videos.VisionReward": (None, "judge"),
    "ratings.videoscore.VideoScore": (None, "judge"),
    "ratings.video_reward.VideoReward": (None, "judge"),
}


def class_of(path: str) -> type[Benchmark]:
    module, _, name = path.rpartition(".")
    return getattr(import_module(f"benchmarks.{module}"), name)  # type: ignore[no-any-return]


@pytest.mark.parametrize("path", CLASSES)
def test_common_options_are_in_the_help_of_every_benchmark_with_their_defaults(path: str) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(class_of(path), "model")
    text = " ".join(parser.format_help().split())
    for words in (
        "--model.fresh {true,false} forget the answers or scores that an earlier start left in `output`.",
        "--model.paper PAPER a row of a published table to print beside the results",
        "--model.predictions PREDICTIONS recorded",
        "--model.output OUTPUT the folder for the results",
        "--model.name NAME",
    ):
        assert words in text, words
    defaults: dict[str, Any] = parser.get_defaults().model.as_dict()
    tokens, name = CLASSES[path]
    assert (defaults["fresh"], defaults["paper"], defaults["name"]) == (False, None, name)
    assert defaults.get("max_new_tokens") == tokens
    assert "options" not in defaults
    assert "metric" not in defaults


@pytest.mark.parametrize("path", [*CLASSES, "vbench.module.VBench"])
def test_they_are_written_in_one_place(path: str) -> None:
    for name in ("fresh", "paper"):
        assert f"\n        {name}:" not in (class_of(path).__doc__ or "")
        assert name not in inspect.signature(class_of(path)).parameters


def test_a_folder_of_videos_has_the_options_of_the_output_and_none_of_answers() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(class_of("vbench.module.VBench"), "model")
    text = " ".join(parser.format_help().split())
    assert "--model.fresh {true,false} forget the answers or scores that an earlier start left in `output`." in text
    assert "--model.paper PAPER a row of a published table to print beside the results" in text
    defaults = parser.get_defaults().model.as_dict()
    assert (defaults["fresh"], defaults["paper"], defaults["name"]) == (False, None, "videos")
    assert not {"policy", "predictions", "max_new_tokens", "options"} & defaults.keys()


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(TypeError, match="frsh"):
        class_of("mvbench.module.MVBench")(None, "out", predictions="answers.jsonl", frsh=True)  # type: ignore[call-arg]
    assert Source(None, "out").name == "policy"
