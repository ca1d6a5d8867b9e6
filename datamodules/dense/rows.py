"""The rows of a video diffusion model's shards.

Latents are (C, F, H, W), normalised as the transformer sees them: (z - mean) / std per channel. Labels are +1 where the
pair's first video is better, -1 where its second one is, 0 for a tie.

A row is written with the fields of version 1 wherever these can hold it, so that a sample which needs nothing newer has
the same bytes, and its index the same fingerprint, as before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self, get_args

from datamodules.dense.latent_space import LatentSpace
from datamodules.dense.segments import majority_label
from datamodules.video.facts import Fault, VideoFacts

#: structural: both videos start from one real video at noise level eta. vanilla: each from its own pure noise.
#: imported: made elsewhere, by whatever model and from whatever noise.
PairKind = Literal["structural", "vanilla", "imported"]
#: Stream -> the shape of its tensor, see `datamodules.dense.inputs.Prompt`.
PromptShapes = Mapping[str, tuple[int, ...]]


def _empty(row: Any, names: Sequence[str]) -> list[Fault]:
    why = "is empty; give the text, or leave the sample out"
    return [Fault(name, why) for name in names if not str(getattr(row, name)).strip()]


def _latent_faults(video: VideoFacts, shape: tuple[int, ...], space: LatentSpace) -> list[Fault]:
    """What does not fit between a video, its latents' shape and their space."""
    if why := space.frames_fault(video.frames):
        return [Fault("video", f"{why}; cut the video")]
    if shape == (expected := space.shape(video)):
        return []
    size = f"{video.frames} frames of {video.width} x {video.height}"
    return [Fault("latent_shape", f"{list(shape)} does not fit {size}, which {space.name} makes {list(expected)}")]


#: Field -> what makes of its JSON the type that JSON has none for.
_MAKERS: Mapping[str, Callable[[Any], Any]] = {
    "video": lambda value: VideoFacts(**value),
    "latent_space": LatentSpace.from_json,
    "latent_shape": tuple,
    "image_shape": lambda value: None if value is None else tuple(value),
    "image_states_shape": lambda value: None if value is None else tuple(value),
    "prompt_shapes": lambda value: {name: tuple(shape) for name, shape in value.items()},
    "eta": lambda value: tuple(value) if isinstance(value, list) else value,
    "seeds": lambda value: None if value is None else tuple(value),
    "labels": tuple,
    "verdicts": lambda value: None if value is None else tuple(map(tuple, value)),
}


class _Row:
    """What is stored as the ``key.json`` of a sample."""

    __slots__ = ()

    def to_json(self) -> dict[str, Any]:
        """The row as plain JSON types, lists instead of tuples, so that it equals what a file gives back."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))  # type: ignore[call-overload]
        if (space := getattr(self, "latent_space", None)) is not None:
            plain["latent_space"] = space.to_json()
        if "prompt_shapes" in plain:
            shapes = plain.pop("prompt_shapes")
            # Version 1 has a field for prompts of one stream.
            if shapes is None or shapes.keys() == {"embeds"}:
                plain["prompt_shape"] = shapes and shapes["embeds"]
            else:
                plain["prompt_shapes"] = shapes
        for name in ("image_shape", "image_states_shape"):
            if plain.get(name, 0) is None:
                del plain[name]
        return plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The row that `to_json` wrote.

        Raises:
            TypeError: an unknown or a missing field.
        """
        given = dict(data)
        # Version 1 knows prompts of one stream.
        if (shape := given.pop("prompt_shape", None)) is not None:
            given["prompt_shapes"] = {"embeds": shape}
        return cls(**{name: _MAKERS[name](value) if name in _MAKERS else value for name, value in given.items()})


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
        prompt_shapes: of the caption's embeddings; None = not known.
        image_shape: of what is given of the video to a model that starts from an image; None = nothing is.
        image_states_shape: (n, D) of the image's states in the model's image tower; None = there are none.
    """

    latent_shape: tuple[int, int, int, int]
    latent_space: LatentSpace
    prompt_shapes: PromptShapes | None = None
    image_shape: tuple[int, int, int, int] | None = None
    image_states_shape: tuple[int, int] | None = None

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
        eta: the noise level that both started from, in (0, 1], 1 for vanilla pairs; or one for each; None = not known,
            as of an imported pair.
        seeds: of the first and of the second video's noise; None = not known, as of an imported pair.
        latent_shape: (C, F, H, W) of each one's latents.
        latent_space: where they live.
        source: where the real video comes from, for tables.
        sampler: how they were made (steps, shift, guidance_scale, adapter ...), plain JSON types.
        prompt_shapes: of the prompt's embeddings; None = not known.
        image_shape: of what is given of the videos to a model that starts from an image; None = nothing is.
        image_states_shape: (n, D) of the image's states in the model's image tower; None = there are none.
    """

    key: str
    video_id: str
    prompt: str
    video: VideoFacts
    kind: PairKind
    eta: float | tuple[float, float] | None
    seeds: tuple[int, int] | None
    latent_shape: tuple[int, int, int, int]
    latent_space: LatentSpace
    source: str = ""
    sampler: dict[str, Any] = field(default_factory=dict)
    prompt_shapes: PromptShapes | None = None
    image_shape: tuple[int, int, int, int] | None = None
    image_states_shape: tuple[int, int] | None = None

    def faults(self) -> list[Fault]:
        """Everything that is wrong with the row."""
        faults = _empty(self, ("key", "video_id", "prompt"))
        if self.kind not in get_args(PairKind):
            faults.append(Fault("kind", f"{self.kind!r} is none of {' and '.join(get_args(PairKind))}"))
        if self.kind != "imported":
            faults += self._sampling_faults()
        return faults + _latent_faults(self.video, self.latent_shape, self.latent_space)

    def _sampling_faults(self) -> list[Fault]:
        """What is wrong with noise levels and seeds; only an imported pair may have none."""
        faults = []
        etas = self.eta if isinstance(self.eta, tuple) else (self.eta, self.eta)
        if None in etas or not all(0 < eta <= 1 for eta in etas if eta is not None):
            shown = " and ".join(f"{eta:g}" for eta in dict.fromkeys(etas) if eta is not None) or "none"
            faults.append(Fault("eta", f"{shown} is not a noise level in (0, 1]; sample the pair again"))
        elif self.kind == "vanilla" and etas != (1, 1):
            faults.append(Fault("eta", f"{etas[0]:g} in a vanilla pair, which starts from pure noise, eta 1"))
        if self.seeds is None:
            faults.append(Fault("seeds", "are missing; only a pair of kind imported has none"))
        elif self.seeds[0] == self.seeds[1] and etas[0] == etas[1]:
            faults.append(Fault("seeds", f"are both {self.seeds[0]}, so the videos are one; sample the pair again"))
        return faults


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
        faults = _empty(self, ("key",))
        if not self.labels:
            faults.append(Fault("labels", "are empty; a pair has at least one segment"))
        given = [*self.labels, *([] if self.whole is None else [self.whole])]
        if wrong := [label for label in given if label not in (-1, 0, 1)]:
            faults.append(Fault("labels", f"{wrong} are none of +1 (the first video), -1 (the second) and 0 (a tie)"))
        if self.frames_per_segment < 1:
            faults.append(Fault("frames_per_segment", f"is {self.frames_per_segment}; it is 1 or more"))
        if self.verdicts is not None and len(self.verdicts) != len(self.labels):
            faults.append(Fault("verdicts", f"are {len(self.verdicts)} for {len(self.labels)} labels; give as many"))
        return faults
