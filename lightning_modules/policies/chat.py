"""How views become token ids: the template around the question, the video's place in it, the answers behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning_modules.policies.answer_ids import AnswerIds
from lightning_modules.policies.plain_text import PlainText

QUESTION = "{question}"


class Chat:
    """A prompt template and a tokenizer, with one rule for where the prompt ends and the answer begins.

    The prompt is tokenised alone, with whatever the tokenizer puts before a text and nothing behind. An answer follows
    after one space, or after none where the template itself ends in white space; its ids are those that it has behind
    the template's ending, so that a byte-pair tokenizer gives the space to the answer's first word, as it does in
    running text. The end-of-sequence token closes it. Both sides of a pair are cut the same way, always.

    Questions and answers are text: only the template has special tokens, whatever a text holds of their names.

    Args:
        tokenizer: a transformers tokenizer with an end-of-sequence token.
        template: holds ``{question}`` once.
        video_token: the video's placeholder in the template.
        video_token_id: the id that the model replaces by the video.
        num_video_tokens: features that the model puts in the place of a video.

    Raises:
        ValueError: the template or the tokenizer cannot be used so.
    """

    def __init__(
        self,
        tokenizer: Any,
        template: str,
        video_token: str,
        video_token_id: int,
        num_video_tokens: int,
    ) -> None:
        check_template(template)
        if tokenizer.eos_token_id is None:
            raise ValueError(
                "the checkpoint's tokenizer has no end-of-sequence token; set `eos_token` and save it again"
            )
        if tokenizer.convert_tokens_to_ids(video_token) != video_token_id:
            raise ValueError(
                f"the tokenizer's id of {video_token!r} is {tokenizer.convert_tokens_to_ids(video_token)}, the model's "
                f"video_token_index is {video_token_id}; use the tokenizer that belongs to the checkpoint"
            )
        self.tokenizer = tokenizer
        self.template = template
        self.video_token = video_token
        self.video_token_id = video_token_id
        self.num_video_tokens = num_video_tokens
        self.eos_token_id: int = tokenizer.eos_token_id
        self._plain = PlainText(tokenizer)
        # What the tokenizer puts before a text; some put an end behind it too, which no prompt may have.
        opening = tokenizer("", add_special_tokens=True)["input_ids"]
        self._opening: list[int] = [index for index in opening if index == tokenizer.bos_token_id]
        self._before, _, self._after = template.partition(QUESTION)
        lead_in = self._after or ":"
        space = "" if lead_in[-1].isspace() else " "
        self._answer_ids = AnswerIds(self._plain, lead_in, space, self.eos_token_id, (video_token,))

    def prompt_ids(
        self, question: str, where: str, turns: Sequence[tuple[str, str]] = (), num_video_tokens: int | None = None
    ) -> list[int]:
        """The prompt's ids, with one video token for each of the video's features.

        Args:
            question: the question, without a video token.
            where: what to call it in an error.
            turns: earlier questions and answers; the first question has the video.
            num_video_tokens: features of this video; None = as many as every one has.

        Raises:
            ValueError: the placeholder is missing or appears more than once.
        """
        if turns:
            (first, answer), *others = turns
            # Earlier answers end their turn like the one that is scored.
            ids = [*self.prompt_ids(first, where, (), num_video_tokens), *self.answer_ids(answer, where)]
            for asked, answered in [*others, (question, None)]:
                ids += self._later_ids(asked, where)
                ids += [] if answered is None else self.answer_ids(answered, where)
            return ids
        count = (self._before + question + self._after).count(self.video_token)
        if count != 1:
            raise ValueError(
                f"{where}: the prompt holds the video token {self.video_token!r} {count} times instead of once; it "
                f"belongs into prompt_template ({self.template!r}) and not into the question ({question!r})"
            )
        ids = self._opening + self._plain.ids(self._before, question, self._after, where)
        # Only now, so that texts are tokenised once and not behind thousands of placeholders.
        place = ids.index(self.video_token_id)
        count = self.num_video_tokens if num_video_tokens is None else num_video_tokens
        return [*ids[:place], *[self.video_token_id] * count, *ids[place + 1 :]]

    def _later_ids(self, question: str, where: str) -> list[int]:
        """The ids of a question behind the first turn: without the video, and without a system text before it."""
        if self.video_token in question:
            raise ValueError(
                f"{where}: the question {question!r} holds the video token {self.video_token!r}; take it out"
            )
        # What follows the video, as "USER: ", begins a turn; where it is blank, what is before the video does.
        turn = self._before.rpartition(self.video_token)[2].lstrip() if self.video_token in self._before else ""
        before, after = (
            part.replace(f"{self.video_token}\n", "").replace(self.video_token, "")
            for part in (turn or self._before, self._after)
        )
        return self._plain.ids(before, question, after, where)

    def answer_ids(self, answer: str, where: str) -> list[int]:
        """The answer's ids and the end of sequence, see `AnswerIds`."""
        return self._answer_ids(answer, where)


def check_template(template: str) -> None:
    """Refuse a template into which no question fits.

    Raises:
        ValueError: says what it holds.
    """
    if template.count(QUESTION) != 1:
        raise ValueError(
            f"prompt_template holds {QUESTION} {template.count(QUESTION)} times instead of once: {template!r}"
        )
