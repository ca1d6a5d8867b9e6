"""The check of training data for videos of a benchmark by which the run will be judged."""

from __future__ import annotations

import warnings

from lightning.fabric.utilities.distributed import _InfiniteBarrier
from lightning.pytorch import Callback, LightningModule, Trainer

from datamodules.questions.overlap import Shared, shared_by_frames, shared_by_id
from datamodules.questions.video_names import benchmark_names


class BenchmarkOverlap(Callback):
    """Callback that warns, before the first step, of training videos that a benchmark has too.

    The warning has their number and the first few. Rank 0 compares, the others wait, however long it takes.

    Args:
        questions: the benchmark's annotations, published files or folders of them; compares names, from the indexes
            alone.
        videos: the benchmark's folder of videos; compares frames, which decodes both sides once.
        mapping: MSVD's `youtube_mapping.txt`, where the training videos are called by their clips' names and not vidN.

    Raises:
        ValueError: neither is given, or a mapping without questions.
    """

    def __init__(
        self, questions: str | list[str] | None = None, videos: str | None = None, mapping: str | None = None
    ) -> None:
        if questions is None and videos is None:
            raise ValueError("BenchmarkOverlap: give questions (compares names), videos (compares frames), or both")
        if mapping is not None and questions is None:
            raise ValueError("BenchmarkOverlap: mapping belongs to questions, MSVD-QA's annotations; give them too")
        self.questions = [questions] if isinstance(questions, str) else questions
        self.videos = videos
        self.mapping = mapping

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare, and warn if anything is shared.

        Raises:
            ValueError: a file that cannot be read; on every rank, so that none waits for one that is gone.
        """
        paths = trainer.datamodule.paths["train"]  # type: ignore[attr-defined]
        indexes = [paths] if isinstance(paths, str) else list(paths)
        shared, fault = list[Shared](), ""
        # Decoding may last longer than a collective waits; Lightning's own barrier of `prepare_data` does not give up.
        with _InfiniteBarrier():
            if trainer.is_global_zero:
                try:
                    if self.questions is not None:
                        shared += shared_by_id(indexes, benchmark_names(self.questions, self.mapping))
                    if self.videos is not None:
                        shared += shared_by_frames(indexes, self.videos)
                except (OSError, ValueError) as error:
                    fault = str(error)
        fault = trainer.strategy.broadcast(fault)
        if fault:
            raise ValueError(fault)
        if shared:
            first = ", ".join(f"{video.train} ({video.benchmark}, by {video.by})" for video in shared[:5])
            warnings.warn(
                f"{len(shared)} training samples show a video of the benchmark, so its score will not measure what was "
                f"learned from other videos: {first}{' ...' if len(shared) > 5 else ''}. `vidpref prepare overlap` "
                "lists them all",
                stacklevel=2,
            )
