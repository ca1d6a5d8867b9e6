"""Options of the command line, and the sizes that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(kw_only=True)
class Options:
    """Options of every comparison: sizes of the transformer, and how to measure.

    Attributes:
        layers: transformer blocks.
        width: hidden size.
        heads: attention heads.
        feed_forward: width of the feed-forward layers.
        rank: LoRA rank on every linear of the blocks.
        repeats: timed rounds; every row runs once a round.
        threads: threads of torch; None = as many as torch takes by itself.
        seed: of weights, adapters, frames and words.
        memory: measure every row's peak memory, each in a process of its own.
        json: also write the results to this file.
    """

    layers: int = 6
    width: int = 512
    heads: int = 8
    feed_forward: int = 1376
    rank: int = 16
    repeats: int = 5
    threads: int | None = None
    seed: int = 0
    memory: bool = True
    json: Path | None = None


@dataclass(kw_only=True)
class LanguageOptions(Options):
    """Options of a language model and its texts.

    Attributes:
        vocabulary: tokens.
        prefix: tokens before an answer: the prompt and, in `vista`, the video.
        answer: tokens of an answer, end of sequence included.
    """

    vocabulary: int = 32000
    prefix: int = 1080
    answer: int = 32


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
    """

    tower: bool = False
    frames: int = 8
    image_size: int = 154
    patch_size: int = 14
    tower_layers: int = 12
    tower_width: int = 384

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

    latent_frames: int = 9
    latent_height: int = 16
    latent_width: int = 28
    prompt: int = 64


@dataclass(kw_only=True)
class IndexOptions:
    """Options of opening an index of made-up samples.

    Attributes:
        rows: samples.
        former: also measure the format that was the only one in 0.1.0, which takes 2.5 KB of memory a sample.
        repeats: rounds, each in a process of its own; the table has the one of the median time to open.
        threads: threads of torch; None = as many as torch takes by itself.
        folder: where the index is written and removed again; None = the system's folder for temporary files.
        json: also write the results to this file.
    """

    rows: int = 300_000
    former: bool = True
    repeats: int = 3
    threads: int | None = None
    folder: Path | None = None
    json: Path | None = None
