"""A family's frozen companions: the autoencoder and the text encoders, loaded when they are first needed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import Tensor

from datamodules.dense.inputs import Prompt
from datamodules.dense.latent_space import LatentSpace
from lightning_modules.policies.flow_model import read_config, weights_mark
from lightning_modules.policies.image_tower import ImageTower
from lightning_modules.policies.plain_tokenizer import PlainTokenizer

#: Type of weights in memory.
Precision = Literal["float32", "bfloat16"]
#: Path and configuration of the autoencoder -> mean and std of each latent channel, and its ratios in time and space.
Statistics = Callable[[str, Mapping[str, Any]], tuple[Sequence[float], Sequence[float], int, int]]
#: The text parts of pipelines that read a prompt by T5.
T5 = {"tokenizer": "AutoTokenizer", "text_encoder": "T5EncoderModel"}
#: The first and last convolution of encoders whose convolutions are wrapped to be causal.
CAUSAL_MARKS = ("encoder.conv_in.conv.weight", "encoder.conv_out.conv.weight")


def scaled_latents(path: str, config: Mapping[str, Any]) -> tuple[Sequence[float], Sequence[float], int, int]:
    """`Statistics` of an autoencoder whose latents are multiplied by one number."""
    channels, scale = config["latent_channels"], config["scaling_factor"]
    # Where the configuration does not say it, each step between two blocks halves a side.
    side = config.get("spatial_compression_ratio") or 2 ** (len(config["block_out_channels"]) - 1)
    return [0.0] * channels, [1 / scale] * channels, config["temporal_compression_ratio"], side


@dataclass(frozen=True, slots=True)
class CodecParts:
    """What a family has around its transformer.

    Attributes:
        pipeline: the name of the pipeline's class in diffusers, whose `encode_prompt` is used.
        vae: the name of the autoencoder's class in diffusers.
        text: the pipeline's text parts -> their classes in transformers, tokenizers first.
        marks: the first and the last convolution of the autoencoder's encoder, by the names of their weights.
        statistics: of the latents.
        embed: pipeline with text parts, prompts, most tokens, device -> prompts by stream.
        clean: what the pipeline does to a prompt before it tokenizes it.
        template_tokens: tokens that the pipeline puts behind a prompt and that count with it.
        whole_pipeline: `embed` gets a pipeline; else the text parts by name, where it cannot be built of them alone.
        decode: autoencoder, (1, C, F, h, w) latents that are not normalised -> (1, 3, T, H, W) in [-1, 1].
    """

    pipeline: str
    vae: str
    text: Mapping[str, str]
    marks: tuple[str, str]
    statistics: Statistics
    embed: Callable[[Any, Sequence[str], int, torch.device], list[Prompt]]
    clean: Callable[[str], str] = str
    template_tokens: int = 0
    whole_pipeline: bool = True
    decode: Callable[[Any, Tensor], Tensor] = lambda vae, latents: vae.decode(latents).sample


class FlowCodec:
    """Videos to latents and back, prompts to embeddings.

    Deliberately no `nn.Module`: a policy that holds one is not trained, sharded or saved with it, and a copy of the
    policy shares it. Neither part is ever in the graph, and autocast does not reach them: what is stored must not
    depend on a trainer's precision.

    Args:
        path: a pipeline's folder or hub id.
        parts: the family's.
        text_dtype: type of the text encoders' weights.
        prompt_length: tokens at which a prompt is cut.
        vae_dtype: type of the autoencoder's weights; latents and pixels are float32 in any case.
        tiling: encode and decode in overlapping tiles, which takes less memory and gives slightly other pixels.
        leading_frames: copies of the first latent frame before a video, see `LatentSpace`.
        tower: what makes states of a given image; None = the model has no use for them.
    """

    def __init__(
        self,
        path: str,
        parts: CodecParts,
        text_dtype: Precision,
        prompt_length: int,
        vae_dtype: Precision = "float32",
        tiling: bool = False,
        leading_frames: int = 0,
        tower: ImageTower | None = None,
    ) -> None:
        self.path = path
        self.parts = parts
        self.text_dtype = text_dtype
        self.prompt_length = prompt_length
        self.vae_dtype = vae_dtype
        self.tiling = tiling
        self.leading_frames = leading_frames
        self.tower = tower
        self._vae: Any = None
        self._text: Any = None

    def __deepcopy__(self, memo: dict[int, Any]) -> FlowCodec:
        # A frozen copy of the policy, made as a reference, must not hold the autoencoder a second time.
        return self

    @cached_property
    def space(self) -> LatentSpace:
        """Normalisation and ratios, and the mark of the weights.

        Raises:
            ValueError: the pipeline has no autoencoder, or another family's.
        """
        config = read_config(self.path, "vae")
        name = self.parts.vae
        if config.get("_class_name") != name:
            raise ValueError(f"policy: {self.path!r} has a {config.get('_class_name')}; this policy takes a {name}")
        mean, std, time, side = self.parts.statistics(self.path, config)
        mark = weights_mark(self.path, self.parts.marks)
        normalisation = tuple(map(float, mean)), tuple(map(float, std))
        return LatentSpace(name, *normalisation, int(time), int(side), mark, self.leading_frames)

    def encode(self, frames: Sequence[Tensor], device: torch.device) -> Tensor:
        """B videos (T, 3, H, W) uint8 -> (B, C, F, h, w) float32, (mode - mean) / std; one video at a time.

        T is the ratio k + 1: of another video the autoencoder would drop the last frames.

        Raises:
            ValueError: something else than frames of pixels.
        """
        for number, video in enumerate(frames):
            if video.dtype != torch.uint8 or video.ndim != 4 or video.shape[1] != 3:
                raise ValueError(f"video {number} is {tuple(video.shape)} {video.dtype}, not (T, 3, H, W) uint8")
        pixels = (video.to(device).transpose(0, 1).float() / 127.5 - 1 for video in frames)
        return torch.cat([self.encode_pixels(video) for video in pixels])

    @torch.no_grad()
    def encode_pixels(self, video: Tensor) -> Tensor:
        """(3, T, H, W) float32 in [-1, 1] -> (1, C, F, h, w) float32, (mode - mean) / std."""
        vae = self._autoencoder(video.device)
        mean, std = self._normalisation(video.device)
        with torch.autocast(video.device.type, enabled=False):
            mode = vae.encode(video[None].to(vae.dtype)).latent_dist.mode().float()
        normalised: Tensor = (mode - mean) / std
        return torch.cat([*[normalised[:, :, :1]] * self.leading_frames, normalised], dim=2)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """(B, C, F, h, w) normalised latents -> (B, T, 3, H, W) float32 in [0, 1]; one video at a time."""
        vae = self._autoencoder(latents.device)
        mean, std = self._normalisation(latents.device)
        latents = latents[:, :, self.leading_frames :]
        with torch.autocast(latents.device.type, enabled=False):
            videos = [
                self.parts.decode(vae, video[None].to(vae.dtype)).float() for video in latents.float() * std + mean
            ]
        return ((torch.cat(videos) + 1) / 2).clamp(0, 1).transpose(1, 2)

    @torch.no_grad()
    def embed(self, prompts: Sequence[str], device: torch.device) -> list[Prompt]:
        """Embeddings by stream, float32 without padding, cleaned and cut as the pipeline does it."""
        text = self._text_pipeline(device)
        with torch.autocast(device.type, enabled=False):
            embedded = self.parts.embed(text, prompts, self.prompt_length, device)
        return [{name: stream.float().contiguous() for name, stream in prompt.items()} for prompt in embedded]

    def lengths(self, prompts: Sequence[str]) -> list[int]:
        """Tokens of each prompt, its end included, as `embed` would have them without a limit; loads no weights."""
        # A prompt beyond the tokenizer's own limit would be warned of by the tokenizer, in other words.
        tokenizer = self._tokenizers["tokenizer"]
        lengths = [len(tokenizer(self.parts.clean(prompt), verbose=False)["input_ids"]) for prompt in prompts]
        return [length + self.parts.template_tokens for length in lengths]

    def release(self, keep_vae: bool = False) -> None:
        """Forget the weights, or keep those that see videos on the CPU, and give their memory on a GPU back."""
        held = self._vae is not None or self._text is not None
        self._text = None
        if self.tower is not None:
            self.tower.release(keep_vae)
        self._vae = self._vae.to("cpu") if keep_vae and self._vae is not None else None
        if held and torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _normalisation(self, device: torch.device) -> tuple[Tensor, Tensor]:
        mean, std = (torch.tensor(each, device=device).view(-1, 1, 1, 1) for each in (self.space.mean, self.space.std))
        return mean, std

    def _autoencoder(self, device: torch.device) -> Any:
        import diffusers

        if self._vae is None:
            precision = getattr(torch, self.vae_dtype)
            kind: Any = getattr(diffusers, self.parts.vae)
            vae = kind.from_pretrained(self.path, trust_remote_code=False, subfolder="vae", torch_dtype=precision)
            if self.tiling:
                vae.enable_tiling()
            self._vae = vae.requires_grad_(False).eval()
        return self._vae.to(device)

    @cached_property
    def _tokenizers(self) -> dict[str, Any]:
        import transformers

        return {
            name: PlainTokenizer(
                getattr(transformers, kind).from_pretrained(self.path, trust_remote_code=False, subfolder=name)
            )
            for name, kind in self.parts.text.items()
            if name.startswith("tokenizer")
        }

    def _with_text(self, parts: Mapping[str, Any]) -> Any:
        """The pipeline with text parts; those that only denoising needs are None."""
        import diffusers

        pipeline: Any = getattr(diffusers, self.parts.pipeline)
        arguments = inspect.signature(pipeline.__init__).parameters
        needed = {name for name, argument in arguments.items() if argument.default is inspect.Parameter.empty}
        return pipeline(**{name: parts.get(name) for name in needed - {"self"}})

    def _text_pipeline(self, device: torch.device) -> Any:
        import transformers

        if self._text is None:
            precision = getattr(torch, self.text_dtype)
            parts = dict(self._tokenizers)
            for name, kind in self.parts.text.items():
                if name not in parts:
                    encoder = getattr(transformers, kind).from_pretrained(
                        self.path, trust_remote_code=False, subfolder=name, dtype=precision
                    )
                    parts[name] = encoder.requires_grad_(False).eval()
            self._text = self._with_text(parts) if self.parts.whole_pipeline else SimpleNamespace(**parts)
        for name in self.parts.text:
            if not name.startswith("tokenizer"):
                getattr(self._text, name).to(device)
        return self._text
