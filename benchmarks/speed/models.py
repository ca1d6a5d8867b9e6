"""Models with random weights of the chosen sizes, and a tokenizer whose words are single tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.speed.options import DenseOptions, LanguageOptions, VistaOptions

SPECIAL = ("<unk>", "<s>", "</s>", "<pad>", "<image>", "<video>", "USER:", "ASSISTANT:")


def build_tokenizer(vocabulary: int) -> Any:
    """A tokenizer without merges: every word `w0`, `w1` ... is one token, so that lengths are exact."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = [*SPECIAL, *(f"w{index}" for index in range(vocabulary - len(SPECIAL)))]
    inner = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))  # noqa: S106
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    unknown, begin, end, padding, *other = SPECIAL[:6]
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        unk_token=unknown,
        bos_token=begin,
        eos_token=end,
        pad_token=padding,
        additional_special_tokens=other,
    )


def words(count: int, options: LanguageOptions, generator: torch.Generator) -> str:
    """A text of `count` random words."""
    indices = torch.randint(options.vocabulary - len(SPECIAL), (count,), generator=generator)
    return " ".join(f"w{index}" for index in indices.tolist())


def llama_config(options: LanguageOptions) -> Any:
    """The language model's configuration."""
    from transformers import LlamaConfig

    return LlamaConfig(
        hidden_size=options.width,
        intermediate_size=options.feed_forward,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        num_key_value_heads=options.heads,
        vocab_size=options.vocabulary,
        max_position_embeddings=max(2048, options.prefix + options.answer),
        bos_token_id=SPECIAL.index("<s>"),
        eos_token_id=SPECIAL.index("</s>"),
        pad_token_id=SPECIAL.index("<pad>"),
    )


def save_video_llava(options: VistaOptions, folder: Path) -> None:
    """Write a random Video-LLaVA with tokenizer and processor, as `save_pretrained` does."""
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        VideoLlavaConfig,
        VideoLlavaForConditionalGeneration,
        VideoLlavaProcessor,
        VideoLlavaVideoProcessor,
    )
    from transformers.utils.logging import disable_progress_bar

    vision = CLIPVisionConfig(
        hidden_size=options.tower_width,
        intermediate_size=4 * options.tower_width,
        num_hidden_layers=options.tower_layers,
        num_attention_heads=max(1, options.tower_width // 64),  # 64 wide each, as CLIP's are
        image_size=options.image_size,
        patch_size=options.patch_size,
    )
    config = VideoLlavaConfig(
        vision_config=vision,
        text_config=llama_config(options),
        image_token_index=SPECIAL.index("<image>"),
        video_token_index=SPECIAL.index("<video>"),
        video_seq_length=options.video_tokens,
    )
    disable_progress_bar()
    # Forked, so that building a model does not change the draws of anything else.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        VideoLlavaForConditionalGeneration(config).save_pretrained(folder)
    size, crop = {"shortest_edge": options.image_size}, {"height": options.image_size, "width": options.image_size}
    VideoLlavaProcessor(
        image_processor=CLIPImageProcessor(size=size, crop_size=crop),
        video_processor=VideoLlavaVideoProcessor(size=size, crop_size=crop),
        tokenizer=build_tokenizer(options.vocabulary),
        patch_size=options.patch_size,
    ).save_pretrained(folder)


def save_wan(options: DenseOptions, folder: Path) -> None:
    """Write a random Wan pipeline of which only the transformer has the chosen sizes; nothing else runs in a step."""
    from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
    from diffusers.utils.logging import set_verbosity_error

    set_verbosity_error()  # no warning about the text encoder, which is left out on purpose
    channels = 16
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        transformer = WanTransformer3DModel(
            num_attention_heads=options.heads,
            attention_head_dim=options.width // options.heads,
            in_channels=channels,
            out_channels=channels,
            text_dim=options.width,
            ffn_dim=options.feed_forward,
            num_layers=options.layers,
        )
        vae = AutoencoderKLWan(base_dim=4, z_dim=channels, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
    scheduler = FlowMatchEulerDiscreteScheduler()
    parts = {"transformer": transformer, "vae": vae, "scheduler": scheduler}
    WanPipeline(tokenizer=None, text_encoder=None, **parts).save_pretrained(folder)


def train_a_little(module: nn.Module, seed: int) -> None:
    """Move the adapters away from 0, so that policy and reference differ: otherwise every loss would be the same."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        # Sorted, so that the draws do not depend on the order in which a library registers parameters.
        for name, parameter in sorted(module.named_parameters()):
            if "lora_" in name:
                noise: Tensor = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(0.02 * noise)
