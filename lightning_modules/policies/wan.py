"""Wan 2.1 and 2.2, as diffusers has them, behind the `VideoFlow` protocol."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from datamodules.dense.inputs import Condition, Prompt
from lightning_modules.policies.diffusers_flow import TIME_SCALE, DiffusersVideoFlow
from lightning_modules.policies.flow_codec import CodecParts


def _statistics(path: str, config: Mapping[str, Any]) -> tuple[Sequence[float], Sequence[float], int, int]:
    from diffusers import AutoencoderKLWan

    # Early checkpoints leave out what was the default then and is now.
    defaults = inspect.signature(AutoencoderKLWan.__init__).parameters
    names = ("latents_mean", "latents_std", "scale_factor_temporal", "scale_factor_spatial")
    mean, std, time, side = (config.get(name, defaults[name].default) for name in names)
    return mean, std, time, side


def _embed(pipe: Any, prompts: Sequence[str], length: int, device: torch.device) -> list[Prompt]:
    padded, _ = pipe.encode_prompt(
        list(prompts), do_classifier_free_guidance=False, max_sequence_length=length, device=device
    )
    # The pipeline sets padding to 0, which no word's embedding is.
    lengths = padded.ne(0).any(-1).sum(-1).tolist()
    return [{"embeds": tokens[:count]} for tokens, count in zip(padded, lengths, strict=True)]


def _clean(prompt: str) -> str:
    from diffusers.pipelines.wan.pipeline_wan import prompt_clean

    return str(prompt_clean(prompt))


WAN_PARTS = CodecParts(
    pipeline="WanPipeline",
    vae="AutoencoderKLWan",
    text={"tokenizer": "AutoTokenizer", "text_encoder": "UMT5EncoderModel"},
    marks=("encoder.conv_in.weight", "quant_conv.weight"),
    statistics=_statistics,
    embed=_embed,
    clean=_clean,
)


class WanPolicy(DiffusersVideoFlow):
    """A Wan text-to-video checkpoint that is trained, sampled from and exported, see `DiffusersVideoFlow`.

    Wan2.2-A14B has two transformers: "transformer" for noise levels from its boundary (0.875) up, "transformer_2" below
    it. Guided pairs start at eta <= 0.8 and so use only the low-noise expert: take "transformer_2" for making pairs and
    for training on them, with times below the boundary (`times`; a policy that is asked to denoise outside is an
    error). Its adapter goes into the pipeline by ``load_lora_weights(folder, load_into_transformer_2=True)``; sampling
    from pure noise needs both experts and is the pipeline's business. Wan2.1 and Wan2.2-5B have one transformer.

    Args:
        path: a pipeline's folder or hub id in the diffusers format.
        transformer: which of the pipeline's transformers; see above.
        **options: see `DiffusersVideoFlow`.
    """

    transformer = "WanTransformer3DModel"
    codec_parts = WAN_PARTS
    linears = r"blocks\.\d+\.(attn[12]\.(to_q|to_k|to_v|to_out\.0)|ffn\.net\.(0\.proj|2))"
    first_weight = "patch_embedding.weight"

    def __init__(
        self, path: str, transformer: Literal["transformer", "transformer_2"] = "transformer", **options: Any
    ) -> None:
        self.expert = transformer  # the base's constructor asks for it
        super().__init__(path, **options)

    @property
    def networks(self) -> tuple[str, ...]:
        """The one that was chosen."""
        return (self.expert,)

    @property
    def times(self) -> tuple[float, float]:
        """Lowest and highest t for which the transformer is made."""
        boundary = self.pipeline_index.get("boundary_ratio")
        if boundary is None:
            return (0.0, 1.0)
        return (0.0, boundary) if self.expert == "transformer_2" else (boundary, 1.0)

    def read_transformer_config(self, path: str, subfolder: str) -> dict[str, Any]:
        """The configuration of a transformer that makes videos from text.

        Raises:
            ValueError: there is none, it is another family's, or it also wants an image.
        """
        config = super().read_transformer_config(path, subfolder)
        channels = (config["in_channels"], config["out_channels"])
        if config.get("image_dim") is not None or channels[0] != channels[1]:
            raise ValueError(
                f"policy: {path!r} makes videos from an image (image_dim {config.get('image_dim')}, channels "
                f"{channels[0]} in and {channels[1]} out); this policy takes text-to-video checkpoints"
            )
        return config

    def predict(
        self,
        noisy: Tensor,
        t: Tensor,
        text: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        conditions: Sequence[Condition],
    ) -> Tensor:
        """What Wan predicts is the velocity; it attends to padding as it does to words."""
        velocity: Tensor = self.base(
            hidden_states=noisy,
            timestep=t * TIME_SCALE,
            encoder_hidden_states=text["embeds"],
            return_dict=False,
        )[0]
        return velocity
