"""Random checkpoints of the real video-language classes with real processors, made by `save_pretrained`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.support.tiny_family_parts import (
    CHATML,
    QWEN_IDS,
    QWEN_VIDEO,
    VICUNA,
    qwen3_processor,
    rope_config,
    text_config,
    token_ids,
    tokenizer,
)
from tests.support.tiny_rows_families import ROWS_BUILDERS


def save(kind: str, folder: Path, **changes: Any) -> Path:
    """Write the checkpoint of a family.

    Args:
        kind: its model_type.
        folder: where to.
        changes: of the text model's configuration.
    """
    model, processor = BUILDERS[kind](changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3 if kind == "gemma4" else 0)  # with which greedy answers are more than an end, and differ
        for name, parameter in model.named_parameters():
            # The usual initialisation is so small that a wrong mask would hardly show in the log-probabilities.
            if parameter.ndim > 1:
                flat = parameter.ndim == 2
                nn.init.normal_(
                    parameter,
                    std=0.5 if "embed_tokens" in name else min(0.25, 1.2 / parameter.shape[-1] ** 0.5) if flat else 0.1,
                )
            if "deepstack_merger_list" in name and name.endswith("linear_fc2.weight"):
                parameter.data.mul_(8)
            if name.endswith("image_newline"):
                nn.init.normal_(parameter, std=0.5)
    end = processor.tokenizer.eos_token_id
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = end, 0
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _qwen2_vl(changes: dict[str, Any]) -> tuple[Any, Any]:
    import transformers as tr

    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "mlp_ratio": 2, "num_heads": 2}
    text = text_config(**rope_config([2, 1, 1])) | changes
    config = tr.Qwen2VLConfig(vision_config=vision, text_config=text, **token_ids(QWEN_IDS))
    size = {"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 4}
    return tr.Qwen2VLForConditionalGeneration(config), tr.Qwen2VLProcessor(
        tr.Qwen2VLImageProcessor(), tokenizer(), tr.Qwen2VLVideoProcessor(size=size, cap_pixels_per_frame=False),
        chat_template=CHATML.replace("VIDEO", QWEN_VIDEO),
    )  # fmt: skip


def _qwen2_5_vl(changes: dict[str, Any]) -> tuple[Any, Any]:
    import transformers as tr

    vision = {
        "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32,
        "window_size": 56, "fullatt_block_indexes": [1], "tokens_per_second": 2,
    }  # fmt: skip
    text = text_config(**rope_config([2, 1, 1])) | changes
    config = tr.Qwen2_5_VLConfig(vision_config=vision, text_config=text, **token_ids(QWEN_IDS))
    size = {"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 4}
    return tr.Qwen2_5_VLForConditionalGeneration(config), tr.Qwen2_5_VLProcessor(
        tr.Qwen2VLImageProcessor(), tokenizer(), tr.Qwen2VLVideoProcessor(size=size, cap_pixels_per_frame=False),
        chat_template=CHATML.replace("VIDEO", QWEN_VIDEO),
    )  # fmt: skip


def _qwen3_vl(changes: dict[str, Any]) -> tuple[Any, Any]:
    import transformers as tr

    vision = {
        "depth": 3, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32,
        "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1],
    }  # fmt: skip
    text = text_config(head_dim=8, **rope_config([2, 1, 1], mrope_interleaved=True)) | changes
    config = tr.Qwen3VLConfig(vision_config=vision, text_config=text, **token_ids(QWEN_IDS))
    return tr.Qwen3VLForConditionalGeneration(config), qwen3_processor()


def _llava_next_video(changes: dict[str, Any]) -> tuple[Any, Any]:
    import transformers as tr

    vision = tr.CLIPVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, image_size=32, patch_size=8
    )
    ids = token_ids(
        {
            "image_token_index": "<image>",
            "video_token_index": "<video>",
            "image_token_id": "<image>",
            "video_token_id": "<video>",
        }
    )
    text = tr.LlamaConfig(**(text_config() | changes))
    config = tr.LlavaNextVideoConfig(
        vision_config=vision, text_config=text, spatial_pool_stride=2, spatial_pool_mode="average", **ids
    )
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    return tr.LlavaNextVideoForConditionalGeneration(config), tr.LlavaNextVideoProcessor(
        tr.LlavaNextVideoVideoProcessor(**size), tr.LlavaNextImageProcessor(**size), tokenizer(),
        patch_size=8, vision_feature_select_strategy="default", chat_template=VICUNA.replace("VIDEO", "<video>"),
    )  # fmt: skip


def _llava_onevision(changes: dict[str, Any]) -> tuple[Any, Any]:
    import transformers as tr

    vision = tr.SiglipVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, image_size=24, patch_size=8,
        vision_use_head=False,
    )  # fmt: skip
    ids = token_ids(
        {
            "image_token_index": "<image>",
            "video_token_index": "<video>",
            "image_token_id": "<image>",
            "video_token_id": "<video>",
        }
    )
    config = tr.LlavaOnevisionConfig(
        vision_config=vision, text_config=tr.Qwen2Config(**(text_config() | changes)), vision_feature_layer=-1,
        vision_feature_select_strategy="full", **ids,
    )  # fmt: skip
    size = {"height": 24, "width": 24}
    return tr.LlavaOnevisionForConditionalGeneration(config), tr.LlavaOnevisionProcessor(
        tr.LlavaOnevisionImageProcessor(size=size), tokenizer(), tr.LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=9, vision_feature_select_strategy="full", chat_template=CHATML.replace("VIDEO", "<video>\n"),
    )  # fmt: skip


def _internvl(changes: dict[str, Any]) -> tuple[Any, Any]:
    import transformers as tr

    vision = tr.InternVLVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, image_size=[32, 32],
        patch_size=[8, 8],
    )  # fmt: skip
    names = {
        "start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }  # fmt: skip
    config = tr.InternVLConfig(
        vision_config=vision, text_config=tr.Qwen2Config(**(text_config() | changes)), image_seq_length=4,
        downsample_ratio=0.5, **token_ids({"image_token_id": "<IMG_CONTEXT>"}),
    )  # fmt: skip
    size = {"height": 32, "width": 32}
    return tr.InternVLForConditionalGeneration(config), tr.InternVLProcessor(
        tr.GotOcr2ImageProcessor(size=size), tokenizer(**names), tr.InternVLVideoProcessor(size=size),
        image_seq_length=4, chat_template=CHATML.replace("VIDEO", "<video>\n"),
    )  # fmt: skip


BUILDERS: dict[str, Callable[[dict[str, Any]], tuple[Any, Any]]] = {
    "qwen2_vl": _qwen2_vl,
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
    "llava_next_video": _llava_next_video,
    "llava_onevision": _llava_onevision,
    "internvl": _internvl,
    **ROWS_BUILDERS,
}


def save_pllava(folder: Path) -> Path:
    """A checkpoint in the published layout: the language model inside peft, names of an older transformers."""
    import json

    from peft import LoraConfig, get_peft_model
    from safetensors.torch import save_file
    from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, image_size=48, patch_size=8
    )
    text = LlamaConfig(**text_config(num_key_value_heads=4))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        projector = nn.ModuleDict({"linear_1": nn.Linear(32, 32), "linear_2": nn.Linear(32, 32)})
        lora = LoraConfig(r=4, lora_alpha=2, target_modules=["q_proj", "v_proj"], lora_dropout=0.0)
        language: Any = get_peft_model(LlamaForCausalLM(text), lora)
        parts = {
            "vision_tower": CLIPVisionModel(vision),
            "multi_modal_projector": projector,
            "language_model": language,
        }
        tree = nn.ModuleDict(parts).eval()
        for name, parameter in tree.named_parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.5 if "embed_tokens" in name else 0.2)
    state = {}
    for name, tensor in tree.state_dict().items():
        older = name.startswith("vision_tower.") and "vision_model" not in name
        renamed = name.replace("vision_tower.", "vision_tower.vision_model.") if older else name
        state[renamed] = tensor.detach().clone().contiguous()
    save_file(state, folder / "model.safetensors")
    config = {
        "model_type": "pllava", "image_token_index": tokenizer().convert_tokens_to_ids("<image>"),
        "pooling_shape": [4, 3, 3], "frame_shape": [6, 6], "num_frames": 4, "vision_feature_layer": -2,
        "text_config": text.to_dict(), "vision_config": vision.to_dict(),
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer().save_pretrained(folder)
    return folder
