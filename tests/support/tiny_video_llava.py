"""A random Video-LLaVA checkpoint of the real classes, small enough for every test."""

from __future__ import annotations

from pathlib import Path

import torch

IMAGE_SIZE, PATCH_SIZE, NUM_FRAMES = 16, 8, 4
#: Features, and so tokens, of one frame: four patches and the class token.
TOKENS_PER_FRAME = (IMAGE_SIZE // PATCH_SIZE) ** 2 + 1


def save_tiny_video_llava(
    folder: str | Path, seed: int = 0, tie_word_embeddings: bool = False, dropout: float = 0.0
) -> Path:
    """Write model (about 50k parameters), tokenizer and processor to `folder`, as `save_pretrained` does."""
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        VideoLlavaConfig,
        VideoLlavaForConditionalGeneration,
        VideoLlavaProcessor,
        VideoLlavaVideoProcessor,
    )

    folder = Path(folder)
    tokenizer = _tokenizer()
    config = VideoLlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=24, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, image_size=IMAGE_SIZE,
            patch_size=PATCH_SIZE, attention_dropout=dropout,
        ),
        text_config=LlamaConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            vocab_size=len(tokenizer), max_position_embeddings=512, bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
            tie_word_embeddings=tie_word_embeddings, attention_dropout=dropout,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_seq_length=TOKENS_PER_FRAME - 1,
        video_seq_length=NUM_FRAMES * TOKENS_PER_FRAME,
        tie_word_embeddings=tie_word_embeddings,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VideoLlavaForConditionalGeneration(config)
        # The usual initialisation is so small that a wrong mask would hardly show in the log-probabilities.
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.5 if "embed" in name else 0.25)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    video_processor = VideoLlavaVideoProcessor(size={"shortest_edge": IMAGE_SIZE}, crop_size=size)
    VideoLlavaProcessor(
        image_processor=_image_processor(size),
        video_processor=video_processor,
        tokenizer=tokenizer,
        patch_size=PATCH_SIZE,
    ).save_pretrained(folder)
    return folder


def _image_processor(size: dict[str, int]) -> object:
    from transformers import CLIPImageProcessor

    return CLIPImageProcessor(size={"shortest_edge": size["height"]}, crop_size=size)


def _tokenizer() -> object:
    """Byte-level BPE without merges of words: every text can be written, a space belongs to what follows it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    special = [*names.values(), "<image>", "<video>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", letter) for letter in "abcdefghijklmnopqrstuvwxyzAU"]
    words = [*special, *letters, *("".join(pair) for pair in merges)]
    inner = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        additional_special_tokens=["<image>", "<video>"],
        padding_side="left",
        **names,
    )
