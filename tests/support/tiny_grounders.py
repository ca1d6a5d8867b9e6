"""Tiny random checkpoints of the real detectors and image-text models, with their real processors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

SIDE = 32


def clip_tokenizer(folder: Path) -> Any:
    """CLIP's tokenizer over single letters: a letter at the end of a word is another token."""
    from transformers import CLIPTokenizerFast

    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    vocab = {word: index for index, word in enumerate(words)}
    return CLIPTokenizerFast(vocab=vocab, merges=[], model_max_length=16)


def bert_tokenizer(folder: Path) -> Any:
    from transformers import BertTokenizerFast

    letters = [chr(code) for code in range(97, 123)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", ".", *letters, *(f"##{letter}" for letter in letters)]
    return BertTokenizerFast(vocab={word: index for index, word in enumerate(words)})


def save_owlv2(folder: Path) -> str:
    from transformers import Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessor, Owlv2Processor

    tokenizer = clip_tokenizer(folder)
    config = Owlv2Config(
        text_config={**_small_text(len(tokenizer)), "max_position_embeddings": 32, **_ends(tokenizer)},
        vision_config=_small_vision(),
        projection_dim=16,
    )
    model = Owlv2ForObjectDetection(config)
    # Large boxes at the top of the square that a wide frame is padded to: whatever the weights, they meet the frame.
    model.box_head.dense2.bias.data.copy_(torch.tensor([0.0, -12.0, 0.0, 3.0]))
    return _saved(folder, model, Owlv2Processor(Owlv2ImageProcessor(size={"height": SIDE, "width": SIDE}), tokenizer))


def save_clip(folder: Path) -> str:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    tokenizer = clip_tokenizer(folder)
    config = CLIPConfig(
        text_config={**_small_text(len(tokenizer)), "max_position_embeddings": 16, **_ends(tokenizer)},
        vision_config=_small_vision(),
        projection_dim=16,
    )
    size = {"height": SIDE, "width": SIDE}
    images = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=size)
    return _saved(folder, CLIPModel(config), CLIPProcessor(images, tokenizer))


def save_siglip(folder: Path) -> str:
    """SigLIP with a tokenizer of letters; its own needs a sentencepiece model."""
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel, SiglipProcessor

    tokenizer = bert_tokenizer(folder)
    tokenizer.model_max_length = 16
    tokenizer.model_input_names = ["input_ids"]
    config = SiglipConfig(
        text_config={**_small_text(len(tokenizer)), "max_position_embeddings": 16, "projection_size": 16},
        vision_config={**_small_vision(), "hidden_size": 16},
    )
    images = SiglipImageProcessor(size={"height": SIDE, "width": SIDE})
    return _saved(folder, SiglipModel(config), SiglipProcessor(images, tokenizer))


def save_grounding_dino(folder: Path) -> str:
    from transformers import (
        BertConfig,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
        SwinConfig,
    )

    tokenizer = bert_tokenizer(folder)
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(
            image_size=SIDE, patch_size=4, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_size=2,
            out_features=["stage2", "stage3", "stage4"],
        ),
        text_config=BertConfig(
            vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        ),
        d_model=64, encoder_layers=1, decoder_layers=2, encoder_ffn_dim=32, decoder_ffn_dim=32, num_queries=6,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_n_points=1, decoder_n_points=1,
        num_feature_levels=4, max_text_len=64,
    )  # fmt: skip
    model = GroundingDinoForObjectDetection(config)
    # Boxes wider and higher than a pixel, whatever the weights.
    for head in model.bbox_embed:
        head.layers[-1].bias.data.copy_(torch.tensor([0.0, 0.0, 3.0, 3.0]))
    images = GroundingDinoImageProcessor(size={"height": SIDE, "width": SIDE})
    return _saved(folder, model, GroundingDinoProcessor(images, tokenizer))


def save_other(folder: Path) -> str:
    """A configuration of a model that neither detects nor compares."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_size": 8}))
    return str(folder)


def _small_text(vocab: int) -> dict[str, Any]:
    return {
        "vocab_size": vocab, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }  # fmt: skip


def _small_vision() -> dict[str, Any]:
    return {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "image_size": SIDE, "patch_size": 8,
    }  # fmt: skip


def _ends(tokenizer: Any) -> dict[str, int]:
    start, end = tokenizer.convert_tokens_to_ids(["<|startoftext|>", "<|endoftext|>"])
    return {"bos_token_id": start, "eos_token_id": end, "pad_token_id": end}


def _saved(folder: Path, model: Any, processor: Any) -> str:
    """Random matrices; a seed gives other ones on a processor with other vector instructions."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(std=0.3, generator=generator)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)
