"""Shards of video pairs and their labels -> batches of latents: the data of DenseDPO, in all its variants."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch

from datamodules.dense.batches import ItemKind, PairBatch
from datamodules.dense.inputs import Condition
from datamodules.dense.noise_draw import Blanks, FlowDraw, policy_faults, require_none, shape_faults
from datamodules.dense.pair_labels import FrameLabels, LabelFilter, LabelledPairs, SelectedPairs, join_labels
from datamodules.dense.pair_recipe import PairRecipe
from datamodules.dense.rows import PairRow
from datamodules.shards.checks import load_indexes
from datamodules.shards.index import Index
from datamodules.shards.sample_reader import SampleReader
from datamodules.stream.indexed_data import Paths, Split
from datamodules.stream.planned_data import PlannedData, Selection

_log = logging.getLogger(__name__)


class DensePairs(PlannedData[PairBatch]):
    """Pairs of videos as latents, with a label for each latent frame and one for the whole video.

    Pairs and labels are joined by key. A pair without a label, or with too many ties, is left out before the order is
    made, and one line in the log says how many were. Time and noise are drawn from seed, key and epoch, the same for
    both videos of a pair and for any number of ranks and workers; in validation they are the same every time. Neither
    videos nor texts are read. Vanilla, structural and dense are the same class on other shards: a batch has the labels
    of both granularities, and the method says by `items()` what its denominators count.

    Args:
        train: index file of the training pairs (``NAME.index.json``, a path or an http(s) or s3 address), or several.
        train_labels: index file of their labels, or several; each made from one of the pairs' files, or from all.
        val: likewise, of the validation pairs; every pair that is taken is seen once.
        val_labels: likewise, of their labels.
        seed: decides the order of the pairs, times, noises, and the draws of `label_fraction` and `flip_labels`.
        min_decided: a pair is taken if more than this share of its segments is no tie (paper: 0.2); None = any share.
        drop_whole_ties: leave out pairs that are a tie as a whole; for a method that uses that label alone.
        logit_mean: of the normal distribution that a time is the sigmoid of (0: Stable Diffusion 3's, our choice).
        logit_std: its standard deviation (1, likewise).
        flow_shift: moves times towards noise, see `shift_time` (1: none, our choice; the paper leaves it open).
        time_range: times outside are drawn again; one of several experts takes its own alone, the low-noise expert of
            Wan 2.2 [0, 0.875].
        label_fraction: the share of the labelled training pairs that is used, for ablations.
        flip_labels: the share of the training labels that is turned round, of segments and, by draws of their own, of
            whole videos, for ablations (paper: 0.2 and 0.4).
        options: those of `PlannedData`.
    """

    schema: ClassVar[str] = "vidpref/pairs"
    required_module_method: ClassVar[tuple[str, str]] = ("items", "DenseDPO")

    def __init__(
        self,
        train: Paths | None = None,
        train_labels: Paths | None = None,
        val: Paths | None = None,
        val_labels: Paths | None = None,
        seed: int = 0,
        min_decided: float | None = 0.2,
        drop_whole_ties: bool = False,
        logit_mean: float = 0.0,
        logit_std: float = 1.0,
        flow_shift: float = 1.0,
        time_range: tuple[float, float] = (0.0, 1.0),
        label_fraction: float = 1.0,
        flip_labels: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__({"train": train, "val": val}, seed=seed, **options)
        self.label_paths: dict[Split, Paths | None] = {"train": train_labels, "val": val_labels}
        self.draw = FlowDraw(seed, logit_mean, logit_std, flow_shift, *time_range)
        #: The ablations are of training; validation has all labels as they are.
        self.filters: dict[Split, LabelFilter] = {
            "train": LabelFilter(min_decided, drop_whole_ties, label_fraction, flip_labels, seed),
            "val": LabelFilter(min_decided, drop_whole_ties),
        }
        #: What is read of each split, after `setup`.
        self.taken: dict[Split, SelectedPairs] = {}
        self._labels: dict[Split, str] = {}

    def check(self, split: Split, index: Index) -> None:
        """Join pairs with labels, list everything that is wrong with either, and say what is left out.

        Raises:
            ValueError: a method without preferences, no labels, labels of other pairs, rows or labels that do not fit,
                latents, prompts or times that the policy does not take, several shapes for one batch, or nothing that
                the filter lets through.
        """
        module = self.active_trainer.lightning_module
        if other := [name for name, kind in module.items().items() if kind == "samples"]:
            raise ValueError(
                f"the terms {other} are of real videos, not of pairs; use data: Latents (pairs that were sampled with "
                "store_clean serve), or model: DenseDPO"
            )
        joined = self._joined(split)
        rows = [row for row, _ in joined.rows]
        require_none([*joined.faults(), *policy_faults(index, rows, self.draw, module.policy)])
        taken = joined.take(self.filters[split])
        if not taken.labels:
            raise ValueError(f"{self.paths[split]}: {taken}; label more pairs, or loosen data.min_decided")
        require_none(shape_faults(index, rows, self.batch_size))
        # After the filter, which goes by what people labelled, not by what the policy makes.
        taken = _without_given(taken, rows, module.policy)
        self.taken[split], self._labels[split] = taken, joined.labels.fingerprint
        if self.active_trainer.is_global_zero:
            level = logging.WARNING if any(taken.left_out.values()) else logging.INFO
            _log.log(level, "data.%s (%s): %s", split, self.paths[split], taken)

    def selection(self, split: Split) -> Selection:
        """The pairs that were taken, and how many items each has in the denominator of every term."""
        taken = self.taken[split].labels
        keep = np.array(sorted(taken), dtype=np.int64)
        kinds: dict[str, ItemKind] = self.active_trainer.lightning_module.items()
        terms = {}
        for name, kind in kinds.items():
            # Over all samples of the index, as the plan counts; those that are left out have no items.
            terms[name] = np.zeros(len(self.index(split)), dtype=np.int64)
            terms[name][keep] = [taken[position].items(kind) for position in keep.tolist()]
        return Selection(terms, keep)

    def recipe(self, split: Split) -> PairRecipe:
        """Latents and prompt embeddings with their labels, time and noise."""
        return PairRecipe(self.taken[split].labels, self.draw, Blanks(SampleReader(self.index(split), self.reader)))

    def identity(self) -> dict[str, Any]:
        """The labels, what flips them, and the distribution of times."""
        draw = self.draw
        return {
            "labels": self._labels.get("train"),
            "flip_labels": self.filters["train"].flip,
            "time": [draw.mean, draw.std, draw.shift, draw.lowest, draw.highest],
        }

    def origin_of(self, name: str) -> str:
        """The label files."""
        if name == "labels":
            return f": the content of {self.label_paths['train']} has changed"
        return super().origin_of(name)

    def _joined(self, split: Split) -> LabelledPairs:
        paths = self.label_paths[split]
        if paths is None:
            raise ValueError(
                f"data.{split}_labels is not given; name the index file of the labels of {self.paths[split]}"
            )
        return join_labels(self.parts(split), load_indexes(paths, "vidpref/labels", self.reader))


def _without_given(selected: SelectedPairs, rows: Sequence[PairRow], policy: Any) -> SelectedPairs:
    """Labels of frames alone that the policy makes: one that is given has none, and is a segment by itself."""
    labels = dict(selected.labels)
    for position, frames in selected.labels.items():
        row = rows[position]
        if row.image_shape is None:
            continue
        # Only its shape is looked at, so the image takes no memory.
        condition = Condition(row.video.fps, torch.empty(row.image_shape, device="meta"))
        predicted = policy.predicted_frames(row.latent_shape[1], condition).tolist()
        labels[position] = FrameLabels(
            tuple(label if made else 0 for label, made in zip(frames.frames, predicted, strict=True)),
            tuple(segment if made else -1 for segment, made in zip(frames.segments, predicted, strict=True)),
            frames.whole,
        )
    return replace(selected, labels=labels)
