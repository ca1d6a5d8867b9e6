"""The toy world's Video-LLaVA: the real architecture in transformers, two million parameters, not yet trained."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from datamodules.toy_world.questions import DESCRIBE, IRRELEVANT, YES_NO_SUFFIX
from datamodules.toy_world.render import COLORS, DIRECTIONS, PLACES, SHAPES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, VideoLlavaConfig

IMAGE_SIZE = 24
PATCH_SIZE = 8
SPECIAL_TOKENS = ("<unk>", "<s>", "</s>", "<pad>", "<image>", "<video>")
VOCABULARY = 448


def texts() -> Iterator[str]:
    """What the vocabulary is learned from: every word of the toy world, in sentences."""
    things = [f"{color} {shape}" for color, shape in itertools.product(COLORS, SHAPES)]
    for thing, direction, place in itertools.product(things, DIRECTIONS, PLACES):
        for order in ("before", "after"):
            clause = f"the {thing} moves {direction} at the {place}"
            yield f"USER: Is there a {thing} in the video?{YES_NO_SUFFIX} ASSISTANT: Yes, {clause} {order} the {thing}."
            yield f"USER: Does the {thing} move {direction}? ASSISTANT: No, {clause} {order} the {thing}. Yes. No."
            yield f"USER: Is the {thing} above the {thing}? Is the {thing} below the {thing}? What does the {thing} do?"
            yield f"Does the {thing} move {order} the {thing}? ASSISTANT: First {clause}, then {clause}. The {thing}."
            yield f"{DESCRIBE} What moves first? What moves last?"
    for word in ("Yes", "No", "First", "The"):
        yield from itertools.repeat(word, 50)
    yield from IRRELEVANT


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokeniser: the toy world's words are single tokens, any other text falls back to bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=list(SPECIAL_TOKENS), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        additional_special_tokens=["<image>", "<video>"],
        model_max_length=512,
    )


def build_config(tokenizer: PreTrainedTokenizerFast) -> VideoLlavaConfig:
    """The architecture: a CLIP vision tower for 24 x 24 pixels and a Llama of three layers."""
    from transformers import CLIPVisionConfig, LlamaConfig, VideoLlavaConfig

    vision = CLIPVisionConfig(
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
        projection_dim=96,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=512,
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
    )
