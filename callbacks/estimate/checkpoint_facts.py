"""Published checkpoints as far as a cost depends on them: numbers of layers, widths and the like, without their files.

`checkpoints/` has one file of facts a checkpoint. From it a folder is made in which a policy finds what it reads before
weights are loaded. Its tokenizer has words of one token each, so that lengths can be asked for.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

#: Where the facts are.
FACTS = Path(__file__).parent / "checkpoints"
#: Tokens whose text a template or a policy names.
_CONTROL = (
    "<unk>", "<s>", "</s>", "<pad>", "<image>", "<video>", "<|im_start|>", "<|im_end|>", "<|vision_start|>",
    "<|vision_end|>", "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
_WORDS = ("yes", "user", "assistant", "USER", "ASSISTANT", "seconds", ":", "<", ">", ".", ",", "?", *"0123456789")
#: A turn of a conversation with its video first, as chat models lay it out.
_CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}{% if c.type == 'video' %}"
    "<|vision_start|><|video_pad|><|vision_end|>{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


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
    for name, content in facts["files"].items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
    make = {"video_llava": _video_llava, "pllava": _pllava, "qwen3_vl": _qwen3_vl}.get(facts.get("processor", ""))
    if make is not None:
        make(facts, folder)


def tokenizer() -> Any:
    """A tokenizer whose words, digits and marks are one token each."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = {word: index for index, word in enumerate((*_CONTROL, *_WORDS))}
    inner = Tokenizer(models.WordLevel(words, unk_token=_CONTROL[0]))
    split = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation(), pre_tokenizers.Digits(True)]
    inner.pre_tokenizer = pre_tokenizers.Sequence(split)
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    unknown, begin, end, padding, *others = _CONTROL
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token=unknown, bos_token=begin, eos_token=end, pad_token=padding,
        additional_special_tokens=others,
    )  # fmt: skip


def token_id(token: str) -> int:
    """The id of a control token in that tokenizer."""
    return _CONTROL.index(token)


def _with_ids(folder: Path, tokens: dict[str, str]) -> dict[str, Any]:
    """The configuration in a folder, with the ids that its tokenizer gives to control tokens."""
    path = folder / "config.json"
    content = read_facts(path) | {name: token_id(token) for name, token in tokens.items()}
    path.write_text(json.dumps(content))
    return content


def _square(content: dict[str, Any]) -> dict[str, Any]:
    side = content["vision_config"]["image_size"]
    return {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}


def _video_llava(facts: dict[str, Any], folder: Path) -> None:
    from transformers import CLIPImageProcessor, VideoLlavaProcessor, VideoLlavaVideoProcessor

    content = _with_ids(folder, {"image_token_index": "<image>", "video_token_index": "<video>"})
    VideoLlavaProcessor(
        image_processor=CLIPImageProcessor(**_square(content)),
        video_processor=VideoLlavaVideoProcessor(**_square(content)),
        tokenizer=tokenizer(),
        patch_size=content["vision_config"]["patch_size"],
    ).save_pretrained(folder)


def _pllava(facts: dict[str, Any], folder: Path) -> None:
    _with_ids(folder, {"image_token_index": "<image>"})
    tokenizer().save_pretrained(folder)


def _qwen3_vl(facts: dict[str, Any], folder: Path) -> None:
    from transformers import Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

    ids = {
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }
    _with_ids(folder, ids)
    Qwen3VLProcessor(
        Qwen2VLImageProcessor(), tokenizer(), Qwen3VLVideoProcessor(size=facts["video_pixels"]), chat_template=_CHAT
    ).save_pretrained(folder)
