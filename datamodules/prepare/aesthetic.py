"""How pleasing a video's frames are: LAION's linear predictor on CLIP embeddings."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.prepare.video_filters import Candidate, Finding, VideoFilter, bounded
from datamodules.video.frame_indices import uniform_indices


class Aesthetic(VideoFilter):
    """The mean aesthetic score of some of a clip's frames, about 1 to 10; good photographs reach 6.

    Args:
        head: LAION's weights for the CLIP model (github.com/LAION-AI/aesthetic-predictor,
            ``sa_0_4_vit_l_14_linear.pth``): a state dict with ``weight`` (1, D) and ``bias`` (1,).
        clip: the CLIP model that the head was trained on, a folder or a hub id.
        least: the lowest mean score that may stay; None = measure only.
        num_frames: frames that are scored, spread evenly.
        device: where CLIP runs.
    """

    def __init__(
        self,
        head: str,
        clip: str = "openai/clip-vit-large-patch14",
        least: float | None = 4.5,
        num_frames: int = 4,
        device: str = "cpu",
    ) -> None:
        if num_frames < 1:
            raise ValueError(f"num_frames is {num_frames}; give 1 or more")
        self.head, self.clip = head, clip
        self.least, self.num_frames, self.device = least, num_frames, device
        self._models: tuple[Any, Any, Tensor, Tensor] | None = None

    def prepare(self) -> None:
        """Load the head and CLIP."""
        if self._models is None:
            self._models = self._load()

    def judge(self, clip: Candidate) -> Finding:
        """The clip's `aesthetic` score."""
        assert clip.frames is not None, "asked after decoding"
        frames = clip.frames[uniform_indices(0, len(clip.frames) - 1, self.num_frames)]
        return bounded("aesthetic", self.scores(frames).mean().item(), self.least, None)

    @torch.no_grad()
    def scores(self, frames: Tensor) -> Tensor:
        """(N,) float32, the score of each of (N, 3, H, W) uint8 frames."""
        self.prepare()
        assert self._models is not None, "just loaded"
        processor, tower, weight, bias = self._models
        # The processor's own resize and crop: the head was trained on embeddings of pictures prepared so.
        pixels = processor(images=list(frames), return_tensors="pt")["pixel_values"]
        embeddings = tower(pixel_values=pixels.to(self.device)).image_embeds.float().cpu()
        return linear_score(embeddings, weight, bias)

    def _load(self) -> tuple[Any, Any, Tensor, Tensor]:
        from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

        weight, bias = read_head(self.head)
        tower = CLIPVisionModelWithProjection.from_pretrained(self.clip, trust_remote_code=False, dtype=torch.float32)
        if tower.config.projection_dim != weight.shape[1]:
            raise ValueError(
                f"{self.head} is for embeddings of {weight.shape[1]} numbers, {self.clip} gives "
                f"{tower.config.projection_dim}; name the CLIP model that the head was trained on"
            )
        return (
            CLIPImageProcessor.from_pretrained(self.clip, trust_remote_code=False),
            tower.eval().to(self.device),
            weight,
            bias,
        )


def linear_score(embeddings: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(N,) aesthetic scores of (N, D) CLIP image embeddings of any length, which are scaled to length 1 first."""
    return F.linear(F.normalize(embeddings, dim=-1), weight, bias)[:, 0]


def read_head(path: str) -> tuple[Tensor, Tensor]:
    """Weight (1, D) and bias (1,) of a linear head.

    Raises:
        ValueError: no such file, or another content.
    """
    # weights_only: a pickle from the internet could run code.
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        weight, bias = state["weight"].float(), state["bias"].float()
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file; give the weights of the aesthetic predictor's linear head") from error
    except Exception as error:  # unpickling, no dict, other names: all mean another file
        raise ValueError(f"{path}: is not the state dict of a linear head with weight and bias ({error})") from error
    if weight.ndim != 2 or weight.shape[0] != 1 or bias.shape != (1,):
        raise ValueError(f"{path}: weight {list(weight.shape)} and bias {list(bias.shape)} are no head with one output")
    return weight, bias
