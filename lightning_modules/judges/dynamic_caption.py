"""The filter of videos whose caption, by a judge's verdict, asks for motion that a video model finds hard."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import torch

from datamodules.prepare.video_filters import Candidate, Finding, VideoFilter
from lightning_modules.judges.base import Judge, JudgeQuestion, Workload
from lightning_modules.judges.replies import spoken

#: What is asked about a caption. The paper asks its judge for challenging dynamics too; these words are ours.
QUESTION = """Below is the caption of a short video. It will be used as a prompt for a video generation model.
Say whether it calls for challenging dynamics: people, animals or things that move a lot, change their shape, touch or \
pass each other, or follow physics that is easy to get wrong. A still life, a portrait, a landscape in which only the \
camera moves, or a scene without a clear action does not.

Caption: {caption}

Begin your answer with Yes or No."""


class DynamicCaption(VideoFilter):
    """Video filter that keeps the videos whose caption a judge finds dynamic; captions are asked about all at once.

    Args:
        judge: who is asked.
        attempts: how often an answer that is neither yes nor no is asked for again; then the video is rejected.
        question: what is asked, with {caption} in place of the caption.
        device: where a judge with weights of its own runs.
    """

    looks_at = "caption"

    def __init__(self, judge: Judge, attempts: int = 2, question: str = QUESTION, device: str = "cpu") -> None:
        if "{caption}" not in question:
            raise ValueError("the question lacks {caption}, the place where the caption goes")
        if attempts < 1:
            raise ValueError(f"attempts is {attempts}; give 1 or more")
        self.asked, self.attempts, self.question, self.device = judge, attempts, question, device
        self._expected: list[str] = []
        self._verdicts: dict[str, bool | None] = {}

    def prepare(self) -> None:
        """Load the judge."""
        self.asked.load(torch.device(self.device))

    def expect(self, captions: Sequence[str]) -> None:
        """All captions that may come, so that a judge who can answer many at once is asked once."""
        self._expected = list(captions)

    def judge(self, clip: Candidate) -> Finding:
        """1 or 0 as `dynamic`; nothing where the judge gave no readable answer."""
        if clip.caption not in self._verdicts:
            self._ask([*self._expected, clip.caption])
        verdict = self._verdicts[clip.caption]
        if verdict is None:
            return Finding(why=f"the judge answered neither yes nor no, {self.attempts} times")
        return Finding({"dynamic": float(verdict)}, None if verdict else "the judge finds the caption not dynamic")

    def _ask(self, captions: Sequence[str]) -> None:
        waiting = [caption for caption in dict.fromkeys(captions) if caption not in self._verdicts]
        verdicts: dict[str, bool | None] = {}
        self.prepare()
        characters = sum(len(self.question) + len(caption) for caption in waiting)
        if estimate := self.asked.estimate(Workload(len(waiting), characters=characters, attempts=self.attempts)):
            print(estimate)
        for attempt in range(self.attempts):
            questions = [
                # The key is the caption's own, so that recorded replies are its own in any selection of videos.
                JudgeQuestion(
                    # Not str.format: a caption may hold braces.
                    self.question.replace("{caption}", caption),
                    key=f"caption-{hashlib.sha256(caption.encode()).hexdigest()[:16]}",
                    attempt=attempt,
                )
                for caption in waiting
            ]
            answers = self.asked.ask(questions) if questions else []
            verdicts |= {caption: yes_or_no(answer) for caption, answer in zip(waiting, answers, strict=True)}
            waiting = [caption for caption in waiting if verdicts[caption] is None]
        self._verdicts |= verdicts


def yes_or_no(answer: str) -> bool | None:
    """The first word of an answer as a verdict, whatever quotes or asterisks are around it; None = neither."""
    word = re.match(r"[^a-z]*(yes|no)\b", spoken(answer).lower())
    return None if word is None else word[1] == "yes"
