"""A source of named samples and a module that makes one of each, for the writers of predicted samples."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor

from callbacks.cli.progress import Progress
from datamodules.dense.batches import VideoBatch
from datamodules.dense.rows import VideoRow
from datamodules.stream.predict_outputs import VideoRequest, WrittenSample, WrittenVideo, tensor_bytes
from datamodules.video.facts import VideoFacts
from tests.support.quiet_trainer import quiet_trainer

MEMBER = "reference.safetensors"


class Batches:
    """This rank's share of the items, as many batches on every rank; no DataLoader, which Lightning would split."""

    def __init__(self, items: Sequence[Any], batch_size: int, rank: int, world: int) -> None:
        batches = [list(items[start : start + batch_size]) for start in range(0, len(items), batch_size)]
        self.batches = (batches + [[]] * (-len(batches) % world))[rank::world]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Any:
        return iter(self.batches)


class Source(LightningDataModule):
    """Samples by key, `batch_size` at a time; what is skipped is not read."""

    fingerprint = "source"

    def __init__(self, keys: Sequence[str], batch_size: int = 2) -> None:
        super().__init__()
        self.keys, self.batch_size = list(keys), batch_size
        self.skipped: set[str] = set()

    def skip(self, keys: Collection[str]) -> None:
        self.skipped = set(keys)

    def items(self) -> list[Any]:
        return [key for key in self.keys if key not in self.skipped]

    def predict_dataloader(self) -> Any:
        share = (self.trainer.distributed_sampler_kwargs if self.trainer else None) or {"num_replicas": 1, "rank": 0}
        return Batches(self.items(), self.batch_size, share["rank"], share["num_replicas"])


class Maker(LightningModule):
    """Makes a tensor that only the key decides; stops when asked for a key of `fails_at`."""

    schema = "vidpref/side"

    def __init__(self, seed: int = 0, fails_at: str | None = None) -> None:
        super().__init__()
        self.seed, self.fails_at = seed, fails_at
        self.made: list[str] = []

    def made_from(self, trainer: Trainer) -> dict[str, Any]:
        return {"fingerprint": trainer.datamodule.fingerprint, "seed": self.seed, "sizes": (1, 2)}  # type: ignore[attr-defined]

    def sample(self, key: str) -> Any:
        return WrittenSample(key, {MEMBER: tensor_bytes({"value": torch.tensor([len(key), self.seed])})})

    def predict_step(self, batch: list[str], batch_idx: int) -> list[Any]:
        if self.fails_at in batch:
            raise KeyboardInterrupt
        self.made += batch
        return [self.sample(key) for key in batch]


class Requests(Source):
    """Requests for videos instead of samples."""

    def __init__(self, requests: Sequence[VideoRequest], batch_size: int = 2) -> None:
        super().__init__([request.key for request in requests], batch_size)
        self.requests = list(requests)


class VideoMaker(Maker):
    """A video is its key in bytes."""

    def sample(self, key: str) -> Any:
        return WrittenVideo(key, key.encode())


class MemoryVideos(Source):
    """Real videos in memory, the last slot of a batch masked if asked for."""

    def __init__(self, videos: dict[str, Tensor], batch_size: int = 2, fps: float = 8.0) -> None:
        super().__init__(list(videos), batch_size)
        self.videos, self.fps = videos, fps

    def row(self, key: str) -> VideoRow:
        length, _, height, width = self.videos[key].shape
        facts = VideoFacts(length, self.fps, width, height)
        return VideoRow(key, f"video-{key}", f"a pattern called {key}", facts, source="made up")

    def batch(self, keys: list[str], masked: Collection[str] = ()) -> VideoBatch:
        rows, frames = [self.row(key) for key in keys], [self.videos[key] for key in keys]
        return VideoBatch(keys, rows, frames, torch.tensor([key not in masked for key in keys], dtype=torch.bool))

    def predict_dataloader(self) -> Any:
        loader = super().predict_dataloader()
        loader.batches = [self.batch(keys) for keys in loader.batches]
        return loader


def trainer_with(callbacks: list[Callback], **settings: Any) -> Trainer:
    return quiet_trainer(
        callbacks=callbacks,
        devices=1,
        enable_progress_bar=any(isinstance(callback, Progress) for callback in callbacks),
        inference_mode=False,
        use_distributed_sampler=False,
        **settings,
    )


def predict(writer: Callback, module: LightningModule, data: LightningDataModule, **settings: Any) -> None:
    """A run to its end, or to where `Maker.fails_at` stops it; Lightning ends the process on an interrupt."""
    with contextlib.suppress(SystemExit):
        trainer_with([writer], **settings).predict(module, data)
