"""What the tiny checkpoints of video-language families share: tokenizer, templates, pieces of configurations."""

from __future__ import annotations

from typing import Any

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


def text_config(**more: Any) -> dict[str, Any]:
    return {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": len(tokenizer()), "max_position_embeddings": 4096, "bos_token_id": None,
        "eos_token_id": tokenizer().eos_token_id, "pad_token_id": 0, **more,
    }  # fmt: skip


def rope_config(section: list[int], **more: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": "default", "mrope_section": section, "rope_theta": 1e4, **more}}


def token_ids(names: dict[str, str]) -> dict[str, int]:
    return {name: tokenizer().convert_tokens_to_ids(token) for name, token in names.items()}


QWEN_IDS = {
    "image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>", "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}  # fmt: skip


def qwen3_processor() -> Any:
    import transformers as tr

    size = {"shortest_edge": 32 * 32, "longest_edge": 32 * 32 * 16}
    return tr.Qwen3VLProcessor(
        tr.Qwen2VLImageProcessor(), tokenizer(), tr.Qwen3VLVideoProcessor(size=size, cap_pixels_per_frame=False),
        chat_template=CHATML.replace("VIDEO", QWEN_VIDEO),
    )  # fmt: skip
