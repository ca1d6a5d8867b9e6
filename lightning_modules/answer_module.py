"""Base of the methods on a video-language model: which answers are scored, and how a batch becomes scores."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from datamodules.vista.batches import VistaBatch
from datamodules.vista.samples import AnswerName, AnswerScores, Needs, ViewName
from lightning_modules.policies.video_llm import EncodedViews, VideoLLM
from lightning_modules.preference import PreferenceModule


class AnswerModule(PreferenceModule):
    """Base module of the methods whose terms are made of log-probabilities of answers under views.

    A subclass says which answers it scores under which view (`needs`); the data module makes those and no others.
    """

    policy: VideoLLM
    #: Whether its terms compare with a reference.
    has_reference: ClassVar[bool] = True

    def configure_model(self) -> None:
        """Refuse texts that the policy cannot take, then load the weights; workers start and steps are made later.

        Raises:
            ValueError: lists the samples of all data sets that this verb reads.
        """
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if hasattr(data, "text_faults") and hasattr(self.policy, "text_faults"):
            splits = [split for split in data.splits(self.trainer.state.fn) if data.paths[split] is not None]
            faults = [fault for split in splits for fault in data.text_faults(split, self.policy.text_faults)]
            if faults:
                raise ValueError("\n".join(faults))
        super().configure_model()

    @abstractmethod
    def needs(self) -> Needs:
        """Which answers are scored under which view, given the terms in use."""

    def kept_hidden(self) -> tuple[tuple[ViewName, AnswerName], ...]:
        """The (view, answer) pairs whose hidden states a term asks for."""
        return ()

    def scores(self, batch: VistaBatch, policy: VideoLLM | None = None) -> AnswerScores:
        """The scores of all answers of a batch, alike for policy and reference; the video is encoded once.

        Args:
            batch: the batch; its `encoded` is filled at the first call.
            policy: a frozen copy to score with; None = the module's own policy, as it is switched now.

        Raises:
            ValueError: as `encoded`.
        """
        # Called as a module, not by a method: a sharded network gathers its weights in its forward's hooks.
        scores: AnswerScores = (policy or self.policy)(self.encoded(batch))  # type: ignore[operator]
        return scores

    def reference_scores(self, batch: VistaBatch, policy: VideoLLM | None = None) -> AnswerScores:
        """The scores of what the reference is shown: the same answers in the same rows, some perhaps of other frames.

        Args:
            batch: as `scores`.
            policy: as `scores`; the module's own must be in its reference mode.
        """
        return self.scores(batch.for_reference(), policy)

    def encoded(self, batch: VistaBatch) -> EncodedViews:
        """The policy's encoding of a batch's views, made at the first call.

        Raises:
            ValueError: a sample that the policy cannot take, with the keys of the batch's samples.
        """
        if batch.encoded is None:
            try:
                batch.encoded = self.policy.encode(batch.views, self.kept_hidden())
            except ValueError as error:  # it names positions in the batch, not keys
                keys = ", ".join(f"sample {position} is {key!r}" for position, key in enumerate(batch.keys))
                raise ValueError(f"{error} ({keys})") from error
        return batch.encoded

    def predict_step(self, batch: VistaBatch, batch_idx: int) -> AnswerScores:
        """The reference's scores, which a callback writes into side shards."""
        with self.policy.reference_mode():
            return self.reference_scores(batch)
