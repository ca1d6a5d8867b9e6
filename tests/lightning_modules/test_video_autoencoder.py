"""The toy autoencoder's fit: it learns, resumes with the next batch, and ends as a pipeline that knows its latents."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

from datamodules.toy_world.motion_clips import ClipPlan, ClipStage, MotionClips
from datamodules.toy_world.wan_checkpoint import LATENT_CHANNELS, load_pipeline, write_untrained
from lightning_modules.video_autoencoder import VideoAutoencoder


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wan") / "untrained"
    write_untrained(folder)
    return folder


def fitted(untrained: Path, folder: Path, steps: int) -> VideoAutoencoder:
    torch.manual_seed(0)
    module = VideoAutoencoder(str(untrained), measured_batches=2)
    data = MotionClips([ClipStage(2, 4, 1), ClipStage(1, 1, 5)])
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = Trainer(default_root_dir=folder, accelerator="cpu", max_steps=steps, enable_checkpointing=False, **quiet)
    trainer.fit(module, data)
    return module


def test_a_fit_ends_as_a_pipeline_with_the_latents_statistics(untrained: Path, tmp_path: Path) -> None:
    module = fitted(untrained, tmp_path, 3)
    export = tmp_path / "exports" / "last"
    config = json.loads((export / "vae" / "config.json").read_text())
    # Measured again: two batches from the step at which training ended.
    plan = ClipPlan((ClipStage(2, 4, 1), ClipStage(1, 1, 5)), 0)
    videos = torch.cat([plan.batch(number) for number in (3, 4)]).float() / 127.5 - 1
    pipeline = load_pipeline(export)
    with torch.no_grad():
        latents = pipeline.vae.encode(videos).latent_dist.mode().transpose(0, 1).flatten(1)
    assert latents.shape[0] == LATENT_CHANNELS
    assert config["latents_mean"] == pytest.approx(latents.mean(1).tolist(), abs=1e-5)
    assert config["latents_std"] == pytest.approx(latents.std(1).tolist(), rel=1e-3)
    assert module.vae is not None
    before = load_pipeline(untrained)
    weights, fresh = pipeline.vae.state_dict(), before.vae.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in module.vae.state_dict().items())
    assert not torch.equal(weights["encoder.conv_in.weight"], fresh["encoder.conv_in.weight"])
    for name in ("transformer", "text_encoder"):
        other = getattr(before, name).state_dict()
        assert all(torch.equal(value, other[key]) for key, value in getattr(pipeline, name).state_dict().items())


def test_reconstruction_improves(untrained: Path) -> None:
    module = VideoAutoencoder(str(untrained))
    module.configure_model()
    logged: dict[str, torch.Tensor] = {}
    module.log_dict = lambda values, **settings: logged.update(values)  # type: ignore[assignment, method-assign, misc]
    optimizer = module.optimizer(module.parameters())
    batch, losses = ClipPlan((ClipStage(1, 2, 1),), 0).batch(0), []
    for step in range(8):
        torch.manual_seed(0)
        loss = module.training_step(batch, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    parts = logged["train/loss/reconstruction"] + module.kl_weight * logged["train/loss/kl"]
    assert logged["train/loss"].item() == parts.item() == losses[-1]
    assert logged["train/loss/kl"] > 0
    assert losses[-1] < 0.6 * losses[0]


def test_batches_follow_the_stages() -> None:
    stages = [ClipStage(3, 5, 1), ClipStage(2, 2, 9), ClipStage(1, 1, 5)]
    plan = ClipPlan(tuple(stages), seed=1)
    shapes = [tuple(plan.batch(number).shape) for number in (0, 2, 3, 4, 5, 99)]
    assert [(shape[0], shape[2]) for shape in shapes] == [(5, 1), (5, 1), (2, 9), (2, 9), (1, 5), (1, 5)]
    assert torch.equal(plan.batch(3), plan.batch(3))
    assert not torch.equal(plan.batch(3), plan.batch(4))
    assert torch.equal(next(iter(MotionClips(stages, seed=1).train_dataloader())), plan.batch(0))


def test_stages_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="num_frames is 8"):
        ClipStage(1, 1, 8)
    with pytest.raises(ValueError, match="stages is empty"):
        MotionClips([])
