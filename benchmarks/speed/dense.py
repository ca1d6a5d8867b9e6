"""`python -m benchmarks.speed dense`: DenseDPO's step with the reference by adapters off, and by a frozen copy."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from benchmarks.speed.measure import Loss, measure_built
from benchmarks.speed.models import save_wan, train_a_little
from benchmarks.speed.options import DenseOptions
from benchmarks.speed.report import report
from datamodules.dense.batches import FlowErrors, PairBatch
from lightning_modules.dense_dpo import DenseDPO
from lightning_modules.policies.flow_adapters import FlowLora
from lightning_modules.policies.wan import WanPolicy

COPY_SINGLE, COPY, OURS = "frozen copy, video by video", "frozen copy, both at once", "ours, adapters off"


def dense(options: DenseOptions) -> dict[str, Any]:
    """Measure and report.

    Returns:
        The content of the report, see `report`.
    """
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        save_wan(options, folder)
        rows, product = measure_built(dense_rows, options, folder)
    baselines = {row.name: COPY_SINGLE for row in rows}
    notes = [f"times: how many times as fast as {COPY_SINGLE!r}"]
    return report("DenseDPO: one pair of videos, one label a segment", rows, product, baselines, options, notes)


def dense_rows(options: DenseOptions, folder: Path) -> dict[str, Loss]:
    """The rows by name; a frozen copy is made when its row first runs, and so only in the process that needs it.

    Args:
        options: sizes.
        folder: the pipeline, see `models.save_wan`.
    """
    lora = FlowLora(r=options.rank, alpha=options.rank)
    policy = WanPolicy(str(folder), lora=lora)
    policy.load()
    train_a_little(policy, options.seed)
    module, batch = DenseDPO(policy), pair_batch(options)
    loss = partial(DenseLoss, module, batch)
    return {
        COPY_SINGLE: loss(copied=True, single=True),
        COPY: loss(copied=True, single=False),
        OURS: loss(copied=False, single=False),
    }


def pair_batch(options: DenseOptions) -> PairBatch:
    """A random pair in which the first third of the frames is better in one video, the last in the other."""
    generator = torch.Generator().manual_seed(options.seed)
    shape = (1, 16, options.latent_frames, options.latent_height, options.latent_width)
    first, second, noise = (torch.randn(shape, generator=generator) for _ in range(3))
    segments = torch.arange(options.latent_frames)[None] * 3 // options.latent_frames
    # +1, 0, -1 from the first third to the last: the middle one is a tie.
    labels = 1 - segments
    return PairBatch(
        keys=["pair"],
        first=first,
        second=second,
        prompts=[{"embeds": torch.randn(options.prompt, options.width, generator=generator)}],
        noise=noise,
        t=torch.tensor([0.6]),
        labels=labels.to(torch.int8),
        segments=segments,
        preference=torch.ones(1, dtype=torch.int8),
        mask=torch.ones(1, dtype=torch.bool),
        denominators={"preference": float((labels != 0).sum())},
        epoch=0,
    )


class DenseLoss:
    """DenseDPO's loss with one of the references.

    Args:
        module: the method.
        batch: the pair.
        copied: the reference is a frozen copy of the whole transformer; else the policy with its adapters off.
        single: the two videos pass one after the other; else together.
    """

    def __init__(self, module: DenseDPO, batch: PairBatch, copied: bool, single: bool) -> None:
        self.module = module
        self.batch = batch
        self.copied = copied
        self.single = single
        self._copy: WanPolicy | None = None

    def __call__(self) -> Tensor:
        """The loss."""
        with torch.no_grad():
            self.batch.reference = self._reference()
        if not self.single:
            terms = self.module.terms(self.batch)
        else:
            # The step itself is measured, with the policy's two forwards in the place of its one.
            scores, self.module.scores = self.module.scores, self._one_by_one  # type: ignore[method-assign]
            try:
                terms = self.module.terms(self.batch)
            finally:
                self.module.scores = scores  # type: ignore[method-assign]
        return self.module.weighted(terms, self.batch)["preference"]

    def clear(self) -> None:
        """Drop the gradients."""
        self.module.zero_grad()

    def _reference(self) -> FlowErrors:
        """The reference's errors, by adapters off or by the frozen copy."""
        if not self.copied:
            with self.module.policy.reference_mode():
                return self.module.scores(self.batch)
        if self._copy is None:
            original: Any = self.module.policy
            # From the folder, not by deepcopy: the policy has adapters by now, which a reference has not.
            self._copy = WanPolicy(original.path)
            self._copy.load()
            self._copy.requires_grad_(False)
        return self._one_by_one(self.batch, self._copy) if self.single else self.module.scores(self.batch, self._copy)

    def _one_by_one(self, batch: PairBatch, policy: Any = None) -> FlowErrors:
        """The result of `FlowModule.scores`, in two forwards."""
        first, second = (
            self.module.errors(clean, batch.noise, batch.t, batch.prompts, policy)
            for clean in (batch.first, batch.second)
        )
        return FlowErrors(first, second)
