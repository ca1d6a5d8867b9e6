"""Policies whose prompt is a template of one string, and whose tower takes square frames one by one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from datamodules.vista.samples import Box, View
from lightning_modules.policies.chat import Chat, check_template
from lightning_modules.policies.frames import FrameFit, distinct_units, frame_pixels
from lightning_modules.policies.prefixes import PADDING, Prefix, left_padded
from lightning_modules.policies.sharding import is_sharded
from lightning_modules.policies.transformers_llm import TransformersVideoLLM
from lightning_modules.policies.video_llm import asked_views


class TemplatePolicy(TransformersVideoLLM):
    """Video-language model with a CLIP tower for square frames and a prompt template; see `TransformersVideoLLM`.

    Args:
        path: a checkpoint folder or hub id.
        prompt_template: the prompt with ``{question}`` once and the video token once.
        frame_fit: how frames meet the tower. processor = as the checkpoint's processor does, which may cut the borders
            away; squash = both sides resized to the tower's; pad = borders of the mean colour make the frame square.
        options: of every policy of transformers.

    Raises:
        ValueError: `path` holds no checkpoint of the family, or a setting contradicts another.
    """

    def __init__(self, path: str, prompt_template: str, frame_fit: FrameFit, **options: Any) -> None:
        check_template(prompt_template)
        super().__init__(path, **options)
        self.prompt_template = prompt_template
        self.frame_fit: FrameFit = frame_fit

    @abstractmethod
    def num_video_tokens(self) -> int:
        """Features in the place of a video."""

    @cached_property
    def chat(self) -> Chat:
        """The template with the checkpoint's tokenizer.

        Raises:
            ValueError: they do not go together.
        """
        token, tokenizer = self.video_token(), self.processor.tokenizer
        return Chat(tokenizer, self.prompt_template, token, self.video_token_id, self.num_video_tokens())

    def video_token(self) -> str:
        """The video's placeholder in the template."""
        return str(getattr(self.processor, "video_token", "<video>"))

    def prefix(self, view: View, where: str, start: Sequence[int] = ()) -> Prefix:
        """The template around the question; the tower is shown the frames as they are."""
        return Prefix([*self.chat.prompt_ids(view.prompt, where, view.turns), *start], inputs={"frames": view.frames})

    def answer_ids(self, answer: str, where: str) -> list[int]:
        """See `Chat.answer_ids`."""
        return self.chat.answer_ids(answer, where)

    def prompt_length(self, prompt: str, where: str, turns: Sequence[tuple[str, str]] = ()) -> int:
        """The whole prefix, since every video has as many tokens."""
        return len(self.chat.prompt_ids(prompt, where, turns))

    def visible(self, height: int, width: int) -> Box:
        """As `TransformersVideoLLM.visible`; only the processor's own way may cut something away."""
        if self.frame_fit != "processor":
            return Box(0.0, 0.0, float(width), float(height))
        return super().visible(height, width)

    def pixels(self, prefixes: Sequence[Prefix]) -> tuple[Tensor, list[list[int]]]:
        """(U, 3, S, S) float32 distinct frames of all views, and per view which of them is where."""
        frames, places = distinct_units([prefix.inputs["frames"] for prefix in prefixes])
        side = self.config.vision_config.image_size
        pixels = frame_pixels(self.processor.video_processor, frames, self.frame_fit, side)
        return pixels.to(self.device), places

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[str],
        frames: Sequence[Tensor],
        max_new_tokens: int,
        answer_start: str = "",
        times: Sequence[Tensor] | None = None,
    ) -> list[str]:
        """Greedy answers, all in one left-padded batch of finished embeddings; positions are plain here.

        Args:
            prompts: without a video token or chat template.
            frames: one (T, 3, H, W) uint8 video a prompt.
            max_new_tokens: the longest answer.
            answer_start: what every answer begins with, behind the template; it is not part of what comes back.
            times: not needed.

        Raises:
            ValueError: as `encode`.
        """
        assert self.model is not None, "load() comes first"
        prefixes = []
        for view in asked_views(prompts, frames, times):
            where = f"sample {view.sample} of the batch, view {view.name}"
            prefix = self.prefix(view, where, self.start_ids(answer_start, where))
            self.check_length(len(prefix.ids), where)
            prefixes.append(prefix)
        packed = self.pack(prefixes, [[] for _ in prefixes], "packed")
        embeds = self.embed(packed, self.see(prefixes))
        # Generation appends at the right, so that padding moves to the left.
        embeds, mask = left_padded(embeds, packed.segments != PADDING)
        training = self.training
        self.eval()  # activation checkpointing would switch the cache off
        try:
            ids = self.base.generate(
                inputs_embeds=embeds,
                attention_mask=mask.long(),
                # Sharded weights are gathered by all ranks together: go on until every rank has finished.
                synced_gpus=is_sharded(self),
                **self.greedy(max_new_tokens),
            )
        finally:
            self.train(training)
        return [self.chat.text(row) for row in ids.tolist()]
