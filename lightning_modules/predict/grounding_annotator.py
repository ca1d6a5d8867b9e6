"""`predict`: videos, questions and right answers -> boxes, event spans and wrong answers, each with its confidence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer

from datamodules.annotation.answered_videos import OBJECT, AnsweredBatch, AnsweredVideo, AnsweredVideos
from datamodules.annotation.phrases import object_phrases
from datamodules.stream.predict_outputs import CONTENTS, WrittenRow
from lightning_modules.annotators.base import (
    Annotator,
    AnswerRequest,
    FrameScorer,
    ObjectDetector,
    WrongAnswer,
    WrongAnswers,
)
from lightning_modules.annotators.spans import event_span
from lightning_modules.file_contents import contents_of
from lightning_modules.predict.proposal import Proposal

#: An answer of fewer words describes no event; the question is compared with the frames then.
_LEAST_WORDS = 3
_YES_NO = re.compile(r"\A\s*(?:yes|no)\b[\s,.:;-]*", re.IGNORECASE)


class GroundingAnnotator(LightningModule):
    """Module that proposes annotation for rows of (video, question, chosen answer), for `JsonlWriter`.

    What a row has already is kept and not proposed. What is proposed is kept where its confidence reaches its
    threshold; confidences are in the row's `facts`. A row that ends without a wrong answer is left out, since no row of
    the documented JSONL is without one.

    *Event*: the contiguous span of frames that fit the chosen answer (the question, where the answer has fewer than
    three words) better than the others; its confidence is the share of the scores' variance that this span explains.
    *Boxes*: in frames of the event, the best box of the first object that the question names and the detector finds;
    where the question names none that is there, of one that the chosen answer names. *Wrong answer*: by rule or by a
    judge. The confidence of a rule's is the probability, by the scorer's logits on the event, of the chosen answer
    against the wrong one: 0.5 where the scorer sees no difference; without a scorer there is none, and it is kept.

    On the published checkpoints nothing of this has been measured; docs/data.md has figures for the toy world.

    Args:
        detector: who finds objects; null = propose no boxes.
        scorer: who compares frames with texts; null = propose no events.
        wrong_answers: who makes up wrong answers; null = rows without one are left out.
        box_threshold: the least confidence of a box, 0 to 1; detectors differ in what theirs mean.
        event_threshold: the least confidence of an event, 0 to 1.
        rejected_threshold: the least confidence of a wrong answer, 0 to 1.
        box_frames: frames in which the object is looked for, at most.

    Raises:
        ValueError: nothing to propose, something of another class, or a threshold outside 0 to 1.
    """

    def __init__(
        self,
        detector: ObjectDetector | None = None,
        scorer: FrameScorer | None = None,
        wrong_answers: WrongAnswers | None = None,
        box_threshold: float = 0.3,
        event_threshold: float = 0.5,
        rejected_threshold: float = 0.3,
        box_frames: int = 8,
    ) -> None:
        super().__init__()
        given = {
            "detector": (detector, ObjectDetector),
            "scorer": (scorer, FrameScorer),
            "wrong_answers": (wrong_answers, WrongAnswers),
        }
        for name, (annotator, kind) in given.items():
            if annotator is not None and not isinstance(annotator, kind):
                raise ValueError(f"model.{name} is a {type(annotator).__name__}; give a {kind.__name__}, or null")
        self.annotators: dict[str, Annotator] = {
            name: annotator for name, (annotator, _) in given.items() if isinstance(annotator, Annotator)
        }
        if not self.annotators:
            raise ValueError("there is nothing to propose: give model.detector, model.scorer or model.wrong_answers")
        self.thresholds = {"boxes": box_threshold, "event": event_threshold, "rejected": rejected_threshold}
        if wrong := {name: value for name, value in self.thresholds.items() if not 0 <= value <= 1}:
            raise ValueError(f"thresholds are confidences from 0 to 1, not {wrong}")
        if box_frames < 1:
            raise ValueError(f"model.box_frames is {box_frames}; give at least 1")
        self.detector = detector
        self.scorer = scorer
        self.wrong_answers = wrong_answers
        self.box_frames = box_frames

    @property
    def rows(self) -> AnsweredVideos:
        """The data module of the rows.

        Raises:
            ValueError: it is another one.
        """
        source = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(source, AnsweredVideos):
            raise ValueError(f"GroundingAnnotator is shown rows by AnsweredVideos, not by {type(source).__name__}")
        return source

    def made_from(self, trainer: Trainer) -> dict[str, Any]:
        """The rows, who proposes, and what is kept."""
        described = {
            name: {
                "class": type(annotator).__name__,
                "name": annotator.name,
                **annotator.settings(),
                CONTENTS: contents_of(annotator),
            }
            for name, annotator in self.annotators.items()
        }
        settings = {"thresholds": self.thresholds, "box_frames": self.box_frames}
        return {"fingerprint": self.rows.fingerprint, **described, **settings}

    # Lightning's hooks

    def setup(self, stage: str) -> None:
        """Refuse what can be seen to be wrong before weights are loaded."""
        for annotator in self.annotators.values():
            annotator.check()

    def on_predict_start(self) -> None:
        """Load the weights; makers of wrong answers see all rows first."""
        for annotator in self.annotators.values():
            annotator.load(self.device)
        if self.wrong_answers is not None:
            self.wrong_answers.learn(
                [
                    AnswerRequest(row.key, str(row.path), row.content["question"], row.content["chosen"])
                    for row in self.rows.rows
                ]
            )

    def predict_step(self, batch: AnsweredBatch, batch_idx: int) -> list[WrittenRow]:
        """The rows of a batch, with what is proposed for them."""
        proposals = [Proposal(video.row.content, self.thresholds) for video in batch.videos]
        for video, proposal in zip(batch.videos, proposals, strict=True):
            self._propose_event(video, proposal)
            self._propose_boxes(video, proposal)
        self._propose_rejected(batch.videos, proposals)
        return [proposal.written(video.row.key) for video, proposal in zip(batch.videos, proposals, strict=True)]

    def on_predict_end(self) -> None:
        """Print what was cut or spent; what was kept is counted by the writer, over all ranks and starts."""
        for annotator in self.annotators.values():
            if summary := annotator.summary():
                print(summary)

    # Parts

    def _propose_event(self, video: AnsweredVideo, proposal: Proposal) -> None:
        if self.scorer is None or proposal.has("event"):
            return
        if len(video.frames) < 2:
            proposal.decide("event", "one frame")
            return
        scores = self.scorer.score(video.frames, [_described(video)])[:, 0]
        first, last, confidence = event_span(scores)
        # Between two frames that were looked at, the border is half way; beside every frame it is exact.
        fps, indices = video.video.fps, video.indices
        start = (indices[first - 1] + 1 + indices[first]) / 2 / fps if first else 0.0
        end = (indices[last] + 1 + indices[last + 1]) / 2 / fps if last + 1 < len(indices) else video.video.duration
        proposal.keep("event", [round(start, 3), round(end, 3)], confidence)

    def _propose_boxes(self, video: AnsweredVideo, proposal: Proposal) -> None:
        if self.detector is None or proposal.has("boxes"):
            return
        content = video.row.content
        phrases = [content[OBJECT]] if OBJECT in content else _phrases(content)
        if not phrases:
            proposal.decide("boxes", "no object named")
            return
        places = _event_places(video, proposal.event)
        chosen = torch.linspace(0, len(places) - 1, min(self.box_frames, len(places))).long().tolist()
        places = [places[place] for place in chosen]
        for phrase in phrases:
            detections = self.detector.detect(video.frames[places], phrase)
            if proposal.keep_boxes(phrase, [(video.time(p), box) for p, box in zip(places, detections, strict=True)]):
                return

    def _propose_rejected(self, videos: Sequence[AnsweredVideo], proposals: Sequence[Proposal]) -> None:
        asked = [pair for pair in zip(videos, proposals, strict=True) if not pair[1].has("rejected")]
        if self.wrong_answers is None:
            for _, proposal in asked:
                proposal.decide("rejected", "not asked for")
            return
        requests = [self._request(video, proposal) for video, proposal in asked]
        answers = self.wrong_answers.propose(requests) if requests else []
        for (video, proposal), answer in zip(asked, answers, strict=True):
            if answer is None:
                proposal.decide("rejected", self.wrong_answers.without)
            else:
                confidence = self._confidence(video, proposal, answer)
                proposal.keep("rejected", answer.text, confidence, answer.kind)

    def _request(self, video: AnsweredVideo, proposal: Proposal) -> AnswerRequest:
        row, sees = video.row, self.wrong_answers is not None and self.wrong_answers.sees
        frames = video.frames[_event_places(video, proposal.event)] if sees else None
        return AnswerRequest(row.key, str(row.path), row.content["question"], row.content["chosen"], frames)

    def _confidence(self, video: AnsweredVideo, proposal: Proposal, answer: WrongAnswer) -> float | None:
        """The maker's own, or that of the scorer."""
        if answer.confidence is not None or self.scorer is None:
            return answer.confidence
        frames = video.frames[_event_places(video, proposal.event)]
        texts = [_without_yes_no(text) for text in (video.row.content["chosen"], answer.text)]
        chosen, wrong = self.scorer.score(frames, texts).mean(dim=0)
        return float(torch.sigmoid(chosen - wrong))


def _without_yes_no(text: str) -> str:
    return _YES_NO.sub("", text)


def _described(video: AnsweredVideo) -> str:
    """The text that the event's frames should fit."""
    answer = _without_yes_no(video.row.content["chosen"])
    return answer if len(answer.split()) >= _LEAST_WORDS else str(video.row.content["question"])


def _phrases(content: Any) -> list[str]:
    """The objects that a row names, those of its question first."""
    return list(dict.fromkeys(object_phrases(content["question"]) + object_phrases(content["chosen"])))


def _event_places(video: AnsweredVideo, event: tuple[float, float] | None) -> list[int]:
    """The positions of the frames in an event; of all, where there is none, or it lies between the frames."""
    everything = list(range(len(video.frames)))
    if event is None:
        return everything
    start, end = event
    # The tolerance is for seconds that were written as rounded decimals.
    places = [place for place in everything if start - 1e-3 <= video.time(place) < end - 1e-3]
    return places or everything
