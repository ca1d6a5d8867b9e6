"""Published checkpoints as far as a cost depends on them: numbers of layers, widths and the like, without their files.

`checkpoints/` has one file of facts a checkpoint. From it a folder is made in which a policy finds what it reads before
weights are loaded. Its tokenizer has words of one token each, so that lengths can be asked for.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from callbacks.estimate.stand_in_processors import write_processor

#: Where the facts are.
FACTS = Path(__file__).parent / "checkpoints"


def known_checkpoints() -> list[str]:
    """The ids of the checkpoints whose facts are here."""
    return sorted(read_facts(path)["id"] for path in FACTS.glob("*.json"))


def read_facts(path: Path) -> dict[str, Any]:
    """The content of a file of facts."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def facts_of(checkpoint: str) -> dict[str, Any] | None:
    """The facts of a checkpoint by its hub id; None = there are none here."""
    path = FACTS / f"{checkpoint.replace('/', '--')}.json"
    return read_facts(path) if path.is_file() else None


def write_checkpoint(facts: dict[str, Any], folder: Path) -> None:
    """Write what a policy reads of a checkpoint before its weights: configurations, tokenizer and processor.

    Args:
        facts: of the checkpoint.
        folder: where to.
    """
    files: dict[str, dict[str, Any]] = dict(facts["files"])
    if (kind := facts.get("processor")) is not None:
        content = files["config.json"]
        files["config.json"] = content | write_processor(kind, content, facts, folder)
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
    if (channels := facts.get("latent_channels")) is not None:
        _write_statistics(channels, folder / "vae" / "diffusion_pytorch_model.safetensors")


def _write_statistics(channels: int, file: Path) -> None:
    """Statistics of latents, whose values cost nothing, for families that keep them among the autoencoder's weights."""
    from safetensors.torch import save_file

    save_file({"latents_mean": torch.zeros(channels), "latents_std": torch.ones(channels)}, file)
