"""A vision-language model of one's own as a judge, through transformers' image-text classes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from datamodules.user_files import user_file
from datamodules.video.codec import decode_image
from lightning_modules.judges.base import Judge, JudgeQuestion
from lightning_modules.judges.cache import ReplyCache, request_key
from lightning_modules.policies.remote_code import load_failure


class LocalJudge(Judge):
    """Judge that is a local model: Qwen-VL, InternVL, LLaVA, SmolVLM or any other with a chat template.

    Replies are greedy. A video is shown as its frames, picture by picture, as an endpoint would be shown it.

    Args:
        path: a checkpoint folder or hub id that `AutoModelForImageTextToText` reads.
        dtype: type of the weights in memory.
        max_new_tokens: the longest reply, in tokens.
        batch_size: questions to the model at once.
        chat_template: a file with another chat template, for checkpoints that have none.
        attn_implementation: transformers' attention.
        cache: a folder of replies that are not asked for again; None = ask always. Replies are known by `path`, so
            after changing the weights there, take another folder.
    """

    def __init__(
        self,
        path: str,
        dtype: Literal["float32", "bfloat16"] = "bfloat16",
        max_new_tokens: int = 256,
        batch_size: int = 1,
        chat_template: str | None = None,
        attn_implementation: Literal["sdpa", "eager"] = "sdpa",
        cache: str | None = None,
    ) -> None:
        if max_new_tokens < 1 or batch_size < 1:
            raise ValueError("judge.max_new_tokens and judge.batch_size must be at least 1")
        self.path = path
        self.dtype = dtype
        self.max_new_tokens = max_new_tokens
        self.batch_size = batch_size
        self.chat_template = None if chat_template is None else user_file(chat_template).read_text(encoding="utf-8")
        self.attn_implementation = attn_implementation
        self.cache = None if cache is None else ReplyCache(cache)
        self._model: Any = None
        self._processor: Any = None

    @property
    def name(self) -> str:
        """The checkpoint's name."""
        return Path(self.path).name if Path(self.path).is_dir() else self.path

    def settings(self) -> dict[str, Any]:
        """How it is asked."""
        names = ("dtype", "max_new_tokens", "chat_template")
        return {name: getattr(self, name) for name in names}

    def load(self, device: torch.device) -> None:
        """Read the weights.

        Raises:
            ValueError: `path` holds no model of this kind, or no chat template.
        """
        if self._model is not None:
            return
        from transformers import AutoModelForImageTextToText, AutoProcessor

        try:
            processor = AutoProcessor.from_pretrained(self.path, trust_remote_code=False)
            model: Any = AutoModelForImageTextToText.from_pretrained(
                self.path,
                trust_remote_code=False,
                dtype=getattr(torch, self.dtype),
                attn_implementation=self.attn_implementation,
            )
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.path} cannot judge: {load_failure(error)}") from error
        if not (self.chat_template or getattr(processor, "chat_template", None)):
            raise ValueError(f"{self.path} has no chat template; give one as judge.chat_template")
        processor.tokenizer.padding_side = "left"  # every reply begins right behind its question
        self._processor, self._model = processor, model.to(device).eval().requires_grad_(False)

    def ask(self, questions: Sequence[JudgeQuestion]) -> list[str]:
        """The replies, in order."""
        self.load(torch.device("cpu"))
        if self.cache is None:
            return self._replies(questions)
        settings = {"path": self.path, **self.settings()}

        def reply(question: JudgeQuestion) -> str:
            return self._replies([question])[0]

        # One by one: the cache locks the question that is asked.
        return [
            self.cache.reply(request_key(settings, question), partial(reply, question))[0] for question in questions
        ]

    def _replies(self, questions: Sequence[JudgeQuestion]) -> list[str]:
        replies: list[str] = []
        for start in range(0, len(questions), self.batch_size):
            batch = questions[start : start + self.batch_size]
            # A processor takes pictures for all texts of a batch or for none.
            alike = len({bool(question.images) for question in batch}) == 1
            for part in [batch] if alike else [[question] for question in batch]:
                replies += self._generated(part)
        return replies

    @torch.no_grad()
    def _generated(self, questions: Sequence[JudgeQuestion]) -> list[str]:
        texts = [
            self._processor.apply_chat_template(
                _messages(question), add_generation_prompt=True, chat_template=self.chat_template
            )
            for question in questions
        ]
        images = [
            [decode_image(picture) if isinstance(picture, bytes) else picture.cpu() for picture in question.images]
            for question in questions
        ]
        inputs = self._processor(
            text=texts, images=images if images[0] else None, padding=True, return_tensors="pt"
        ).to(self._model.device, self._model.dtype)
        tokens = self._model.generate(**inputs, max_new_tokens=self.max_new_tokens, do_sample=False)
        # Questions are padded on the left, so that all replies begin at one column.
        new_tokens = tokens[:, inputs["input_ids"].shape[1] :]
        replies: list[str] = self._processor.batch_decode(new_tokens, skip_special_tokens=True)
        return [reply.strip() for reply in replies]


def _messages(question: JudgeQuestion) -> list[dict[str, Any]]:
    content = [
        {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"} for part in question.content()
    ]
    system = [{"role": "system", "content": [{"type": "text", "text": question.system}]}] if question.system else []
    return [*system, {"role": "user", "content": content}]
