"""A pair's bytes -> its tensors with their time and noise, and a batch of them: the recipe of `DensePairs`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from datamodules.dense.batches import PairBatch
from datamodules.dense.facts import LATENTS, PROMPT, read_condition, read_latents, read_prompt
from datamodules.dense.inputs import Condition, Prompt
from datamodules.dense.noise_draw import Blanks, FlowDraw
from datamodules.dense.pair_labels import FrameLabels
from datamodules.stream.plan import PlannedBatch
from datamodules.stream.recipe import Recipe, SampleRead


@dataclass(frozen=True, slots=True, eq=False)
class PairSample:
    """One pair on its way into a batch; the fields are those of `PairBatch`, without their batch dimension."""

    first: Tensor
    second: Tensor
    prompt: Prompt | None
    condition: Condition
    noise: Tensor
    t: float
    labels: FrameLabels


@dataclass(frozen=True, eq=False)
class PairRecipe(Recipe[PairBatch]):
    """Recipe of batches of labelled pairs; both videos of a pair share its time and its noise.

    Attributes:
        labels: position -> labels, of the pairs that the plan reads.
        draw: of times and noises.
        blanks: what is put in place of padding and of skipped pairs.
    """

    labels: Mapping[int, FrameLabels]
    draw: FlowDraw
    blanks: Blanks

    def members(self, position: int) -> tuple[str, ...]:
        """Latents and prompt embeddings, never a video or a text."""
        return LATENTS, PROMPT

    def make_sample(self, sample: SampleRead) -> PairSample:
        """The pair's tensors.

        Raises:
            ValueError: latents or prompt are missing, of another shape than the index says, or not finite.
        """
        key, shape = sample.entry.key, sample.entry.facts["latent_shape"]
        latents = read_latents(sample.members[LATENTS], ("first", "second"), shape)
        return PairSample(
            first=latents["first"],
            second=latents["second"],
            prompt=read_prompt(sample.members[PROMPT]),
            condition=read_condition(sample.members[LATENTS], sample.entry.facts),
            # The plan's epoch, never the trainer's: a resumed run draws the same.
            noise=self.draw.noise(key, sample.epoch, shape),
            t=self.draw.time(key, sample.epoch),
            labels=self.labels[sample.position],
        )

    def collate(self, samples: list[PairSample | None], planned: PlannedBatch) -> PairBatch:
        """The batch. A slot without a pair gets zeros, a time of one half, and ties."""
        pairs = [sample or self._blank(slot.position) for sample, slot in zip(samples, planned.slots, strict=True)]
        return PairBatch(
            # From the plan: a blank has no key.
            keys=[self.blanks.samples.index.entries[slot.position].key for slot in planned.slots],
            first=torch.stack([pair.first for pair in pairs]),
            second=torch.stack([pair.second for pair in pairs]),
            prompts=self.blanks.prompts([pair.prompt for pair in pairs]),
            noise=torch.stack([pair.noise for pair in pairs]),
            t=torch.tensor([pair.t for pair in pairs], dtype=torch.float32),
            labels=torch.tensor([pair.labels.frames for pair in pairs], dtype=torch.int8),
            segments=torch.tensor([pair.labels.segments for pair in pairs]),
            preference=torch.tensor([pair.labels.whole for pair in pairs], dtype=torch.int8),
            mask=torch.tensor([slot.mask for slot in planned.slots]),
            denominators=dict(planned.denominators),
            epoch=planned.slots[0].epoch,
            conditions=[pair.condition for pair in pairs],
        )

    def _blank(self, position: int) -> PairSample:
        zeros = self.blanks.latents(position)
        # A tie has no gradient by itself, besides the mask.
        ties = (0,) * zeros.shape[1]
        condition = self.blanks.condition(position)
        return PairSample(zeros, zeros, None, condition, zeros, 0.5, FrameLabels(ties, ties, 0))
