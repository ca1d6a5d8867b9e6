"""Policies whose prompt and pixels are made by the checkpoint's own chat template and processor."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from datamodules.vista.samples import View
from datamodules.vista.shared_frames import ResizeFrames
from lightning_modules.policies.pixel_budget import pixel_budget
from lightning_modules.policies.prefixes import Prefix
from lightning_modules.policies.processor_chat import ProcessorChat, conversation
from lightning_modules.policies.processor_resizer import AS_THEY_ARE, processor_resizer
from lightning_modules.policies.transformers_llm import TransformersVideoLLM

#: Frames, height and width of the videos whose tokens a cached score is compared by: small, wide, tall, long.
PROBED_VIDEOS = ((4, 224, 224), (8, 360, 640), (8, 640, 360), (16, 720, 1280))


class ProcessorPolicy(TransformersVideoLLM):
    """Video-language model behind its processor; see `TransformersVideoLLM`.

    Args:
        path: a checkpoint folder or hub id.
        enable_thinking: the chat template's variable of that name; False keeps the answer where it is scored.
        min_pixels: the least pixels of a frame (Qwen3-VL, Qwen3.5, GLM: of a video); None = the checkpoint's.
        max_pixels: the most; None = the checkpoint's. With both the number of tokens is bounded. A frame's tokens of
            Gemma 4 follow from it; of SmolVLM it bounds what is left of a frame before the tower's square.
        cap_pixels_per_frame: bound the pixels of a frame by its video's length too, as qwen-vl-utils does. None = the
            checkpoint's, or no such bound; transformers announced that its own default will change.
        options: of every policy of transformers.

    Raises:
        ValueError: `path` holds no checkpoint of the family, its processor has no such bound, or a setting contradicts
            another.
    """

    def __init__(
        self,
        path: str,
        enable_thinking: bool = False,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        cap_pixels_per_frame: bool | None = None,
        **options: Any,
    ) -> None:
        super().__init__(path, **options)
        self.enable_thinking = enable_thinking
        video_processor = self.processor.video_processor
        self._budget = pixel_budget(video_processor, min_pixels, max_pixels, cap_pixels_per_frame)
        # As they are and not as they were asked for, so that equal settings make equal answers.
        self.min_pixels = self._budget.facts.get("min_pixels")
        self.max_pixels = self._budget.facts.get("max_pixels")
        self.cap_pixels_per_frame = self._budget.facts.get("cap_pixels_per_frame")

    def read_processor(self) -> Any:
        """The checkpoint's processor, which must take videos.

        Raises:
            ValueError: there is none, or it prepares pictures only.
        """
        processor = super().read_processor()
        if getattr(processor, "video_processor", None) is None:
            raise ValueError(
                f"policy: {self.path!r} comes with {type(processor).__name__}, which prepares no videos; give a "
                "checkpoint of a video-language model with its video_preprocessor_config.json or processor_config.json"
            )
        return processor

    @cached_property
    def chat(self) -> ProcessorChat:
        """The chat template and processor.

        Raises:
            ValueError: there is no template.
        """
        placeholder = self.processor.tokenizer.convert_ids_to_tokens(self.video_token_id)
        return ProcessorChat(self.processor, placeholder, {"enable_thinking": self.enable_thinking})

    def frame_resizer(self) -> ResizeFrames | None:
        """See `VideoLLM.frame_resizer`."""
        return processor_resizer(self.processor.video_processor, self._budget.options)

    def processor_options(self, view: View, where: str) -> dict[str, Any]:
        """Options of the processor's call for a view: pixel budget, frames that have their size, the clock of times.

        Raises:
            ValueError: the view has no times.
        """
        times = {"video_metadata": [clock(view, where)]} if self.uses_times else {}
        return {**self._budget.options, **(AS_THEY_ARE if view.is_resized else {}), **times}

    def prefix(self, view: View, where: str, start: Sequence[int] = ()) -> Prefix:
        """The chat template with the video laid out in it.

        Raises:
            ValueError: a text holds a video token, or the view has no times where the family uses them.
        """
        template, inputs = self.chat.parts(view, self.processor_options(view, where))
        ids = self.chat.ids(template, conversation(view.prompt, view.turns), where)
        ids = [*self.pooled_ids(ids, view), *start]
        # From our ids and not from the processor's, which would read control tokens in users' texts.
        if self.processor.return_mm_token_type_ids:
            inputs["mm_token_type_ids"] = self.chat.token_types(ids)
        return Prefix(ids, view, self.positions(ids, inputs), inputs, self.pooling_of(view))

    def pooled_ids(self, ids: list[int], view: View) -> list[int]:
        """The ids with as many placeholders as pooling leaves features, of a family that pools."""
        return ids

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
        # A data set has few sizes of video, and each costs a call of the processor.
        if shape not in self._video_lengths:
            self._video_lengths[shape] = self._probed(*shape) - self.prompt_length("?", "probe")
        return self._video_lengths[shape]

    @cached_property
    def _video_lengths(self) -> dict[tuple[int, int, int], int]:
        return {}

    def processor_facts(self) -> dict[str, Any]:
        """What scores depend on besides settings and files: the pixel budget, and the tokens made of some videos.

        Defaults that a configuration leaves out are the library's, and change with its version.
        """
        return {**self._budget.facts, "video_tokens": self._tokens_of_probes}

    @cached_property
    def _tokens_of_probes(self) -> dict[str, int]:
        """Frames, height and width -> tokens of the whole prompt."""
        return {" x ".join(map(str, shape)): self._probed(*shape) for shape in PROBED_VIDEOS}

    def _probed(self, frames: int, height: int, width: int) -> int:
        """The tokens of a short prompt with a video whose frames all differ: some processors drop what repeats."""
        video = torch.zeros(frames, 3, height, width, dtype=torch.uint8)
        video[::2] = 255
        view = View(0, "original", video, "?", {}, torch.arange(frames, dtype=torch.float32))
        template, _ = self.chat.parts(view, self.processor_options(view, "probe"))
        return len(self.pooled_ids(self.chat.ids(template, ["?"], "probe"), view))


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
    # Irregular times have a mean step only; families that write each time into the prompt read the list below.
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
