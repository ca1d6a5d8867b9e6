"""Wrong answers by a judge: a vision-language model, or a language model, makes up what is plausible and false."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from datamodules.prepare.rows import finite
from datamodules.stream.predict_outputs import CONTENTS
from datamodules.vista.samples import VIDEO_TOKEN
from datamodules.vista.texts import is_blank, trimmed
from lightning_modules.annotators.base import AnswerRequest, WrongAnswer, WrongAnswers
from lightning_modules.file_contents import contents_of
from lightning_modules.judges.base import Judge, JudgeQuestion
from lightning_modules.judges.recorded import ReplyLog
from lightning_modules.judges.replies import spoken
from lightning_modules.predict.unread_replies import UnreadReplies

INSTRUCTIONS = (
    "A question about a video, and its right answer, are below. Write another answer that somebody might give who has "
    "not looked closely: it has the same form and length, belongs to this video, and is wrong in exactly one fact (an "
    "object, a colour, the order of events, a direction or a number).\nQuestion: {question}\nRight answer: {chosen}\n"
    'Reply with one line of JSON and nothing else: {"answer": "...", "confidence": 0.9}, where confidence, from 0 to '
    "1, is how sure you are that the answer is wrong."
)
_OBJECT = re.compile(r"\{[^{}]*\}")


class JudgedAnswers(WrongAnswers):
    """Maker of wrong answers that asks a judge for them, and how sure he is that they are wrong.

    Args:
        judge: who is asked.
        instructions: what for, with {question} and {chosen}, and how to reply.
        num_frames: frames of the event that are shown, at most; 0 = none, for a judge that reads texts alone.
        attempts: how often the same is asked until a reply can be read.
        replies: a JSONL file to which every reply is appended, for people and for `RecordedJudge`; None = none.
    """

    without = "unreadable reply"

    def __init__(
        self,
        judge: Judge,
        instructions: str = INSTRUCTIONS,
        num_frames: int = 8,
        attempts: int = 2,
        replies: str | None = None,
    ) -> None:
        if num_frames < 0 or attempts < 1:
            raise ValueError(
                f"wrong_answers.num_frames is {num_frames}, attempts {attempts}; give at least 0 frames and 1 attempt"
            )
        if lacking := [place for place in ("{question}", "{chosen}") if place not in instructions]:
            raise ValueError(f"wrong_answers.instructions lack {' and '.join(lacking)}, the places of the texts")
        self.judge = judge
        self.instructions = instructions
        self.num_frames = num_frames
        self.attempts = attempts
        self.sees = num_frames > 0
        self.replies = None if replies is None else ReplyLog(replies)
        self.unread = UnreadReplies(
            "their rows would have no wrong answer",
            "Change the judge or wrong_answers.instructions (they end with the form of a reply)",
        )

    @property
    def name(self) -> str:
        """Who proposes."""
        return self.judge.name

    def settings(self) -> dict[str, Any]:
        """The judge, and how it is asked."""
        judge = {**self.judge.settings(), CONTENTS: contents_of(self.judge)}
        names = ("instructions", "num_frames", "attempts")
        return {"judge": judge, **{name: getattr(self, name) for name in names}}

    def check(self) -> None:
        """Refuse what is wrong with the judge, and a log that takes no replies."""
        self.judge.check()
        if self.replies is not None:
            self.replies.check()

    def load(self, device: torch.device) -> None:
        """Bring in the judge's weights, where it has any."""
        self.judge.load(device)

    def summary(self) -> str:
        """What the judge has spent."""
        return self.judge.summary()

    def propose(self, requests: Sequence[AnswerRequest]) -> list[WrongAnswer | None]:
        """The judge's wrong answers; None where no attempt brought one.

        Raises:
            JudgeStoppedError: the judge gives no reply, or too many of its replies in a row cannot be read.
        """
        answers: list[WrongAnswer | None] = [None] * len(requests)
        for attempt in range(self.attempts):
            waiting = [index for index, answer in enumerate(answers) if answer is None]
            if not waiting:
                break
            questions = [replace(self._question(requests[index]), attempt=attempt) for index in waiting]
            replies = self.judge.ask(questions)
            # Logged before they are counted: the count may end the run, and these replies show why.
            if self.replies is not None:
                self.replies.write(questions, replies)
            for index, reply in zip(waiting, replies, strict=True):
                answers[index] = parse_answer(reply, requests[index].chosen)
            self.unread.add(questions, replies, [answers[index] is None for index in waiting])
        return answers

    def _question(self, request: AnswerRequest) -> JudgeQuestion:
        # In one pass: a question may hold {chosen}.
        texts = {"{question}": request.question, "{chosen}": request.chosen}
        text = re.sub(r"\{question\}|\{chosen\}", lambda place: texts[place[0]], self.instructions)
        images: Sequence[Any] = ()
        if self.sees and request.frames is not None:
            count = min(self.num_frames, len(request.frames))
            places = torch.linspace(0, len(request.frames) - 1, count).long()
            images = list(request.frames[places])
        return JudgeQuestion(text, images, key=request.key)


def parse_answer(reply: str, chosen: str) -> WrongAnswer | None:
    """The wrong answer in a judge's reply; None = it cannot be read, or is the right answer.

    Taken is the last JSON object with a text `answer` and a number `confidence` from 0 to 1.
    """
    for match in reversed(_OBJECT.findall(spoken(reply))):
        try:
            fields = json.loads(match)
        except ValueError:
            continue
        text, confidence = fields.get("answer"), fields.get("confidence")
        number = finite(confidence)
        if not isinstance(text, str) or is_blank(text) or VIDEO_TOKEN in text:
            continue
        if number is not None and 0 <= number <= 1:
            return None if trimmed(text) == trimmed(chosen) else WrongAnswer(trimmed(text), "judge", number)
    return None
