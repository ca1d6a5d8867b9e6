"""LoRA adapters in the form that `WanPipeline.load_lora_weights` reads and writes: one file, its settings inside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lightning_modules.policies.adapters import DEFAULT, LoraSettings

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel

#: The linears of self-attention, cross-attention and feed-forward of every block.
WAN_LINEARS = r"blocks\.\d+\.(attn[12]\.(to_q|to_k|to_v|to_out\.0)|ffn\.net\.(0\.proj|2))"
#: How the pipeline names what belongs to its transformer, and peft what belongs to the model it wraps.
PIPELINE, WRAPPED = "transformer.", "base_model.model."
#: Facts about one machine's run, not about the adapter.
NOT_KEPT = ("auto_mapping", "base_model_name_or_path", "inference_mode", "revision", "task_type", "peft_type")


@dataclass
class WanLora(LoraSettings):
    """A new LoRA adapter for Wan, of DenseDPO's rank 128.

    Alpha and targets are open in the paper. Our choice: alpha is the rank, so that the update is B A as it stands and a
    reader that loses alpha changes nothing; and every linear of the blocks, those named in `WAN_LINEARS`.
    """

    r: int = 128
    alpha: float = 128


def read_adapter(folder: str) -> tuple[LoraConfig, dict[str, Tensor]]:
    """The settings of an adapter and its weights, named as peft names them.

    Args:
        folder: a folder or hub id that the pipeline's `load_lora_weights` reads.

    Raises:
        ValueError: there is no adapter of a Wan transformer, or without settings its ranks differ.
    """
    from diffusers import WanPipeline
    from peft import LoraConfig

    try:
        found, metadata = WanPipeline.lora_state_dict(folder, return_lora_metadata=True, use_safetensors=True)
    except Exception as error:  # a network error is the hub client's HTTP library's own
        raise ValueError(f"adapter: no adapter at {folder!r} ({error}); give a folder that this program exported, or "
                         "another that diffusers' `load_lora_weights` reads") from error  # fmt: skip
    weights = {name.removeprefix(PIPELINE): one for name, one in found.items() if name.startswith(PIPELINE)}
    if not weights:
        raise ValueError(
            f"adapter: {folder!r} holds no weights for a Wan transformer (the first is {next(iter(found), None)}); a "
            "PEFT folder is not what `load_lora_weights` reads"
        )
    settings = {
        name.removeprefix(PIPELINE): value for name, value in (metadata or {}).items() if name.startswith(PIPELINE)
    }
    config = LoraConfig(**settings) if settings else _guessed(folder, weights)
    return config, {WRAPPED + name: one for name, one in weights.items()}


def _guessed(folder: str, weights: Mapping[str, Tensor]) -> LoraConfig:
    """The settings of an adapter that does not say them; alpha is then the rank, as for diffusers."""
    from peft import LoraConfig

    ranks = {len(one) for name, one in weights.items() if name.endswith("lora_A.weight")}
    if len(ranks) != 1:
        raise ValueError(
            f"adapter: {folder!r} says nothing about its settings and has ranks {sorted(ranks)}; one rank is needed"
        )
    rank = ranks.pop()
    return LoraConfig(r=rank, lora_alpha=rank, target_modules=sorted({name.split(".lora_")[0] for name in weights}))


def write_adapter(adapted: PeftModel, folder: Path, state_dict: Mapping[str, Tensor] | None) -> None:
    """Write the trained adapter with its settings; without them alpha would become the rank where it is loaded.

    Args:
        adapted: the transformer with its adapters.
        folder: where to; made if need be.
        state_dict: full tensors named as in `adapted.state_dict()`; None = the model's own weights.
    """
    from diffusers import WanPipeline
    from peft import get_peft_model_state_dict

    tensors = get_peft_model_state_dict(adapted, state_dict, DEFAULT, save_embedding_layers=False)
    WanPipeline.save_lora_weights(
        str(folder),
        {name.removeprefix(WRAPPED): one.detach().cpu().contiguous() for name, one in tensors.items()},
        transformer_lora_adapter_metadata=_settings(adapted.peft_config[DEFAULT]),
    )


def _settings(config: Any) -> dict[str, Any]:
    """What differs from peft's defaults, as JSON: an older peft refuses settings that it does not know."""
    usual = type(config)().to_dict()
    return {
        name: sorted(value) if isinstance(value, set) else value
        for name, value in config.to_dict().items()
        if name not in NOT_KEPT and (value != usual[name] or name in ("r", "lora_alpha"))
    }
