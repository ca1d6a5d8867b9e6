"""Random checkpoints of every video diffusion family, of the real classes, small enough for a test session.

A family is its policy, its pipeline written to a folder, and how that pipeline itself makes latents from noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from datamodules.video.facts import VideoFacts
from lightning_modules.policies.cogvideox import CogVideoXPolicy
from lightning_modules.policies.diffusers_flow import DiffusersVideoFlow
from lightning_modules.policies.hunyuan_video15 import HunyuanVideo15Policy
from lightning_modules.policies.ltx import LTXPolicy
from lightning_modules.policies.mochi import MochiPolicy
from lightning_modules.policies.wan import WanPolicy
from tests.support.tiny_flow_pipelines import (
    cogvideox,
    cogvideox15,
    cogvideox_rotary,
    hunyuan_video15,
    ltx,
    ltx_image,
    mochi,
    wan,
    wan_experts,
    wan_image,
    wan_image_21,
    wan_image_ti2v,
    wan_ti2v,
)
from tests.support.tiny_wan import random_video

#: With a word in quotation marks, which HunyuanVideo-1.5 reads letter by letter.
PROMPT, NEGATIVE, FPS = 'a "red" ball', "blurry", 12.0


@dataclass(frozen=True)
class Family:
    """One kind of checkpoint.

    Attributes:
        policy: the class.
        write: makes the pipeline, of random weights.
        size: frames, height and width of a video.
        settings: of the policy.
        call: arguments of the pipeline's call that the family needs beside the common ones.
        steps: of sampling; CogVideoX's scheduler steps to its next time only where they divide 1000.
        guidance: given to the call, not to a guider of the pipeline.
        own_levels: whether the policy's own noise levels must be the pipeline's.
        unpack: the pipeline's latents -> (B, C, F, H, W).
    """

    policy: type[DiffusersVideoFlow]
    write: Callable[[], Any]
    size: tuple[int, int, int]
    settings: dict[str, Any] = field(default_factory=dict)
    call: dict[str, Any] = field(default_factory=dict)
    steps: int = 5
    guidance: bool = True
    own_levels: bool = True
    pack: Callable[[Any, Tensor], Tensor] = lambda pipe, latents: latents
    unpack: Callable[[Any, Tensor, Tensor], Tensor] = lambda pipe, latents, noise: latents

    @property
    def image(self) -> bool:
        """Whether a video starts from an image."""
        return self.settings.get("image_to_video", False) or self.write in (wan_image, wan_image_21, wan_image_ti2v)

    def save(self, folder: Path) -> Path:
        """Write the pipeline as `save_pretrained` does."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.write().save_pretrained(folder)
        return folder

    def build(self, folder: Path, **settings: Any) -> Any:
        """A loaded policy."""
        policy = self.policy(str(folder), **{**self.settings, **settings})
        policy.load()
        return policy

    def video(self, seed: int = 0) -> Tensor:
        """(T, 3, H, W) uint8."""
        return random_video(*self.size, seed=seed)

    def noise(self, policy: Any, seed: int = 5) -> Tensor:
        """(1, C, F, h, w) noise for a video."""
        frames, height, width = self.size
        shape = policy.latent_space.shape(VideoFacts(frames, FPS, width, height))
        return torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed))

    def sampled(self, pipe: Any, policy: Any, noise: Tensor) -> Tensor:
        """The latents that the family's own pipeline ends on."""
        frames, height, width = self.size
        if self.write is ltx_image:
            # Of this pipeline, whoever gives the noise also puts the image into it.
            noise = torch.cat([policy.condition(self.video(), FPS).image[None], noise[:, :, 1:]], dim=2)
        # The pipeline gives latents with the frames that it adds, where it is asked for as many.
        frames += policy.leading_frames * policy.latent_space.temporal_ratio
        given: dict[str, Any] = {
            "prompt": PROMPT, "height": height, "width": width, "num_frames": frames, "latents": self.pack(pipe, noise),
            "num_inference_steps": self.steps, "output_type": "latent", "negative_prompt": NEGATIVE,
        }  # fmt: skip
        if self.guidance:
            given["guidance_scale"] = 3.0
        if self.policy is not HunyuanVideo15Policy:
            given["max_sequence_length"] = policy.prompt_length
        else:
            pipe.tokenizer_max_length = policy.prompt_length
        if self.image:
            given["image"] = Image.fromarray(self.video()[0].permute(1, 2, 0).numpy())
        with torch.no_grad():
            latents = pipe(**given, **self.call).frames
        return self.unpack(pipe, latents, noise)

    def read(self, folder: Path) -> Any:
        """diffusers' own pipeline, silent."""
        from diffusers import DiffusionPipeline

        pipe = DiffusionPipeline.from_pretrained(folder, trust_remote_code=False)
        pipe.set_progress_bar_config(disable=True)
        return pipe


def close(first: Tensor, second: Tensor, share: float = 1e-5) -> bool:
    """Equal to a share of their scale."""
    return bool((first - second).abs().max() <= share * second.abs().max())


def _packed(pipe: Any, latents: Tensor) -> Tensor:
    packed: Tensor = pipe._pack_latents(latents)
    return packed


def _unpacked(pipe: Any, latents: Tensor, noise: Tensor) -> Tensor:
    unpacked: Tensor = pipe._unpack_latents(latents, *noise.shape[2:])
    return unpacked


def _swapped(pipe: Any, latents: Tensor, *_: Tensor) -> Tensor:
    return latents.transpose(1, 2)


_LTX: dict[str, Any] = {
    "policy": LTXPolicy, "size": (17, 32, 64), "call": {"frame_rate": FPS}, "pack": _packed, "unpack": _unpacked,
}  # fmt: skip
_COG: dict[str, Any] = {
    "policy": CogVideoXPolicy, "size": (9, 32, 32), "settings": {"prompt_length": 16}, "pack": _swapped,
    "unpack": _swapped,
}  # fmt: skip
_WAN: dict[str, Any] = {"policy": WanPolicy, "size": (9, 32, 32), "own_levels": False}

FAMILIES: dict[str, Family] = {
    "wan": Family(**_WAN, write=wan, settings={"prompt_length": 24}),
    # diffusers' attention takes all but the last 512 tokens for those of the image.
    "wan21-image": Family(**_WAN, write=wan_image_21, settings={"prompt_length": 512}),
    "wan-both": Family(**_WAN, write=wan_experts, settings={"prompt_length": 24, "transformer": "both"}),
    "wan-ti2v": Family(**_WAN, write=wan_ti2v, settings={"prompt_length": 24}),
    "wan-ti2v-image": Family(**_WAN, write=wan_image_ti2v, settings={"prompt_length": 24, "image_to_video": True}),
    "wan-image": Family(**_WAN, write=wan_image, settings={"prompt_length": 24, "transformer": "both"}),
    "ltx": Family(**_LTX, write=ltx, settings={"prompt_length": 24}),
    "ltx-image": Family(**_LTX, write=ltx_image, settings={"prompt_length": 24, "image_to_video": True}),
    "hunyuan15": Family(HunyuanVideo15Policy, hunyuan_video15, (9, 64, 64), {"prompt_length": 40}, guidance=False),
    "cogvideox": Family(**_COG, write=cogvideox),
    "cogvideox-rotary": Family(**_COG, write=cogvideox_rotary),
    "cogvideox15": Family(**_COG, write=cogvideox15),
    "mochi": Family(MochiPolicy, mochi, (13, 32, 32), {"prompt_length": 24}),
}
