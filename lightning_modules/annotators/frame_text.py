"""How well frames fit texts, by CLIP or SigLIP through transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_modules.annotators.base import FrameScorer
from lightning_modules.annotators.checkpoints import Checkpoint, DType, portions

#: Types whose texts were padded to full length when they were trained.
_FULL_LENGTH = ("siglip", "siglip2")


class FrameTextScorer(FrameScorer):
    """Frame scorer that is a contrastive image-text checkpoint: CLIP or SigLIP.

    A single frame says little of direction, order and number, and these models do not understand "no". What the spans
    from the published checkpoints are worth has not been measured here: look at some before you train on them.

    Args:
        path: a checkpoint folder or hub id: openai/clip-vit-large-patch14, google/siglip-so400m-patch14-384.
        dtype: type of the weights in memory.
        frames_at_once: frames to the model at once.
    """

    def __init__(self, path: str, dtype: DType = "float32", frames_at_once: int = 16) -> None:
        if frames_at_once < 1:
            raise ValueError(f"scorer.frames_at_once is {frames_at_once}; give at least 1")
        self.path = path
        self.dtype = dtype
        self.frames_at_once = frames_at_once
        self._checkpoint = Checkpoint(
            path, dtype, "AutoModelForZeroShotImageClassification", ("clip", *_FULL_LENGTH), "compare frames with texts"
        )
        self._kind = ""
        self._cut: set[str] = set()

    @property
    def name(self) -> str:
        """The checkpoint's name."""
        return self._checkpoint.name

    def settings(self) -> dict[str, Any]:
        """How it is asked."""
        return {"dtype": self.dtype}

    def check(self) -> None:
        """Refuse a checkpoint that is no such model.

        Raises:
            ValueError: says what it is.
        """
        self._kind = self._checkpoint.model_type()

    def load(self, device: torch.device) -> None:
        """Read the weights."""
        if not self._kind:
            self.check()
        self._checkpoint.load(device)

    @torch.no_grad()
    def score(self, frames: Tensor, texts: Sequence[str]) -> Tensor:
        """(T, N) float32 logits, scaled as the model's own; see `FrameScorer.score`."""
        self.load(torch.device("cpu"))
        model, processor = self._checkpoint.load(torch.device("cpu"))
        longest = int(model.config.text_config.max_position_embeddings)
        self._cut |= {text for text in texts if len(processor.tokenizer(text)["input_ids"]) > longest}
        scores = []
        for pictures in portions(frames, self.frames_at_once):
            inputs = processor(
                text=list(texts),
                images=[picture.cpu() for picture in pictures],
                padding="max_length" if self._kind in _FULL_LENGTH else True,
                max_length=longest,
                truncation=True,
                return_tensors="pt",
            )
            scores.append(model(**inputs.to(model.device, model.dtype)).logits_per_image.float().cpu())
        return torch.cat(scores)

    def summary(self) -> str:
        """How many texts were longer than the model reads."""
        if not self._cut:
            return ""
        return f"{self.name} read the beginnings of {len(self._cut)} texts, which are longer than its text tower takes"
