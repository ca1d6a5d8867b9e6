"""The toy world's Video-LLaVA: the real architecture in transformers with 0.6 million parameters, not yet trained.

`python -m datamodules.toy_world.checkpoint EXPORT TARGET` stores the trained one in half precision.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.toy_world.questions import DESCRIBE, YES_NO_SUFFIX
from datamodules.toy_world.render import COLORS, DIRECTIONS, PLACES, SHAPES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, VideoLlavaConfig, VideoLlavaProcessor

IMAGE_SIZE = 24
PATCH_SIZE = 12
NUM_FRAMES = 4
SPECIAL_TOKENS = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
VISUAL_TOKENS = ("<image>", "<video>")
VOCABULARY = 448
MAX_POSITIONS = 512
#: A little of what is not the toy world, so that other texts are not all bytes.
ENGLISH: tuple[str, ...] = (
    "A dog sleeps on the sofa.",
    "The weather is nice today.",
    "Two people cook dinner in a kitchen.",
    "A train leaves the station at noon.",
    "The book on the table is open.",
    "She plays the piano in the evening.",
)


def texts() -> Iterator[str]:
    """What the vocabulary is learned from: every word of the toy world, in sentences."""
    things = [f"{color} {shape}" for color, shape in itertools.product(COLORS, SHAPES)]
    for thing, direction, place in itertools.product(things, DIRECTIONS, PLACES):
        for order in ("before", "after"):
            clause = f"the {thing} moves {direction} at the {place}"
            yield f"USER: Is there a {thing} in the video?{YES_NO_SUFFIX} ASSISTANT: Yes, {clause} {order} the {thing}."
            yield f"USER: Does the {thing} move {direction}? ASSISTANT: No, {clause} {order} the {thing}. Yes. No."
            yield f"USER: Is the {thing} at the {place}? Is there a {thing} in the video? What does the {thing} do?"
            yield f"Does the {thing} move {order} the {thing}? ASSISTANT: First {clause}, then {clause}. The {thing}."
            yield f"{DESCRIBE} What moves first? What moves last? When does the {thing} move? ASSISTANT: First. Last."
            yield f"Which way does the {thing} move? ASSISTANT: Left. At. Right. Where does the {thing} move?"
            yield f"Check the {thing}. Check the video. yes, {place} yes, {direction} no, {order} no, {thing} yes."
    for word in ("Before", "After", "Top", "Bottom", *(color.capitalize() for color in COLORS)):
        yield from itertools.repeat(word, 50)
    for word in ("Yes", "No", "First", "The", "Left", "Right", "At", "Last"):
        yield from itertools.repeat(word, 50)
    yield from ENGLISH


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokeniser: the toy world's words are single tokens, any other text falls back to bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[*SPECIAL_TOKENS.values(), *VISUAL_TOKENS],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=MAX_POSITIONS,
        additional_special_tokens=list(VISUAL_TOKENS),
        **SPECIAL_TOKENS,
    )


def build_config(tokenizer: PreTrainedTokenizerFast) -> VideoLlavaConfig:
    """The architecture: a CLIP vision tower for 24 x 24 pixels and a narrow Llama, deep enough to look up and compare.

    Weights begin larger than the library's default, which is made for models a hundred times as wide.
    """
    from transformers import CLIPVisionConfig, LlamaConfig, VideoLlavaConfig

    vision = CLIPVisionConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
        projection_dim=64,
        initializer_range=0.04,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=192,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=MAX_POSITIONS,
        initializer_range=0.08,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return VideoLlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        vision_feature_layer=-1,
        image_seq_length=(IMAGE_SIZE // PATCH_SIZE) ** 2,
        video_seq_length=NUM_FRAMES * ((IMAGE_SIZE // PATCH_SIZE) ** 2 + 1),
    )


def build_processor(tokenizer: PreTrainedTokenizerFast) -> VideoLlavaProcessor:
    """Tokeniser, image processor and video processor: squash to 24 x 24 pixels, CLIP's normalisation."""
    from transformers import VideoLlavaImageProcessor, VideoLlavaProcessor, VideoLlavaVideoProcessor

    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    settings: dict[str, Any] = {"size": size, "do_resize": True, "do_center_crop": False, "do_convert_rgb": True}
    return VideoLlavaProcessor(
        image_processor=VideoLlavaImageProcessor(**settings),
        video_processor=VideoLlavaVideoProcessor(**settings),
        tokenizer=tokenizer,
        patch_size=PATCH_SIZE,
        vision_feature_select_strategy="default",
    )


def write_untrained(folder: Path, seed: int = 0) -> None:
    """Save the model with random weights, its tokeniser and its processor, for `from_pretrained` and to be trained.

    Args:
        folder: is made if need be.
        seed: of the weights; the global random state is left as it was.
    """
    import torch
    from transformers import VideoLlavaForConditionalGeneration

    tokenizer = build_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VideoLlavaForConditionalGeneration(build_config(tokenizer))
        for name, weight in model.named_parameters():
            # CLIP's position embeddings begin far smaller than those of patches, so that places are learned late.
            if name.endswith("position_embedding.weight"):
                torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(folder)
    build_processor(tokenizer).save_pretrained(folder)


def write_halved(source: Path, target: Path) -> None:
    """Save a trained model in half precision, beside its processor; it is loaded as float32 again.

    Args:
        source: the folder that pre-training exported.
        target: is made if need be; files of the same names are replaced.
    """
    import torch
    from transformers import AutoProcessor, VideoLlavaForConditionalGeneration

    VideoLlavaForConditionalGeneration.from_pretrained(
        source, trust_remote_code=False, dtype=torch.float16
    ).save_pretrained(target)
    AutoProcessor.from_pretrained(source, trust_remote_code=False).save_pretrained(target)


if __name__ == "__main__":
    write_halved(Path(sys.argv[1]), Path(sys.argv[2]))
