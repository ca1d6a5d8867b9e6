"""Motion-aligned pairs from real videos: noise part of the way, denoise (DenseDPO, arXiv 2506.03517, algorithm 2).

Both videos of a pair start from the same real video at the same noise level eta, under two seeds, so that they share
its motion and differ in their artifacts. The paper draws eta from 0.65 to 0.8, one for the pair; eta = 1 is pure noise
and gives the independent pair of plain DPO.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from datamodules.dense.batches import VideoBatch
from datamodules.dense.rows import PairRow, VideoRow
from datamodules.stream.predict_outputs import WrittenSample, json_bytes
from datamodules.video.codec import encode_mp4
from datamodules.video.facts import VideoFacts
from lightning_modules.losses.flow import interpolate
from lightning_modules.policies.euler import check_level, guided_sigmas
from lightning_modules.policies.video_flow import VideoFlow
from lightning_modules.predict.flow_sampler import FlowSampler, seeded_noise, video_seed
from lightning_modules.predict.noise_level import Eta, check_eta, described, highest, noise_level
from lightning_modules.predict.video_encoder import StoreType, named, require_videos, store_setting, stored


def guided_latents(clean: Tensor, noise: Tensor, eta: float) -> Tensor:
    """Where denoising starts: (1 - eta) clean + eta noise.

    Args:
        clean: (B, ...) latents of real videos.
        noise: like clean, standard normal, its own for each video of a pair.
        eta: the noise level in (0, 1]; 1 leaves nothing of the real video.

    Returns:
        Like clean.

    Raises:
        ValueError: eta is outside (0, 1].
    """
    check_level(eta)
    level = torch.tensor([eta], dtype=torch.promote_types(clean.dtype, torch.float32), device=clean.device)
    return interpolate(clean, noise, level)


class GuidedSampler(FlowSampler):
    """`predict`: real videos with captions -> pairs, as samples of the schema vidpref/pairs for `ShardWriter`.

    A pair's eta and both seeds are drawn from the run's seed and the video's key. The latents that denoising ended on
    are kept (training reads them, not the mp4), beside an mp4 of each video for judges and the prompt's embedding. A
    policy that starts from an image gets the real video's first frame, for both videos of the pair; frames that are
    given to it are not noised.

    Args:
        policy: the model to be trained later; usually without an adapter.
        eta: the noise level that both videos start from: a range to draw from (the paper's 0.65 to 0.8), a number (1
            gives vanilla pairs, each from its own pure noise), or a `MotionAdaptiveEta`.
        num_steps: steps of the full schedule (paper: 40); a pair takes those below its eta.
        flow_shift: of the schedule; 1 is the paper's algorithm (5.66 is said of sampling only; Wan's own is 3 at 480p).
            null takes the family's own noise levels.
        guidance_scale: classifier-free guidance (the paper's 8 is said of sampling only; Wan's own is 5).
        negative_prompt: what guidance leads away from.
        seed: of eta and of the noise.
        store_clean: also keep the real video's latents, for supervised training from the same shards.
        denoise_rows: rows that pass the transformer at once; a pair with guidance has four.
        store_dtype: type of stored latents and embeddings; bfloat16 takes half the space.
        lossless: keep every value of the mp4s' frames, where a judge measures errors as small as those of encoding.
    """

    schema = "vidpref/pairs"

    def __init__(
        self,
        policy: VideoFlow,
        eta: Eta = (0.65, 0.8),
        num_steps: int = 40,
        flow_shift: float | None = 1.0,
        guidance_scale: float = 8.0,
        negative_prompt: str = "",
        seed: int = 0,
        store_clean: bool = False,
        denoise_rows: Literal[1, 2, 4] = 4,
        store_dtype: StoreType = "float32",
        lossless: bool = False,
    ) -> None:
        super().__init__(policy, num_steps, flow_shift, guidance_scale, negative_prompt, seed, denoise_rows)
        check_eta(eta)
        if highest(eta) > policy.times[1]:
            raise ValueError(
                f"eta up to {highest(eta):g}, but this policy is made for noise levels up to {policy.times[1]:g}: "
                "lower eta, or take the checkpoint's other transformer"
            )
        self.eta = eta
        self.store_clean = store_clean
        self.store_dtype = store_dtype
        self.lossless = lossless

    def setup(self, stage: str) -> None:
        """Refuse videos that the autoencoder cannot take, before any weights are loaded.

        Raises:
            ValueError: names them.
        """
        require_videos(self.trainer, self.policy)

    def made_from(self, trainer: Trainer) -> dict[str, Any]:
        """The videos and the settings that the pairs depend on."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        settings = {"eta": described(self.eta), "store_clean": self.store_clean}
        # Named only where it is chosen, so that runs from before there was a choice go on.
        lossless = {"lossless": True} if self.lossless else {}
        return {
            "fingerprint": data.fingerprint,
            **self.settings(),
            **settings,
            **store_setting(self.store_dtype),
            **lossless,
        }

    def predict_step(self, batch: VideoBatch, batch_idx: int) -> list[WrittenSample]:
        """One pair for each video of the batch."""
        pairs = []
        for row, frames, real in zip(batch.rows, batch.frames, batch.mask.tolist(), strict=True):
            if real or self.sharded:
                pair = self._pair(row, frames)
                pairs += [pair] if real else []
        return pairs

    def _longest(self) -> int:
        """Those of the highest eta; the family's own depend on the video's size, and are at most all of them."""
        if self.flow_shift is None:
            return super()._longest()
        return len(guided_sigmas(self.num_steps, highest(self.eta), self.flow_shift))

    def _pair(self, row: VideoRow, frames: Tensor) -> WrittenSample:
        with named(row.key):
            prompt = self.prompt(row.caption)
            # The whole video: the autoencoder is causal, so pieces would be other latents.
            clean = self.policy.encode_video([frames])[0]
            condition = self.policy.condition(frames, row.video.fps)
        eta = noise_level(self.eta, self.seed, row.key, frames, row.video.fps)
        seeds = tuple(video_seed(self.seed, row.key, which) for which in ("first", "second"))
        noise = torch.stack([seeded_noise(seed, clean.shape) for seed in seeds]).to(clean)
        sigmas = self.levels(eta, clean.shape)
        latents = guided_latents(clean.expand_as(noise), noise, eta)
        latents = self.denoised(latents, sigmas, prompt, condition, row.key)
        videos = self.policy.decode_video(latents)
        length, _, height, width = videos[0].shape
        pair = PairRow(
            key=row.key,
            video_id=row.video_id,
            prompt=row.caption,
            video=VideoFacts(length, row.video.fps, width, height),
            kind="vanilla" if eta == 1 else "structural",
            eta=eta,
            seeds=(seeds[0], seeds[1]),
            latent_shape=tuple(clean.shape),  # type: ignore[arg-type]
            latent_space=self.policy.latent_space,
            prompt_shapes={name: tuple(stream.shape) for name, stream in prompt.items()},
            image_shape=None if condition.image is None else tuple(condition.image.shape),  # type: ignore[arg-type]
            source=row.source,
            sampler={"steps": len(sigmas) - 1, **self.sampler()},
        )
        tensors = {"first": latents[0], "second": latents[1]} | ({"clean": clean} if self.store_clean else {})
        if condition.image is not None:
            tensors["image"] = condition.image
        members = {
            "first.mp4": encode_mp4(videos[0], row.video.fps, self.lossless),
            "second.mp4": encode_mp4(videos[1], row.video.fps, self.lossless),
            "latents.safetensors": stored(tensors, self.store_dtype),
            "prompt.safetensors": stored(prompt, self.store_dtype),
            "json": json_bytes(pair.to_json()),
        }
        return WrittenSample(row.key, members)
