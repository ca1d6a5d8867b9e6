"""What the workers of `DensePairs` do: a pair's bytes to tensors, tensors to batches. All of it can be pickled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from datamodules.dense.batches import PairBatch
from datamodules.dense.facts import LATENTS, PROMPT, read_latents, read_prompt
from datamodules.dense.noise_draw import Blanks, FlowDraw
from datamodules.dense.pair_labels import FrameLabels
from datamodules.shards.index import SampleEntry
from datamodules.stream.loader import SampleRead
from datamodules.stream.plan import PlannedBatch


@dataclass(frozen=True, slots=True, eq=False)
class PairSample:
    """One pair on its way into a batch; the fields are those of `PairBatch`, without their batch dimension."""

    first: Tensor
    second: Tensor
    prompt: Tensor | None
    noise: Tensor
    t: float
    labels: FrameLabels


def flow_members(entry: SampleEntry) -> list[str]:
    """What training reads of a sample: latents and prompt embeddings, never a video or a text."""
    return [LATENTS, PROMPT]


@dataclass(frozen=True, slots=True, eq=False)
class MakePair:
    """A pair's bytes -> its tensors, with the time and the noise that both videos share."""

    labels: Mapping[int, FrameLabels]
    draw: FlowDraw

    def __call__(self, sample: SampleRead) -> PairSample:
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
            noise=self.draw.noise(key, sample.epoch, shape),
            t=self.draw.time(key, sample.epoch),
            labels=self.labels[sample.position],
        )


@dataclass(frozen=True, slots=True, eq=False)
class CollatePairs:
    """The pairs of a batch -> the batch. A slot without a pair gets zeros, a time of one half, and ties."""

    blanks: Blanks

    def __call__(self, samples: list[PairSample | None], planned: PlannedBatch) -> PairBatch:
        """The batch."""
        entries = [self.blanks.samples.index.entries[slot.position] for slot in planned.slots]
        found = [one or self._blank(slot.position) for one, slot in zip(samples, planned.slots, strict=True)]
        return PairBatch(
            keys=[entry.key for entry in entries],
            first=torch.stack([one.first for one in found]),
            second=torch.stack([one.second for one in found]),
            prompts=self.blanks.prompts([one.prompt for one in found]),
            noise=torch.stack([one.noise for one in found]),
            t=torch.tensor([one.t for one in found], dtype=torch.float32),
            labels=torch.tensor([one.labels.frames for one in found], dtype=torch.int8),
            segments=torch.tensor([one.labels.segments for one in found]),
            preference=torch.tensor([one.labels.whole for one in found], dtype=torch.int8),
            mask=torch.tensor([slot.mask for slot in planned.slots]),
            denominators=dict(planned.denominators),
            epoch=planned.slots[0].epoch,
        )

    def _blank(self, position: int) -> PairSample:
        zeros = self.blanks.latents(position)
        ties = (0,) * zeros.shape[1]
        return PairSample(zeros, zeros, None, zeros, 0.5, FrameLabels(ties, ties, 0))
