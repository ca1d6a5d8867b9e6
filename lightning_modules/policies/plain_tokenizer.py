"""A tokenizer for diffusers' pipelines in which prompts are plain text: ``</s>`` is never a control token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from lightning_modules.policies.plain_text import PlainText, stand_in

#: Stands for a prompt while its chat template is rendered.
_PLACE = "\U000f8000"


class PromptText(PlainText):
    """Plain text also for T5 and UMT5, whose vocabularies of word pieces hold the control tokens themselves.

    Left as they are, a text would be split into these pieces; SentencePiece, with which the models were trained, never
    does that.
    """

    def content(self) -> dict[str, Any]:
        """What the tokenizer is made of, the pieces of control tokens by their other names."""
        content = super().content()
        names = {token["content"]: stand_in(place) for place, token in enumerate(content["added_tokens"])}
        if content["model"]["type"] == "Unigram":
            content["model"]["vocab"] = [
                [names[piece] if piece in self.control and piece in names else piece, score]
                for piece, score in content["model"]["vocab"]
            ]
        return content


class PlainTokenizer:
    """The tokenizer itself for texts without control tokens; others are split and merged like any other text.

    Everything but the calls by which pipelines tokenize prompts is the tokenizer's own.

    Args:
        tokenizer: a transformers tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.plain = PromptText(tokenizer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)

    def __call__(self, text: str | Sequence[str], **options: Any) -> Any:
        """What the tokenizer gives, for one text or several.

        Raises:
            ValueError: this tokenizer cannot but read a control token in a text.
        """
        texts = [text] if isinstance(text, str) else list(text)
        if not any(map(self._holds_control, texts)):
            return self.tokenizer(text, **options)
        before, after = self._ends
        rows = [self._cut(before, self.plain.ids("", each, "", "a prompt"), after, options) for each in texts]
        return self._padded(rows[0] if isinstance(text, str) else rows, options)

    def apply_chat_template(self, conversations: Sequence[Sequence[Mapping[str, str]]], **options: Any) -> Any:
        """What the tokenizer gives for conversations whose last turn is a prompt.

        Raises:
            ValueError: as in the call.
        """
        prompts = [turns[-1]["content"] for turns in conversations]
        if not any(map(self._holds_control, prompts)):
            return self.tokenizer.apply_chat_template(conversations, **options)
        rows = []
        for turns, prompt in zip(conversations, prompts, strict=True):
            marked = [*turns[:-1], {**turns[-1], "content": _PLACE}]
            template = self.tokenizer.apply_chat_template(
                marked, tokenize=False, add_generation_prompt=options.get("add_generation_prompt", False)
            )
            before, after = template.split(_PLACE)
            rows.append(self._cut([], self.plain.ids(before, prompt, after, "a prompt"), [], options))
        return self._padded(rows, options)

    def _holds_control(self, text: str) -> bool:
        return any(token in text for token in self.plain.control)

    @cached_property
    def _ends(self) -> tuple[list[int], list[int]]:
        """What the tokenizer puts before and after a text."""
        whole, bare = (self.tokenizer("a", add_special_tokens=special)["input_ids"] for special in (True, False))
        start = next(index for index in range(len(whole)) if whole[index : index + len(bare)] == bare)
        return whole[:start], whole[start + len(bare) :]

    def _cut(self, before: list[int], ids: list[int], after: list[int], options: Mapping[str, Any]) -> list[int]:
        """A row of at most `max_length` tokens, where that is asked for; what ends a text is kept."""
        if options.get("truncation") and options.get("max_length"):
            ids = ids[: options["max_length"] - len(before) - len(after)]
        return [*before, *ids, *after]

    def _padded(self, rows: Any, options: Mapping[str, Any]) -> Any:
        names = ("padding", "max_length", "return_tensors", "return_attention_mask")
        given = {name: options[name] for name in names if name in options}
        if not given.get("padding"):
            given["padding"] = False
        return self.tokenizer.pad({"input_ids": rows}, **given)
