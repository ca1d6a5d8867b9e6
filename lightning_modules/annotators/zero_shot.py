"""Objects that a phrase names, found by OWLv2 or Grounding DINO through transformers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_modules.annotators.base import Detection, ObjectDetector
from lightning_modules.annotators.checkpoints import CheckpointAnnotator, DType

#: Types of checkpoints that see a picture padded to a square, or as it is, with several texts.
_OWL = ("owlv2", "owlvit")
_DINO = ("grounding-dino",)
#: Boxes of less confidence are not looked at; what is kept is decided by the thresholds of `GroundingAnnotator`.
_FLOOR = 0.01


class ZeroShotDetector(CheckpointAnnotator, ObjectDetector):
    """Object detector that is a zero-shot detection checkpoint: OWLv2, OWL-ViT or Grounding DINO.

    What the boxes of the published checkpoints are worth as annotation has not been measured here: look at some before
    you train on them.

    Args:
        path: a checkpoint folder or hub id: google/owlv2-base-patch16-ensemble, IDEA-Research/grounding-dino-base.
        dtype: type of the weights in memory.
        frames_at_once: frames to the model at once.
        prompt: what is asked for, with the phrase as {phrase}; null = the usual text of the checkpoint's type ("a photo
            of a {phrase}" for OWL, "a {phrase}." for Grounding DINO).
    """

    auto_class = "AutoModelForZeroShotObjectDetection"
    types = (*_OWL, *_DINO)
    task = "detect objects"
    setting, reads = "detector", "phrases"

    def __init__(self, path: str, dtype: DType = "float32", frames_at_once: int = 4, prompt: str | None = None) -> None:
        super().__init__(path, dtype, frames_at_once)
        if prompt is not None and "{phrase}" not in prompt:
            raise ValueError(f"detector.prompt {prompt!r} lacks {{phrase}}, the place where the object goes")
        self.prompt = prompt

    def settings(self) -> dict[str, Any]:
        """How it is asked."""
        return {**super().settings(), "prompt": self.prompt}

    @torch.no_grad()
    def detect(self, frames: Tensor, phrase: str) -> list[Detection | None]:
        """The best box in each frame, within its border; see `ObjectDetector.detect`."""
        height, width = frames.shape[2:]
        detections: list[Detection | None] = []
        for pictures in self.portions(frames):
            detections += [_best(result, height, width) for result in self._results(pictures, phrase, height, width)]
        return detections

    def _results(self, pictures: list[Tensor], phrase: str, height: int, width: int) -> list[Any]:
        """What the processor makes of the model's output: scores and boxes (x0, y0, x1, y1) in pixels a picture."""
        model, processor = self.loaded()
        is_owl = self.kind in _OWL
        # Phrases of Grounding DINO end with a full stop.
        text = (self.prompt or ("a photo of a {phrase}" if is_owl else "a {phrase}.")).replace("{phrase}", phrase)
        longest = int(model.config.text_config.max_position_embeddings if is_owl else model.config.max_text_len)
        if len(processor.tokenizer(text)["input_ids"]) > longest:
            self._cut.add(phrase)
        inputs = processor(
            text=[[text] if is_owl else text] * len(pictures),
            images=pictures,
            padding="max_length" if is_owl else True,
            max_length=longest,
            truncation=True,
            return_tensors="pt",
        )
        outputs = model(**inputs.to(model.device, model.dtype))
        for field in ("logits", "pred_boxes"):
            outputs[field] = outputs[field].float().cpu()
        sizes = [(height, width)] * len(pictures)
        options = {} if is_owl else {"input_ids": inputs["input_ids"].cpu()}
        results: list[Any] = processor.post_process_grounded_object_detection(
            outputs, threshold=_FLOOR, target_sizes=sizes, **options
        )
        return results


def _best(result: Any, height: int, width: int) -> Detection | None:
    """The box of the highest score, cut at the frame's border; None where there is none, or nothing of it is left."""
    if not len(result["scores"]):
        return None
    best = int(result["scores"].argmax())
    left, top, right, bottom = result["boxes"][best].tolist()
    left, right = max(left, 0.0), min(right, float(width))
    top, bottom = max(top, 0.0), min(bottom, float(height))
    # Less than a pixel is no object, and rounds to nothing.
    if right - left < 1 or bottom - top < 1:
        return None
    return Detection(left, top, right - left, bottom - top, float(result["scores"][best]))
