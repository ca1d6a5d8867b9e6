"""A batch of samples as views: what travels from the loader to the losses of answers.

It is a plain (not frozen) dataclass, because Lightning moves it to a device field by field.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from datamodules.vista.compared import ComparedRows
from datamodules.vista.samples import AnswerName, AnswerScores, View, ViewName


@dataclass(slots=True)
class VistaBatch:
    """A batch of samples as views, with everything a step needs.

    Attributes:
        keys: the B samples' keys.
        views: all views of all samples, sample by sample.
        mask: (B,) bool; False marks padding and skipped samples, which count nowhere.
        denominators: per term the number of its items in the whole optimizer step, divided by ranks and by
            accumulated micro-batches, so that Lightning's averaging over both gives the global mean.
        epoch: the plan's epoch of the batch's first sample (never the trainer's: that is wrong after some resumes).
        encoded: the policy's `EncodedViews`, made once and shared by policy and reference.
        reference: the reference's scores, put here by the `ReferenceModel` callback.
        reference_head: hidden states (N, D) -> logits (N, V) of the reference, beside `reference`.
        index: (K,) int64, the rows of the answers that terms compare, see `compared`; always made here.
        real: `mask` as B plain bools, for code that asks sample by sample.
        reference_apart: the reference has views of its own, and so an encoding of its own, on every rank and in every
            batch.
        reference_views: these, of the samples that have one; see `View.for_reference`.

    `real` and the rows of the answers are worked out when the batch is made: on the CPU, where reading the mask waits
    for no device. So whoever changes mask or views makes another batch (`dataclasses.replace`).
    """

    keys: list[str]
    views: list[View]
    mask: Tensor
    denominators: dict[str, float] = field(default_factory=dict)
    epoch: int = 0
    encoded: Any = None
    reference: AnswerScores | None = None
    reference_head: Callable[[Tensor], Tensor] | None = None
    reference_apart: bool = False
    reference_views: list[View] = field(default_factory=list)
    # An argument only so that Lightning moves it with the rest.
    index: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64), repr=False, compare=False)
    # No arguments, so that Lightning keeps them as they are when it moves the batch to a device.
    real: list[bool] = field(init=False, repr=False, compare=False)
    _rows: dict[tuple[ViewName, AnswerName], dict[int, int]] = field(init=False, repr=False, compare=False)
    _compared: ComparedRows = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.real, self._rows = self.mask.tolist(), {}
        row = 0
        for view in self.views:
            for answer in view.answers:
                if self.real[view.sample]:
                    self._rows.setdefault((view.name, answer), {})[view.sample] = row
                # Masked samples' answers have rows, too: the policy scores all that is in the batch.
                row += 1
        self._compared, index = ComparedRows.of(self._rows)
        self.index = index.to(self.mask.device)

    def compared(self, term: str) -> tuple[list[int], Tensor]:
        """What a term compares, see `COMPARED`: its n samples and, on the batch's device, their rows of `AnswerScores`.

        Returns:
            The samples' positions, and (sides, n) int64; a side that may be missing has the row of the one before.
        """
        return self._compared.samples[term], self._compared.select(self.index, term)

    def rows(self, view: ViewName, answer: AnswerName) -> dict[int, int]:
        """Sample position -> row of `AnswerScores` for one answer under one view; masked samples are left out."""
        return self._rows.get((view, answer), {})

    def for_reference(self) -> VistaBatch:
        """The batch as the reference sees it: the same samples and answers in the same rows."""
        if not self.reference_apart:
            return self
        # A shallow copy: rows and mask stay as they were worked out on the CPU.
        seen, own = copy.copy(self), {(view.sample, view.name): view for view in self.reference_views}
        seen.views = [own.get((view.sample, view.name), view) for view in self.views]
        seen.encoded, seen.reference_apart, seen.reference_views = None, False, []
        return seen

    def pin_memory(self) -> VistaBatch:
        """Page-locked frames, for asynchronous copies to a GPU (DataLoader calls this; it ignores dataclasses)."""
        pinned = {pool: tensor.pin_memory() for pool, tensor in self._pools().items()}
        for view in [*self.views, *self.reference_views]:
            view.pool = pinned[id(view.pool)]
        self.mask, self.index = self.mask.pin_memory(), self.index.pin_memory()
        return self

    def to(self, device: torch.device | str) -> VistaBatch:
        """The batch on a device. Lightning calls this; by itself it would move a shared pool once for each view."""
        from lightning.fabric.utilities import move_data_to_device

        device = torch.device(device)
        pools = {pool: move_data_to_device(tensor, device) for pool, tensor in self._pools().items()}
        # Not by `replace`, which would read the mask again, now from the device.
        batch = copy.copy(self)
        for name in (own.name for own in fields(self) if own.init and own.name not in ("views", "reference_views")):
            setattr(batch, name, move_data_to_device(getattr(self, name), device))
        batch.views, batch.reference_views = (
            # Times stay on the CPU, where policies write them into positions and prompts.
            [replace(view, pool=pools[id(view.pool)]) for view in views]
            for views in (self.views, self.reference_views)
        )
        return batch

    def _pools(self) -> dict[int, Tensor]:
        """The views' pools, by identity."""
        return {id(view.pool): view.pool for view in [*self.views, *self.reference_views]}
