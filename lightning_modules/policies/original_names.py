"""Adapters under the names that a family's authors gave its modules, which ComfyUI and other programs read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

#: The folder, within an adapter's, of the file with original names.
FOLDER = "original_names"
_LORA = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
_SIDES = {"A": "lora_down", "B": "lora_up"}


@dataclass(frozen=True, slots=True)
class OriginalNames:
    """How a family's modules are called by its authors.

    Attributes:
        rename: a module's name in diffusers -> its original one; None = it has none that diffusers' converter knows.
        alpha: write `.alpha` beside the factors. diffusers' converter of LTX-Video does not know it; there the scale
            alpha / r is multiplied into the second factor, and every reader takes 1.
    """

    rename: Callable[[str], str | None]
    alpha: bool


def require_names(adapted: Any, names: OriginalNames) -> None:
    """Refuse an adapter with a module that has no original name, before anything is trained.

    Raises:
        ValueError: names the first such module.
    """
    for name, _ in adapted.named_parameters():
        match = _LORA.fullmatch(name.removeprefix("base_model.model.").replace(".default.weight", ".weight"))
        if match and names.rename(match["module"]) is None:
            raise ValueError(
                f"policy.original_names: {match['module']} has no original name that diffusers' converter reads; "
                "leave policy.lora.targets out, or set original_names to false"
            )


def write_original(tensors: Mapping[str, Tensor], config: Any, folder: Path, file: str, names: OriginalNames) -> None:
    """Write an adapter under its original names, as ``FOLDER/original_names/FILE``.

    The file holds no settings of peft's: a reader that takes them and `.alpha` would scale twice.

    Args:
        tensors: of the adapter, by the names of the transformer's modules.
        config: its peft configuration, of one rank and one alpha.
        folder: the adapter's.
        file: the file's name.
        names: the family's.
    """
    from safetensors.torch import save_file

    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        match = _LORA.fullmatch(name)
        assert match is not None, "checked when the adapter was made"
        module = f"diffusion_model.{names.rename(match['module'])}"
        if names.alpha:
            renamed[f"{module}.{_SIDES[match['side']]}.weight"] = tensor
            renamed[f"{module}.alpha"] = torch.tensor(float(config.lora_alpha))
        else:
            scale = config.lora_alpha / config.r if match["side"] == "B" else 1.0
            renamed[f"{module}.lora_{match['side']}.weight"] = tensor * scale
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    save_file(renamed, folder / FOLDER / file, {"format": "pt"})
