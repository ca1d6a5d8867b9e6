"""Motion-aligned pairs from real videos: noise part of the way, denoise (DenseDPO, arXiv 2506.03517, algorithm 2).

Both videos of a pair start from the same real video at the same noise level eta, under two seeds, so that they share
its motion and differ in their artifacts. The paper draws eta from 0.65 to 0.8, one for the pair; eta = 1 is pure noise
and gives the independent pair of plain DPO.
"""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from datamodules.dense.batches import VideoBatch
from datamodules.dense.rows import PairRow, VideoRow
from datamodules.dense.time_schedule import shift_time
from datamodules.stream.predict_outputs import WrittenSample, json_bytes, tensor_bytes
from datamodules.video.codec import encode_mp4
from datamodules.video.facts import VideoFacts
from lightning_modules.losses.flow import interpolate
from lightning_modules.policies.video_flow import VideoFlow
from lightning_modules.predict.flow_sampler import FlowSampler, seeded_noise, video_seed
from lightning_modules.predict.noise_level import Eta, check_eta, described, highest, noise_level
from lightning_modules.predict.video_encoder import embedded_prompt, encoded_video


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
    _check_eta(eta)
    level = torch.tensor([eta], dtype=torch.promote_types(clean.dtype, torch.float32), device=clean.device)
    return interpolate(clean, noise, level)


def guided_sigmas(num_steps: int, eta: float, shift: float = 1.0) -> Tensor:
    """The noise levels of denoising from eta: eta, every level of the full schedule below eta, 0.

    The full schedule is i / num_steps, shifted. Under a shift its step round(eta num_steps), where the paper's
    algorithm starts, is not at noise level eta (40 steps, shift 5.66, eta 0.75: at 0.944), and a model that is told
    a level other than that of its latents repairs what is not broken. So eta itself is the first level, and those
    below it follow (13 of 40, 14 steps in all).

    Args:
        num_steps: steps of the full schedule; the paper's 40.
        eta: the noise level of `guided_latents`, in (0, 1]; 1 gives the full schedule.
        shift: see `shift_time`; 1 is the paper's algorithm, which leaves a shift open.

    Returns:
        (number of steps + 1,) float64, strictly falling; an Euler step is x + (next level - level) * velocity.

    Raises:
        ValueError: num_steps or shift is not positive, or eta is outside (0, 1].
    """
    _check_eta(eta)
    if num_steps < 1 or shift <= 0:
        raise ValueError(f"num_steps {num_steps} and shift {shift} must both be positive")
    steps = torch.arange(num_steps, -1, -1, dtype=torch.float64)
    levels = shift_time(steps / num_steps, shift)
    # A level that equals eta but for rounding would be a step that goes nowhere.
    below = levels[levels < eta * (1 - 1e-9)]
    return torch.cat([levels.new_tensor([eta]), below])


def _check_eta(eta: float) -> None:
    if not 0 < eta <= 1:
        raise ValueError(f"eta {eta} is not a noise level in (0, 1]; the paper draws it from 0.65 to 0.8")


class GuidedSampler(FlowSampler):
    """`predict`: real videos with captions -> pairs, as samples of the schema vidpref/pairs for `ShardWriter`.

    A pair's eta and both seeds are drawn from the run's seed and the video's key. The latents that denoising ended on
    are kept (training reads them, not the mp4), beside an mp4 of each video for judges and the prompt's embedding.

    Args:
        policy: the model to be trained later; usually without an adapter.
        eta: the noise level that both videos start from: a range to draw from (the paper's 0.65 to 0.8), a number (1
            gives vanilla pairs, each from its own pure noise), or a `MotionAdaptiveEta`.
        num_steps: steps of the full schedule (paper: 40); a pair takes those below its eta.
        flow_shift: of the schedule; 1 is the paper's algorithm (5.66 is said of sampling only; Wan's own is 3 at 480p).
        guidance_scale: classifier-free guidance (the paper's 8 is said of sampling only; Wan's own is 5).
        negative_prompt: what guidance leads away from.
        seed: of eta and of the noise.
        store_clean: also keep the real video's latents, for supervised training from the same shards.
    """

    schema = "vidpref/pairs"

    def __init__(
        self,
        policy: VideoFlow,
        eta: Eta = (0.65, 0.8),
        num_steps: int = 40,
        flow_shift: float = 1.0,
        guidance_scale: float = 8.0,
        negative_prompt: str = "",
        seed: int = 0,
        store_clean: bool = False,
    ) -> None:
        super().__init__(policy, num_steps, flow_shift, guidance_scale, negative_prompt, seed)
        check_eta(eta)
        if highest(eta) > policy.times[1]:
            raise ValueError(
                f"eta up to {highest(eta):g}, but this policy is made for noise levels up to {policy.times[1]:g}: "
                "lower eta, or take the checkpoint's other transformer"
            )
        self.eta = eta
        self.store_clean = store_clean
        self._longest = len(guided_sigmas(num_steps, highest(eta), flow_shift))

    def made_from(self, trainer: Trainer) -> dict[str, Any]:
        """The videos and the settings that the pairs depend on."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        settings = {"eta": described(self.eta), "store_clean": self.store_clean}
        return {"fingerprint": data.fingerprint, **self.settings(), **settings}

    def predict_step(self, batch: VideoBatch, batch_idx: int) -> list[WrittenSample]:
        """One pair for each video of the batch."""
        made = []
        for row, frames, wanted in zip(batch.rows, batch.frames, batch.mask.tolist(), strict=True):
            if wanted or self.sharded:
                pair = self._pair(row, frames)
                made += [pair] if wanted else []
        return made

    def _pair(self, row: VideoRow, frames: Tensor) -> WrittenSample:
        clean = encoded_video(self.policy, row, frames)
        prompt = embedded_prompt(self.policy, row)
        eta = noise_level(self.eta, self.seed, row.key, frames, row.video.fps)
        seeds = tuple(video_seed(self.seed, row.key, which) for which in ("first", "second"))
        noise = torch.stack([seeded_noise(seed, clean.shape) for seed in seeds]).to(clean)
        sigmas = guided_sigmas(self.num_steps, eta, self.flow_shift)
        latents = guided_latents(clean.expand_as(noise), noise, eta)
        latents = self.denoised(latents, sigmas, prompt, row.key, self._longest)
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
            prompt_shape=tuple(prompt.shape),  # type: ignore[arg-type]
            source=row.source,
            sampler={"steps": len(sigmas) - 1, **self.sampler()},
        )
        stored = {"first": latents[0], "second": latents[1]} | ({"clean": clean} if self.store_clean else {})
        members = {
            "first.mp4": encode_mp4(videos[0], row.video.fps),
            "second.mp4": encode_mp4(videos[1], row.video.fps),
            "latents.safetensors": tensor_bytes({name: one.float() for name, one in stored.items()}),
            "prompt.safetensors": tensor_bytes({"embeds": prompt.float()}),
            "json": json_bytes(pair.to_json()),
        }
        return WrittenSample(row.key, members)
