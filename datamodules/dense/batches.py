"""The batches of a video diffusion model, every field with its shape.

Latents are (C, F, H, W) float32, normalised as the transformer sees them: (z - mean) / std per channel. Frames are
uint8 (T, 3, H, W). The convention of time and noise is that of `lightning_modules.losses.flow`: t = 1 is noise. Labels
are +1 where the pair's first video is better, -1 where its second one is, 0 for a tie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Self

from torch import Tensor

from datamodules.dense.inputs import Condition, Prompt
from datamodules.dense.rows import PairRow, VideoRow

#: What a loss term's denominator counts: latent frames without a tie, videos whose whole label is no tie, pairs with at
#: least one such frame, or all samples.
ItemKind = Literal["decided_frames", "decided_videos", "decided_pairs", "samples"]


@dataclass(slots=True)
class FlowErrors:
    """The error of each latent frame of both videos, under policy or reference.

    Attributes:
        first: (B, F) float32, `frame_errors` on the pairs' first videos.
        second: (B, F) float32, on their second videos.
    """

    first: Tensor
    second: Tensor


def _items(counted: Mapping[ItemKind, Tensor]) -> tuple[dict[ItemKind, Tensor], dict[ItemKind, list[int]]]:
    """Of every kind, which items there are in the flattened values, and the sample of each.

    Args:
        counted: (B,) or (B, F) bool, True for an item.
    """
    positions = {kind: each.flatten().nonzero()[:, 0] for kind, each in counted.items()}
    return positions, {kind: each.nonzero()[:, 0].tolist() for kind, each in counted.items()}


class _Pinned:
    """Page-locked tensors, for asynchronous copies to a GPU (DataLoader calls this; it ignores dataclasses)."""

    # Without it the batches, whose classes have slots, would still carry a `__dict__`.
    __slots__ = ()

    def pin_memory(self) -> Self:
        """The batch itself, its tensors page-locked."""
        for attribute in fields(self):  # type: ignore[arg-type]
            setattr(self, attribute.name, _page_locked(getattr(self, attribute.name)))
        return self


def _page_locked(value: Any) -> Any:
    if isinstance(value, Tensor | Condition):
        return value.pin_memory()
    if isinstance(value, list):
        return [_page_locked(item) for item in value]
    return {name: _page_locked(item) for name, item in value.items()} if isinstance(value, dict) else value


@dataclass(slots=True)
class PairBatch(_Pinned):
    """A batch of labelled pairs, with everything a step needs.

    Attributes:
        keys: the B pairs' keys.
        first: (B, C, F, H, W) float32, latents of the pairs' first videos.
        second: (B, C, F, H, W) float32, of their second videos.
        prompts: B prompts, each by stream.
        noise: (B, C, F, H, W) float32, standard normal, one for both videos of a pair.
        t: (B,) float32 times in [0, 1], one for both videos of a pair.
        labels: (B, F) int8, the label of each latent frame's segment; 0 where `mask` is False, and for a frame that is
            given to the model.
        segments: (B, F) int64, the segment of each latent frame; -1 for a frame that is given.
        preference: (B,) int8, the label of the whole video; 0 where `mask` is False.
        mask: (B,) bool; False marks padding and skipped samples, which have no loss. Padding is in no denominator, a
            sample that is skipped when it is read stays in the step's.
        denominators: per term the number of its items in the whole optimizer step, divided by ranks and by
            accumulated micro-batches, so that Lightning's averaging over both gives the global mean.
        epoch: the plan's epoch of the batch's first sample (never the trainer's: that is wrong after some resumes).
        reference: the reference's errors, put here by the `ReferenceModel` callback.
        conditions: B conditions, the same for both videos of a pair; empty = of none anything is known.
        items: for each kind of items (n,) int64, their positions in the flattened (B,) or (B, F) values of a term.
        item_samples: for each kind the n positions in the batch of the items' samples.

    The items are worked out when the batch is made: on the CPU, where counting them waits for no device. So whoever
    changes labels makes another batch (`dataclasses.replace`).
    """

    keys: list[str]
    first: Tensor
    second: Tensor
    prompts: list[Prompt]
    noise: Tensor
    t: Tensor
    labels: Tensor
    segments: Tensor
    preference: Tensor
    mask: Tensor
    denominators: dict[str, float] = field(default_factory=dict)
    epoch: int = 0
    reference: FlowErrors | None = None
    conditions: list[Condition] = field(default_factory=list)
    # An argument only so that Lightning moves it with the rest.
    items: dict[ItemKind, Tensor] = field(default_factory=dict, repr=False, compare=False)
    item_samples: dict[ItemKind, list[int]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        frames_BF = self.labels.reshape(len(self.keys), -1) != 0  # noqa: N806
        videos_B = self.preference != 0  # noqa: N806
        self.items, self.item_samples = _items(
            {"decided_frames": frames_BF, "decided_videos": videos_B, "decided_pairs": frames_BF.any(-1)}
        )


@dataclass(slots=True)
class LatentBatch(_Pinned):
    """A batch of encoded real videos, for supervised fine-tuning.

    Attributes:
        keys: the B videos' keys.
        clean: (B, C, F, H, W) float32 latents.
        prompts: B prompts, each by stream; an empty mapping stands for the empty prompt.
        noise: (B, C, F, H, W) float32, standard normal.
        t: (B,) float32 times in [0, 1].
        mask: as in `PairBatch`.
        denominators: as in `PairBatch`.
        epoch: as in `PairBatch`.
        conditions: as in `PairBatch`.
        items: as in `PairBatch`; the kind is "samples".
        item_samples: as in `PairBatch`.
    """

    keys: list[str]
    clean: Tensor
    prompts: list[Prompt]
    noise: Tensor
    t: Tensor
    mask: Tensor
    denominators: dict[str, float] = field(default_factory=dict)
    epoch: int = 0
    conditions: list[Condition] = field(default_factory=list)
    items: dict[ItemKind, Tensor] = field(default_factory=dict, repr=False, compare=False)
    item_samples: dict[ItemKind, list[int]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.items, self.item_samples = _items({"samples": self.mask})


@dataclass(slots=True)
class VideoBatch:
    """Real videos to encode, or to make pairs of.

    Attributes:
        keys: the B videos' keys.
        rows: their rows.
        frames: B tensors (T, 3, H, W) uint8.
        mask: (B,) bool; False marks padding and skipped samples.
    """

    keys: list[str]
    rows: list[VideoRow]
    frames: list[Tensor]
    mask: Tensor

    # Without it Lightning would walk through the fields to move them, and it refuses the frozen rows.
    def to(self, device: Any) -> VideoBatch:
        """The batch with its tensors on a device."""
        return replace(self, frames=_moved(self.frames, device), mask=self.mask.to(device))


@dataclass(slots=True)
class PairVideoBatch:
    """Pairs of videos to judge.

    Attributes:
        keys: the B pairs' keys.
        rows: their rows.
        first: B tensors (T, 3, H, W) uint8, the pairs' first videos.
        second: likewise, their second videos.
        mask: (B,) bool; False marks padding and skipped samples.
    """

    keys: list[str]
    rows: list[PairRow]
    first: list[Tensor]
    second: list[Tensor]
    mask: Tensor

    def to(self, device: Any) -> PairVideoBatch:
        """The batch with its tensors on a device; see `VideoBatch`."""
        first, second = (_moved(frames, device) for frames in (self.first, self.second))
        return replace(self, first=first, second=second, mask=self.mask.to(device))


def _moved(frames: Sequence[Tensor], device: Any) -> list[Tensor]:
    return [video.to(device) for video in frames]
