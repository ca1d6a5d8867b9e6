"""Prompts -> videos: what a model makes, before and after training, named as benchmarks look for it."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer

from datamodules.dense.prompts import PromptBatch
from datamodules.stream.predict_outputs import WrittenVideo
from datamodules.video.codec import encode_mp4
from datamodules.video.facts import VideoFacts
from lightning_modules.policies.video_flow import VideoFlow
from lightning_modules.predict.flow_sampler import FlowSampler, seeded_noise, video_seed
from lightning_modules.predict.guided_sampler import guided_sigmas


class VideoSampler(FlowSampler):
    """`predict`: prompts -> videos for `VideoFolderWriter`; the base model, or an adapter (``policy.adapter``).

    A video's noise depends on the seed, the prompt's text and the sample's index, and on nothing else: two models are
    compared on equal noise, and a prompt that is added to the file changes no other video.

    Args:
        policy: the model.
        num_frames: frames of a video, temporal ratio k + 1.
        height: pixels.
        width: pixels.
        fps: frames per second that the model was trained for (Wan: 16).
        num_steps: steps of the schedule (paper: 40).
        flow_shift: of the schedule (paper: 5.66; Wan's own 3 at 480p, 5 at 720p).
        guidance_scale: classifier-free guidance (paper: 8; Wan's own is 5).
        negative_prompt: what guidance leads away from.
        seed: of the noise.
    """

    def __init__(
        self,
        policy: VideoFlow,
        num_frames: int = 81,
        height: int = 480,
        width: int = 832,
        fps: float = 16.0,
        num_steps: int = 40,
        flow_shift: float = 5.66,
        guidance_scale: float = 8.0,
        negative_prompt: str = "",
        seed: int = 0,
    ) -> None:
        super().__init__(policy, num_steps, flow_shift, guidance_scale, negative_prompt, seed)
        space = policy.latent_space
        if (num_frames - 1) % space.temporal_ratio or num_frames < 1:
            raise ValueError(f"num_frames is {num_frames}; {space.name} makes {space.temporal_ratio} k + 1 frames")
        if height % space.spatial_ratio or width % space.spatial_ratio:
            raise ValueError(f"{width} x {height} pixels: {space.name} wants multiples of {space.spatial_ratio}")
        self.video = VideoFacts(num_frames, fps, width, height)

    def made_from(self, trainer: Trainer) -> dict[str, Any]:
        """The settings that the videos depend on; not the prompts, so that some may be added later."""
        video = self.video
        return {**self.settings(), "video": [video.frames, video.fps, video.width, video.height]}

    def predict_step(self, batch: PromptBatch, batch_idx: int) -> list[WrittenVideo]:
        """One video for each request of the batch."""
        made = []
        requests = zip(batch.keys, batch.prompts, batch.index, batch.mask.tolist(), strict=True)
        for key, prompt, index, wanted in requests:
            if wanted or self.sharded:
                video = self._video(prompt, int(index))
                made += [WrittenVideo(key, video)] if wanted else []
        return made

    def _video(self, prompt: str, index: int) -> bytes:
        embeds = self.policy.encode_prompt([prompt])[0]
        seed = video_seed(self.seed, prompt, f"sample/{index}")
        noise = seeded_noise(seed, (1, *self.policy.latent_space.shape(self.video))).to(self.device)
        sigmas = guided_sigmas(self.num_steps, 1.0, self.flow_shift)
        latents = self.denoised(noise, sigmas, embeds, f"{prompt}-{index}", len(sigmas))
        return encode_mp4(self.policy.decode_video(latents)[0], self.video.fps)
