"""Shards of encoded real videos -> batches of latents: the data of supervised fine-tuning."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from datamodules.dense.batches import LatentBatch
from datamodules.dense.facts import (
    LATENTS,
    PROMPT,
    latent_row,
    pair_row,
    read_condition,
    read_latents,
    read_prompt,
)
from datamodules.dense.inputs import Condition, Prompt
from datamodules.dense.noise_draw import Blanks, FlowDraw, policy_faults, require_none, shape_faults
from datamodules.shards.byte_reader import BadSampleError
from datamodules.shards.index import Index
from datamodules.shards.sample_reader import SampleReader
from datamodules.stream.indexed_data import Paths, Split
from datamodules.stream.plan import PlannedBatch
from datamodules.stream.planned_data import PlannedData, Selection
from datamodules.stream.recipe import Recipe, SampleRead


@dataclass(frozen=True, slots=True, eq=False)
class LatentSample:
    """One video on its way into a batch; the fields are those of `LatentBatch`, without their batch dimension."""

    clean: Tensor
    prompt: Prompt | None
    condition: Condition
    noise: Tensor
    t: float


@dataclass(frozen=True, eq=False)
class LatentRecipe(Recipe[LatentBatch]):
    """Recipe of batches of encoded videos, each with its time and noise.

    Attributes:
        draw: of times and noises.
        blanks: what is put in place of padding and of skipped videos.
        drop_prompts: share of videos whose prompt is replaced by the empty one.
    """

    draw: FlowDraw
    blanks: Blanks
    drop_prompts: float = 0.0

    def members(self, position: int) -> tuple[str, ...]:
        """Latents and prompt embeddings, never a video or a text."""
        return LATENTS, PROMPT

    def make_sample(self, sample: SampleRead) -> LatentSample:
        """The video's tensors; a prompt that is dropped has no streams.

        Raises:
            ValueError: latents or prompt are missing, of another shape than the index says, or not finite.
        """
        key, shape = sample.entry.key, sample.entry.facts["latent_shape"]
        # Read also where it is dropped, or a damaged one would stop the run in one epoch and pass in another.
        prompt = read_prompt(sample.members[PROMPT])
        return LatentSample(
            clean=read_latents(sample.members[LATENTS], ("clean",), shape)["clean"],
            prompt={} if self.draw.share(key, sample.epoch, "prompt") < self.drop_prompts else prompt,
            condition=read_condition(sample.members[LATENTS], sample.entry.facts),
            noise=self.draw.noise(key, sample.epoch, shape),
            t=self.draw.time(key, sample.epoch),
        )

    def collate(self, samples: list[LatentSample | None], planned: PlannedBatch) -> LatentBatch:
        """The batch. A slot without a video gets zeros and a time of one half."""
        videos = [sample or self._blank(slot.position) for sample, slot in zip(samples, planned.slots, strict=True)]
        return LatentBatch(
            keys=[self.blanks.samples.index.entries[slot.position].key for slot in planned.slots],
            clean=torch.stack([video.clean for video in videos]),
            prompts=self.blanks.prompts([video.prompt for video in videos]),
            noise=torch.stack([video.noise for video in videos]),
            t=torch.tensor([video.t for video in videos], dtype=torch.float32),
            mask=torch.tensor([slot.mask for slot in planned.slots]),
            denominators=dict(planned.denominators),
            epoch=planned.slots[0].epoch,
            conditions=[video.condition for video in videos],
        )

    def _blank(self, position: int) -> LatentSample:
        zeros = self.blanks.latents(position)
        return LatentSample(zeros, None, self.blanks.condition(position), zeros, 0.5)


class Latents(PlannedData[LatentBatch]):
    """Encoded real videos with their captions' embeddings, time and noise.

    Reads shards of encoded videos, and pairs that were sampled with ``store_clean``, of which it takes the real video.
    Time and noise are drawn as in `DensePairs`.

    Args:
        train: index file of the training videos (``NAME.index.json``, a path or an http(s) or s3 address), or several.
        val: likewise, of the validation videos; every one is seen once.
        seed: decides the order of the videos, times and noises.
        logit_mean: of the normal distribution that a time is the sigmoid of (0: Stable Diffusion 3's, our choice).
        logit_std: its standard deviation (1, likewise).
        flow_shift: moves times towards noise, see `shift_time` (1: none, our choice; the paper leaves it open).
        drop_prompts: share of videos whose prompt is replaced by the empty one, which classifier-free guidance needs a
            model to know (0: fine-tuning; 0.1 is usual where a model is trained from scratch).
        time_range: times outside are drawn again; see `DensePairs`.
        options: those of `PlannedData`.
    """

    schema: ClassVar[tuple[str, ...]] = ("vidpref/latents", "vidpref/pairs")
    required_module_method: ClassVar[tuple[str, str]] = ("items", "SupervisedFlow")

    def __init__(
        self,
        train: Paths | None = None,
        val: Paths | None = None,
        seed: int = 0,
        drop_prompts: float = 0.0,
        logit_mean: float = 0.0,
        logit_std: float = 1.0,
        flow_shift: float = 1.0,
        time_range: tuple[float, float] = (0.0, 1.0),
        **options: Any,
    ) -> None:
        super().__init__({"train": train, "val": val}, seed=seed, **options)
        if not 0 <= drop_prompts <= 1:
            raise ValueError(f"data.drop_prompts is {drop_prompts}; give a share from 0 to 1")
        self.drop_prompts = drop_prompts
        self.draw = FlowDraw(seed, logit_mean, logit_std, flow_shift, *time_range)

    def check(self, split: Split, index: Index) -> None:
        """List everything that is wrong with the samples.

        Raises:
            ValueError: a method that counts labels, which there are none of, rows that do not fit, latents, prompts or
                times that the policy does not take, several shapes for one batch, or pairs without the real video.
        """
        module = self.active_trainer.lightning_module
        if other := {name: kind for name, kind in module.items().items() if kind != "samples"}:
            raise ValueError(f"the terms {other} are of labelled pairs; use data: DensePairs, or model: SupervisedFlow")
        row_of = latent_row if index.schema == "vidpref/latents" else pair_row
        rows = [row_of(entry.key, entry.facts) for entry in index.entries]
        faults = [f"{index.address(position)}: sample {row.key!r}: {fault}"
                  for position, row in enumerate(rows) for fault in row.faults()]  # fmt: skip
        faults += policy_faults(index, rows, self.draw, module.policy)
        require_none([*faults, *shape_faults(index, rows, self.batch_size)])
        if index.schema == "vidpref/pairs":
            self._require_clean(index)

    def selection(self, split: Split) -> Selection:
        """All videos, each one item of every term."""
        kinds = self.active_trainer.lightning_module.items()
        return Selection({name: np.ones(len(self.index(split)), dtype=np.bool_) for name in kinds})

    def recipe(self, split: Split) -> LatentRecipe:
        """Latents and prompt embeddings with their time and noise."""
        blanks = Blanks(SampleReader(self.index(split), self.reader))
        # Validation is the same for all runs, whatever they drop in training.
        dropped = self.drop_prompts if split == "train" else 0.0
        return LatentRecipe(self.draw, blanks, dropped)

    def identity(self) -> dict[str, Any]:
        """The distribution of times, and the share of dropped prompts."""
        draw = self.draw
        return {"time": [draw.mean, draw.std, draw.shift, draw.lowest, draw.highest], "drop_prompts": self.drop_prompts}

    def _require_clean(self, index: Index) -> None:
        """The index does not say whether the real video was stored, so the first pair is read."""
        entry = index.entries[0]
        with suppress(BadSampleError):  # an altered pair is an error, or skipped, in its turn
            content = SampleReader(index, self.reader).read(0, [LATENTS])[LATENTS]
            try:
                read_latents(content, ("clean",), entry.facts["latent_shape"])
            except ValueError as error:
                raise ValueError(f"{index.address(0)}: sample {entry.key!r}: {error} (store_clean: true)") from error
