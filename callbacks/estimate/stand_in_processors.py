"""Processors of published checkpoints without their files: real classes, with a tokenizer of one token a word.

Sizes are the checkpoint's, as its facts say; texts are laid out as its chat template does in number, not in words.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Tokens whose text a template, a processor or a policy names.
CONTROL = (
    "<unk>", "<s>", "</s>", "<pad>", "<image>", "<video>", "<|im_start|>", "<|im_end|>", "<|vision_start|>",
    "<|vision_end|>", "<|image_pad|>", "<|video_pad|>", "<img>", "</img>", "<IMG_CONTEXT>", "<|image|>", "<|video|>",
    "<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>", "<fake_token_around_image>",
    "<global-img>", "<end_of_utterance>", "<boi>", "<eoi>", "<boa>", "<eoa>", "<|audio|>",
)  # fmt: skip
_WORDS = ("yes", "user", "assistant", "USER", "ASSISTANT", "seconds", ":", "<", ">", ".", ",", "?", *"0123456789")
#: A turn of a conversation with its video first, as chat models lay it out.
_CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}{% if c.type == 'video' %}VIDEO"
    "{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_QWEN_VIDEO = "<|vision_start|><|video_pad|><|vision_end|>"
_GLM_VIDEO = "<|begin_of_video|><|video|><|end_of_video|>"
_QWEN_IDS = {
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}
_LLAVA_IDS = {"image_token_index": "<image>", "video_token_index": "<video>"}
_GLM_IDS = {
    "image_token_id": "<|image|>",
    "video_token_id": "<|video|>",
    "image_start_token_id": "<|begin_of_image|>",
    "image_end_token_id": "<|end_of_image|>",
    "video_start_token_id": "<|begin_of_video|>",
    "video_end_token_id": "<|end_of_video|>",
}
_GEMMA_IDS = {
    "image_token_id": "<|image|>",
    "video_token_id": "<|video|>",
    "audio_token_id": "<|audio|>",
    "boi_token_id": "<boi>",
    "eoi_token_id": "<eoi>",
    "boa_token_id": "<boa>",
    "eoa_token_index": "<eoa>",
}
_QWEN3 = ("Qwen3VLProcessor", "Qwen2VLImageProcessor", "Qwen3VLVideoProcessor")
#: Makes a processor of a configuration and of what else is known of the checkpoint.
Maker = Callable[[dict[str, Any], dict[str, Any]], Any]


def tokenizer(**names: str) -> Any:
    """A tokenizer whose words, digits and marks are one token each.

    Args:
        **names: attributes of control tokens that a processor asks for.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = {word: index for index, word in enumerate((*CONTROL, *_WORDS))}
    inner = Tokenizer(models.WordLevel(words, unk_token=CONTROL[0]))
    split = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation(), pre_tokenizers.Digits(True)]
    inner.pre_tokenizer = pre_tokenizers.Sequence(split)
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return _named(inner, names)


def byte_tokenizer() -> Any:
    """The same by pairs of bytes, which is what Qwen3.5's class makes of the files of any tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [(word[:end], word[end]) for word in _WORDS for end in range(1, len(word))]
    merges += [("Ġ", word) for word in _WORDS if len(word) > 1]
    words = dict.fromkeys((*CONTROL, *letters, *map("".join, merges)))
    inner = Tokenizer(models.BPE({word: index for index, word in enumerate(words)}, merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return _named(inner, {})


def _named(inner: Any, names: dict[str, str]) -> Any:
    """A tokenizer of transformers that knows its control tokens."""
    from transformers import PreTrainedTokenizerFast

    unknown, begin, end, padding, *others = CONTROL
    named: dict[str, Any] = {"extra_special_tokens": names} if names else {}
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token=unknown, bos_token=begin, eos_token=end, pad_token=padding, **named
    )
    made.add_special_tokens({"additional_special_tokens": others}, replace_extra_special_tokens=False)
    return made


def token_id(token: str) -> int:
    """The id of a control token in that tokenizer."""
    return CONTROL.index(token)


def _chat(video: str) -> str:
    return _CHAT.replace("VIDEO", video)


def _shorter_side(content: dict[str, Any]) -> dict[str, Any]:
    side = content["vision_config"]["image_size"]
    return {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}


def _square(content: dict[str, Any]) -> dict[str, Any]:
    side = content["vision_config"]["image_size"]
    side = side if isinstance(side, int) else side[0]
    return {"size": {"height": side, "width": side}}


def _video_llava(content: dict[str, Any], facts: dict[str, Any]) -> Any:
    from transformers import CLIPImageProcessor, VideoLlavaProcessor, VideoLlavaVideoProcessor

    return VideoLlavaProcessor(
        image_processor=CLIPImageProcessor(**_shorter_side(content)),
        video_processor=VideoLlavaVideoProcessor(**_shorter_side(content)),
        tokenizer=tokenizer(),
        patch_size=content["vision_config"]["patch_size"],
    )


def _pllava(content: dict[str, Any], facts: dict[str, Any]) -> Any:
    return tokenizer()


def _llava_next_video(content: dict[str, Any], facts: dict[str, Any]) -> Any:
    from transformers import LlavaNextImageProcessor, LlavaNextVideoProcessor, LlavaNextVideoVideoProcessor

    return LlavaNextVideoProcessor(
        LlavaNextVideoVideoProcessor(**_shorter_side(content)), LlavaNextImageProcessor(**_shorter_side(content)),
        tokenizer(), patch_size=content["vision_config"]["patch_size"],
        vision_feature_select_strategy=content["vision_feature_select_strategy"], chat_template=_chat("<video>"),
    )  # fmt: skip


def _llava_onevision(content: dict[str, Any], facts: dict[str, Any]) -> Any:
    from transformers import LlavaOnevisionImageProcessor, LlavaOnevisionProcessor, LlavaOnevisionVideoProcessor

    vision = content["vision_config"]
    return LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(**_square(content)), tokenizer(),
        LlavaOnevisionVideoProcessor(**_square(content)),
        num_image_tokens=(vision["image_size"] // vision["patch_size"]) ** 2,
        vision_feature_select_strategy=content["vision_feature_select_strategy"], chat_template=_chat("<video>"),
    )  # fmt: skip


def _internvl(content: dict[str, Any], facts: dict[str, Any]) -> Any:
    from transformers import GotOcr2ImageProcessor, InternVLProcessor, InternVLVideoProcessor

    names = {
        "start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }  # fmt: skip
    return InternVLProcessor(
        GotOcr2ImageProcessor(**_square(content)), tokenizer(**names), InternVLVideoProcessor(**_square(content)),
        image_seq_length=content["image_seq_length"], chat_template=_chat("<video>"),
    )  # fmt: skip


def _bounded(processor: str, images: str, videos: str, layout: str, words: Callable[[], Any] = tokenizer) -> Maker:
    """What makes a processor that bounds the pixels of a video.

    Args:
        processor: the name of its class.
        images: the name of its image processor's class.
        videos: the name of its video processor's class.
        layout: a video in the chat template.
        words: makes its tokenizer.
    """

    def make(content: dict[str, Any], facts: dict[str, Any]) -> Any:
        import transformers

        video_processor = getattr(transformers, videos)(size=facts["video_pixels"])
        parts = getattr(transformers, images)(), words(), video_processor
        return getattr(transformers, processor)(*parts, chat_template=_chat(layout))

    return make


def _gemma4(content: dict[str, Any], facts: dict[str, Any]) -> Any:
    from transformers import Gemma4AudioFeatureExtractor, Gemma4ImageProcessor, Gemma4Processor, Gemma4VideoProcessor

    names = {
        "image_token": "<|image|>", "audio_token": "<|audio|>", "boi_token": "<boi>", "eoi_token": "<eoi>",
        "boa_token": "<boa>", "eoa_token": "<eoa>",
    }  # fmt: skip
    vision = content["vision_config"]
    sizes = {"patch_size": vision["patch_size"], "pooling_kernel_size": vision["pooling_kernel_size"]}
    return Gemma4Processor(
        Gemma4AudioFeatureExtractor(), Gemma4ImageProcessor(**sizes), tokenizer(**names),
        Gemma4VideoProcessor(**sizes), chat_template=_chat("<|video|>"),
    )  # fmt: skip


def _smolvlm(content: dict[str, Any], facts: dict[str, Any]) -> Any:
    from transformers import SmolVLMImageProcessor, SmolVLMProcessor, SmolVLMVideoProcessor

    vision, edge = content["vision_config"], {"longest_edge": content["vision_config"]["image_size"]}
    names = {
        "image_token": "<image>", "video_token": "<video>", "fake_image_token": "<fake_token_around_image>",
        "global_image_token": "<global-img>", "end_of_utterance_token": "<end_of_utterance>",
    }  # fmt: skip
    sizes: dict[str, Any] = {"size": edge, "max_image_size": edge}
    return SmolVLMProcessor(
        SmolVLMImageProcessor(**sizes), tokenizer(**names), SmolVLMVideoProcessor(**sizes),
        image_seq_len=(vision["image_size"] // vision["patch_size"] // content["scale_factor"]) ** 2,
        chat_template=_chat("<video>"),
    )  # fmt: skip


#: Kind of processor -> what the configuration calls its control tokens, and what makes it of configuration and facts.
STAND_INS: dict[str, tuple[dict[str, str], Maker]] = {
    "video_llava": (_LLAVA_IDS, _video_llava),
    "pllava": ({"image_token_index": "<image>"}, _pllava),
    "llava_next_video": (_LLAVA_IDS, _llava_next_video),
    "llava_onevision": (_LLAVA_IDS, _llava_onevision),
    "internvl": ({"image_token_id": "<IMG_CONTEXT>"}, _internvl),
    "qwen2_5_vl": (
        _QWEN_IDS,
        _bounded("Qwen2_5_VLProcessor", "Qwen2VLImageProcessor", "Qwen2VLVideoProcessor", _QWEN_VIDEO),
    ),
    "qwen3_vl": (_QWEN_IDS, _bounded(*_QWEN3, _QWEN_VIDEO)),
    "qwen3_5": (_QWEN_IDS, _bounded(*_QWEN3, _QWEN_VIDEO, byte_tokenizer)),
    "glm46v": (
        _GLM_IDS,
        _bounded("Glm46VProcessor", "Glm46VImageProcessor", "Glm46VVideoProcessor", _GLM_VIDEO),
    ),
    "gemma4": (_GEMMA_IDS, _gemma4),
    "smolvlm": ({"image_token_id": "<image>"}, _smolvlm),
    "video_llama_3": (
        {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"},
        _bounded("VideoLlama3Processor", "VideoLlama3ImageProcessor", "VideoLlama3VideoProcessor", "<|video_pad|>"),
    ),
}


def write_processor(kind: str, content: dict[str, Any], facts: dict[str, Any], folder: Path) -> dict[str, int]:
    """Write a processor into a folder.

    Args:
        kind: one of `STAND_INS`.
        content: of the checkpoint's config.json.
        facts: of the checkpoint.
        folder: where to.

    Returns:
        The ids of control tokens in its tokenizer, by what the configuration calls them.
    """
    ids, make = STAND_INS[kind]
    make(content, facts).save_pretrained(folder)
    return {name: token_id(token) for name, token in ids.items()}
