"""How views become token ids: the template around the question, the video's place in it, the answers behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from datamodules.vista.samples import View
from datamodules.vista.texts import is_blank
from lightning_modules.policies.plain_text import PlainText
from lightning_modules.policies.prefixes import PackedViews, pack_views

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
        num_frames: frames a video.
        tokens_per_frame: features that the model puts in the place of one frame.
        max_positions: the longest sequence that the checkpoint has positions for.

    Raises:
        ValueError: the template or the tokenizer cannot be used so.
    """

    def __init__(
        self,
        tokenizer: Any,
        template: str,
        video_token: str,
        video_token_id: int,
        num_frames: int,
        tokens_per_frame: int,
        max_positions: int,
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
        self.num_frames = num_frames
        self.max_positions = max_positions
        self._video = [video_token_id] * (num_frames * tokens_per_frame)
        self.eos_token_id: int = tokenizer.eos_token_id
        self._plain = PlainText(tokenizer)
        # What the tokenizer puts before a text; some put an end behind it too, which no prompt may have.
        opening = tokenizer("", add_special_tokens=True)["input_ids"]
        self._opening: list[int] = [index for index in opening if index == tokenizer.bos_token_id]
        self._before, _, self._after = template.partition(QUESTION)
        self._lead_in = self._after or ":"
        self._space = "" if self._lead_in[-1].isspace() else " "
        self._lead_in_ids: list[int] = tokenizer(self._lead_in, add_special_tokens=False)["input_ids"]

    def pack(self, views: Sequence[View], device: torch.device | None = None, answer_start: str = "") -> PackedViews:
        """All views as one batch, answers behind their prefix; a view may have none.

        Args:
            views: the batch.
            device: where its tensors go; None = the default.
            answer_start: the beginning of an answer that is generated: it ends the prefix, as an answer would follow.

        Raises:
            ValueError: as `prompt_ids` and `answer_ids`; another number of frames; too long a sequence.
        """
        prefixes, answers = [], []
        for view in views:
            where = f"sample {view.sample} of the batch, view {view.name}"
            if len(view.frames) != self.num_frames:
                raise ValueError(
                    f"{where}: {len(view.frames)} frames, the policy takes {self.num_frames}; let num_frames of data "
                    "and policy agree"
                )
            prefix, ids = self.sequence(view.prompt, view.answers, where, answer_start)
            prefixes.append(prefix)
            answers.append(ids)
        return pack_views(prefixes, answers, self.eos_token_id, device)

    def sequence(
        self, question: str, answers: Mapping[Any, str], where: str, answer_start: str = ""
    ) -> tuple[list[int], list[list[int]]]:
        """The ids of a prompt, with what every answer begins with, and of each of its answers.

        Raises:
            ValueError: as `prompt_ids` and `answer_ids`; the prompt with its longest answer is too long.
        """
        start = self.answer_ids(answer_start, f"{where}, start of the answer")[:-1] if answer_start else []
        prefix = self.prompt_ids(question, where) + start
        ids = [self.answer_ids(text, f"{where}, answer {name}") for name, text in answers.items()]
        longest = len(prefix) + max(map(len, ids), default=0)
        if longest > self.max_positions:
            raise ValueError(
                f"{where}: {longest} tokens, the checkpoint has {self.max_positions} positions; use fewer "
                "frames or shorter texts"
            )
        return prefix, ids

    def prompt_ids(self, question: str, where: str) -> list[int]:
        """The prompt's ids, with one video token for each of the video's features.

        Args:
            question: the question, without a video token.
            where: what to call it in an error.

        Raises:
            ValueError: the placeholder is missing or appears more than once.
        """
        count = (self._before + question + self._after).count(self.video_token)
        if count != 1:
            raise ValueError(
                f"{where}: the prompt holds the video token {self.video_token!r} {count} times instead of once; it "
                f"belongs into prompt_template ({self.template!r}) and not into the question ({question!r})"
            )
        ids = self._opening + self._plain.ids(self._before, question, self._after, where)
        place = ids.index(self.video_token_id)
        return [*ids[:place], *self._video, *ids[place + 1 :]]

    def answer_ids(self, answer: str, where: str) -> list[int]:
        """The answer's ids and the end of sequence.

        Args:
            answer: the answer; white space around it does not count.
            where: what to call it in an error.

        Raises:
            ValueError: nothing is left of the answer, or it holds a video token, or it merges with the prompt's end.
        """
        text = answer.strip()
        if self.video_token in text:
            raise ValueError(f"{where}: the answer {answer!r} holds the video token {self.video_token!r}; take it out")
        joint = self._plain.ids(self._lead_in + self._space, text, "", where)
        cut = len(self._lead_in_ids)
        if joint[:cut] != self._lead_in_ids:
            raise ValueError(
                f"{where}: the answer {answer!r} merges with the end of the prompt {self._lead_in!r} into one token; "
                "end prompt_template with a token of its own, for example a colon"
            )
        if is_blank(text) or not joint[cut:]:
            raise ValueError(
                f"{where}: the answer {answer!r} tokenises to nothing; give a text, or leave the sample out"
            )
        return [*joint[cut:], self.eos_token_id]

    def text(self, ids: list[int]) -> str:
        """The text of generated ids, without special tokens."""
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text.strip()


def check_template(template: str) -> None:
    """Refuse a template into which no question fits.

    Raises:
        ValueError: says what it holds.
    """
    if template.count(QUESTION) != 1:
        raise ValueError(
            f"prompt_template holds {QUESTION} {template.count(QUESTION)} times instead of once: {template!r}"
        )
