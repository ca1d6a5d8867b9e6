"""How well frames fit texts, by CLIP or SigLIP through transformers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_modules.annotators.base import FrameScorer
from lightning_modules.annotators.checkpoints import CheckpointAnnotator, DType

#: Types whose texts were padded to full length when they were trained.
_FULL_LENGTH = ("siglip", "siglip2")


class FrameTextScorer(CheckpointAnnotator, FrameScorer):
    """Frame scorer that is a contrastive image-text checkpoint: CLIP or SigLIP.

    A single frame says little of direction, order and number, and these models do not understand "no". What the spans
    from the published checkpoints are worth has not been measured here: look at some before you train on them.

    Args:
        path: a checkpoint folder or hub id: openai/clip-vit-large-patch14, google/siglip-so400m-patch14-384.
        dtype: type of the weights in memory.
        frames_at_once: frames to the model at once.
    """

    auto_class = "AutoModelForZeroShotImageClassification"
    types = ("clip", *_FULL_LENGTH)
    task = "compare frames with texts"
    setting, reads = "scorer", "texts"

    def __init__(self, path: str, dtype: DType = "float32", frames_at_once: int = 16) -> None:
        super().__init__(path, dtype, frames_at_once)

    @torch.no_grad()
    def score(self, frames: Tensor, texts: Sequence[str]) -> Tensor:
        """(T, N) float32 logits, scaled as the model's own; see `FrameScorer.score`."""
        model, processor = self.loaded()
        longest = int(model.config.text_config.max_position_embeddings)
        self._cut |= {text for text in texts if len(processor.tokenizer(text)["input_ids"]) > longest}
        scores = []
        for pictures in self.portions(frames):
            inputs = processor(
                text=list(texts),
                images=pictures,
                padding="max_length" if self.kind in _FULL_LENGTH else True,
                max_length=longest,
                truncation=True,
                return_tensors="pt",
            )
            scores.append(model(**inputs.to(model.device, model.dtype)).logits_per_image.float().cpu())
        return torch.cat(scores)
