"""Real videos and their captions as latents and prompt embeddings: no training step runs an autoencoder again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from datamodules.dense.batches import VideoBatch
from datamodules.dense.noise_draw import require_none
from datamodules.dense.rows import LatentRow, VideoRow
from datamodules.stream.planned_data import PlannedData
from datamodules.stream.predict_outputs import WrittenSample, json_bytes, tensor_bytes
from lightning_modules.policies.video_flow import VideoFlow
from lightning_modules.policy_loading import settings_and_contents
from lightning_modules.predict.cut_prompts import warn_of_cut_prompts
from lightning_modules.predict.embedded_prompts import EmbeddedPrompts

#: Type in which latents and embeddings are stored.
StoreType = Literal["float32", "bfloat16"]


@contextmanager
def named(key: str) -> Iterator[None]:
    """Put a sample's name before whatever is wrong with it."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"sample {key!r}: {error}") from error


def stored(tensors: Mapping[str, Tensor], dtype: StoreType) -> bytes:
    """A member with these tensors."""
    return tensor_bytes({name: tensor.to(getattr(torch, dtype)) for name, tensor in tensors.items()})


def store_setting(dtype: StoreType) -> dict[str, str]:
    """What a run records of it; the default is no news, so that a run which an earlier release began goes on."""
    return {} if dtype == "float32" else {"store_dtype": dtype}


def require_videos(trainer: Trainer, policy: VideoFlow) -> None:
    """Refuse videos of a length or size that a policy's autoencoder cannot take, by what the index says of them.

    Args:
        trainer: its data module knows the index; without such a module there is nothing to check yet.
        policy: the model; no weights are loaded.

    Raises:
        ValueError: lists the first of them and says how many there are.
    """
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    if not isinstance(data, PlannedData):
        return
    index, asked = data.index("predict"), set(getattr(data, "keys", ()))
    require_none(
        [
            f"{index.address(position)}: sample {entry.key!r}: {why}"
            for position, entry in enumerate(index.entries)
            if entry.key in asked
            and (why := policy.video_fault(*(entry.facts[name] for name in ("frames", "height", "width"))))
        ]
    )


class VideoEncoder(LightningModule):
    """`predict`: real videos with captions -> samples of the schema vidpref/latents for `ShardWriter`.

    The transformer is never loaded. Each video passes the autoencoder by itself, so that its latents do not depend on
    the batch.

    Args:
        policy: whose autoencoder and text encoder; the latents fit every policy of the same latent space.
        store_dtype: type of stored latents and embeddings; bfloat16 takes half the space.
    """

    schema = "vidpref/latents"

    def __init__(self, policy: VideoFlow, store_dtype: StoreType = "float32") -> None:
        super().__init__()
        self.policy = policy
        self.store_dtype = store_dtype
        self._prompts = EmbeddedPrompts(policy)

    def made_from(self, trainer: Trainer) -> dict[str, Any]:
        """The videos and the policy that the latents depend on."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        return {
            "fingerprint": data.fingerprint,
            "module": type(self).__qualname__,
            "policy": settings_and_contents(self.policy),
            "latent_space": self.policy.latent_space.to_json(),
            **store_setting(self.store_dtype),
        }

    def setup(self, stage: str) -> None:
        """Refuse videos that the autoencoder cannot take, before it is loaded.

        Raises:
            ValueError: names them.
        """
        require_videos(self.trainer, self.policy)

    def on_predict_start(self) -> None:
        """Say which captions are cut, before the first video."""
        self._prompts.expect(self.trainer)
        warn_of_cut_prompts(self.trainer, self.policy, known=self._prompts.named)

    def on_predict_end(self) -> None:
        """Free autoencoder and text encoders."""
        self.policy.release()

    def predict_step(self, batch: VideoBatch, batch_idx: int) -> list[WrittenSample]:
        """One sample for each video of the batch."""
        slots = zip(batch.rows, batch.frames, batch.mask.tolist(), strict=True)
        return [self._sample(row, frames) for row, frames, real in slots if real]

    def _sample(self, row: VideoRow, frames: Tensor) -> WrittenSample:
        with named(row.key):
            prompt = self._prompts.of(row.caption)
            latents = self.policy.encode_video([frames])[0]
            condition = self.policy.condition(frames, row.video.fps)
        record = LatentRow(
            **{attribute.name: getattr(row, attribute.name) for attribute in fields(VideoRow)},
            latent_shape=tuple(latents.shape),  # type: ignore[arg-type]
            latent_space=self.policy.latent_space,
            prompt_shapes={name: tuple(stream.shape) for name, stream in prompt.items()},
            **condition.shapes(),
        )
        members = {
            "latents.safetensors": stored({"clean": latents} | condition.tensors(), self.store_dtype),
            "prompt.safetensors": stored(prompt, self.store_dtype),
            "json": json_bytes(record.to_json()),
        }
        return WrittenSample(row.key, members)
