"""Warns when the training data holds videos of a benchmark that the run will be judged by."""

from __future__ import annotations

import warnings

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from datamodules.overlap import Shared, benchmark_names, shared_by_frames, shared_by_id


class BenchmarkOverlap(Callback):
    """Compares the training shards with a benchmark before the first step, and warns with the number and the first few.

    Args:
        questions: the benchmark's annotations, JSON files or folders of them; compares names, from the indexes alone.
        videos: the benchmark's folder of videos; compares frames, which decodes both sides once.

    Raises:
        ValueError: neither is given.
    """

    def __init__(self, questions: str | list[str] | None = None, videos: str | None = None) -> None:
        if questions is None and videos is None:
            raise ValueError("BenchmarkOverlap: give questions (compares names), videos (compares frames), or both")
        self.questions = [questions] if isinstance(questions, str) else questions
        self.videos = videos

    @rank_zero_only
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare, and warn if anything is shared."""
        given = trainer.datamodule.paths["train"]  # type: ignore[attr-defined]
        indexes = [given] if isinstance(given, str) else list(given)
        found: list[Shared] = []
        if self.questions is not None:
            found += shared_by_id(indexes, benchmark_names(self.questions))
        if self.videos is not None:
            found += shared_by_frames(indexes, self.videos)
        if found:
            first = ", ".join(f"{one.train} ({one.benchmark}, by {one.by})" for one in found[:5])
            warnings.warn(
                f"{len(found)} training samples show a video of the benchmark, so its score will not measure what was "
                f"learned from other videos: {first}{' ...' if len(found) > 5 else ''}. `vidpref prepare overlap` "
                "lists them all",
                stacklevel=2,
            )
