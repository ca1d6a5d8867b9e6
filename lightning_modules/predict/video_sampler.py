"""Prompts -> videos: what a model makes, before and after training, named as benchmarks look for it."""

from __future__ import annotations

from typing import Any, Literal

from lightning.pytorch import Trainer

from datamodules.dense.inputs import Condition
from datamodules.dense.prompts import PromptBatch
from datamodules.stream.predict_outputs import WrittenVideo
from datamodules.video.codec import encode_mp4
from datamodules.video.facts import VideoFacts
from lightning_modules.policies.video_flow import VideoFlow
from lightning_modules.predict.flow_sampler import FlowSampler, seeded_noise, video_seed
from lightning_modules.predict.prompt_images import PromptImages
from lightning_modules.predict.video_encoder import named


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
        flow_shift: of the schedule (paper: 5.66; Wan's own 3 at 480p, 5 at 720p); null takes the family's own noise
            levels.
        guidance_scale: classifier-free guidance (paper: 8; Wan's own is 5).
        negative_prompt: what guidance leads away from.
        seed: of the noise.
        denoise_rows: rows that pass the transformer at once; a video with guidance has two.
        images: for a policy that starts from an image, a folder with one a prompt, ``PROMPT.jpg`` or ``.png``.
        lossless: keep every value of the frames, where errors as small as those of encoding are measured.

    Raises:
        ValueError: the number of frames or the size does not fit, or the policy starts from an image and has none.
    """

    def __init__(
        self,
        policy: VideoFlow,
        num_frames: int = 81,
        height: int = 480,
        width: int = 832,
        fps: float = 16.0,
        num_steps: int = 40,
        flow_shift: float | None = 5.66,
        guidance_scale: float = 8.0,
        negative_prompt: str = "",
        seed: int = 0,
        denoise_rows: Literal[1, 2, 4] = 4,
        images: str | None = None,
        lossless: bool = False,
    ) -> None:
        super().__init__(policy, num_steps, flow_shift, guidance_scale, negative_prompt, seed, denoise_rows)
        if why := policy.video_fault(num_frames, height, width):
            raise ValueError(f"model.num_frames, height and width are {num_frames}, {height} and {width}: {why}")
        self.video = VideoFacts(num_frames, fps, width, height)
        self.lossless = lossless
        if images is None and policy.condition_fault(policy.latent_space.shape(self.video), None):
            raise ValueError(
                "the policy makes videos from an image, and there is none: give model.images, a folder with an image a "
                "prompt, or a policy that makes videos from text"
            )
        self._images = None if images is None else PromptImages(images, height, width)
        if images is not None:
            self.images = images

    def on_predict_start(self) -> None:
        """Say what is missing or cut, before the first video."""
        super().on_predict_start()
        if self._images is not None:
            self._images.require(self._prompts.texts)

    def made_from(self, trainer: Trainer) -> dict[str, Any]:
        """The settings that the videos depend on; not the prompts, so that some may be added later."""
        video = self.video
        images = {} if self._images is None else {"images": str(self._images.folder)}
        # Named only where it is chosen, so that runs from before there was a choice go on.
        lossless = {"lossless": True} if self.lossless else {}
        return {**self.settings(), "video": [video.frames, video.fps, video.width, video.height], **images, **lossless}

    def predict_step(self, batch: PromptBatch, batch_idx: int) -> list[WrittenVideo]:
        """One video for each request of the batch."""
        videos = []
        requests = zip(batch.keys, batch.prompts, batch.index, batch.mask.tolist(), strict=True)
        for key, prompt, index, real in requests:
            if real or self.sharded:
                video = self._video(prompt, int(index))
                videos += [WrittenVideo(key, video)] if real else []
        return videos

    def _video(self, prompt: str, index: int) -> bytes:
        with named(f"{prompt}-{index}"):
            embedded = self.prompt(prompt)
        seed = video_seed(self.seed, prompt, f"sample/{index}")
        shape = self.policy.latent_space.shape(self.video)
        noise = seeded_noise(seed, (1, *shape)).to(self.device)
        condition = Condition(self.video.fps)
        if self._images is not None:
            # Frames after the first say how many there are; a policy looks at no more than the first.
            frames = self._images.frame(prompt).expand(self.video.frames, -1, -1, -1)
            condition = self.policy.condition(frames, self.video.fps)
        latents = self.denoised(noise, self.levels(1.0, shape), embedded, condition, f"{prompt}-{index}")
        return encode_mp4(self.policy.decode_video(latents)[0], self.video.fps, self.lossless)
