"""Options of the command line, and the sizes that follow from them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

#: What seconds are of: the clock on the wall, or the processor, which other programs on the machine change little. Give
#: --threads 1 with cpu: threads that wait for each other count.
Clock = Literal["wall", "cpu"]


def clock_line(clock: Clock) -> str:
    """What seconds are of, in a line."""
    return f"seconds are of {'the clock on the wall' if clock == 'wall' else 'the processor, all threads together'}"


def sized(default: Any, quick: Any) -> Any:
    """A field of options that has another value with `--quick`."""
    return field(default=default, metadata={"quick": quick})


@dataclass(kw_only=True)
class Measuring:
    """Options of every command.

    Attributes:
        threads: threads of torch; None = as many as torch takes by itself.
        seed: of weights, adapters, frames and words.
        json: also write the results to this file.
    """

    threads: int | None = None
    seed: int = 0
    json: Path | None = None

    @classmethod
    def quick(cls) -> dict[str, Any]:
        """The sizes of `--quick`, which only shows that a command runs."""
        return {option.name: option.metadata["quick"] for option in fields(cls) if "quick" in option.metadata}


@dataclass(kw_only=True)
class Options(Measuring):
    """Options of every comparison of steps: sizes of the transformer, and how to measure.

    Attributes:
        layers: transformer blocks.
        width: hidden size.
        heads: attention heads.
        feed_forward: width of the feed-forward layers.
        rank: LoRA rank on every linear of the blocks.
        repeats: timed rounds; every row runs once a round.
        clock: what seconds are of.
        memory: measure every row's peak memory, each in a process of its own.
    """

    layers: int = sized(6, quick=2)
    width: int = sized(512, quick=64)
    heads: int = sized(8, quick=2)
    feed_forward: int = sized(1376, quick=96)
    rank: int = sized(16, quick=4)
    repeats: int = sized(5, quick=1)
    clock: Clock = "wall"
    memory: bool = sized(True, quick=False)


@dataclass(kw_only=True)
class LanguageOptions(Options):
    """Options of a language model and its texts.

    Attributes:
        vocabulary: tokens.
        prefix: tokens before an answer: the prompt and, in `vista`, the video.
        answer: tokens of an answer, end of sequence included.
    """

    vocabulary: int = sized(32000, quick=300)
    prefix: int = sized(1080, quick=40)
    answer: int = sized(32, quick=5)


@dataclass(kw_only=True)
class VistaOptions(LanguageOptions):
    """Options of VistaDPO: one sample with six views and eight answers.

    Attributes:
        tower: add rows with the vision tower in the loop.
        frames: frames a view.
        image_size: pixels of the tower's square image.
        patch_size: pixels of a patch.
        tower_layers: the tower's blocks; Video-LLaVA's own has 24.
        tower_width: its hidden size, a multiple of 64; Video-LLaVA's is 1024.
        checkpointing: recompute the activations of blocks in backward.
    """

    tower: bool = False
    frames: int = sized(8, quick=2)
    image_size: int = sized(154, quick=28)
    patch_size: int = 14
    tower_layers: int = sized(12, quick=2)
    tower_width: int = sized(384, quick=64)
    checkpointing: bool = False

    @property
    def video_tokens(self) -> int:
        """Tokens of a view's video: every frame's patches and class token."""
        return self.frames * ((self.image_size // self.patch_size) ** 2 + 1)


@dataclass(kw_only=True)
class DpoOptions(LanguageOptions):
    """Options of plain DPO on a text-only Llama, compared with TRL's trainer."""


@dataclass(kw_only=True)
class DenseOptions(Options):
    """Options of DenseDPO: one pair of videos as latents, and their prompt.

    Attributes:
        latent_frames: latent frames of a video.
        latent_height: rows of a latent frame; the transformer sees patches of 2 x 2.
        latent_width: columns.
        prompt: tokens of the prompt, padded to 512 as Wan does.
    """

    width: int = sized(512, quick=32)
    feed_forward: int = sized(1376, quick=48)
    latent_frames: int = sized(9, quick=3)
    latent_height: int = sized(16, quick=4)
    latent_width: int = sized(28, quick=6)
    prompt: int = 64


@dataclass(kw_only=True)
class RunOptions(VistaOptions):
    """Options of whole runs of VistaDPO, with the vision tower and videos that are decoded.

    Attributes:
        samples: samples in an epoch.
        epochs: how often each is seen.
        video_frames: frames of the video, 24 a second.
        video_size: its height and width.
    """

    samples: int = sized(4, quick=2)
    epochs: int = sized(3, quick=2)
    video_frames: int = sized(96, quick=12)
    video_size: int = sized(360, quick=32)


@dataclass(kw_only=True)
class LoaderOptions(Measuring):
    """Options of reading VistaDPO's samples, one a batch, with all their views.

    Attributes:
        samples: how many are read; they share one video.
        workers: numbers of processes to try.
        frames: frames a view.
        video_frames: frames of the video, 24 a second.
        height: of the video.
        width: of the video.
    """

    samples: int = sized(12, quick=3)
    workers: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"quick": [0, 1]})
    frames: int = sized(8, quick=2)
    video_frames: int = sized(240, quick=24)
    height: int = sized(1080, quick=36)
    width: int = sized(1920, quick=64)


@dataclass(kw_only=True)
class SampleOptions(Measuring):
    """Options of the bytes of a sample's frames.

    Attributes:
        checkpoints: whose processors resize frames, of those in `benchmarks.speed.families`; none = all.
        max_pixels: `policy.max_pixels` of those checkpoints, which must have such a bound; None = their own.
        frames: frames a view.
        video_frames: frames of the video, 24 a second.
        height: of the video.
        width: of the video.
    """

    checkpoints: list[str] = field(default_factory=list, metadata={"quick": ["LanguageBind/Video-LLaVA-7B-hf"]})
    max_pixels: int | None = None
    frames: int = sized(8, quick=2)
    video_frames: int = sized(240, quick=24)
    height: int = sized(1080, quick=270)
    width: int = sized(1920, quick=480)


@dataclass(kw_only=True)
class FramesOptions(VistaOptions):
    """Options of the memory of a step against the frames of its views; `frames` itself is not used.

    Attributes:
        counts: numbers of frames to try.
        question: tokens of the prompt besides the video, template included.
    """

    counts: list[int] = field(default_factory=lambda: [8, 16, 32, 64], metadata={"quick": [1, 2]})
    question: int = sized(104, quick=20)
    checkpointing: bool = True


@dataclass(kw_only=True)
class LengthOptions(Measuring):
    """Options of reading a few frames of long videos.

    Attributes:
        minutes: lengths to try.
        frames: frames that are read, spread evenly.
        height: of the videos.
        width: of the videos.
        part: frames of the part of which the videos are made, at 24 a second; each part begins with a key frame.
    """

    minutes: list[float] = field(default_factory=lambda: [1.0, 5.0, 10.0], metadata={"quick": [0.1, 0.2]})
    frames: int = sized(8, quick=2)
    height: int = sized(1080, quick=36)
    width: int = sized(1920, quick=64)
    part: int = sized(240, quick=24)


@dataclass(kw_only=True)
class IndexOptions(Measuring):
    """Options of opening an index of made-up samples.

    Attributes:
        rows: samples.
        former: also measure the format that was the only one in 0.1.0, which takes 2.5 KB of memory a sample.
        repeats: rounds, each in a process of its own; the table has the one of the median time to open.
        folder: where the index is written and removed again; None = the system's folder for temporary files.
    """

    rows: int = sized(300_000, quick=1000)
    former: bool = True
    repeats: int = sized(3, quick=1)
    folder: Path | None = None
