"""The seam behind which a video-language model family lives."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from datamodules.vista.samples import AnswerName, AnswerScores, Box, View, ViewName
from datamodules.vista.shared_frames import ResizeFrames
from lightning_modules.policies.frames import FrameFit

#: What one pass over the views shares with the next; its content is the family's own.
EncodedViews = Any


class VideoLLM(Protocol):
    """One model family. An `nn.Module` whose constructor reads configuration only; `load` brings the weights.

    The family owns chat template, tokeniser, image normalisation and how the video enters the prompt. Under FSDP2 the
    module is entered only through `forward` (which is `score`) and the methods named in `entry_points`, because only
    there are sharded parameters gathered.
    """

    #: Methods, besides `forward`, through which a sharded module may be entered.
    entry_points: tuple[str, ...]
    #: How frames meet the tower; "processor" = as the checkpoint's own processor does.
    frame_fit: FrameFit
    #: Whether frames must come with their times.
    uses_times: bool = False

    def load(self) -> None:
        """Bring in weights and adapters; idempotent. Dropout is off, activation checkpointing as configured."""

    def visible(self, height: int, width: int) -> Box:
        """The part of a source frame that the tower sees, in source pixels; asked before weights are loaded.

        Boxes, object negatives and their availability are decided within it.

        Args:
            height: of the source frame.
            width: of the source frame.
        """

    def frame_resizer(self) -> ResizeFrames | None:
        """Makes frames (3, H, W) uint8 as small as the tower sees them, in loader workers; it can be pickled.

        Only where `encode` makes the very same of them; None = frames travel at source resolution.
        """
        return None

    def encode(self, views: Sequence[View], keep_hidden: Collection[tuple[ViewName, AnswerName]] = ()) -> EncodedViews:
        """Tokenise and run the frozen tower once, without a gradient; shared by policy and reference.

        Args:
            views: the batch's views; frames may differ in size and number.
            keep_hidden: (view, answer) pairs whose hidden states `score` returns.

        Raises:
            ValueError: a text with a video token, an answer that tokenises to nothing.
        """

    def score(self, encoded: EncodedViews) -> AnswerScores:
        """Log-probability of every answer given its view, from one forward with shared prefixes."""

    def kl(
        self, reference: AnswerScores, policy: AnswerScores, reference_head: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """(A,) sum over tokens of KL(reference || policy) for the answers whose hidden states were kept, else 0.

        Args:
            reference: scores with hidden states, of the same `encoded` as `policy`.
            policy: scores with hidden states and a gradient.
            reference_head: the reference's output head; None = the policy's own, with the reference's adapters.
        """

    def text_faults(
        self,
        prompt: str,
        answers: Mapping[str, str],
        shape: tuple[int, int, int] | None = None,
        turns: Sequence[tuple[str, str]] = (),
    ) -> list[str]:
        """What is wrong with a prompt and its answers by name; [] = nothing. Asked before weights are loaded.

        Args:
            prompt: without a video token or chat template.
            answers: by name.
            shape: (frames, height, width) of the source frames that are shown; None = the video's tokens do not count.
            turns: earlier questions and answers of the conversation.
        """

    def generate(
        self,
        prompts: Sequence[str],
        frames: Sequence[Tensor],
        max_new_tokens: int,
        answer_start: str = "",
        times: Sequence[Tensor] | None = None,
    ) -> list[str]:
        """Greedy answers to one prompt per (T, 3, H, W) uint8 video.

        Args:
            prompts: without a video token or chat template.
            frames: one video a prompt.
            max_new_tokens: the longest answer.
            answer_start: what every answer begins with, behind the template; it is not part of what comes back.
            times: (T,) seconds of each video's frames from its start; only a policy that `uses_times` needs them.
        """

    def reference_mode(self) -> AbstractContextManager[None]:
        """While it is entered, the module computes as the reference: its frozen adapter, or no adapter at all."""

    def logits(self, hidden: Tensor) -> Tensor:
        """(N, D) hidden states -> (N, V) logits of the output head."""

    def blocks(self) -> Iterator[nn.Module]:
        """The transformer blocks, each a sharding unit."""

    def export(self, folder: Path, state_dict: Mapping[str, Tensor] | None = None) -> None:
        """Write what was trained: a PEFT folder, or a full model folder that `from_pretrained` reads."""


def asked_views(prompts: Sequence[str], frames: Sequence[Tensor], times: Sequence[Tensor] | None) -> list[View]:
    """A view without answers for each prompt, to be asked."""
    clocks = [None] * len(prompts) if times is None else times
    rows = zip(prompts, frames, clocks, strict=True)
    return [View(sample, "original", video, text, {}, clock) for sample, (text, video, clock) in enumerate(rows)]
