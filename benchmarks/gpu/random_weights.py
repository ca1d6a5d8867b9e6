"""Checkpoints in the sizes of published ones, with random weights: what a run loads, without a network."""

from __future__ import annotations

import copy
import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.row import Outcome, Setting
from callbacks.estimate.checkpoint_facts import facts_of, write_checkpoint

#: Method -> the published checkpoint whose sizes it has.
CHECKPOINTS = {"vista": "LanguageBind/Video-LLaVA-7B-hf", "dense": "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"}
#: Names of the files of weights: folder and stem, as transformers and diffusers look for them.
_FILES = {"vista": "model", "dense": "transformer/diffusion_pytorch_model"}
#: Bytes of a file.
_FILE_BYTES = 2 * 2**30
#: Random numbers that are drawn; longer tensors repeat them, as drawing 7 billion would take minutes.
_DRAWN = 2**20 + 1
_GIB = 2**30


def measure(setting: Setting) -> Outcome:
    """Write the checkpoints of both methods."""
    values = {}
    for method in CHECKPOINTS:
        folder, start = setting.checkpoint(method), time.monotonic()
        size = write_random(method, folder, setting.dry_run)
        values[method] = {"GiB": size / _GIB, "seconds": time.monotonic() - start}
    summary = ", ".join(f"{CHECKPOINTS[name]} {part['GiB']:.1f} GiB" for name, part in values.items())
    return Outcome(summary, values)


def sizes(method: str, dry_run: bool) -> dict[str, Any]:
    """The facts of a method's checkpoint, see `checkpoint_facts`; of a dry run, with small numbers in them."""
    facts = facts_of(CHECKPOINTS[method])
    assert facts is not None, "it ships with the estimate"
    facts = copy.deepcopy(facts)
    if dry_run and method == "vista":
        config = facts["files"]["config.json"]
        config["vision_config"] |= {
            "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": 28, "projection_dim": 32,
        }  # fmt: skip
        config["text_config"] |= {
            "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 256,
        }  # fmt: skip
    elif dry_run:
        facts["files"]["transformer/config.json"] |= {
            "num_attention_heads": 2, "attention_head_dim": 12, "text_dim": 16, "freq_dim": 16, "ffn_dim": 32,
            "num_layers": 2, "rope_max_seq_len": 32,
        }  # fmt: skip
    return facts


def write_random(method: str, folder: Path, dry_run: bool) -> int:
    """Write a checkpoint; its bytes.

    Raises:
        ValueError: there is not the room for it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_checkpoint(sizes(method, dry_run), folder)
    shapes = _shapes(method, folder)
    size = 2 * sum(shape.numel() for shape in shapes.values())
    if (free := shutil.disk_usage(folder).free) < 1.1 * size:
        raise ValueError(
            f"{folder}: {size / _GIB:.0f} GiB are needed, {free / _GIB:.0f} are free; give another --output"
        )
    _write_files(folder / _FILES[method], shapes)
    return size


def _shapes(method: str, folder: Path) -> dict[str, torch.Size]:
    """The names and shapes of all weights."""
    with torch.device("meta"):
        if method == "vista":
            from transformers import AutoConfig, VideoLlavaForConditionalGeneration

            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            model: Any = VideoLlavaForConditionalGeneration._from_config(config)
        else:
            from diffusers import WanTransformer3DModel

            model = WanTransformer3DModel.from_config(json.loads((folder / "transformer/config.json").read_text()))
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def _write_files(stem: Path, shapes: Mapping[str, torch.Size]) -> None:
    """Files of at most `_FILE_BYTES`, and the index that names them."""
    from safetensors.torch import save_file

    groups: list[dict[str, torch.Size]] = [{}]
    for name, shape in shapes.items():
        if groups[-1] and 2 * sum(other.numel() for other in groups[-1].values()) + 2 * shape.numel() > _FILE_BYTES:
            groups.append({})
        groups[-1][name] = shape
    drawn = torch.randn(_DRAWN, generator=torch.Generator().manual_seed(0))
    where: dict[str, str] = {}
    for number, group in enumerate(groups, 1):
        file = stem.with_name(f"{stem.name}-{number:05d}-of-{len(groups):05d}.safetensors")
        save_file({name: _random(name, shape, drawn) for name, shape in group.items()}, file, {"format": "pt"})
        where |= dict.fromkeys(group, file.name)
    index = {"metadata": {"total_size": 2 * sum(shape.numel() for shape in shapes.values())}, "weight_map": where}
    stem.with_name(f"{stem.name}.safetensors.index.json").write_text(json.dumps(index))


def _random(name: str, shape: torch.Size, drawn: Tensor) -> Tensor:
    """A weight: vectors are those of a new norm or bias, matrices keep a signal's size."""
    if len(shape) < 2:
        return torch.full(shape, 1.0 if name.endswith("weight") else 0.0, dtype=torch.bfloat16)
    scaled = (drawn * shape[1:].numel() ** -0.5).bfloat16()
    values: Tensor = scaled.repeat(-(-shape.numel() // len(scaled)))[: shape.numel()]
    return values.view(shape).contiguous()
