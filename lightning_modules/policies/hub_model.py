"""Reading a checkpoint of transformers, from a folder or the hub: its configuration, and later its model."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from lightning_modules.policies.quantization import Quantization, quantization_options, quantize_on_meta
from lightning_modules.policies.remote_code import load_failure

#: model_type -> the policy that takes such checkpoints, where one is made for them.
POLICIES: dict[str, str] = {
    "video_llava": "VideoLlavaPolicy",
    "pllava": "PllavaPolicy",
    "llava_next_video": "LlavaVideoPolicy",
    "llava_onevision": "LlavaVideoPolicy",
    "internvl": "LlavaVideoPolicy",
    "qwen2_vl": "QwenVLPolicy",
    "qwen2_5_vl": "QwenVLPolicy",
    "qwen3_vl": "QwenVLPolicy",
}

#: Policy -> its module.
_MODULES = {
    "VideoLlavaPolicy": "lightning_modules.policies.video_llava",
    "PllavaPolicy": "lightning_modules.policies.pllava",
    "LlavaVideoPolicy": "lightning_modules.policies.llava_video",
    "QwenVLPolicy": "lightning_modules.policies.qwen_vl",
    "AnyVideoLLM": "lightning_modules.policies.any_video_llm",
}


def raw_configuration(path: str) -> dict[str, Any]:
    """The content of a checkpoint's config.json.

    Raises:
        ValueError: there is none, or it needs code of its own.
    """
    from transformers import PreTrainedConfig

    try:
        content: dict[str, Any] = PreTrainedConfig.get_config_dict(path, trust_remote_code=False)[0]
    except (OSError, ValueError) as error:
        raise ValueError(
            f"policy: no checkpoint at {path!r} ({load_failure(error)}); give a folder or hub id with a config.json"
        ) from error
    if not content:
        raise ValueError(f"policy: no checkpoint at {path!r}; give a folder or hub id with a config.json")
    return content


def read_configuration(path: str, kinds: Mapping[str, str] | None = None) -> Any:
    """The configuration of a checkpoint folder or hub id.

    Args:
        path: the folder or id.
        kinds: the model types that are taken, to the names of their classes; None = every one that transformers knows.

    Raises:
        ValueError: there is none, transformers does not know its model type, it is another family's, or it scales its
            logits.
    """
    from transformers import AutoConfig

    content = raw_configuration(path)
    kind = content.get("model_type")
    # The file was found and read: what fails now is that its model type is unknown, not that it is missing.
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        if kind is None or "auto_map" in content:
            raise ValueError(f"policy: {path!r} cannot be read ({load_failure(error)})") from error
        if kind in POLICIES and (kinds is None or kind not in kinds):
            raise ValueError(other_family(path, kind, kinds)) from error
        raise ValueError(
            f"policy: {path!r} holds a {kind} model, a model_type that this transformers does not know; update "
            "transformers, or give a checkpoint in the transformers format"
        ) from error
    if kinds is not None and config.model_type not in kinds:
        raise ValueError(other_family(path, config.model_type, kinds))
    text = config.get_text_config()
    scales = {name: getattr(text, name, None) for name in ("logit_scale", "logits_scaling")}
    # Such a factor is applied between head and loss, where the scoring in chunks does not look.
    if any(value not in (None, 1, 1.0) for value in scales.values()):
        raise ValueError(f"policy: {path!r} scales its logits ({scales}), which is not supported")
    return config


def other_family(path: str, kind: str, kinds: Iterable[str] | None) -> str:
    """What to say of a checkpoint of another family, with the policy that takes it."""
    taken = "" if kinds is None else f", this policy takes {' and '.join(kinds)} ones"
    other = f"; {POLICIES[kind]} takes it" if kind in POLICIES else ""
    return f"policy: {path!r} holds a {kind} model{taken}{other}"


def without_dropout(config: Any) -> Any:
    """A copy of a configuration, and of its parts, with every dropout 0: policy and reference must be one function."""
    config = copy.deepcopy(config)
    parts = [config, *(getattr(config, name, None) for name in config.sub_configs)]
    for part in (part for part in parts if part is not None):
        # By a part of the name: every family calls its dropouts otherwise.
        for name in [name for name, value in vars(part).items() if "dropout" in name and isinstance(value, float)]:
            setattr(part, name, 0.0)
    return config


def build_model(
    path: str,
    config: Any,
    class_name: str,
    dtype: str,
    attn_implementation: str,
    meta: bool,
    quantization: Quantization | None = None,
) -> Any:
    """The checkpoint's model without dropout: with its weights, or on the meta device without them.

    Args:
        path: where the weights are.
        config: the checkpoint's configuration.
        class_name: of transformers' class.
        dtype: of the weights in memory.
        attn_implementation: one of transformers'.
        meta: read no weights.
        quantization: of the decoder's linears.
    """
    import transformers

    kind: Any = getattr(transformers, class_name)
    config = without_dropout(config)
    attention = _by_part(config, attn_implementation)
    options: dict[str, Any] = {"dtype": getattr(torch, dtype), "attn_implementation": attention}
    if meta:
        with torch.device("meta"):
            model = kind._from_config(config, **options)
        if quantization is not None:
            quantize_on_meta(model, quantization, options["dtype"], kept_modules(kind, config))
        return model
    if quantization is not None:
        options |= quantization_options(quantization, options["dtype"], kept_modules(kind, config))
    return kind.from_pretrained(path, trust_remote_code=False, config=config, **options)


def _by_part(config: Any, attn_implementation: str) -> str | dict[str, str]:
    """The attention of each part; a tower for sound, as Gemma 4 has one, keeps its own: no video goes through it."""
    if getattr(config, "audio_config", None) is None:
        return attn_implementation
    return {part: attn_implementation for part in ("", *config.sub_configs) if part != "audio_config"}


def kept_modules(kind: Any, config: Any) -> list[str]:
    """The modules of a model that are not its decoder: towers, projectors, the output head."""
    with torch.device("meta"):  # for the names alone, which differ by family
        model = kind._from_config(config)
    decoder = model.get_decoder()
    return ["lm_head", *(f"model.{name}" for name, part in model.model.named_children() if part is not decoder)]


def recompute_activations(model: Any) -> None:
    """Let a model's blocks compute their activations again in backward instead of keeping them."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def switch_dropout_off(model: nn.Module) -> None:
    """Set the rate of modules whose dropout a configuration does not name."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


def policy_class(path: str) -> Any:
    """The policy for a checkpoint, by its model type; `AnyVideoLLM` where none is made for it.

    Raises:
        ValueError: there is no checkpoint.
    """
    import importlib

    name = POLICIES.get(raw_configuration(path).get("model_type", ""), "AnyVideoLLM")
    return getattr(importlib.import_module(_MODULES[name]), name)
