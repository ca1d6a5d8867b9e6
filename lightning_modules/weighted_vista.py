"""VistaDPO with weights that depend on the sample: how much moves in it, or how hard it is for the reference."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from datamodules.shards.index import Index
from datamodules.vista.batches import VistaBatch
from lightning_modules.policies.transfer import sent
from lightning_modules.preference import StepBatch
from lightning_modules.terms import Term
from lightning_modules.vista_dpo import VistaDPO

#: The terms whose negatives change what happens when.
MOTION_TERMS = ("video", "clip")


class WeightedVistaDPO(VistaDPO):
    """VistaDPO module whose terms weigh each sample, on average 1; the terms' own weights multiply these.

    Args:
        weighting: "motion": the video and the clip term weigh a sample by the motion strength of its object, from the
            boxes in the index, over the mean of all samples; one without two boxes at different times weighs 1.
            "difficulty": every term weighs a sample by how little the reference prefers the right side,
            sigmoid(-(log p of the right side - log p of the wrong one)), over the mean of its samples in the batch.
        options: those of `VistaDPO`.
    """

    def __init__(self, weighting: Literal["motion", "difficulty"] = "motion", **options: Any) -> None:
        super().__init__(**options)
        self.weighting = weighting
        #: Key -> weight, of the samples of a data module's training index; made at the first step.
        self._motion: dict[str, float] | None = None

    def weighted(self, terms: dict[str, Term], batch: StepBatch) -> dict[str, Tensor]:
        """Each term's sum over its items times their weights, divided by its items in the whole optimizer step."""
        assert isinstance(batch, VistaBatch)
        weights = {name: self.sample_weights(name, term, batch) for name, term in terms.items()}
        return {name: (term.values * weights[name]).sum() / batch.denominators[name] for name, term in terms.items()}

    def sample_weights(self, name: str, term: Term, batch: VistaBatch) -> Tensor:
        """(n,) weights of the samples that take part in a term.

        Args:
            name: of the term.
            term: as `terms` made it.
            batch: with the reference's scores.
        """
        if self.weighting == "motion":
            motion = self._motion_weights() if name in MOTION_TERMS else {}
            values = [motion.get(batch.keys[sample], 1.0) for sample in term.samples]
            return sent(torch.tensor(values, dtype=term.values.dtype), term.values.device)
        assert batch.reference is not None
        right, wrong = batch.reference.log_probs[batch.compared(name)[1]][:2]
        hardness = torch.sigmoid(wrong - right)
        # Of no sample the mean is no number.
        return hardness / hardness.mean().clamp(min=torch.finfo(hardness.dtype).tiny) if len(hardness) else hardness

    def _motion_weights(self) -> dict[str, float]:
        if self._motion is None:
            data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
            self._motion = motion_weights(data.index("train"))
        return self._motion


def motion_weights(index: Index) -> dict[str, float]:
    """Key -> motion strength over the mean of all samples that have one.

    Args:
        index: of VistaDPO shards.
    """
    strengths = {
        entry.key: strength for entry in index.entries if (strength := motion_strength(entry.facts)) is not None
    }
    mean = sum(strengths.values()) / len(strengths) if strengths else 0.0
    return {key: strength / mean for key, strength in strengths.items()} if mean else {}


def motion_strength(facts: Mapping[str, Any]) -> float | None:
    """Speed of the object's centre between its first and its last box, frame heights a second; None = not known.

    Args:
        facts: of a sample in the index, see `vista_facts`.
    """
    boxes = sorted((box for box in facts.get("boxes", ()) if box[4] is not None), key=lambda box: box[4])
    if len(boxes) < 2 or boxes[0][4] == boxes[-1][4]:
        return None
    (x0, y0), (x1, y1) = ((box[0] + box[2] / 2, box[1] + box[3] / 2) for box in (boxes[0], boxes[-1]))
    duration: float = boxes[-1][4] - boxes[0][4]
    height: float = facts["height"]
    return math.hypot(x1 - x0, y1 - y0) / height / duration
