"""The networks behind VBench's dimensions, each with the preprocessing of the published scripts.

All of them take (N, 3, H, W) uint8 frames at their own resolution. Frames become floats before they are resized, and
are resized without antialiasing, as published: with it the features differ visibly.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.vbench.weights import identity, require_model, weights_differ
from datamodules.prepare.aesthetic import linear_score, read_head

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
#: The shorter side that DINO and CLIP see, and the longest that MUSIQ sees.
_SIDE, _LONGEST = 224, 512
#: The published weights of MUSIQ, called after their sha256, and the sha256 of LAION's head.
_SPAQ, _SPAQ_SHA256 = "musiq_spaq_ckpt-358bb6af.pth", "358bb6af"
_HEAD, _HEAD_SHA256 = "sa_0_4_vit_l_14_linear.pth", "2cd4e60f4f24ae3bcd57b847b13c1f3ba27edc28cc1a7f9ce74ee9f421243cba"


class FrameNetwork(nn.Module, ABC):
    """Network of frames: one row of features or one score for each. Built without weights; `load` reads them."""

    #: The published script's model; another `model`, or one that is not verified to be it, is named in the results.
    published: ClassVar[str]

    def __init__(self, model: str) -> None:
        super().__init__()
        self.model = model

    def absent(self) -> str | None:
        """Why it cannot run here, in words; None = it can."""
        return None

    def facts(self) -> dict[str, Any]:
        """Which network and weights, for the results: plain types. Reads no weights into memory.

        Raises:
            ValueError: there is no such model.
        """
        try:
            weights = identity(self.model)
            require_model(Path(self.model))
        except ValueError as error:
            raise ValueError(
                f"{error}; give a folder with the model {self.published}, or its hub id where the hub is reachable"
            ) from error
        differs = weights_differ(weights, self.published)
        return {"network": self.published, "weights": weights, "proxy": False, "differs": differs}

    @abstractmethod
    def load(self) -> None:
        """Read the weights, once."""

    @abstractmethod
    def forward(self, frames: Tensor) -> Tensor:
        """(N, D) features or (N,) scores of (N, 3, H, W) uint8 frames, float32."""


class DinoFeatures(FrameNetwork):
    """DINO ViT-B/16: the class token, for subject consistency. Frames keep their shape, 224 on the shorter side.

    Args:
        model: a folder or a hub id.
    """

    published = "facebook/dino-vitb16"

    def __init__(self, model: str = published) -> None:
        super().__init__(model)

    def load(self) -> None:
        """Read the weights."""
        from transformers import ViTModel

        self.vit = ViTModel.from_pretrained(
            self.model, trust_remote_code=False, add_pooling_layer=False, dtype=torch.float32
        ).eval()
        # transformers interpolates positions on a slightly different grid than DINO's own code does.
        self.vit.embeddings.interpolate_pos_encoding = self._positions

    @torch.no_grad()
    def forward(self, frames: Tensor) -> Tensor:
        """(N, D)."""
        pixels = normalised(resized(frames, _SIDE, "bilinear"), _IMAGENET)
        states: Tensor = self.vit(pixel_values=pixels, interpolate_pos_encoding=True).last_hidden_state
        return states[:, 0]

    def _positions(self, embeddings: Tensor, height: int, width: int) -> Tensor:
        """(1, 1 + patches, D): the stored positions, bicubic on the patches' grid, scaled by (patches + 0.1) / side."""
        stored: Tensor = self.vit.embeddings.position_embeddings
        patch = self.vit.config.patch_size
        side = math.isqrt(stored.shape[1] - 1)
        rows, columns = height // patch, width // patch
        if (rows, columns) == (side, side):
            return stored
        grid = stored[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
        scale = ((rows + 0.1) / side, (columns + 0.1) / side)
        grid = F.interpolate(grid, scale_factor=scale, mode="bicubic")
        return torch.cat([stored[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


class ClipFeatures(FrameNetwork):
    """CLIP ViT-B/32 image embeddings, for background consistency: the middle square, 224 pixels.

    Args:
        model: a folder or a hub id.
    """

    published = "openai/clip-vit-base-patch32"

    def __init__(self, model: str = published) -> None:
        super().__init__(model)

    def load(self) -> None:
        """Read the weights."""
        from transformers import CLIPVisionModelWithProjection

        self.clip = CLIPVisionModelWithProjection.from_pretrained(
            self.model, trust_remote_code=False, dtype=torch.float32
        ).eval()

    @torch.no_grad()
    def forward(self, frames: Tensor) -> Tensor:
        """(N, D)."""
        from torchvision.transforms.functional import center_crop  # type: ignore[import-untyped]

        pixels = normalised(center_crop(resized(frames, _SIDE, "bicubic"), [_SIDE, _SIDE]), _CLIP)
        embeddings: Tensor = self.clip(pixel_values=pixels).image_embeds
        return embeddings


class AestheticScore(ClipFeatures):
    """LAION's linear head on CLIP ViT-L/14: about 1 to 10, for aesthetic quality.

    Args:
        head: the head's weights, ``sa_0_4_vit_l_14_linear.pth`` of github.com/LAION-AI/aesthetic-predictor.
        model: the CLIP model that it belongs to, a folder or a hub id.
    """

    published = "openai/clip-vit-large-patch14"

    def __init__(self, head: str, model: str = published) -> None:
        super().__init__(model)
        self.head = head

    def facts(self) -> dict[str, Any]:
        """With the head's hash.

        Raises:
            ValueError: there is no such model, no such head, or neither.
        """
        faults, facts = [], dict[str, Any]()
        # Both are checked, so that a missing head and a missing model do not take two starts.
        for check in (lambda: read_head(self.head), lambda: facts.update(super(AestheticScore, self).facts())):
            try:
                check()
            except ValueError as error:
                faults.append(str(error))
        if faults:
            raise ValueError("; and ".join(faults))
        head = identity(self.head)
        return {**facts, "head": head, "differs": facts["differs"] + weights_differ(head, _HEAD, _HEAD_SHA256)}

    def load(self) -> None:
        """Read the weights.

        Raises:
            ValueError: the head is for embeddings of another length.
        """
        super().load()
        weight, bias = read_head(self.head)
        if weight.shape[1] != self.clip.config.projection_dim:
            raise ValueError(
                f"{self.head} is for embeddings of {weight.shape[1]} numbers, {self.model} gives "
                f"{self.clip.config.projection_dim}; name the CLIP model that the head was trained on"
            )
        # Buffers, so that Lightning moves them to the device with the module.
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    @torch.no_grad()
    def forward(self, frames: Tensor) -> Tensor:
        """(N,)."""
        return linear_score(super().forward(frames), self.get_buffer("weight"), self.get_buffer("bias"))


class MusiqScore(FrameNetwork):
    """MUSIQ trained on SPAQ: 0 to 100, for imaging quality. Needs the package pyiqa.

    Args:
        model: a file with its weights (``musiq_spaq_ckpt-358bb6af.pth``), or "spaq", which pyiqa downloads.
    """

    published = "spaq"

    def __init__(self, model: str = published) -> None:
        super().__init__(model)

    def absent(self) -> str | None:
        """Without pyiqa."""
        return None if find_spec("pyiqa") else "needs the package pyiqa: pip install pyiqa"

    def facts(self) -> dict[str, Any]:
        """A file is taken for the published weights by its hash."""
        published = f"pyiqa {_SPAQ}"
        if self.model != self.published and not Path(self.model).is_file():
            raise ValueError(f"{self.model}: no such file; give {_SPAQ}, or spaq, which pyiqa downloads")
        weights = {"id": published} if self.model == self.published else identity(self.model)
        differs = weights_differ(weights, published, _SPAQ_SHA256)
        return {"network": "MUSIQ", "weights": weights, "proxy": False, "differs": differs}

    def load(self) -> None:
        """Read the weights.

        Raises:
            ValueError: the weights cannot be had, or are of something else.
        """
        from pyiqa.archs.musiq_arch import MUSIQ  # type: ignore[import-not-found]

        is_published = self.model == self.published
        source = {"pretrained": "spaq"} if is_published else {"pretrained_model_path": self.model}
        try:
            self.musiq = MUSIQ(**source).eval()
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{self.model}: no weights of MUSIQ come from it ({str(error)[:200]})") from error

    @torch.no_grad()
    def forward(self, frames: Tensor) -> Tensor:
        """(N,)."""
        from torchvision.transforms.functional import InterpolationMode, resize

        pixels, (height, width) = frames.float(), frames.shape[-2:]
        if (longest := max(height, width)) > _LONGEST:
            size = [int(_LONGEST / longest * side) for side in (height, width)]
            pixels = resize(pixels, size, InterpolationMode.BILINEAR, antialias=False)
        # One frame at a time, as published: the network pads the frames of a batch.
        return torch.stack([self.musiq(frame[None]).reshape(()) for frame in pixels / 255.0])


def resized(frames: Tensor, side: int, mode: str) -> Tensor:
    """(N, 3, h, w) float32 from 0 to 255, the shorter side at `side` pixels; bicubic values may leave that range."""
    from torchvision.transforms.functional import InterpolationMode, resize

    scaled: Tensor = resize(frames.float(), [side], InterpolationMode(mode), antialias=False)
    return scaled


def normalised(frames: Tensor, statistics: tuple[Sequence[float], Sequence[float]]) -> Tensor:
    """Frames from 0 to 255, normalised by (mean, deviation) of each channel as in the network's training."""
    mean, deviation = (torch.tensor(channels, device=frames.device)[:, None, None] for channels in statistics)
    return (frames / 255.0 - mean) / deviation
