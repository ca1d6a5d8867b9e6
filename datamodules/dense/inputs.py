"""What a video diffusion model is given beside the noisy latents: the prompt's embeddings, and conditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

#: Stream -> its tensor without padding: (n, D) tokens or (D,) pooled. Every family has the stream "embeds"; some have
#: more, as HunyuanVideo-1.5 "glyphs". An empty mapping stands for a prompt that was dropped.
Prompt = Mapping[str, Tensor]
#: The tensors of a condition, by the names of its fields and of what shards keep.
CONDITION_TENSORS = ("image", "image_states")


@dataclass(frozen=True, slots=True)
class Condition:
    """What a model is given beside prompt and noise level.

    Attributes:
        fps: frames per second of the video.
        image: normalised latents of what is given of the video, in the family's own form: (C, 1, h, w) of its first
            frame, or (C, F, h, w) of that frame followed by grey; None = nothing is given.
        guidance: the guidance scale, which samplers give a model that takes it as an input; None, as in training, means
            the family's own.
        image_states: (n, D) states of the image in the model's own image tower; None = it has none.
    """

    fps: float
    image: Tensor | None = None
    guidance: float | None = None
    image_states: Tensor | None = None

    # Without it Lightning would walk through the fields to move them, and it refuses frozen dataclasses.
    def to(self, device: Any) -> Condition:
        """The condition with its tensors on a device."""
        return replace(self, **{name: tensor.to(device) for name, tensor in self.tensors().items()})

    def pin_memory(self) -> Condition:
        """The condition with its tensors page-locked."""
        return replace(self, **{name: tensor.pin_memory() for name, tensor in self.tensors().items()})

    def corner(self, frames: int, height: int, width: int) -> Condition:
        """The condition of the first frames, rows and columns of the latents, sharing no memory with this one."""
        return self if self.image is None else replace(self, image=self.image[:, :frames, :height, :width].clone())

    def state(self) -> dict[str, Any]:
        """As plain values and tensors, for a checkpoint."""
        return {"fps": self.fps, "guidance": self.guidance, **{name: getattr(self, name) for name in CONDITION_TENSORS}}

    def tensors(self) -> dict[str, Any]:
        """What it holds, by the names under which shards keep it."""
        held = {name: getattr(self, name) for name in CONDITION_TENSORS}
        return {name: tensor for name, tensor in held.items() if tensor is not None}

    def shapes(self) -> dict[str, Any]:
        """The fields of a shard's row that say what is held: ``image_shape`` and the like."""
        return {f"{name}_shape": tuple(tensor.shape) for name, tensor in self.tensors().items()}


def as_prompt(stored: Prompt | Tensor) -> Prompt:
    """A prompt that a checkpoint holds; version 0.1.0 stored the one stream's tensor itself."""
    return {"embeds": stored} if isinstance(stored, Tensor) else stored
