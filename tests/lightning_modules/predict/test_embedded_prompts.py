"""Text encoders load once a run and are gone while a video is denoised; the autoencoder stays within reach."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from callbacks.writers.video_folder import VideoFolderWriter
from datamodules.dense.prompts import Prompts
from lightning_modules.policies.wan import WanPolicy
from lightning_modules.predict import embedded_prompts
from lightning_modules.predict.video_sampler import VideoSampler
from tests.support.predict_fakes import predict
from tests.support.tiny_wan import write_tiny_wan

TEXTS = ["a ball", "a cube", "a cone"]


@pytest.fixture(scope="module")
def wan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_wan(tmp_path_factory.mktemp("wan"))


def run(wan: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[tuple[bool, bool]]]:
    """How often a text encoder was loaded, and whether it and the autoencoder were held at each denoising."""
    from transformers import UMT5EncoderModel

    loads, held = [], []
    load, denoise = UMT5EncoderModel.from_pretrained, WanPolicy.denoise

    def loading(*arguments: Any, **options: Any) -> Any:
        loads.append(arguments)
        return load(*arguments, **options)

    def denoising(policy: WanPolicy, *arguments: Any) -> Tensor:
        held.append((policy._codec._text is not None, policy._codec._vae is not None))
        return denoise(policy, *arguments)

    monkeypatch.setattr(UMT5EncoderModel, "from_pretrained", loading)
    monkeypatch.setattr(WanPolicy, "denoise", denoising)
    (folder / "prompts.txt").write_text("\n".join(TEXTS))
    sampler = VideoSampler(WanPolicy(str(wan), prompt_length=16), 5, 16, 16, 8.0, num_steps=2, guidance_scale=2.0)
    predict(VideoFolderWriter(str(folder / "videos")), sampler, Prompts(str(folder / "prompts.txt"), num_samples=2))
    assert sampler.policy._codec._vae is None  # type: ignore[attr-defined]
    return len(loads), held


def test_one_load_serves_prompts_and_negative_prompt(
    wan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads, held = run(wan, tmp_path, monkeypatch)
    assert loads == 1
    assert held == [(False, False)] + [(False, True)] * 5, "from the second video on the autoencoder is there"


def test_more_prompts_than_are_embedded_ahead_give_the_same_videos(
    wan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / "all", tmp_path / "one"]
    for folder, ahead, expected in zip(folders, (256, 1), (1, 3), strict=True):
        folder.mkdir()
        with monkeypatch.context() as patched:
            patched.setattr(embedded_prompts, "AHEAD", ahead)
            assert run(wan, folder, patched)[0] == expected
    names = [sorted(path.name for path in (folder / "videos").glob("*.mp4")) for folder in folders]
    assert names[0] == names[1]
    for name in names[0]:
        assert (folders[0] / "videos" / name).read_bytes() == (folders[1] / "videos" / name).read_bytes()


def test_an_empty_prompt_among_others_is_an_error_in_its_turn_alone(wan: Path) -> None:
    prompts = embedded_prompts.EmbeddedPrompts(WanPolicy(str(wan), prompt_length=16))
    prompts.texts = ["a ball", " ", "a cube"]
    assert prompts.of("a ball")["embeds"].device == torch.device("cpu")
    with pytest.raises(ValueError, match="prompt 0 is empty"):
        prompts.of(" ")
