"""A served model in the place of a benchmark's policy."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from benchmarks.video_hallucer.module import VideoHallucer
from datamodules.questions.video_hallucer import VideoHallucerQuestions
from datamodules.video.codec import decode_frames, probe
from lightning_modules.judges.base import JudgeStoppedError
from lightning_modules.judges.endpoint_video_llm import EndpointVideoLLM
from lightning_modules.policy_loading import policy_settings
from tests.support.chat_server import ChatServer
from tests.support.hallucer_world import world  # noqa: F401  # a fixture

FRAMES = torch.arange(4, dtype=torch.uint8)[:, None, None, None].expand(4, 3, 16, 16) * 60
TIMES = torch.tensor([0.0, 0.5, 1.0, 1.5])


def served(cache: str, **settings: Any) -> EndpointVideoLLM:
    return EndpointVideoLLM(**{"cache": cache, "attempts": 2, "backoff_s": 0.001, "timeout_s": 5.0} | settings)


def test_frames_are_pictures_before_the_question(chat: ChatServer, cache: str) -> None:
    chat.answer = lambda body, number: " A disc. "
    policy = served(cache, image_format="png", system="Be brief.")
    assert policy.generate(["What moves?"], [FRAMES], 24, times=[TIMES]) == ["A disc."]
    (body,) = chat.requests
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("looks-7", 24, 0.0)
    system, asked = body["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    assert [part["type"] for part in asked["content"]] == ["image_url"] * 4 + ["text"]
    assert asked["content"][-1]["text"] == "What moves?"


def test_a_video_file_has_the_frames_at_their_rate(chat: ChatServer, cache: str, tmp_path: Path) -> None:
    policy = served(cache, send="video")
    policy.generate(["What moves?"], [FRAMES], 24, "It is", [TIMES])
    video, text = chat.requests[0]["messages"][0]["content"]
    assert text["text"] == "What moves? It is"
    assert video["type"] == "video_url"
    (tmp_path / "sent.mp4").write_bytes(
        base64.b64decode(video["video_url"]["url"].removeprefix("data:video/mp4;base64,"))
    )
    facts = probe(tmp_path / "sent.mp4")
    assert (facts.frames, facts.fps) == (4, 2.0)
    assert (
        decode_frames(tmp_path / "sent.mp4", range(4)).float().mean((1, 2, 3)) - torch.arange(4) * 60
    ).abs().max() < 4


def test_nothing_is_asked_twice_and_many_at_once(chat: ChatServer, cache: str) -> None:
    def slowly(body: dict[str, Any], number: int) -> str:
        time.sleep(0.1)
        return str(body["messages"][0]["content"][-1]["text"].upper())

    chat.answer = slowly
    prompts = [f"question {index}" for index in range(6)]
    first = served(cache, concurrency=3).generate(prompts[:4], [FRAMES] * 4, 8)
    assert first == [prompt.upper() for prompt in prompts[:4]]
    assert 1 < chat.most_at_once <= 3
    again = served(cache).generate(prompts, [FRAMES] * 6, 8)
    assert again == [prompt.upper() for prompt in prompts]
    assert len(chat.requests) == 6


def test_a_limit_stops_and_the_next_run_goes_on(chat: ChatServer, cache: str) -> None:
    with pytest.raises(JudgeStoppedError, match="run the same command again to continue"):
        served(cache, concurrency=1, limit=2).generate(["a", "b", "c"], [FRAMES] * 3, 8)
    assert served(cache).generate(["a", "b", "c"], [FRAMES] * 3, 8) == ["fine"] * 3
    assert len(chat.requests) == 3


def test_answers_depend_on_what_is_said_in_the_settings(chat: ChatServer, cache: str) -> None:
    settings = policy_settings(served(cache, options={"top_p": 0.5}))
    assert settings["model"] == "looks-7"
    assert settings["options"] == '{"temperature": 0.0, "top_p": 0.5}'
    assert not [name for name, value in settings.items() if chat.url in str(value)]


def test_it_is_no_model_to_train_or_to_score_with(chat: ChatServer, cache: str) -> None:
    policy = served(cache)
    with pytest.raises(ValueError, match="looks-7 is behind an endpoint: it answers, but cannot score given answers"):
        policy.encode([])
    assert policy.text_faults("q", {"chosen": "a"}) == [
        "an endpoint cannot be trained; give a policy with a checkpoint"
    ]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_video_hallucer_scores_a_served_model(chat: ChatServer, cache: str, world: Path) -> None:  # noqa: F811
    """Yes to what is there, no to what is absent, and right about it but for the detail of the dark video."""
    chat.answer = lambda body, number: "Yes." if "there" in body["messages"][0]["content"][-1]["text"] else "No."
    questions = VideoHallucerQuestions(str(world / "questions"), str(world / "videos"), num_frames=2, batch_size=4)
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=world)
    (results,) = trainer.test(VideoHallucer(served(cache), str(world / "results")), questions, verbose=False)
    assert len(chat.requests) == 4  # two of the six questions are the same about the same video
    scores = json.loads((world / "results" / "results.json").read_text())["all"]
    assert (scores["basic_accuracy"], scores["halluc_accuracy"]) == (1.0, 0.5)
    again = VideoHallucer(served(cache), str(world / "results"))
    assert trainer.test(again, questions, verbose=False) == [results]
    assert len(chat.requests) == 4
