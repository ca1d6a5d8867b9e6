"""A sample's bytes -> its views, and a batch of them: the recipe of `VistaPairs`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from datamodules.shards.byte_reader import BadSampleError
from datamodules.stream.plan import PlannedBatch
from datamodules.stream.recipe import Recipe, SampleRead
from datamodules.vista.annotations import Annotations
from datamodules.vista.batches import VistaBatch
from datamodules.vista.samples import PreferenceRow, View, blank_view
from datamodules.vista.shared_frames import ResizeFrames, share_frames
from datamodules.vista.views import Partner, ViewMaker


@dataclass(frozen=True, eq=False)
class VistaRecipe(Recipe[VistaBatch]):
    """Recipe of batches of views.

    Attributes:
        annotations: facts and levels by position.
        maker: makes a sample's views.
        unusable: key -> why, of samples whose texts the policy cannot take.
        resize: makes frames as small as the policy sees them; None = they travel as they are.
    """

    annotations: Annotations
    maker: ViewMaker
    unusable: Mapping[str, str] = field(default_factory=dict)
    resize: ResizeFrames | None = None

    def members(self, position: int) -> list[str]:
        """The row, and what the sample's views are made of."""
        facts, levels = self.annotations.facts[position], self.annotations.levels[position]
        return sorted({"json", *self.maker.members(facts, levels)})

    def make_sample(self, sample: SampleRead) -> list[View]:
        """The views of one sample.

        Raises:
            ValueError: the row cannot be read, a member is missing or undecodable, the policy cannot take the texts.
        """
        # Refused here rather than left out of the plan: order and denominators stay those of all samples.
        if sample.entry.key in self.unusable:
            raise BadSampleError(self.unusable[sample.entry.key])
        facts, levels = self.annotations.facts, self.annotations.levels[sample.position]

        def find_partner(random: np.random.Generator) -> Partner:
            position = self.annotations.partners.draw(sample.position, random)
            # Read in this worker, from any shard: a partner need not be in the batch.
            return Partner(facts[position], lambda member: sample.read_other(position, [member])[member])

        try:
            row = PreferenceRow.from_json(json.loads(sample.members["json"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f".json is not a preference row: {error}") from error
        views = self.maker(row, facts[sample.position], levels, sample.members, sample.epoch, find_partner)
        # Here and not for the whole batch, so that one sample's frames at source resolution are in memory at a time.
        return share_frames(views, self.resize)

    def collate(self, samples: list[list[View] | None], planned: PlannedBatch) -> VistaBatch:
        """The batch; a slot without a sample, or without a view that is needed, gets a blank one.

        So every batch has a view per slot at least, and every rank makes its forward.
        """
        views: list[View] = []
        for place, sample_views in enumerate(samples):
            for view in sample_views or [blank_view(place, self.maker.frames.num_frames, self.maker.needs)]:
                view.sample = place
                views.append(view)
        # Once more: samples may be questions about one video.
        views = share_frames(views)
        return VistaBatch(
            keys=[self.annotations.index.entries[slot.position].key for slot in planned.slots],
            views=[view for view in views if not view.for_reference],
            mask=torch.tensor([slot.mask for slot in planned.slots]),
            denominators=dict(planned.denominators),
            # Of the first slot, as a batch may span two epochs.
            epoch=planned.slots[0].epoch,
            reference_apart=self.maker.frames.reference_frames is not None,
            reference_views=[view for view in views if view.for_reference],
        )
