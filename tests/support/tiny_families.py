"""Random checkpoints of the real video-language classes with real processors, made by `save_pretrained`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

#: Control tokens of all families.
SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
    "<|video_pad|>", "<image>", "<video>", "<img>", "</img>", "<IMG_CONTEXT>", "<fake_token_around_image>",
    "<global-img>",
    "<end_of_utterance>",
    "<|image|>", "<|video|>", "<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>",
    "<boi>", "<eoi>", "<boa>", "<eoa>", "<|audio|>",
]  # fmt: skip
#: ChatML; what a thinking model's template does with `enable_thinking` is done here by all.
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}{% if c.type == 'video' %}VIDEO"
    "{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is defined and enable_thinking %}"
    "THOUGHT{% endif %}{% endif %}"
)
VICUNA = (
    "{% for m in messages %}{% if m.role == 'user' %}USER: {% for c in m.content %}{% if c.type == 'video' %}VIDEO\n"
    "{% else %}{{ c.text }}{% endif %}{% endfor %}{% else %} ASSISTANT: {{ m.content[0].text }}<|im_end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)
QWEN_VIDEO = "<|vision_start|><|video_pad|><|vision_end|>"


def tokenizer(**names: str) -> Any:
    """Byte-level BPE over the alphabet; a space belongs to the letter that follows it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", letter) for letter in "abcdefghijklmnopqrstuvwxyzAU"]
    words = [*SPECIAL, *letters, *("".join(pair) for pair in merges)]
    inner = Tokenizer(models.BPE({word: index for index, word in enumerate(words)}, merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    ends = {"pad_token": "<|endoftext|>", "eos_token": "<|im_end|>"}
    extra = {"extra_special_tokens": names} if names else {}
    made = PreTrainedTokenizerFast(tokenizer_object=inner, padding_side="left", **ends, **extra)
    made.add_special_tokens({"additional_special_tokens": [name for name in SPECIAL if name not in ends.values()]})
    return made


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


def _text(**more: Any) -> dict[str, Any]:
    return {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": len(tokenizer()), "max_position_embeddings": 4096, "bos_token_id": None,
        "eos_token_id": tokenizer().eos_token_id, "pad_token_id": 0, **more,
    }  # fmt: skip


def _rope(section: list[int], **more: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": "default", "mrope_section": section, "rope_theta": 1e4, **more}}


def _token_ids(names: dict[str, str]) -> dict[str, int]:
    return {name: tokenizer().convert_tokens_to_ids(token) for name, token in names.items()}


QWEN_IDS = {
    "image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>", "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}  # fmt: skip


def _qwen2_vl(changes: dict[str, Any]) -> tuple[Any, Any]:
    import transformers as tr

    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "mlp_ratio": 2, "num_heads": 2}
    text = _text(**_rope([2, 1, 1])) | changes
    config = tr.Qwen2VLConfig(vision_config=vision, text_config=text, **_token_ids(QWEN_IDS))
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
    text = _text(**_rope([2, 1, 1])) | changes
    config = tr.Qwen2_5_VLConfig(vision_config=vision, text_config=text, **_token_ids(QWEN_IDS))
    size = {"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 4}
    return tr.Qwen2_5_VLForConditionalGeneration(config), tr.Qwen2_5_VLProcessor(
        tr.Qwen2VLImageProcessor(), tokenizer(), tr.Qwen2VLVideoProcessor(size=size, cap_pixels_per_frame=False),
        chat_template=CHATML.replace("VIDEO", QWEN_VIDEO),
    )  # fmt: skip


def _qwen3_processor() -> Any:
    import transformers as tr

    size = {"shortest_edge": 32 * 32, "longest_edge": 32 * 32 * 16}
    return tr.Qwen3VLProcessor(
        tr.Qwen2VLImageProcessor(), tokenizer(), tr.Qwen3VLVideoProcessor(size=size, cap_pixels_per_frame=False),
        chat_template=CHATML.replace("VIDEO", QWEN_VIDEO),
    )  # fmt: skip


def _qwen3_vl(changes: dict[str, Any]) -> tuple[Any, Any]:
    import transformers as tr

    vision = {
        "depth": 3, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32,
        "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1],
    }  # fmt: skip
    text = _text(head_dim=8, **_rope([2, 1, 1], mrope_interleaved=True)) | changes
    config = tr.Qwen3VLConfig(vision_config=vision, text_config=text, **_token_ids(QWEN_IDS))
    return tr.Qwen3VLForConditionalGeneration(config), _qwen3_processor()


def _qwen3_5(changes: dict[str, Any]) -> tuple[Any, Any]:
    import transformers as tr

    vision = {
        "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32,
        "num_position_embeddings": 64,
    }  # fmt: skip
    linear = {
        "num_hidden_layers": 4, "linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8,
        "linear_value_head_dim": 8, "head_dim": 16,
    }  # fmt: skip
    rope = _rope([4, 2, 2], mrope_interleaved=True, partial_rotary_factor=1.0)
    config = tr.Qwen3_5Config(
        vision_config=vision, text_config=_text(**linear, **rope) | changes, **_token_ids(QWEN_IDS)
    )
    return tr.Qwen3_5ForConditionalGeneration(config), _qwen3_processor()


def _llava_next_video(changes: dict[str, Any]) -> tuple[Any, Any]:
    import transformers as tr

    vision = tr.CLIPVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, image_size=32, patch_size=8
    )
    ids = _token_ids(
        {
            "image_token_index": "<image>",
            "video_token_index": "<video>",
            "image_token_id": "<image>",
            "video_token_id": "<video>",
        }
    )
    text = tr.LlamaConfig(**(_text() | changes))
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
    ids = _token_ids(
        {
            "image_token_index": "<image>",
            "video_token_index": "<video>",
            "image_token_id": "<image>",
            "video_token_id": "<video>",
        }
    )
    config = tr.LlavaOnevisionConfig(
        vision_config=vision, text_config=tr.Qwen2Config(**(_text() | changes)), vision_feature_layer=-1,
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
        vision_config=vision, text_config=tr.Qwen2Config(**(_text() | changes)), image_seq_length=4,
        downsample_ratio=0.5, **_token_ids({"image_token_id": "<IMG_CONTEXT>"}),
    )  # fmt: skip
    size = {"height": 32, "width": 32}
    return tr.InternVLForConditionalGeneration(config), tr.InternVLProcessor(
        tr.GotOcr2ImageProcessor(size=size), tokenizer(**names), tr.InternVLVideoProcessor(size=size),
        image_seq_length=4, chat_template=CHATML.replace("VIDEO", "<video>\n"),
    )  # fmt: skip


def _glm46v(changes: dict[str, Any]) -> tuple[Any, Any]:
    import transformers as tr

    vision = {
        "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32, "image_size": 56,
        "patch_size": 14,
    }  # fmt: skip
    ids = _token_ids(
        {
            "image_token_id": "<|image|>",
            "video_token_id": "<|video|>",
            "image_start_token_id": "<|begin_of_image|>",
            "image_end_token_id": "<|end_of_image|>",
            "video_start_token_id": "<|begin_of_video|>",
            "video_end_token_id": "<|end_of_video|>",
        }
    )
    text = _text(**_rope([2, 1, 1], partial_rotary_factor=1.0)) | changes
    config = tr.Glm46VConfig(vision_config=vision, text_config={"model_type": "glm4v_text", **text}, **ids)
    size = {"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 16}
    video = "<|begin_of_video|><|video|><|end_of_video|>"
    return tr.Glm46VForConditionalGeneration(config), tr.Glm46VProcessor(
        tr.Glm46VImageProcessor(), tokenizer(), tr.Glm46VVideoProcessor(size=size),
        chat_template=CHATML.replace("VIDEO", video),
    )  # fmt: skip


def _gemma4(changes: dict[str, Any]) -> tuple[Any, Any]:
    import transformers as tr

    kinds = ["sliding_attention", "sliding_attention", "full_attention"]
    text = _text(
        layer_types=kinds, sliding_window=8, head_dim=8, global_head_dim=8, use_bidirectional_attention="vision",
        hidden_size_per_layer_input=8, vocab_size_per_layer_input=len(tokenizer()), num_kv_shared_layers=0,
        final_logit_softcapping=5.0, num_global_key_value_heads=2,
    ) | changes  # fmt: skip
    vision = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 2, "head_dim": 16, "patch_size": 4, "position_embedding_size": 256,
    }  # fmt: skip
    ids = _token_ids(
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


def _smolvlm(changes: dict[str, Any]) -> tuple[Any, Any]:
    import transformers as tr

    vision = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32,
        "patch_size": 8,
    }  # fmt: skip
    text = {"model_type": "llama", **_text(), **changes}
    config = tr.SmolVLMConfig(
        vision_config=vision,
        text_config=text,
        scale_factor=2,
        pad_token_id=0,
        **_token_ids({"image_token_id": "<image>"}),
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


BUILDERS: dict[str, Callable[[dict[str, Any]], tuple[Any, Any]]] = {
    "qwen2_vl": _qwen2_vl,
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
    "llava_next_video": _llava_next_video,
    "llava_onevision": _llava_onevision,
    "internvl": _internvl,
    "qwen3_5": _qwen3_5,
    "gemma4": _gemma4,
    "glm46v": _glm46v,
    "smolvlm": _smolvlm,
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
    text = LlamaConfig(**_text(num_key_value_heads=4))
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
