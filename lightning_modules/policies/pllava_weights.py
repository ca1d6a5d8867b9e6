"""Checkpoints of PLLaVA as they are published, read into transformers' LLaVA with their LoRA merged.

The language model was saved inside peft: `language_model.base_model.model.model.layers.0.self_attn.q_proj` has a
`base_layer.weight`, a `lora_A.default.weight` and a `lora_B.default.weight`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

#: Published name -> transformers' own; applied in this order.
_RENAMED = (
    (r"^language_model\.base_model\.model\.", "language_model."),
    (r"\.base_layer\.", "."),
    (r"^vision_tower\.vision_model\.", "model.vision_tower."),
    (r"^multi_modal_projector\.", "model.multi_modal_projector."),
    (r"^language_model\.lm_head\.", "lm_head."),
    (r"^language_model\.model\.", "model.language_model."),
)
#: Tensors that some files hold and no model needs.
_UNUSED = re.compile(r"(^|\.)image_newline$|rotary_emb\.inv_freq$|position_ids$")


def llava_configuration(content: dict[str, Any]) -> Any:
    """The LLaVA configuration of transformers for the content of a published config.json."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

    return LlavaConfig(
        vision_config=CLIPVisionConfig(**content.get("vision_config", {})),
        text_config=LlamaConfig(**content.get("text_config", {})),
        image_token_index=content.get("image_token_index", 32000),
        vision_feature_layer=content.get("vision_feature_layer", -2),
        vision_feature_select_strategy=content.get("vision_feature_select_strategy", "default"),
        projector_hidden_act=content.get("projector_hidden_act", "gelu"),
    )


def weight_names(path: str) -> list[str]:
    """The names of a checkpoint's tensors: from its index, or from the headers of local files; [] = not known yet."""
    import json

    from safetensors import safe_open

    index = _file(path, "model.safetensors.index.json")
    if index is not None:
        return list(json.loads(index.read_text())["weight_map"])
    names: list[str] = []
    for file in sorted(Path(path).glob("*.safetensors")) if Path(path).is_dir() else []:
        with safe_open(file, "pt") as content:
            names += content.keys()
    return names


def check_names(path: str, names: Iterable[str], base: str | None, lora_alpha: float | None) -> None:
    """Refuse files that do not hold a whole model, or whose LoRA has no scale.

    Args:
        path: of the checkpoint.
        names: of its tensors.
        base: the checkpoint that the file goes on top of.
        lora_alpha: the scale of its LoRA.

    Raises:
        ValueError: says what is missing.
    """
    names = list(names)
    has_lora = any(".lora_A." in name for name in names)
    whole = any(re.search(r"layers\.0\.self_attn\.q_proj\.(base_layer\.)?weight$", name) for name in names)
    if names and not whole and base is None:
        raise ValueError(
            f"policy: {path!r} holds no weights of a language model (no `base_layer` keys), only what was trained on "
            "top of one; set policy.base to the LLaVA checkpoint that it was trained from"
        )
    if has_lora and lora_alpha is None:
        raise ValueError(
            f"policy: {path!r} holds a LoRA whose scale is in no file; set policy.lora_alpha (4 for the published 7B "
            "and 13B models, which were trained with 32)"
        )


def merged_weights(path: str, base: str | None, lora_alpha: float | None, dtype: torch.dtype) -> dict[str, Tensor]:
    """A checkpoint's tensors by transformers' names, LoRA merged: W + alpha / r B A.

    Args:
        path: a folder or hub id.
        base: the checkpoint that the file goes on top of; None = it is whole.
        lora_alpha: the scale of its LoRA.
        dtype: of the result; the sum is in float32.
    """
    # The base first: what was trained on top replaces it.
    state: dict[str, Tensor] = {}
    lora: dict[str, Tensor] = {}
    for source in (base, path) if base is not None else (path,):
        for name, tensor in _tensors(source):
            if ".lora_" in name:
                lora[name] = tensor
            elif not _UNUSED.search(name):
                state[renamed(name)] = tensor.to(dtype)
    for name, first in lora.items():
        if ".lora_A." in name:
            assert lora_alpha is not None, "check_names comes first"
            second, target = lora[name.replace(".lora_A.", ".lora_B.")], renamed(name.split(".lora_A.")[0] + ".weight")
            # A LoRA's rank is the number of rows of A; its scale is in no file.
            change = lora_alpha / len(first) * (second.float() @ first.float())
            state[target] = (state[target].float() + change).to(dtype)
    return state


def renamed(name: str) -> str:
    """The name in transformers' LLaVA of a published tensor."""
    for pattern, other in _RENAMED:
        name = re.sub(pattern, other, name)
    return name


def _tensors(path: str) -> Iterator[tuple[str, Tensor]]:
    from huggingface_hub import snapshot_download
    from safetensors import safe_open

    folder = Path(path if Path(path).is_dir() else snapshot_download(path, allow_patterns=["*.safetensors", "*.json"]))
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ValueError(f"policy: {path!r} has no *.safetensors")
    for file in files:
        with safe_open(file, "pt") as content:
            for name in content.keys():  # noqa: SIM118  # not a mapping
                yield name, content.get_tensor(name)


def _file(path: str, name: str) -> Path | None:
    """A file of a folder or hub id; None = there is none."""
    from transformers.utils import cached_file

    file = cached_file(
        path, name, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False
    )
    return None if file is None else Path(file)
