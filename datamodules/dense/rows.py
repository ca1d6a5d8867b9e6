"""The rows of a video diffusion model's shards, and the latent space in which its videos are stored.

Latents are (C, F, H, W) float32, normalised as the transformer sees them: (z - mean) / std per channel. Labels are +1
where the pair's first video is better, -1 where its second one is, 0 for a tie.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from operator import eq
from typing import Any, Literal, Self, get_args

from datamodules.dense.segments import majority_label
from datamodules.video.facts import Fault, VideoFacts

#: structural: both videos start from one real video at noise level eta. vanilla: each from its own pure noise.
PairKind = Literal["structural", "vanilla"]


def _plain(row: Any) -> dict[str, Any]:
    """A dataclass as plain JSON types, lists instead of tuples, so that it equals what a file gives back."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(row)))
    return plain


@dataclass(frozen=True, slots=True)
class LatentSpace:
    """Where latents live: two videos' latents can be compared, or trained on, only if all of this agrees.

    Attributes:
        name: of the autoencoder's checkpoint or class.
        mean: of each latent channel, taken off before the transformer sees it.
        std: of each latent channel, divided by.
        temporal_ratio: frames per latent frame; r k + 1 frames become k + 1.
        spatial_ratio: pixels per latent, in each direction.
        weights: a mark of the autoencoder's weights, which says that two are not the same one; "" = not known.
    """

    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    temporal_ratio: int
    spatial_ratio: int
    weights: str = ""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return _plain(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LatentSpace:
        """What `to_json` wrote.

        Raises:
            TypeError: an unknown or a missing field.
        """
        numbers = {name: tuple(float(value) for value in data[name]) for name in ("mean", "std") if name in data}
        return _one(cls(**{**data, **numbers}))

    def shape(self, video: VideoFacts) -> tuple[int, int, int, int]:
        """(C, F, H, W) of the latents of a video."""
        frames = -(-(video.frames - 1) // self.temporal_ratio) + 1
        return (len(self.mean), frames, video.height // self.spatial_ratio, video.width // self.spatial_ratio)

    def faults_against(self, other: LatentSpace) -> list[str]:
        """How this space differs from another one, one line for each field; empty = they are one, as far as is known.

        Normalisation is compared up to rounding: it may have passed through another program's float32.
        """
        found = []
        for one in fields(self):
            mine, theirs = getattr(self, one.name), getattr(other, one.name)
            agree: Callable[[Any, Any], bool] = _AGREE.get(one.name, eq)
            if not agree(mine, theirs):
                found.append(f"{one.name} {_short(mine)} is not {_short(theirs)}")
        return found


@lru_cache
def _one(space: LatentSpace) -> LatentSpace:
    """The same object for equal spaces: all rows of an index share it."""
    return space


def _close(first: Sequence[float], second: Sequence[float]) -> bool:
    return len(first) == len(second) and all(
        abs(a - b) <= 1e-5 * max(1.0, abs(a), abs(b)) for a, b in zip(first, second, strict=True)
    )


#: How the fields of a latent space are compared that need not be equal.
_AGREE: dict[str, Callable[[Any, Any], bool]] = {
    "mean": _close,
    "std": _close,
    "weights": lambda first, second: first == second or not (first and second),
}


def _short(value: Any) -> str:
    if not isinstance(value, tuple):
        return repr(value)
    shown = ", ".join(f"{one:g}" for one in value[:4])
    return f"[{shown}{', ...' if len(value) > 4 else ''}] ({len(value)} channels)"


def _empty(row: Any, names: Sequence[str]) -> list[Fault]:
    why = "is empty; give the text, or leave the sample out"
    return [Fault(name, why) for name in names if not str(getattr(row, name)).strip()]


def _latent_faults(video: VideoFacts, shape: tuple[int, ...], space: LatentSpace) -> list[Fault]:
    """What does not fit between a video, its latents' shape and their space."""
    if (video.frames - 1) % space.temporal_ratio:
        return [
            Fault("video", f"{video.frames} frames are not a multiple of {space.temporal_ratio} plus 1; cut the video")
        ]
    if shape == (wanted := space.shape(video)):
        return []
    size = f"{video.frames} frames of {video.width} x {video.height}"
    return [Fault("latent_shape", f"{list(shape)} does not fit {size}, which {space.name} makes {list(wanted)}")]


def _rebuilt(data: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a row with what JSON has no type for."""
    found = dict(data)
    makers: dict[str, Any] = {
        "video": lambda value: VideoFacts(**value),
        "latent_space": LatentSpace.from_json,
        "latent_shape": tuple,
        "prompt_shape": lambda value: None if value is None else tuple(value),
        "seeds": tuple,
        "labels": tuple,
        "verdicts": lambda value: None if value is None else tuple(map(tuple, value)),
    }
    return {name: makers[name](value) if name in makers else value for name, value in found.items()}


class _Row:
    """What is stored as the ``key.json`` of a sample."""

    __slots__ = ()

    def to_json(self) -> dict[str, Any]:
        """The row as plain JSON types."""
        return _plain(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The row that `to_json` wrote.

        Raises:
            TypeError: an unknown or a missing field.
        """
        return cls(**_rebuilt(data))


@dataclass(frozen=True, slots=True)
class VideoRow(_Row):
    """One real video with its caption: ``key.json`` of schema "vidpref/videos".

    Attributes:
        key: the sample's name in its shard, without a dot.
        video_id: names the source video.
        caption: what the video shows, the prompt of its pair.
        video: frames, fps and size of ``key.mp4``.
        source: where it comes from, for tables.
        scores: numbers by which it was chosen, as {"motion": 3.2}.
    """

    key: str
    video_id: str
    caption: str
    video: VideoFacts
    source: str = ""
    scores: dict[str, float] = field(default_factory=dict)

    def faults(self) -> list[Fault]:
        """Everything that is wrong with the row."""
        return _empty(self, ("key", "video_id", "caption"))


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentRow(VideoRow):
    """A video that was encoded: ``key.json`` of schema "vidpref/latents", the fields of its `VideoRow` and these.

    Attributes:
        latent_shape: (C, F, H, W) of the latents.
        latent_space: where they live.
        prompt_shape: (n, D) of the caption's embedding; None = not known.
    """

    latent_shape: tuple[int, int, int, int]
    latent_space: LatentSpace
    prompt_shape: tuple[int, int] | None = None

    def faults(self) -> list[Fault]:
        """Everything that is wrong with the row."""
        # Named, not `super()`: with slots the class is made twice, and `super()` means the first one.
        return [*VideoRow.faults(self), *_latent_faults(self.video, self.latent_shape, self.latent_space)]


@dataclass(frozen=True, slots=True)
class PairRow(_Row):
    """Two videos of one prompt: ``key.json`` of schema "vidpref/pairs".

    Attributes:
        key: the sample's name in its shard, without a dot.
        video_id: names the real video that both come from.
        prompt: what both were made for.
        video: frames, fps and size of each of the two.
        kind: see `PairKind`.
        eta: the noise level that both started from, in (0, 1]; 1 for vanilla pairs.
        seeds: of the first and of the second video's noise.
        latent_shape: (C, F, H, W) of each one's latents.
        latent_space: where they live.
        source: where the real video comes from, for tables.
        sampler: how they were made (steps, shift, guidance_scale, adapter ...), plain JSON types.
        prompt_shape: (n, D) of the prompt's embedding; None = not known.
    """

    key: str
    video_id: str
    prompt: str
    video: VideoFacts
    kind: PairKind
    eta: float
    seeds: tuple[int, int]
    latent_shape: tuple[int, int, int, int]
    latent_space: LatentSpace
    source: str = ""
    sampler: dict[str, Any] = field(default_factory=dict)
    prompt_shape: tuple[int, int] | None = None

    def faults(self) -> list[Fault]:
        """Everything that is wrong with the row."""
        found = _empty(self, ("key", "video_id", "prompt"))
        if self.kind not in get_args(PairKind):
            found.append(Fault("kind", f"{self.kind!r} is none of {' and '.join(get_args(PairKind))}"))
        if not 0 < self.eta <= 1:
            found.append(Fault("eta", f"{self.eta:g} is not a noise level in (0, 1]; sample the pair again"))
        elif self.kind == "vanilla" and self.eta != 1:
            found.append(Fault("eta", f"{self.eta:g} in a vanilla pair, which starts from pure noise, eta 1"))
        if self.seeds[0] == self.seeds[1]:
            found.append(Fault("seeds", f"are both {self.seeds[0]}, so the videos are one; sample the pair again"))
        return found + _latent_faults(self.video, self.latent_shape, self.latent_space)


@dataclass(frozen=True, slots=True)
class LabelRow(_Row):
    """What a judge said of a pair, segment by segment: ``key.json`` of schema "vidpref/labels".

    Attributes:
        key: the pair's.
        labels: one for each segment, in {-1, 0, 1}; +1 = the first video is better.
        frames_per_segment: frames in a segment, see `segments.segment_frames`.
        verdicts: for each segment what was answered in both orders of showing, see `segments.agreed_label`.
        judge: who said so.
        unparsed: replies that no verdict was found in; they count as ties.
        whole: the label of the whole video, where one was asked for.
    """

    key: str
    labels: tuple[int, ...]
    frames_per_segment: int
    verdicts: tuple[tuple[str, str], ...] | None = None
    judge: str = ""
    unparsed: int = 0
    whole: int | None = None

    @property
    def preference(self) -> int:
        """The label of the whole video: the one that was asked for, else that of most segments."""
        return majority_label(self.labels) if self.whole is None else self.whole

    def faults(self) -> list[Fault]:
        """Everything that is wrong with the row."""
        found = _empty(self, ("key",))
        if not self.labels:
            found.append(Fault("labels", "are empty; a pair has at least one segment"))
        given = [*self.labels, *([] if self.whole is None else [self.whole])]
        if wrong := [label for label in given if label not in (-1, 0, 1)]:
            found.append(Fault("labels", f"{wrong} are none of +1 (the first video), -1 (the second) and 0 (a tie)"))
        if self.frames_per_segment < 1:
            found.append(Fault("frames_per_segment", f"is {self.frames_per_segment}; it is 1 or more"))
        if self.verdicts is not None and len(self.verdicts) != len(self.labels):
            found.append(Fault("verdicts", f"are {len(self.verdicts)} for {len(self.labels)} labels; give as many"))
        return found
