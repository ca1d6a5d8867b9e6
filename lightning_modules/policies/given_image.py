"""What a model makes of the image that it starts from: frames that are given, or channels beside the noisy ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from datamodules.dense.inputs import Condition
from lightning_modules.policies.transfer import sent

#: none: the model takes no image. given: the image's latents are the video's first ones, which are not made.
#: channels: the latents of the image, followed by grey, are further channels of every frame, all of which are made.
ImageUse = Literal["none", "given", "channels"]


def given_frames(use: ImageUse, frames: int, conditions: Sequence[Condition], device: torch.device) -> Tensor | None:
    """(B, F) bool, True for latent frames that are given; None where there is none."""
    images = [condition.image for condition in conditions]
    if use != "given" or all(image is None for image in images):
        return None
    counts = sent(torch.tensor([0 if image is None else image.shape[1] for image in images]), device)
    return torch.arange(frames, device=device) < counts[:, None]


def with_given(noisy: Tensor, given: Tensor | None, conditions: Sequence[Condition]) -> Tensor:
    """(B, C, F, H, W) latents with those that are given in their place; the latents themselves where none is."""
    if given is None:
        return noisy
    clean = torch.zeros_like(noisy)
    for row, condition in enumerate(conditions):
        if condition.image is not None:
            clean[row, :, : condition.image.shape[1]] = condition.image
    return torch.where(given[:, None, :, None, None], clean, noisy)


def token_times(t: Tensor, given: Tensor | None, shape: Sequence[int]) -> Tensor:
    """The time of each token, 0 for those of given frames: (B, F h w), or the times (B,) where none is given.

    Args:
        t: (B,) times.
        given: (B, F) bool.
        shape: (F, h, w) tokens of a video.
    """
    if given is None:
        return t
    times = torch.where(given, 0.0, t[:, None])
    return times[:, :, None].expand(-1, -1, shape[1] * shape[2]).flatten(1)


def image_channels(noisy: Tensor, conditions: Sequence[Condition], mask_channels: int) -> Tensor:
    """The noisy latents with the mask of the given frame and the image's latents as further channels.

    Args:
        noisy: (B, C, F, H, W).
        conditions: B conditions, each with latents of noisy's shape.
        mask_channels: frames of a latent frame, of each of which the model has a mask.

    Returns:
        (B, 2 C + mask_channels, F, H, W).

    Raises:
        ValueError: there is no image, or one of another size.
    """
    images = [condition.image for condition in conditions]
    if not images or any(image is None or image.shape != noisy.shape[1:] for image in images):
        raise ValueError(
            "this policy makes videos from an image, and the batch has none, or one of another size; make the samples "
            "again with this policy"
        )
    mask = noisy.new_zeros(len(noisy), mask_channels, *noisy.shape[2:])
    mask[:, :, 0] = 1.0
    return torch.cat([noisy, mask, torch.stack([image.to(noisy) for image in images if image is not None])], dim=1)


def image_states(conditions: Sequence[Condition], shape: Sequence[int]) -> Tensor:
    """The states of the image's tower, (B, n, D).

    Args:
        conditions: B conditions.
        shape: (n, D) of each one's states.

    Raises:
        ValueError: there are none, or those of another tower.
    """
    states = [condition.image_states for condition in conditions]
    if not states or any(each is None or each.shape != torch.Size(shape) for each in states):
        raise ValueError(
            f"this policy attends to an image's states {list(shape)}, and the batch has none, or those of another "
            "tower; make the samples again with this policy"
        )
    return torch.stack([each for each in states if each is not None])


def image_fault(use: ImageUse, latent_shape: Sequence[int], image_shape: Sequence[int] | None) -> str | None:
    """Why latents cannot be trained on with this image, or without any; None = they can.

    Args:
        use: what the model makes of an image.
        latent_shape: (C, F, H, W) of the video.
        image_shape: of the image's latents.
    """
    if use == "none":
        if image_shape is None:
            return None
        return (
            f"it was made from an image (latents {list(image_shape)}), and the policy takes none; train the "
            "image-to-video policy that it was made with, or make the sample again with this policy"
        )
    channels, frames, height, width = latent_shape
    expected = (channels, 1 if use == "given" else frames, height, width)
    if image_shape is None:
        return "it holds no latents of an image, from which the policy starts; make the sample again with this policy"
    if tuple(image_shape) != expected:
        return (
            f"latents {list(image_shape)} of the image, the policy takes {list(expected)}; make the sample again with "
            "this policy"
        )
    return None


def states_fault(expected: Sequence[int] | None, shape: Sequence[int] | None) -> str | None:
    """Why a sample with states of this shape, or without any, cannot be trained on; None = it can.

    Args:
        expected: (n, D) of the policy's image tower; None = it has none, and looks at no states.
        shape: of the sample's states; None = it has none.
    """
    if expected is None or (shape is not None and tuple(shape) == tuple(expected)):
        return None
    stored = "holds none" if shape is None else f"holds {list(shape)}"
    return (
        f"it {stored}, and the policy attends to an image's states {list(expected)}; make the sample again with this "
        "policy"
    )
