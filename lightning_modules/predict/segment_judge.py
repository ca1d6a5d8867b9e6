"""`predict`: pairs of videos -> one label a segment, by a judge that is asked in both orders of showing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import distributed

from datamodules.dense.batches import PairVideoBatch
from datamodules.dense.pair_videos import PairVideos
from datamodules.dense.rows import LabelRow, PairRow
from datamodules.dense.segments import Granularity, Verdict, agreed_label
from datamodules.stream.predict_outputs import CONTENTS, WrittenSample, json_bytes
from lightning_modules.file_contents import contents_of
from lightning_modules.judges.base import Judge, JudgeQuestion, JudgeStoppedError
from lightning_modules.judges.recorded import ReplyLog
from lightning_modules.judges.replies import parse_verdict
from lightning_modules.predict.label_tally import LabelTally
from lightning_modules.predict.segment_questions import (
    INSTRUCTIONS,
    REMINDER,
    SegmentQuestions,
    frames_per_segment,
)
from lightning_modules.predict.unread_replies import UnreadReplies

#: How often the share of unread replies is printed while a run goes on.
#: What becomes of unread replies, and what to do where there are too many.
_UNREAD = (
    "ties would take their place",
    'Change the judge or model.instructions (they end with the form of an answer, {"verdict": "first"}), give the '
    "judge more tokens where replies are cut short, and label again into another folder",
)
#: The share of unreadable replies from which on a run warns.
_MANY_UNREAD = 0.1


class SegmentJudge(LightningModule):
    """Module that labels pairs by a judge, as samples of the schema vidpref/labels for `ShardWriter`.

    About each segment the judge is asked twice, with either video shown first; where the two verdicts name the same
    video that is the label, otherwise it is a tie. A reply without a verdict is asked for again, and then is a tie that
    is counted, in the row and in the summary at the end.

    Args:
        judge: who is asked.
        granularity: segments = one label a segment (dense); whole = one label a video (vanilla, structural).
        segment_seconds: length of a segment (paper: 1 s); in frames, rounded.
        frames_per_second: frames shown of each second (paper: 8).
        attempts: how often the same is asked until a reply can be read.
        frame_side: the longest side, in pixels, at which frames are shown; None = as stored.
        instructions: what the judge has to look for, and how to answer.
        replies: a JSONL file to which every reply is appended, for people and for `RecordedJudge`; None = none.
    """

    schema = "vidpref/labels"

    def __init__(
        self,
        judge: Judge,
        granularity: Granularity = "segments",
        segment_seconds: float = 1.0,
        frames_per_second: float = 8.0,
        attempts: int = 2,
        frame_side: int | None = None,
        instructions: str = INSTRUCTIONS,
        replies: str | None = None,
    ) -> None:
        super().__init__()
        if not (0 < segment_seconds < math.inf and 0 < frames_per_second < math.inf):
            raise ValueError(
                f"segment_seconds {segment_seconds} and frames_per_second {frames_per_second} must be numbers above 0"
            )
        if attempts < 1 or (frame_side is not None and frame_side < 1):
            raise ValueError(f"attempts {attempts} and frame_side {frame_side} must be at least 1")
        self.judge = judge
        self.asks = SegmentQuestions(granularity, segment_seconds, frames_per_second, frame_side, instructions)
        self.attempts = attempts
        self.replies = None if replies is None else ReplyLog(replies)
        self.tally = LabelTally()
        self.unread = UnreadReplies(*_UNREAD)

    @property
    def pairs(self) -> PairVideos:
        """The data module that shows the pairs.

        Raises:
            ValueError: it is another one.
        """
        source = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(source, PairVideos):
            raise ValueError(f"SegmentJudge is shown pairs by PairVideos, not by {type(source).__name__}")
        return source

    def made_from(self, trainer: Trainer) -> dict[str, Any]:
        """The pairs, the judge and the questions that the labels depend on."""
        return {
            "fingerprint": self.pairs.fingerprint,
            "judge": self.judge.name,
            "judge_settings": {**self.judge.settings(), CONTENTS: contents_of(self.judge)},
            "frames_per_segment": frames_per_segment(self.asks, self.pairs.rows()),
            "attempts": self.attempts,
            **self.asks.settings(),
        }

    # Lightning's hooks

    def setup(self, stage: str) -> None:
        """Refuse segments that do not fit the videos, and a log that takes no replies, before anything is asked.

        Raises:
            ValueError: the first pair that has none; or what is wrong with the log.
        """
        self.asks.work(self.pairs.rows())
        if self.replies is not None:
            self.replies.check()

    def on_predict_start(self) -> None:
        """Print what the labels will cost, and load the judge's weights where it has any."""
        self.tally, self.unread = LabelTally(), UnreadReplies(*_UNREAD)
        work = replace(self.asks.work(self.pairs.rows(skipped=False)), attempts=self.attempts)
        if self.trainer.is_global_zero and (estimate := self.judge.estimate(work)):
            print(estimate)
        self.judge.load(self.device)

    def predict_step(self, batch: PairVideoBatch, batch_idx: int) -> list[WrittenSample]:
        """The labels of each pair.

        Raises:
            JudgeStoppedError: the judge gives no reply, its limit is reached, or too many of its replies in a row
                cannot be read; says how to continue.
        """
        videos = zip(batch.rows, batch.first, batch.second, batch.mask.tolist(), strict=True)
        asked = [(row, self.asks.questions(row, first, second)) for row, first, second, present in videos if present]
        # All questions of the batch at once: an endpoint answers several at a time.
        all_verdicts = iter(self._verdicts([question for _, questions in asked for question in questions]))
        samples = []
        for row, questions in asked:
            verdicts = [next(all_verdicts) for _ in questions]
            labels = self._labels(row, verdicts)
            self.tally.add(labels, verdicts)
            samples.append(WrittenSample(row.key, {"json": json_bytes(labels.to_json())}))
        return samples

    def on_predict_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Print how many replies could not be read, now and then."""
        self.unread.print_now_and_then()

    def on_predict_end(self) -> None:
        """Print what the labels add up to over all ranks, and what the judge has spent."""
        tally = self.tally
        if distributed.is_initialized():
            counts_of_ranks: list[Any] = [None] * distributed.get_world_size()
            distributed.all_gather_object(counts_of_ranks, asdict(tally))
            tally = LabelTally()
            for counts in counts_of_ranks:
                tally = tally.merged(LabelTally(**counts))
        if self.trainer.is_global_zero:
            print(tally)
            if tally.unread > _MANY_UNREAD:
                rank_zero_warn(
                    f"{tally.unread:.0%} of the judge's replies could not be read, and ties take their place: these "
                    "labels say little of the videos. Look at the replies (model.replies writes them to a file), then "
                    "change judge or instructions and label again"
                )
            if summary := self.judge.summary():
                print(summary)

    # Parts

    def _verdicts(self, questions: Sequence[JudgeQuestion]) -> list[Verdict | None]:
        """A verdict for each question; None where no attempt brought one."""
        verdicts: list[Verdict | None] = []
        while len(verdicts) < len(questions):
            portion = self.unread.portion(self.attempts)
            end = None if portion is None else len(verdicts) + portion
            verdicts += self._verdicts_at_once(questions[len(verdicts) : end])
        return verdicts

    def _verdicts_at_once(self, questions: Sequence[JudgeQuestion]) -> list[Verdict | None]:
        """The verdicts of questions that are asked together; those without a readable reply are asked again."""
        verdicts: list[Verdict | None] = [None] * len(questions)
        for attempt in range(self.attempts):
            waiting = [index for index, verdict in enumerate(verdicts) if verdict is None]
            if not waiting:
                break
            asked = [questions[index] for index in waiting]
            if attempt:
                asked = [replace(question, text=question.text + REMINDER, attempt=attempt) for question in asked]
            try:
                replies = self.judge.ask(asked)
                # Logged before they are counted: the count may end the run, and these replies show why.
                if self.replies is not None:
                    self.replies.write(asked, replies)
                for index, reply in zip(waiting, replies, strict=True):
                    verdicts[index] = parse_verdict(reply)
                self.unread.add(asked, replies, [verdicts[index] is None for index in waiting])
            except JudgeStoppedError as error:
                kept = f"The labels of the {self.tally.pairs} pairs that were judged in this run are kept"
                raise JudgeStoppedError(f"{error}. {kept}") from error
        return verdicts

    def _labels(self, row: PairRow, verdicts: Sequence[Verdict | None]) -> LabelRow:
        """The row of a pair from its verdicts, two a segment."""
        # An unread reply counts as a tie, and is counted as such in the row.
        counted = [verdict or "tie" for verdict in verdicts]
        verdict_pairs = tuple(zip(counted[::2], counted[1::2], strict=True))
        labels = tuple(agreed_label(verdict, swapped) for verdict, swapped in verdict_pairs)
        return LabelRow(
            key=row.key,
            labels=labels,
            frames_per_segment=self.asks.frames_per_segment(row),
            verdicts=verdict_pairs,
            judge=self.judge.name,
            unparsed=sum(verdict is None for verdict in verdicts),
            whole=labels[0] if self.asks.granularity == "whole" else None,
        )
