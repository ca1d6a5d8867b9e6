"""Policies whose prompt is a template of one string, and whose tower takes square frames one by one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from torch import Tensor

from datamodules.vista.samples import Box, View
from datamodules.vista.shared_frames import ResizeFrames, distinct_frames
from lightning_modules.policies.chat import Chat, check_template
from lightning_modules.policies.frame_resizer import FrameResizer
from lightning_modules.policies.frames import FrameFit, frame_pixels
from lightning_modules.policies.prefixes import Prefix
from lightning_modules.policies.transfer import sent
from lightning_modules.policies.transformers_llm import TransformersVideoLLM


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

    asking = "embeddings"
    unpoolable = None

    def __init__(self, path: str, prompt_template: str, frame_fit: FrameFit, **options: Any) -> None:
        check_template(prompt_template)
        super().__init__(path, **options)
        self.prompt_template = prompt_template
        self.frame_fit: FrameFit = frame_fit

    @abstractmethod
    def num_video_tokens(self, view: View | None = None) -> int:
        """Features in the place of a view's video; of none, in the place of every video of the usual length."""

    @cached_property
    def chat(self) -> Chat:
        """The template with the checkpoint's tokenizer.

        Raises:
            ValueError: they do not go together.
        """
        # The placeholder in the template is one token; the prompt gets as many as there are features.
        token, tokenizer = self.video_token(), self.processor.tokenizer
        return Chat(tokenizer, self.prompt_template, token, self.video_token_id, self.num_video_tokens())

    def video_token(self) -> str:
        """The video's placeholder in the template."""
        return str(getattr(self.processor, "video_token", "<video>"))

    def prefix(self, view: View, where: str, start: Sequence[int] = ()) -> Prefix:
        """The template around the question; the tower is shown the frames as they are."""
        ids = self.chat.prompt_ids(view.prompt, where, view.turns, self.num_video_tokens(view))
        return Prefix([*ids, *start], view, pooling=self.pooling_of(view))

    def answer_ids(self, answer: str, where: str) -> list[int]:
        """See `Chat.answer_ids`."""
        return self.chat.answer_ids(answer, where)

    def prompt_length(self, prompt: str, where: str, turns: Sequence[tuple[str, str]] = ()) -> int:
        """The whole prefix, since every video has as many tokens."""
        return len(self.chat.prompt_ids(prompt, where, turns))

    def visible(self, height: int, width: int) -> Box:
        """As `TransformersVideoLLM.visible`; only the processor's own way may cut something away."""
        # Squashed or with borders, a frame is shown as a whole.
        if self.frame_fit != "processor":
            return Box(0.0, 0.0, float(width), float(height))
        return super().visible(height, width)

    def pixels(self, prefixes: Sequence[Prefix]) -> tuple[Tensor, list[list[int]]]:
        """(U, 3, S, S) float32 distinct frames of all views, and per view which of them is where."""
        # Before they are resized: equal source frames are equal pixels, and most of the six views repeat some.
        frames, places = distinct_frames([prefix.view for prefix in prefixes])
        pixels = frame_pixels(self.processor.video_processor, frames, self.frame_fit, self._image_size)
        return sent(pixels, self.device), places

    def frame_resizer(self) -> ResizeFrames | None:
        """By the processor and `frame_fit`."""
        return FrameResizer.of(self.processor.video_processor, self.frame_fit, self._image_size)

    @property
    def _image_size(self) -> int:
        return int(self.config.vision_config.image_size)
