"""Real videos and their captions as latents and prompt embeddings: no training step runs an autoencoder again."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from datamodules.dense.batches import VideoBatch
from datamodules.dense.rows import LatentRow, VideoRow
from datamodules.stream.predict_outputs import WrittenSample, json_bytes, tensor_bytes
from lightning_modules.policies.video_flow import VideoFlow
from lightning_modules.policy_loading import settings_and_contents
from lightning_modules.predict.cut_prompts import warn_of_cut_prompts


def encoded_video(policy: VideoFlow, row: VideoRow, frames: Tensor) -> Tensor:
    """(C, F, H, W) float32 latents of one whole video: the autoencoder is causal, so pieces would be other latents.

    Args:
        policy: whose autoencoder it is.
        row: the video's, for the error.
        frames: (T, 3, H, W) uint8.

    Raises:
        ValueError: the autoencoder refuses the video; names the sample.
    """
    try:
        return policy.encode_video([frames])[0]
    except ValueError as error:
        raise ValueError(f"sample {row.key!r}: {error}") from error


def embedded_prompt(policy: VideoFlow, row: VideoRow) -> Tensor:
    """(n, D) float32 embedding of a row's caption.

    Raises:
        ValueError: the caption is empty; names the sample.
    """
    try:
        return policy.encode_prompt([row.caption])[0]
    except ValueError as error:
        raise ValueError(f"sample {row.key!r}: {error}") from error


class VideoEncoder(LightningModule):
    """`predict`: real videos with captions -> samples of the schema vidpref/latents for `ShardWriter`.

    The transformer is never loaded. Each video passes the autoencoder by itself, so that its latents do not depend on
    the batch.

    Args:
        policy: whose autoencoder and text encoder; the latents fit every policy of the same latent space.
    """

    schema = "vidpref/latents"

    def __init__(self, policy: VideoFlow) -> None:
        super().__init__()
        self.policy = policy

    def made_from(self, trainer: Trainer) -> dict[str, Any]:
        """The videos and the policy that the latents depend on."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        return {
            "fingerprint": data.fingerprint,
            "module": type(self).__qualname__,
            "policy": settings_and_contents(self.policy),
            "latent_space": self.policy.latent_space.to_json(),
        }

    def on_predict_start(self) -> None:
        """Say which captions are cut, before the first video."""
        warn_of_cut_prompts(self.trainer, self.policy)

    def predict_step(self, batch: VideoBatch, batch_idx: int) -> list[WrittenSample]:
        """One sample for each video of the batch."""
        wanted = zip(batch.rows, batch.frames, batch.mask.tolist(), strict=True)
        return [self._sample(row, frames) for row, frames, real in wanted if real]

    def _sample(self, row: VideoRow, frames: Tensor) -> WrittenSample:
        latents, prompt = encoded_video(self.policy, row, frames), embedded_prompt(self.policy, row)
        shapes: dict[str, Any] = {"latent_shape": tuple(latents.shape), "prompt_shape": tuple(prompt.shape)}
        known = {one.name: getattr(row, one.name) for one in fields(VideoRow)}
        record = LatentRow(**known, **shapes, latent_space=self.policy.latent_space)
        members = {
            "latents.safetensors": tensor_bytes({"clean": latents.float()}),
            "prompt.safetensors": tensor_bytes({"embeds": prompt.float()}),
            "json": json_bytes(record.to_json()),
        }
        return WrittenSample(row.key, members)
