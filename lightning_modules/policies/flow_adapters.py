"""LoRA adapters in the form that a family's pipeline reads and writes: one file, its settings inside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lightning_modules.policies.adapters import DEFAULT, LoraSettings
from lightning_modules.policies.original_names import OriginalNames, write_original

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel

#: How a pipeline names what belongs to its transformer, and peft what belongs to the model it wraps.
PIPELINE, WRAPPED = "transformer.", "base_model.model."
#: The file of an adapter, and where diffusers keeps the settings in it.
FILE, METADATA = "pytorch_lora_weights.safetensors", "lora_adapter_metadata"
#: Facts about one machine's run, not about the adapter.
NOT_KEPT = ("auto_mapping", "base_model_name_or_path", "inference_mode", "revision", "task_type", "peft_type")


@dataclass
class FlowLora(LoraSettings):
    """A new LoRA adapter for a video diffusion model, of DenseDPO's rank 128.

    Alpha and targets are open in the paper. Our choice: alpha is the rank, so that the update is B A itself and a
    reader that loses alpha changes nothing; and the attention and feed-forward linears of every block, those that the
    family names (`linears`).
    """

    r: int = 128
    alpha: float = 128


def read_adapter(folder: str, pipeline: str) -> tuple[LoraConfig, dict[str, Tensor]]:
    """The settings of an adapter and its weights, named as peft names them.

    Args:
        folder: a folder or hub id that the pipeline's `load_lora_weights` reads, or, where it has none, the
            transformer's `load_lora_adapter`.
        pipeline: the name of the pipeline's class.

    Raises:
        ValueError: there is no adapter of such a transformer, or without settings its ranks differ.
    """
    import diffusers
    from peft import LoraConfig

    kind: Any = getattr(diffusers, pipeline)
    try:
        if hasattr(kind, "lora_state_dict"):
            tensors, metadata = kind.lora_state_dict(folder, return_lora_metadata=True, use_safetensors=True)
        else:
            tensors, metadata = _bare_adapter(folder)
    except Exception as error:  # a network error is the hub client's HTTP library's own
        raise ValueError(f"adapter: no adapter at {folder!r} ({error}); give a folder that this program exported, or "
                         "another that diffusers' `load_lora_weights` reads") from error  # fmt: skip
    weights = {name.removeprefix(PIPELINE): tensor for name, tensor in tensors.items() if name.startswith(PIPELINE)}
    if not weights:
        family = pipeline.removesuffix("Pipeline")
        raise ValueError(
            f"adapter: {folder!r} holds no weights for a {family} transformer (the first is "
            f"{next(iter(tensors), None)}); a PEFT folder is not what `load_lora_weights` reads"
        )
    settings = {
        name.removeprefix(PIPELINE): value for name, value in (metadata or {}).items() if name.startswith(PIPELINE)
    }
    config = LoraConfig(**settings) if settings else _guessed(folder, weights)
    return config, {WRAPPED + name: tensor for name, tensor in weights.items()}


def _bare_adapter(folder: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What a transformer's `save_lora_adapter` wrote, named as a pipeline would."""
    from huggingface_hub import hf_hub_download
    from safetensors import safe_open

    file = Path(folder, FILE) if Path(folder).exists() else hf_hub_download(folder, FILE)
    with safe_open(file, "pt") as content:
        tensors = {PIPELINE + name: content.get_tensor(name) for name in content.keys() if ".lora_" in name}  # noqa: SIM118
        settings = json.loads((content.metadata() or {}).get(METADATA, "{}"))
    return tensors, {PIPELINE + name: value for name, value in settings.items()}


def _guessed(folder: str, weights: Mapping[str, Tensor]) -> LoraConfig:
    """The settings of an adapter that does not say them; alpha is then the rank, as for diffusers."""
    from peft import LoraConfig

    ranks = {len(tensor) for name, tensor in weights.items() if name.endswith("lora_A.weight")}
    if len(ranks) != 1:
        raise ValueError(
            f"adapter: {folder!r} says nothing about its settings and has ranks {sorted(ranks)}; one rank is needed"
        )
    rank = ranks.pop()
    return LoraConfig(r=rank, lora_alpha=rank, target_modules=sorted({name.split(".lora_")[0] for name in weights}))


def write_adapter(
    adapted: PeftModel,
    folder: Path,
    state_dict: Mapping[str, Tensor] | None,
    pipeline: str,
    original: OriginalNames | None = None,
) -> None:
    """Write the trained adapter with its settings; without them alpha would become the rank where it is loaded.

    Args:
        adapted: the transformer with its adapters.
        folder: where to; made if need be.
        state_dict: full tensors named as in `adapted.state_dict()`; None = the model's own weights.
        pipeline: the name of the pipeline's class, whose `load_lora_weights` is to read the adapter. One without that
            method has a transformer with `load_lora_adapter(folder, prefix=None, use_safetensors=True,
            weight_name="pytorch_lora_weights.safetensors")`.
        original: also write it under the family's original names.
    """
    import diffusers
    from safetensors.torch import save_file

    kind: Any = getattr(diffusers, pipeline)
    tensors = adapter_tensors(adapted, state_dict)
    settings = adapter_settings(adapted.peft_config[DEFAULT])
    if hasattr(kind, "save_lora_weights"):
        kind.save_lora_weights(str(folder), tensors, transformer_lora_adapter_metadata=settings)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / FILE, {"format": "pt", METADATA: json.dumps(settings, indent=2, sort_keys=True)})
    if original is not None:
        write_original(tensors, adapted.peft_config[DEFAULT], folder, FILE, original)


def adapter_tensors(adapted: PeftModel, state_dict: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """The trained adapter's tensors on the CPU, by the names of the transformer's modules."""
    from peft import get_peft_model_state_dict

    tensors = get_peft_model_state_dict(adapted, state_dict, DEFAULT, save_embedding_layers=False)
    return {name.removeprefix(WRAPPED): tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def adapter_settings(config: Any) -> dict[str, Any]:
    """What differs from peft's defaults, as JSON: an older peft refuses settings that it does not know."""
    usual = type(config)().to_dict()
    return {
        name: sorted(value) if isinstance(value, set) else value
        for name, value in config.to_dict().items()
        if name not in NOT_KEPT and (value != usual[name] or name in ("r", "lora_alpha"))
    }
