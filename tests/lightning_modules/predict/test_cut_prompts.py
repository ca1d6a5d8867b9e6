"""A prompt beyond the text encoder's length is named before the first video is made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import LightningModule, Trainer

from callbacks.writers.shards import ShardWriter
from callbacks.writers.video_folder import VideoFolderWriter
from datamodules.dense.prompts import Prompts
from datamodules.dense.rows import VideoRow
from datamodules.dense.videos import Videos
from datamodules.schemas import write_shards
from datamodules.video.codec import encode_mp4
from datamodules.video.facts import VideoFacts
from lightning_modules.policies.wan import WanPolicy
from lightning_modules.predict import cut_prompts as module
from lightning_modules.predict.guided_sampler import GuidedSampler
from lightning_modules.predict.video_encoder import VideoEncoder
from lightning_modules.predict.video_sampler import VideoSampler
from tests.support.predict_fakes import trainer_with
from tests.support.tiny_wan import random_video, write_tiny_wan

#: Tokens that the policy takes; the tiny tokenizer makes one of each byte, and one of the end.
LENGTH = 24
FEW: dict[str, Any] = {"num_steps": 1, "guidance_scale": 1.0}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_wan(tmp_path_factory.mktemp("wan"))


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was warned of, and the videos made, in order."""
    lines: list[str] = []
    monkeypatch.setattr(module, "rank_zero_warn", lines.append)
    for kind in (VideoEncoder, GuidedSampler, VideoSampler):
        step = kind.predict_step

        def counted(self: Any, batch: Any, batch_idx: int, step: Any = step) -> Any:
            lines.append("made")
            return step(self, batch, batch_idx)

        monkeypatch.setattr(kind, "predict_step", counted)
    return lines


def run(trainer: Trainer, made_by: LightningModule, data: Any) -> None:
    trainer.predict(made_by, data)


def videos(folder: Path, captions: dict[str, str]) -> Videos:
    content = encode_mp4(random_video(5, 16, 16), 8, lossless=True)
    rows = [VideoRow(key, f"{key}.mp4", text, VideoFacts(5, 8.0, 16, 16), "test") for key, text in captions.items()]
    samples = ((row.key, {"mp4": content, "json": json.dumps(row.to_json()).encode()}) for row in rows)
    write_shards(samples, folder / "train", "vidpref/videos")
    return Videos(str(folder / "train.index.json"))


def test_tokens_are_counted_as_the_pipeline_counts_them_without_the_text_encoder(path: Path) -> None:
    policy = WanPolicy(str(path), prompt_length=64)
    prompts = ["a red ball", "  two   spaces &amp; more ", "ä", "x" * 63, "x" * 64, "x" * 700]
    assert policy.prompt_lengths(prompts) == [11, 18, 3, 64, 65, 701]
    assert policy._codec._text is None
    embedded = [len(prompt["embeds"]) for prompt in policy.encode_prompt(prompts)]
    assert embedded == [11, 18, 3, 64, 64, 64]


@pytest.mark.parametrize("kind", ["encode", "pairs"])
def test_captions_that_are_cut_are_named_before_the_first_video(
    path: Path, tmp_path: Path, messages: list[str], kind: str
) -> None:
    captions = {"short": "b" * (LENGTH - 1), "long": "c" * LENGTH, "longer": "d" * 99}
    policy = WanPolicy(str(path), prompt_length=LENGTH)
    made_by = VideoEncoder(policy) if kind == "encode" else GuidedSampler(policy, **FEW)
    run(trainer_with([ShardWriter(str(tmp_path / "out"))]), made_by, videos(tmp_path, captions))
    message, *rest = messages
    assert message.startswith("2 of 3 prompts are longer than the 24 tokens")
    assert message.splitlines()[1:] == ["  long: 25 tokens", "  longer: 100 tokens"]
    assert rest == ["made"] * 3


def test_prompts_to_sample_are_named_ten_at_most_and_counted(path: Path, tmp_path: Path, messages: list[str]) -> None:
    texts = [f"{number:02d} {'e' * LENGTH}" for number in range(12)]
    (tmp_path / "prompts.txt").write_text("\n".join([*texts, "short"]))
    sampler = VideoSampler(
        WanPolicy(str(path), prompt_length=LENGTH), 1, 16, 16, negative_prompt="f" * 40, num_steps=1, guidance_scale=2.0
    )
    data = Prompts(str(tmp_path / "prompts.txt"), num_samples=2)
    data.setup("predict")
    data.skip([request.key for request in data.requests if not request.prompt.startswith(("00", "short"))])
    assert [text for _, text in data.prompts()] == [texts[0], "short"]
    data.skip(())
    trainer = trainer_with([VideoFolderWriter(str(tmp_path / "out"))], limit_predict_batches=1)
    run(trainer, sampler, data)
    lines = messages[0].splitlines()
    assert lines[0].startswith("13 of 14 prompts are longer than the 24 tokens")
    assert lines[1] == "  negative_prompt: 41 tokens"
    assert lines[2] == f"  '{texts[0]}': 28 tokens"
    assert len(lines) == 12
    assert lines[-1] == "  and 3 more"
    assert messages[1:] == ["made"]


def test_nothing_is_said_where_nothing_is_cut(path: Path, tmp_path: Path, messages: list[str]) -> None:
    policy = WanPolicy(str(path), prompt_length=LENGTH)
    data = videos(tmp_path, {"short": "b" * (LENGTH - 1)})
    run(trainer_with([ShardWriter(str(tmp_path / "out"))]), VideoEncoder(policy), data)
    assert messages == ["made"]
