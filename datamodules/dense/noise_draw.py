"""Draw of time and noise for a video diffusion model, checks of latents against a policy, and blank samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.dense.facts import PROMPT, read_prompt
from datamodules.dense.inputs import CONDITION_TENSORS, Condition, Prompt
from datamodules.dense.latent_space import LatentSpace
from datamodules.dense.rows import LatentRow, PairRow, PromptShapes
from datamodules.dense.time_schedule import logit_normal_time, shift_time
from datamodules.shards.index import Index
from datamodules.shards.sample_reader import SampleReader
from datamodules.stream.draws import generator

#: How many faults an error lists.
_LISTED = 20


@dataclass(frozen=True, slots=True)
class FlowDraw:
    """Draw of a sample's time and noise: a function of seed, key and the plan's epoch, in whichever process.

    Time is logit-normal, as the paper draws it (mean and std are Stable Diffusion 3's, our choice), then shifted as
    `shift_time` does, and drawn again until it is between `lowest` and `highest`.

    Attributes:
        seed: the run's seed.
        mean: of the normal distribution in the sigmoid.
        std: its standard deviation.
        shift: above 1 moves times towards noise; 1 does nothing.
        lowest: no time is below this. A model that is one of several experts trains on its own times alone.
        highest: no time is above this.
    """

    seed: int
    mean: float = 0.0
    std: float = 1.0
    shift: float = 1.0
    lowest: float = 0.0
    highest: float = 1.0

    def __post_init__(self) -> None:
        if self.std <= 0 or self.shift <= 0:
            raise ValueError(f"data.logit_std is {self.std} and data.flow_shift {self.shift}; give positive numbers")
        if not 0 <= self.lowest < self.highest <= 1:
            raise ValueError(f"data.time_range is [{self.lowest}, {self.highest}]; give two rising times in [0, 1]")
        if self._share(self.highest) - self._share(self.lowest) < 0.01:
            raise ValueError(
                f"data.time_range [{self.lowest}, {self.highest}] has less than 1% of the draws with logit_mean "
                f"{self.mean}, logit_std {self.std} and flow_shift {self.shift}; widen it, or move the distribution"
            )

    def time(self, key: str, epoch: int) -> float:
        """The sample's time in [0, 1]."""
        # float64 and one draw at a time, so that a time does not depend on the batch that it is drawn in.
        random = generator(self.seed, key, "flow/time", epoch)
        # This ends: at least one draw in a hundred is in the range, see `__post_init__`.
        while True:
            normal = torch.tensor(random.standard_normal(), dtype=torch.float64)
            time = float(shift_time(logit_normal_time(normal, self.mean, self.std), self.shift))
            if self.lowest <= time <= self.highest:
                return time

    def share(self, key: str, epoch: int, purpose: str) -> float:
        """The sample's draw from 0 to 1 for another purpose than its time."""
        return float(generator(self.seed, key, f"flow/{purpose}", epoch).random())

    def noise(self, key: str, epoch: int, shape: Sequence[int]) -> Tensor:
        """Standard normal noise of that shape, float32.

        numpy's, because torch's differs between processors with and without vector instructions.
        """
        random = generator(self.seed, key, "flow/noise", epoch)
        return torch.from_numpy(random.standard_normal(tuple(shape), dtype=np.float32))

    def _share(self, time: float) -> float:
        """The share of draws below a time."""
        # There the inverse of the sigmoid is infinite.
        if time in (0.0, 1.0):
            return time
        # The inverse of `shift_time`, then of the sigmoid.
        unshifted = time / (self.shift - (self.shift - 1) * time)
        return NormalDist(self.mean, self.std).cdf(math.log(unshifted / (1 - unshifted)))


def policy_faults(index: Index, rows: Sequence[PairRow | LatentRow], draw: FlowDraw, policy: Any) -> list[str]:
    """Why a policy (a `VideoFlow`) cannot be trained on an index's rows at the times that are drawn."""
    return [
        *_time_faults(draw, policy.times),
        *_space_faults(index, rows, policy.latent_space),
        *_prompt_faults(index, rows, policy.prompt_shapes),
        *_condition_faults(index, rows, policy),
    ]


def _time_faults(draw: FlowDraw, made_for: tuple[float, float]) -> list[str]:
    low, high = made_for
    if low <= draw.lowest and draw.highest <= high:
        return []
    return [
        f"data.time_range is [{draw.lowest:g}, {draw.highest:g}], the policy is made for noise levels from {low:g} to "
        f"{high:g} alone; set it to [{low:g}, {high:g}], or train the checkpoint's other transformer"
    ]


def _prompt_faults(index: Index, rows: Sequence[PairRow | LatentRow], most: PromptShapes) -> list[str]:
    """Prompts of another family, or of more tokens than the policy takes."""
    faults = []
    for position, row in enumerate(rows):
        sample = f"{index.address(position)}: sample {row.key!r}"
        shapes = row.prompt_shapes or most
        if shapes.keys() != most.keys():
            faults.append(
                f"{sample}: a prompt of the streams {', '.join(shapes)}, the policy takes {', '.join(most)}; make the "
                "sample again with this policy, or train the one that it was made with"
            )
            continue
        faults += [
            f"{sample}: a prompt embedding of {shape}{'' if name == 'embeds' else f' ({name})'}, the policy takes at "
            f"most {most[name]}; raise model.policy.prompt_length, or make the sample again with this policy"
            for name, shape in shapes.items()
            if len(shape) != len(most[name]) or shape[-1] != most[name][-1] or shape[0] > most[name][0]
        ]
    return faults


def _condition_faults(index: Index, rows: Sequence[PairRow | LatentRow], policy: Any) -> list[str]:
    """The kinds of given images that the policy cannot take, or must have, each with the first sample."""
    first: dict[tuple[Any, ...], int] = {}
    for position, row in enumerate(rows):
        # Thousands of rows are of a few kinds, and the policy is asked once for each.
        first.setdefault((row.latent_shape, row.image_shape, row.image_states_shape), position)
    return [
        f"{index.address(position)}: sample {rows[position].key!r}: {why}"
        for shapes, position in first.items()
        if (why := policy.condition_fault(*shapes))
    ]


def _space_faults(index: Index, rows: Sequence[PairRow | LatentRow], expected: LatentSpace) -> list[str]:
    """The latent spaces among an index's rows that are not the policy's, each with the first sample that has it."""
    positions_of: dict[LatentSpace, list[int]] = {}
    for position, row in enumerate(rows):
        positions_of.setdefault(row.latent_space, []).append(position)
    lines = []
    for space, (first, *others) in positions_of.items():
        if faults := space.faults_against(expected):
            lines.append(
                f"{index.address(first)}: sample {rows[first].key!r} (and {len(others)} others): latents of another "
                f"autoencoder than the policy's: {'; '.join(faults)}; encode them again, or train the policy they were "
                "made for"
            )
    return lines


def shape_faults(index: Index, rows: Sequence[PairRow | LatentRow], batch_size: int) -> list[str]:
    """Why the rows cannot be put into batches of that size: latents of several shapes."""
    first: dict[tuple[int, ...], int] = {}
    for position, row in enumerate(rows):
        first.setdefault(row.latent_shape, position)
    if batch_size == 1 or len(first) == 1:
        return []
    named = "; ".join(
        f"{list(shape)} in sample {rows[position].key!r} ({index.address(position)})"
        for shape, position in first.items()
    )
    return [f"latents of {len(first)} shapes do not fit into one batch: {named}; set data.batch_size to 1, and "
            "trainer.accumulate_grad_batches to what it was, or train on the shapes one by one"]  # fmt: skip


def require_none(faults: Sequence[str]) -> None:
    """Raise a ValueError that lists the first of these faults and says how many there are; nothing where none is."""
    if faults:
        more = len(faults) - _LISTED
        raise ValueError("\n".join([*faults[:_LISTED], *([f"... and {more} more"] if more > 0 else [])]))


@dataclass(frozen=True, slots=True, eq=False)
class Blanks:
    """Blank samples in place of padding and of what could not be read: masked, but every rank makes its forward."""

    samples: SampleReader

    def latents(self, position: int) -> Tensor:
        """Zeros in the shape of the sample's latents."""
        return torch.zeros(*self.samples.index.entries[position].facts["latent_shape"])

    def prompts(self, prompts: Sequence[Prompt | None]) -> list[Prompt]:
        """The prompts of a batch, one token of zeros in each stream where there is none."""
        if None not in prompts:
            return [prompt for prompt in prompts if prompt is not None]
        # A prompt that was dropped has no streams.
        example = next((prompt for prompt in prompts if prompt), None) or self._any_prompt()
        blank = {name: stream.new_zeros(1, *stream.shape[1:]) if stream.ndim > 1 else torch.zeros_like(stream)
                 for name, stream in example.items()}  # fmt: skip
        return [blank if prompt is None else prompt for prompt in prompts]

    def condition(self, position: int) -> Condition:
        """The sample's own, as the index has it; what it holds of an image is zeros."""
        facts = self.samples.index.entries[position].facts
        shapes = {name: facts.get(f"{name}_shape") for name in CONDITION_TENSORS}
        zeros: dict[str, Any] = {name: torch.zeros(*shape) for name, shape in shapes.items() if shape is not None}
        return Condition(facts["fps"], **zeros)

    def _any_prompt(self) -> Prompt:
        """Any prompt that can be read: a batch of blanks alone is the only one that asks."""
        for position in range(len(self.samples.index)):
            with suppress(ValueError):
                return read_prompt(self.samples.read(position, [PROMPT])[PROMPT])
        raise ValueError(f"{self.samples.index.address(0)}: no sample has a prompt that can be read")
