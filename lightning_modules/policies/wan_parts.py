"""What is around Wan's transformers: autoencoder, text encoder, and the names of its modules in Wan's own code."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from datamodules.dense.inputs import Prompt
from lightning_modules.policies.flow_codec import CodecParts
from lightning_modules.policies.original_names import OriginalNames


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


_ATTENTION = {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "o"}
#: A block's linears in diffusers -> their names in Wan's own code.
_ORIGINAL = {
    **{f"attn1.{ours}": f"self_attn.{own}" for ours, own in _ATTENTION.items()},
    **{f"attn2.{ours}": f"cross_attn.{own}" for ours, own in _ATTENTION.items()},
    "attn2.add_k_proj": "cross_attn.k_img",
    "attn2.add_v_proj": "cross_attn.v_img",
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
}


def _original(name: str) -> str | None:
    match = re.fullmatch(r"(blocks\.\d+)\.(.+)", name)
    return f"{match[1]}.{_ORIGINAL[match[2]]}" if match and match[2] in _ORIGINAL else None


WAN_PARTS = CodecParts(
    pipeline="WanPipeline",
    vae="AutoencoderKLWan",
    text={"tokenizer": "AutoTokenizer", "text_encoder": "UMT5EncoderModel"},
    marks=("encoder.conv_in.weight", "quant_conv.weight"),
    statistics=_statistics,
    embed=_embed,
    clean=_clean,
)
WAN_NAMES = OriginalNames(_original, alpha=True)
