"""Tiny checkpoints of the families that are scored row by row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.tiny_family_parts import (
    CHATML,
    QWEN_IDS,
    qwen3_processor,
    rope_config,
    text_config,
    token_ids,
    tokenizer,
)


def qwen3_5(changes: dict[str, Any]) -> tuple[Any, Any]:
    import transformers as tr

    vision = {
        "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32,
        "num_position_embeddings": 64,
    }  # fmt: skip
    linear = {
        "num_hidden_layers": 4, "linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8,
        "linear_value_head_dim": 8, "head_dim": 16,
    }  # fmt: skip
    rope = rope_config([4, 2, 2], mrope_interleaved=True, partial_rotary_factor=1.0)
    config = tr.Qwen3_5Config(
        vision_config=vision, text_config=text_config(**linear, **rope) | changes, **token_ids(QWEN_IDS)
    )
    return tr.Qwen3_5ForConditionalGeneration(config), qwen3_processor()


def _glm(name: str, changes: dict[str, Any]) -> tuple[Any, Any]:
    """A model by the beginning of its classes' names, with the processor that the checkpoints of GLM-4.6V have."""
    import transformers as tr

    vision = {
        "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32, "image_size": 56,
        "patch_size": 14,
    }  # fmt: skip
    ids = token_ids(
        {
            "image_token_id": "<|image|>",
            "video_token_id": "<|video|>",
            "image_start_token_id": "<|begin_of_image|>",
            "image_end_token_id": "<|end_of_image|>",
            "video_start_token_id": "<|begin_of_video|>",
            "video_end_token_id": "<|end_of_video|>",
        }
    )
    text = text_config(**rope_config([2, 1, 1], partial_rotary_factor=1.0)) | changes
    config = getattr(tr, f"{name}Config")(vision_config=vision, text_config={"model_type": "glm4v_text", **text}, **ids)
    size = {"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 16}
    video = "<|begin_of_video|><|video|><|end_of_video|>"
    return getattr(tr, f"{name}ForConditionalGeneration")(config), tr.Glm46VProcessor(
        tr.Glm46VImageProcessor(), tokenizer(), tr.Glm46VVideoProcessor(size=size),
        chat_template=CHATML.replace("VIDEO", video),
    )  # fmt: skip


def glm46v(changes: dict[str, Any]) -> tuple[Any, Any]:
    return _glm("Glm46V", changes)


def glm4v(changes: dict[str, Any]) -> tuple[Any, Any]:
    """What zai-org/GLM-4.6V-Flash says that it is."""
    return _glm("Glm4v", changes)


def gemma4(changes: dict[str, Any]) -> tuple[Any, Any]:
    import transformers as tr

    kinds = ["sliding_attention", "sliding_attention", "full_attention"]
    text = text_config(
        layer_types=kinds, sliding_window=8, head_dim=8, global_head_dim=8, use_bidirectional_attention="vision",
        hidden_size_per_layer_input=8, vocab_size_per_layer_input=len(tokenizer()), num_kv_shared_layers=0,
        final_logit_softcapping=5.0, num_global_key_value_heads=2,
    ) | changes  # fmt: skip
    vision = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 2, "head_dim": 16, "patch_size": 4, "position_embedding_size": 256,
    }  # fmt: skip
    ids = token_ids(
        {
            "boi_token_id": "<boi>",
            "eoi_token_id": "<eoi>",
            "image_token_id": "<|image|>",
            "video_token_id": "<|video|>",
            "boa_token_id": "<boa>",
            "eoa_token_index": "<eoa>",
            "audio_token_id": "<|audio|>",
        }
    )
    names = {
        "image_token": "<|image|>", "boi_token": "<boi>", "eoi_token": "<eoi>", "audio_token": "<|audio|>",
        "boa_token": "<boa>", "eoa_token": "<eoa>",
    }  # fmt: skip
    config = tr.Gemma4Config(text_config=text, vision_config=vision, audio_config=None, **ids)
    video = tr.Gemma4VideoProcessor(patch_size=4, max_soft_tokens=70)
    return tr.Gemma4ForConditionalGeneration(config), tr.Gemma4Processor(
        tr.Gemma4AudioFeatureExtractor(), tr.Gemma4ImageProcessor(patch_size=4), tokenizer(**names), video,
        chat_template=CHATML.replace("VIDEO", "<|video|>"),
    )  # fmt: skip


def smolvlm(changes: dict[str, Any]) -> tuple[Any, Any]:
    import transformers as tr

    vision = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32,
        "patch_size": 8,
    }  # fmt: skip
    text = {"model_type": "llama", **text_config(), **changes}
    config = tr.SmolVLMConfig(
        vision_config=vision,
        text_config=text,
        scale_factor=2,
        pad_token_id=0,
        **token_ids({"image_token_id": "<image>"}),
    )
    size = {"size": {"longest_edge": 32}, "max_image_size": {"longest_edge": 32}}
    names = {
        "image_token": "<image>", "video_token": "<video>", "fake_image_token": "<fake_token_around_image>",
        "global_image_token": "<global-img>", "end_of_utterance_token": "<end_of_utterance>",
    }  # fmt: skip
    return tr.SmolVLMForConditionalGeneration(config), tr.SmolVLMProcessor(
        tr.SmolVLMImageProcessor(**size), tokenizer(**names), tr.SmolVLMVideoProcessor(**size), image_seq_len=4,
        chat_template=CHATML.replace("VIDEO", "<video>"),
    )  # fmt: skip


def video_llama_3(changes: dict[str, Any]) -> tuple[Any, Any]:
    import transformers as tr

    vision = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 14,
    }  # fmt: skip
    text = {"model_type": "qwen2", **text_config(), **changes}
    ids = token_ids({"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"})
    config = tr.VideoLlama3Config(vision_config=vision, text_config=text, **ids)
    size = {"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 16}
    return tr.VideoLlama3ForConditionalGeneration(config), tr.VideoLlama3Processor(
        tr.VideoLlama3ImageProcessor(), tokenizer(), tr.VideoLlama3VideoProcessor(size=size),
        chat_template=CHATML.replace("VIDEO", "<|video_pad|>\n"),
    )  # fmt: skip


#: model_type -> what makes model and processor of the families that `AnyVideoLLM` takes.
ROWS_BUILDERS: dict[str, Callable[[dict[str, Any]], tuple[Any, Any]]] = {
    "qwen3_5": qwen3_5,
    "gemma4": gemma4,
    "glm46v": glm46v,
    "glm4v": glm4v,
    "smolvlm": smolvlm,
    "video_llama_3": video_llama_3,
}
