"""Batches of rendered toy videos, as many as a fit asks for: the data of the toy autoencoder."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from datamodules.toy_world.motion_world import draw_motion_scene, render_motion


@dataclass(frozen=True, slots=True)
class Stage:
    """Stage of training.

    Attributes:
        batches: how many batches; the last stage goes on for as long as it is asked.
        batch_size: videos in a batch.
        num_frames: frames of each, a multiple of 4 plus 1.
    """

    batches: int
    batch_size: int
    num_frames: int

    def __post_init__(self) -> None:
        if self.num_frames % 4 != 1:
            raise ValueError(
                f"num_frames is {self.num_frames}; the autoencoder drops what is over a multiple of 4, plus 1"
            )


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """Plan of the videos in each batch: a pure function of the batch's index."""

    stages: tuple[Stage, ...]
    seed: int

    def stage(self, index: int) -> Stage:
        """The stage that a batch belongs to."""
        for stage in self.stages:
            if index < stage.batches:
                return stage
            index -= stage.batches
        return self.stages[-1]

    def batch(self, index: int) -> Tensor:
        """(B, 3, T, H, W) uint8."""
        # A seed for each batch, so that a resumed fit draws what it would have drawn.
        stage, rng = self.stage(index), random.Random(f"clips/{self.seed}/{index}")
        scenes = [draw_motion_scene(rng, num_frames=stage.num_frames) for _ in range(stage.batch_size)]
        clips = [render_motion(scene) for scene in scenes]
        return torch.stack([torch.from_numpy(clip).permute(3, 0, 1, 2) for clip in clips])


class _Endless(IterableDataset[Tensor]):
    def __init__(self, plan: ClipPlan, start: int) -> None:
        self.plan, self.start = plan, start

    def __iter__(self) -> Iterator[Tensor]:
        for index in count(self.start):
            yield self.plan.batch(index)


class MotionClips(LightningDataModule):
    """Toy videos rendered on the spot, in stages; a resumed fit goes on with the videos that it would have seen.

    Single frames come first, as with Wan's own autoencoder: they cost little and teach what shapes look like. Whole
    videos come last: later frames than an autoencoder was trained on may come out wrong.

    Args:
        stages: of training, in order.
        seed: other seeds give other videos.
    """

    def __init__(self, stages: list[Stage], seed: int = 0) -> None:
        super().__init__()
        if not stages:
            raise ValueError("stages is empty; give one at least")
        self.plan = ClipPlan(tuple(stages), seed)

    def train_dataloader(self) -> DataLoader[Tensor]:
        """Batches (B, 3, T, H, W) uint8 from the trainer's step on."""
        start = self.trainer.global_step if self.trainer else 0
        # One process: a worker more would render the same batches again.
        return DataLoader(_Endless(self.plan, start), batch_size=None)
