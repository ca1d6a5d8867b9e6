"""Batches in the shapes of a run's data, for a step that is not looked at: from the index, or as asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import torch
from torch import Tensor

from datamodules.dense.batches import LatentBatch, PairBatch
from datamodules.dense.inputs import Condition
from datamodules.video.facts import VideoFacts
from datamodules.vista.batches import VistaBatch
from datamodules.vista.samples import AnswerName, View, ViewName
from lightning_modules.answer_module import AnswerModule
from lightning_modules.flow_module import FlowModule
from lightning_modules.policies.video_flow import VideoFlow
from lightning_modules.preference import PreferenceModule
from lightning_modules.supervised_flow import SupervisedFlow

#: Negatives that show the very frames of their view.
_SAME_FRAMES = ("Reverse", "Shuffle")
#: Words of which some tokenizer has one as a single token.
_WORDS = ("yes", "the", "a", "red", "w1", "?")


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of a sample that no configuration says.

    Attributes:
        frames: of a video that is a latent; a video-language model's are in the data's `num_frames`.
        height: of a frame, pixels.
        width: of a frame, pixels.
        question: tokens of a prompt, the template's among them and the video's not.
        answer: tokens of an answer.
        fps: frames per second.
        latents: (C, F, H, W) of latents that are stored already; None = as the policy's autoencoder makes them.
    """

    frames: int = 81
    height: int = 480
    width: int = 832
    question: int = 60
    answer: int = 64
    fps: float = 16.0
    latents: tuple[int, ...] | None = None


def batch_of(module: PreferenceModule, data: Any, sizes: Sizes, batch_size: int) -> Any:
    """A batch for a step.

    Args:
        module: whose batch it is; of a video-language model loaded, fake or not.
        data: the data module, of which frames and negatives are read.
        sizes: of the samples.
        batch_size: samples.

    Raises:
        ValueError: there is no such batch for the method.
    """
    if isinstance(module, AnswerModule):
        return _vista_batch(module, data, sizes, batch_size)
    if isinstance(module, FlowModule):
        return _flow_batch(module, sizes, batch_size)
    raise ValueError(f"estimate knows no batch of {type(module).__name__}; it takes methods on answers and on flows")


def _flow_batch(module: FlowModule, sizes: Sizes, batch_size: int) -> Any:
    policy: Any = module.policy
    shape = latent_shape(policy, sizes)
    frames = shape[1]
    latents: dict[str, Any] = {name: torch.zeros(batch_size, *shape) for name in ("first", "second", "noise")}
    prompt = {name: torch.zeros(stream) for name, stream in policy.prompt_shapes.items()}
    image, states = None, None
    if policy.image_use != "none":
        image = torch.zeros(shape[0], 1 if policy.image_use == "given" else frames, *shape[2:])
    if policy.attends_to_image:
        states = torch.zeros(policy._codec.tower.shape)
    shared: dict[str, Any] = {
        "keys": [f"{number}" for number in range(batch_size)],
        "prompts": [prompt] * batch_size,
        "t": torch.full((batch_size,), sum(policy.times) / 2),
        "mask": torch.ones(batch_size, dtype=torch.bool),
        "denominators": dict.fromkeys(module.active(), float(batch_size * frames)),
        "conditions": [Condition(sizes.fps, image, image_states=states)] * batch_size,
    }
    if isinstance(module, SupervisedFlow):
        return LatentBatch(clean=latents["first"], noise=latents["noise"], **shared)
    # Every frame decided: ties take no part in the loss, but the network's work is the same.
    return PairBatch(
        **latents,
        labels=torch.ones(batch_size, frames, dtype=torch.int8),
        segments=torch.arange(frames).expand(batch_size, -1).clone(),
        preference=torch.ones(batch_size, dtype=torch.int8),
        **shared,
    )


def latent_shape(policy: VideoFlow, sizes: Sizes) -> tuple[int, ...]:
    """(C, F, H, W) of a video's latents.

    Raises:
        ValueError: the family makes no latents of so many frames.
    """
    if sizes.latents is not None:
        return sizes.latents
    space = policy.latent_space
    if fault := space.frames_fault(sizes.frames):
        raise ValueError(f"--frames: {fault}")
    return space.shape(VideoFacts(sizes.frames, sizes.fps, sizes.width, sizes.height))


def _vista_batch(module: AnswerModule, data: Any, sizes: Sizes, batch_size: int) -> VistaBatch:
    policy: Any = module.policy
    needs = module.needs()
    question = _text(lambda text: policy.prompt_length(text, "the prompt"), sizes.question)
    answer = _text(lambda text: len(policy.answer_ids(text, "an answer")), sizes.answer)
    numbers = count(1)

    def view(sample: int, name: ViewName, frames: Tensor) -> View:
        times = torch.arange(len(frames), dtype=torch.float32)
        return View(sample, name, frames, question, dict.fromkeys(needs[name], answer), times)

    views = [
        view(sample, name, frames)
        for sample in range(batch_size)
        for name, frames in _frames(needs, data, sizes, numbers).items()
    ]
    keys, mask = [f"{number}" for number in range(batch_size)], torch.ones(batch_size, dtype=torch.bool)
    batch = VistaBatch(keys, views, mask, dict.fromkeys(module.active(), float(batch_size)))
    if (length := getattr(data, "reference_frames", None)) is not None:
        batch.reference_apart = True
        batch.reference_views = [
            replace(view(sample, "original", _distinct(length, sizes, numbers)), for_reference=True)
            for sample in range(batch_size)
        ]
    return batch


def _frames(
    needs: Mapping[ViewName, tuple[AnswerName, ...]], data: Any, sizes: Sizes, numbers: Iterable[int]
) -> dict[ViewName, Tensor]:
    """Each view's frames; as many of them are distinct as in data, since a tower runs once over what is distinct."""
    frames: dict[ViewName, Tensor] = {}
    for name in needs:
        length = data.view_frames.count(name)
        original = frames.get("original")
        negative = type(getattr(getattr(data, "negatives", None), "video", None)).__name__
        if name == "video_negative" and original is not None and negative in _SAME_FRAMES:
            frames[name] = original.flip(0)
        elif name.startswith("object"):
            frames[name] = _distinct(1, sizes, numbers).expand(length, -1, -1, -1)
        else:
            frames[name] = _distinct(length, sizes, numbers)
    return frames


def _distinct(length: int, sizes: Sizes, numbers: Iterable[int]) -> Tensor:
    """(length, 3, H, W) uint8 frames, none like another: a number in its first pixels, in base 256."""
    frames = torch.zeros(length, 3, sizes.height, sizes.width, dtype=torch.uint8)
    for frame, number in zip(frames, numbers, strict=False):
        frame[:, :, 0] = number % 256
        frame[:, :, 1] = number // 256
    return frames


def _text(tokens: Any, wanted: int) -> str:
    """A text of about so many tokens."""
    for word in _WORDS:
        short, long = tokens(word), tokens(f"{word} {word}")
        if long > short:
            words = max(1, 1 + (wanted - short) // (long - short))
            return " ".join([word] * words)
    raise ValueError("the tokenizer makes nothing of plain words")
