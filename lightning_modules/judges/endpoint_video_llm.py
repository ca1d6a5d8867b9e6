"""A model behind an OpenAI-compatible endpoint, where a benchmark expects one that answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, NoReturn

from torch import Tensor, nn

from datamodules.video.codec import encode_mp4
from datamodules.vista.samples import AnswerName, AnswerScores, Box, View, ViewName
from lightning_modules.judges.base import JudgeQuestion
from lightning_modules.judges.endpoint import KEY_VARIABLE, EndpointJudge
from lightning_modules.policies.frames import FrameFit
from lightning_modules.policies.video_llm import EncodedViews, VideoLLM


class EndpointVideoLLM(nn.Module, VideoLLM):
    """Video-language model that is served elsewhere: it answers a benchmark's questions, and cannot be trained.

    Address, model and key come from the environment as for `EndpointJudge`. A batch's questions are under way together,
    so `data.batch_size` bounds what `concurrency` can use. Every answer is in the cache at once and in the benchmark's
    own log after its batch, so whatever ends a run, the next one goes on from there.

    Args:
        model: the model's name; None = from the environment.
        base_url: the address up to ``/v1``; None = from the environment.
        key_variable: the environment variable that holds the key.
        send: frames = one picture a frame; video = an mp4 of these frames at their rate, for servers that take a
            ``video_url`` (vLLM, SGLang).
        system: a system prompt; None = none.
        cache: the folder of answers, shared by all runs and processes.
        concurrency: requests under way at once, in each process.
        attempts: how often one request is tried before the server counts as staying away.
        backoff_s: seconds to wait after a first failure; doubles with each one.
        timeout_s: seconds for one answer.
        options: fields added to every request; temperature is 0 unless they say otherwise.
        image_format: how frames are sent; png is exact, jpeg a tenth of the size.
        on_failed_question: raise = a question that the server refuses stops the run; skip = its answer is
            "[failed: why]".
        limit: new requests in this process, after which the run stops and says how to continue.

    Raises:
        ValueError: no address or model is known, or a number is out of range.
    """

    entry_points = ()
    frame_fit: FrameFit = "processor"
    uses_times = True

    def __init__(
        self,
        model: str | None = None,
        base_url: str | None = None,
        key_variable: str = KEY_VARIABLE,
        send: Literal["frames", "video"] = "frames",
        system: str | None = None,
        cache: str = "runs/endpoint_answers",
        concurrency: int = 8,
        attempts: int = 6,
        backoff_s: float = 1.0,
        timeout_s: float = 120.0,
        options: dict[str, Any] | None = None,
        image_format: Literal["png", "jpeg"] = "jpeg",
        on_failed_question: Literal["raise", "skip"] = "raise",
        limit: int | None = None,
    ) -> None:
        super().__init__()
        asked_with = {"temperature": 0.0, **(options or {})}
        self._judge = EndpointJudge(  # type: ignore[abstract]  # the protocol's `check` and `load` do nothing
            model, base_url, key_variable, cache=cache, concurrency=concurrency, attempts=attempts,
            backoff_s=backoff_s, timeout_s=timeout_s, options=asked_with, image_format=image_format,
            on_failed_question=on_failed_question, limit=limit,
        )  # fmt: skip
        # What answers depend on, as plain values; the address is left out, a server may move.
        self.model = self._judge.model
        self.send = send
        self.system = system
        self.image_format = image_format
        self.options = json.dumps(asked_with, sort_keys=True)

    def load(self) -> None:
        """Nothing: the weights are elsewhere."""

    def visible(self, height: int, width: int) -> Box:
        """All of it, as far as is known here."""
        return Box(0.0, 0.0, float(width), float(height))

    def generate(
        self,
        prompts: Sequence[str],
        frames: Sequence[Tensor],
        max_new_tokens: int,
        answer_start: str = "",
        times: Sequence[Tensor] | None = None,
    ) -> list[str]:
        """The server's answers, in order.

        Args:
            prompts: the texts; frames come before them.
            frames: one (T, 3, H, W) uint8 video a prompt.
            max_new_tokens: the longest answer.
            answer_start: with which an answer is to begin; a chat endpoint is given it as the end of the question.
            times: of each video's frames, for the rate of a video file.

        Raises:
            JudgeStoppedError: the server stays away, or the limit is reached; says how to continue.
            ValueError: the server refuses a question.
        """
        # Set at each call: only the benchmark knows the longest answer, and a user's own option goes before it.
        self._judge.options = {"max_tokens": max_new_tokens, **json.loads(self.options)}
        clocks = [None] * len(prompts) if times is None else times
        questions = [
            JudgeQuestion(
                f"{prompt} {answer_start}" if answer_start else prompt,
                images=list(video) if self.send == "frames" else [_video_file(video, clock)],
                key=f"prompt {index}",
                system=self.system,
            )
            for index, (prompt, video, clock) in enumerate(zip(prompts, frames, clocks, strict=True))
        ]
        return [answer.strip() for answer in self._judge.ask(questions)]

    # What only a model at hand can do. The signatures are the protocol's: by them a command line takes this class.

    def encode(self, views: Sequence[View], keep_hidden: Collection[tuple[ViewName, AnswerName]] = ()) -> EncodedViews:
        """Refused: an endpoint answers, it gives no log-probabilities of given answers."""
        self._refuse("score given answers (margins)")

    def score(self, encoded: EncodedViews) -> AnswerScores:
        """Refused, as `encode`."""
        self._refuse("score given answers (margins)")

    def kl(
        self, reference: AnswerScores, policy: AnswerScores, reference_head: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """Refused, as `encode`."""
        self._refuse("be trained")

    def text_faults(
        self,
        prompt: str,
        answers: Mapping[str, str],
        shape: tuple[int, int, int] | None = None,
        turns: Sequence[tuple[str, str]] = (),
    ) -> list[str]:
        """Why no text can be scored."""
        return ["an endpoint cannot be trained; give a policy with a checkpoint"]

    def reference_mode(self) -> AbstractContextManager[None]:
        """Refused, as `encode`."""
        self._refuse("be trained")

    def logits(self, hidden: Tensor) -> Tensor:
        """Refused, as `encode`."""
        self._refuse("be trained")

    def blocks(self) -> Iterator[nn.Module]:
        """None are here."""
        return iter(())

    def export(self, folder: Path, state_dict: Mapping[str, Tensor] | None = None) -> None:
        """Refused, as `encode`."""
        self._refuse("be exported")

    def _refuse(self, what: str) -> NoReturn:
        raise ValueError(
            f"{self.model} is behind an endpoint: it answers, but cannot {what}; give a checkpoint for that"
        )


def _video_file(frames: Tensor, times: Tensor | None) -> bytes:
    """An mp4 of a video's frames at their mean rate; at one a second where their times are not known."""
    span = 0.0 if times is None else float(times[-1] - times[0])
    # n frames have n - 1 intervals between them.
    rate = (len(frames) - 1) / span if span > 0 else 1.0
    return encode_mp4(frames.cpu(), rate)
