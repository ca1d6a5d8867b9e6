"""Views as token ids by the checkpoint's own chat template and processor."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from datamodules.vista.samples import View
from lightning_modules.policies.answer_ids import AnswerIds
from lightning_modules.policies.plain_text import PlainText

#: Stands for a text in a rendered template: characters of the private use area, which no template has.
_TEXT = "\ue0f0{}\ue0f1"
_TEXTS = re.compile("\ue0f0\\d+\ue0f1")


def conversation(prompt: str, turns: Sequence[tuple[str, str]]) -> list[str]:
    """The texts up to the answer: earlier questions and answers, then the prompt."""
    return [*(text for turn in turns for text in turn), prompt]


class ProcessorChat:
    """A processor's chat template and video layout, with the texts of users as plain text.

    The template is rendered, and the video laid out in it, with placeholders for the texts; only then do the texts take
    their places. So nothing in them is read as a control token, and the ids of harmless texts are the processor's own.

    Args:
        processor: a transformers processor with a chat template.
        placeholder: the token of a feature.
        template_options: variables of chat templates, as `enable_thinking`; what this template does not name is left
            out.

    Raises:
        ValueError: the checkpoint has no chat template.
    """

    def __init__(self, processor: Any, placeholder: str, template_options: Mapping[str, Any]) -> None:
        if not getattr(processor, "chat_template", None):
            raise ValueError(
                "the checkpoint's processor has no chat template; add the chat_template.jinja of the model's instruct "
                "version to its folder"
            )
        self.processor = processor
        # transformers hands a variable that no template names to the processor, and warns of it at every call.
        named = re.findall(r"\w+", str(processor.chat_template))
        self.template_options = {name: value for name, value in template_options.items() if name in named}
        self._plain = PlainText(processor.tokenizer)
        #: What no text may hold: it would be laid out as a video, or taken for a feature.
        self.video_tokens = tuple(dict.fromkeys([processor.video_token, placeholder]))
        self.answer_ids = self._answers()

    def parts(self, view: View, options: Mapping[str, Any]) -> tuple[list[str], dict[str, Tensor]]:
        """The template around the view's texts, the video laid out in it, and the model's inputs without token ids.

        Args:
            view: the view; with n earlier turns there are 2 n + 1 texts.
            options: of the processor's call.
        """
        rendered = self._rendered(len(view.turns))
        made = self.processor(
            text=[rendered],
            videos=[view.frames],
            do_sample_frames=False,
            # A video of three frames, or one three pixels high, would be taken for channels last.
            input_data_format="channels_first",
            return_text_replacement_offsets=True,
            return_tensors="pt",
            **options,
        )
        laid_out, end = [], 0
        for change in made.pop("text_replacement_offsets")[0]:
            start, stop = change["span"]
            laid_out += [rendered[end:start], change["replacement"]]
            end = stop
        template = _TEXTS.split("".join([*laid_out, rendered[end:]]))
        inputs = {name: made[name] for name in made if name not in ("input_ids", "attention_mask", "mm_token_type_ids")}
        return template, {name: torch.as_tensor(value) for name, value in inputs.items()}

    def ids(self, template: Sequence[str], texts: Sequence[str], where: str) -> list[int]:
        """The ids of the template with the texts in it, as the tokenizer begins a text.

        Args:
            template: from `parts`.
            texts: of the view, in the order of the conversation.
            where: what to call them in an error.

        Raises:
            ValueError: a text holds a video token.
        """
        for text in texts:
            for token in self.video_tokens:
                if token in text:
                    raise ValueError(
                        f"{where}: {text!r} holds the video token {token!r}, which belongs into the chat template; "
                        "take it out"
                    )
        ids = self._plain.interleaved(template, texts, where)
        tokenizer = self.processor.tokenizer
        opening = [index for index in tokenizer("")["input_ids"] if index == tokenizer.bos_token_id]
        return ids if ids[:1] == opening else [*opening, *ids]

    def token_types(self, ids: Sequence[int]) -> Tensor:
        """(1, L) int64, which tokens are text (0), image (1) or video (2)."""
        return torch.tensor(self.processor.create_mm_token_type_ids([list(ids)]))

    def prompt_length(self, prompt: str, where: str, turns: Sequence[tuple[str, str]] = ()) -> int:
        """The tokens of a conversation up to its answer with their template, the video apart."""
        return len(self.ids(_TEXTS.split(self._rendered(len(turns))), conversation(prompt, turns), where))

    def _rendered(self, turns: int) -> str:
        """The conversation with placeholders, the video in its first turn, up to where the answer begins."""
        texts = [{"type": "text", "text": _TEXT.format(index)} for index in range(2 * turns + 1)]
        messages: list[dict[str, Any]] = [
            {"role": "assistant" if index % 2 else "user", "content": [text]} for index, text in enumerate(texts)
        ]
        messages[0]["content"].insert(0, {"type": "video"})
        rendered: str = self.processor.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, **self.template_options
        )
        return rendered

    def _answers(self) -> AnswerIds:
        """What comes between the prompt and an answer, and what ends it, read off the template."""
        prompt, tokenizer = self._rendered(0), self.processor.tokenizer
        turn = {"role": "assistant", "content": [{"type": "text", "text": _TEXT.format(1)}]}
        first = {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": _TEXT.format(0)}]}
        answered = self.processor.apply_chat_template([first, turn], tokenize=False, **self.template_options)
        before, _, behind = answered.partition(_TEXT.format(1))
        # A template for thinking models may close an empty thought in the prompt that it leaves out of earlier turns.
        space = before.removeprefix(prompt) if before.startswith(prompt) else ""
        ending = tokenizer(behind, add_special_tokens=False)["input_ids"]
        end = next((index for index in ending if index in self._plain.control.values()), tokenizer.eos_token_id)
        if end is None:
            raise ValueError("the chat template ends no turn, and the tokenizer has no end-of-sequence token")
        # Nothing before the last control token, or before the last line, changes how an answer is split.
        names = "|".join(re.escape(name) for name in sorted(self._plain.control, key=len, reverse=True))
        lead_in = _TEXTS.split(re.split(names, prompt)[-1])[-1]
        return AnswerIds(self._plain, lead_in, space, end, self.video_tokens, "the chat template")
