"""Warns when the training data holds videos of a benchmark that the run will be judged by."""

from __future__ import annotations

import warnings

from lightning.fabric.utilities.distributed import _InfiniteBarrier
from lightning.pytorch import Callback, LightningModule, Trainer

from datamodules.questions.overlap import Shared, shared_by_frames, shared_by_id
from datamodules.questions.video_names import benchmark_names


class BenchmarkOverlap(Callback):
    """Compares the training shards with a benchmark before the first step, and warns with the number and the first few.

    Rank 0 compares, the others wait, however long it takes.

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
        given = trainer.datamodule.paths["train"]  # type: ignore[attr-defined]
        found, fault = list[Shared](), ""
        # Decoding may last longer than a collective waits; Lightning's own barrier of `prepare_data` does not give up.
        with _InfiniteBarrier():
            if trainer.is_global_zero:
                try:
                    found = self._shared([given] if isinstance(given, str) else list(given))
                except (OSError, ValueError) as error:
                    fault = str(error)
        fault = trainer.strategy.broadcast(fault)
        if fault:
            raise ValueError(fault)
        if found:
            first = ", ".join(f"{one.train} ({one.benchmark}, by {one.by})" for one in found[:5])
            warnings.warn(
                f"{len(found)} training samples show a video of the benchmark, so its score will not measure what was "
                f"learned from other videos: {first}{' ...' if len(found) > 5 else ''}. `vidpref prepare overlap` "
                "lists them all",
                stacklevel=2,
            )

    def _shared(self, indexes: list[str]) -> list[Shared]:
        found: list[Shared] = []
        if self.questions is not None:
            found += shared_by_id(indexes, benchmark_names(self.questions, self.mapping))
        if self.videos is not None:
            found += shared_by_frames(indexes, self.videos)
        return found
