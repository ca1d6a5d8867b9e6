"""Frames of the videos of a sample that its views show, and their decoding: each video in one pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from datamodules.video.codec import decode_each, decode_image

NameT = TypeVar("NameT", bound=str)


class FrameChoice(NamedTuple):
    """Frames of one video: the sample that has it, which member, which frames, and when each is shown in the view."""

    key: str
    member: str
    indices: list[int]
    times: list[float]


def decoded(choices: Mapping[NameT, FrameChoice], videos: Mapping[tuple[str, str], bytes]) -> dict[NameT, Tensor]:
    """(T, 3, H, W) frames of each choice; each video is read once, for the union of what is shown of it.

    Args:
        choices: by the name of a view.
        videos: (key, member) -> bytes.

    Raises:
        ValueError: a member is missing or undecodable.
    """
    union: dict[tuple[str, str], set[int]] = defaultdict(set)
    for choice in choices.values():
        union[choice.key, choice.member].update(choice.indices)
    frames = {}
    for (key, member), indices in union.items():
        content = content_of(videos, key, member)
        try:
            # A picture is a video of one frame.
            frames[key, member] = (
                {0: decode_image(content)} if member.endswith("jpg") else decode_each(content, indices)
            )
        except ValueError as error:
            raise ValueError(f"{key}.{member}: {error}") from error
    return {
        name: torch.stack([frames[choice.key, choice.member][index] for index in choice.indices])
        for name, choice in choices.items()
    }


def content_of(videos: Mapping[tuple[str, str], bytes], key: str, member: str) -> bytes:
    """The bytes of a member.

    Raises:
        ValueError: it is not there.
    """
    if (key, member) not in videos:
        raise ValueError(f"{key}.{member} is missing, though the index says that it is there")
    return videos[key, member]
