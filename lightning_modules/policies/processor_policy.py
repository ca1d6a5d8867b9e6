"""Policies whose prompt and pixels are made by the checkpoint's own chat template and processor."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from datamodules.vista.samples import View
from lightning_modules.policies.prefixes import Prefix
from lightning_modules.policies.processor_chat import ProcessorChat, conversation
from lightning_modules.policies.transformers_llm import TransformersVideoLLM

#: Frames, height and width of the videos whose tokens a cached score is compared by: small, wide, tall, long.
PROBED_VIDEOS = ((4, 224, 224), (8, 360, 640), (8, 640, 360), (16, 720, 1280))


class ProcessorPolicy(TransformersVideoLLM):
    """Video-language model behind its processor; see `TransformersVideoLLM`.

    Args:
        path: a checkpoint folder or hub id.
        enable_thinking: the chat template's variable of that name; False keeps the answer where it is scored.
        options: of every policy of transformers.

    Raises:
        ValueError: `path` holds no checkpoint of the family, or a setting contradicts another.
    """

    def __init__(self, path: str, enable_thinking: bool = False, **options: Any) -> None:
        super().__init__(path, **options)
        self.enable_thinking = enable_thinking

    @cached_property
    def chat(self) -> ProcessorChat:
        """The chat template and processor.

        Raises:
            ValueError: there is no template.
        """
        placeholder = self.processor.tokenizer.convert_ids_to_tokens(self.video_token_id)
        return ProcessorChat(self.processor, placeholder, {"enable_thinking": self.enable_thinking})

    def processor_options(self, view: View, where: str) -> dict[str, Any]:
        """Options of the processor's call for a view; of a family that uses times, its clock.

        Raises:
            ValueError: the view has no times.
        """
        return {"video_metadata": [clock(view, where)]} if self.uses_times else {}

    def prefix(self, view: View, where: str, start: Sequence[int] = ()) -> Prefix:
        """The chat template with the video laid out in it.

        Raises:
            ValueError: a text holds a video token, or the view has no times where the family uses them.
        """
        template, inputs = self.chat.parts(view, self.processor_options(view, where))
        ids = [*self.chat.ids(template, conversation(view.prompt, view.turns), where), *start]
        if self.processor.return_mm_token_type_ids:
            inputs["mm_token_type_ids"] = self.chat.token_types(ids)
        return Prefix(ids, self.positions(ids, inputs), inputs)

    def positions(self, ids: Sequence[int], inputs: dict[str, Tensor]) -> Tensor | None:
        """The positions of a prefix; None = 0, 1, 2 ..."""
        return None

    def answer_ids(self, answer: str, where: str) -> list[int]:
        """See `AnswerIds`."""
        return self.chat.answer_ids(answer, where)

    def prompt_length(self, prompt: str, where: str, turns: Sequence[tuple[str, str]] = ()) -> int:
        """See `ProcessorChat.prompt_length`."""
        return self.chat.prompt_length(prompt, where, turns)

    def video_length(self, shape: tuple[int, int, int]) -> int:
        """The tokens that a video of (frames, height, width) adds, shown at one frame a second; the processor is asked.

        Where times are put into the prompt, others may take a token more or less.
        """
        if shape not in self._video_lengths:
            self._video_lengths[shape] = self._probed(*shape) - self.prompt_length("?", "probe")
        return self._video_lengths[shape]

    @cached_property
    def _video_lengths(self) -> dict[tuple[int, int, int], int]:
        return {}

    def processor_facts(self) -> dict[str, Any]:
        """What scores depend on besides settings and files: how many tokens the processor makes of some videos.

        Defaults that a configuration leaves out are the library's, and change with its version.
        """
        return {"video_tokens": self._tokens_of_probes}

    @cached_property
    def _tokens_of_probes(self) -> dict[str, int]:
        """Frames, height and width -> tokens of the whole prompt."""
        return {" x ".join(map(str, shape)): self._probed(*shape) for shape in PROBED_VIDEOS}

    def _probed(self, frames: int, height: int, width: int) -> int:
        """The tokens of a short prompt with a black video."""
        video = torch.zeros(frames, 3, height, width, dtype=torch.uint8)
        view = View(0, "original", video, "?", {}, torch.arange(frames, dtype=torch.float32))
        template, _ = self.chat.parts(view, self.processor_options(view, "probe"))
        return len(self.chat.ids(template, ["?"], "probe"))


def clock(view: View, where: str) -> Any:
    """A view's times as the metadata from which transformers' processors work them out.

    Raises:
        ValueError: it has none.
    """
    from transformers.video_utils import VideoMetadata

    if view.times is None:
        raise ValueError(f"{where}: the frames come without their times, which this family puts into the prompt")
    times: list[float] = view.times.double().tolist()
    count = len(times)
    step = seconds_per_frame(times)
    # At one "frame" a second a frame's number is its time. Some processors extend the list in place: it is a new one.
    return VideoMetadata(
        total_num_frames=count * step,
        fps=1.0,
        frames_indices=times,
        duration=times[-1],
    )


def seconds_per_frame(times: Sequence[float]) -> float:
    """The mean step between frames; 1 where all are shown at once."""
    step = (times[-1] - times[0]) / max(len(times) - 1, 1)
    return step if step > 0 else 1.0
