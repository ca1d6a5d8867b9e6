"""Small random checkpoints of the real classes, and a folder of small videos that slide by known steps."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    ViTConfig,
    ViTModel,
)

from datamodules.video.codec import encode_mp4

#: File name -> (pixels per frame, frames, frames a second).
VIDEOS = {"a ball-0.mp4": (4, 13, 8.0), "a ball-1.mp4": (0, 13, 8.0), "well-known man-0.mp4": (2, 20, 24.0)}


def write_videos(folder: Path) -> Path:
    """The videos of `VIDEOS`, 64 x 48 pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (step, count, fps) in VIDEOS.items():
        (folder / name).write_bytes(encode_mp4(sliding_picture(step, count), fps, lossless=True))
    return folder


def sliding_picture(step: int, count: int) -> torch.Tensor:
    """(count, 3, 48, 64) uint8: a smooth picture that moves by `step` pixels a frame."""
    noise = torch.rand(1, 3, 12, 40, generator=torch.Generator().manual_seed(0))
    picture = torch.nn.functional.interpolate(noise, size=(48, 160), mode="bicubic").clamp(0, 1)[0]
    pixels = (picture * 255).to(torch.uint8)
    return torch.stack([pixels[:, :, step * number : step * number + 64] for number in range(count)])


def save_dino(folder: Path) -> str:
    """A ViT with patches of 16 pixels, trained on none."""
    config = ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=64, patch_size=16
    )
    torch.manual_seed(1)
    model = ViTModel(config, add_pooling_layer=False)
    # As stored the positions are nearly nothing, and a fault in them would not be seen.
    torch.nn.init.normal_(model.embeddings.position_embeddings)
    model.save_pretrained(folder)
    return str(folder)


def save_clip(folder: Path, projection: int = 12) -> str:
    """A CLIP image tower."""
    config = CLIPVisionConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=224,
        patch_size=32,
        projection_dim=projection,
    )
    torch.manual_seed(2)
    CLIPVisionModelWithProjection(config).save_pretrained(folder)
    return str(folder)


def save_clip_with_text(folder: Path) -> str:
    """A whole CLIP, both towers, with a tokenizer of single letters."""
    tower = save_clip(folder / "tower")
    vision = CLIPVisionConfig.from_pretrained(tower)
    letters = [*map(chr, range(97, 123))]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: place for place, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt")).save_pretrained(folder)
    text = CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        projection_dim=12,
        bos_token_id=len(tokens) - 2,
        eos_token_id=len(tokens) - 1,
        pad_token_id=len(tokens) - 1,
    )
    torch.manual_seed(5)
    model = CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=12))
    model.save_pretrained(folder)
    shutil.rmtree(tower)
    return str(folder)


def save_head(path: Path, width: int = 12) -> str:
    """An aesthetic head that says 5, more or less."""
    torch.manual_seed(3)
    torch.save({"weight": torch.randn(1, width), "bias": torch.full((1,), 5.0)}, path)
    return str(path)


def save_raft(path: Path) -> str:
    """The small RAFT."""
    from torchvision.models.optical_flow import raft_small

    torch.manual_seed(4)
    torch.save(raft_small(weights=None).state_dict(), path)
    return str(path)
