"""The image tower of a pipeline, whose states of the given image some models attend to beside the text."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_modules.policies.flow_model import read_config


class ImageTower:
    """CLIP's vision tower of a pipeline ("image_encoder"), loaded when it is first needed.

    No `nn.Module`, as `FlowCodec` is none: it is never trained, sharded or saved.

    Args:
        path: a pipeline's folder or hub id.
        dtype: type of the weights; states are float32 in any case.

    Raises:
        ValueError: the pipeline has no such part.
    """

    def __init__(self, path: str, dtype: str) -> None:
        from transformers import CLIPVisionConfig

        self.path = path
        self.dtype = dtype
        # A file holds what is not the default.
        config = CLIPVisionConfig(**read_config(path, "image_encoder"))
        #: (n, D) of an image's states: a class token and one for each patch.
        self.shape = ((config.image_size // config.patch_size) ** 2 + 1, int(config.hidden_size))
        self._model: Any = None
        self._processor: Any = None

    @torch.no_grad()
    def states(self, frame: Tensor, device: torch.device) -> Tensor:
        """The states of an image before the last layer, as the pipelines take them.

        Args:
            frame: (3, H, W) uint8.
            device: where to compute.

        Returns:
            (n, D) float32.
        """
        from transformers import CLIPImageProcessor, CLIPVisionModel

        if self._model is None:
            self._processor = CLIPImageProcessor.from_pretrained(
                self.path, trust_remote_code=False, subfolder="image_processor"
            )
            model: Any = CLIPVisionModel.from_pretrained(
                self.path, trust_remote_code=False, subfolder="image_encoder", dtype=getattr(torch, self.dtype)
            )
            self._model = model.requires_grad_(False).eval()
        model = self._model.to(device)
        pixels = self._processor(images=frame.cpu(), return_tensors="pt")["pixel_values"].to(device, model.dtype)
        # What is stored must not depend on a trainer's precision.
        with torch.autocast(device.type, enabled=False):
            states: Tensor = model(pixels, output_hidden_states=True).hidden_states[-2][0]
        return states.float()

    def release(self, keep: bool) -> None:
        """Forget the weights, or keep them on the CPU."""
        self._model = self._model.to("cpu") if keep and self._model is not None else None
