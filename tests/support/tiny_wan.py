"""A random Wan text-to-video pipeline of the real classes, small enough for every test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

#: What the VAE makes of a video: (C, F, H, W) latents have 4 channels, 1 + (T - 1) / 4 frames, 1/8 of height and width.
LATENT_CHANNELS, TEMPORAL_RATIO, SPATIAL_RATIO = 4, 4, 8
#: Width of the prompt embeddings.
TEXT_WIDTH = 24
#: The smallest side of a video, in pixels, that transformer and VAE can divide.
SMALLEST_SIDE = 16
LATENTS_MEAN, LATENTS_STD = (-0.56, -0.36, 0.41, -0.26), (0.52, 0.31, 0.6, 0.51)


def write_tiny_wan(folder: str | Path, seed: int = 0, text_to_video: bool = True) -> Path:
    """Write transformer (about 50k parameters), VAE, text encoder, tokenizer and scheduler as `save_pretrained` does.

    Args:
        folder: where to.
        seed: of all weights.
        text_to_video: False gives a transformer that also wants an image, which a text-to-video policy must refuse.
    """
    from diffusers import UniPCMultistepScheduler, WanPipeline

    folder = Path(folder)
    tokenizer = tiny_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = WanPipeline(
            tokenizer=tokenizer,
            text_encoder=tiny_text_encoder(len(tokenizer)),
            vae=tiny_vae(),
            scheduler=UniPCMultistepScheduler(
                prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=3.0
            ),
            transformer=_transformer(text_to_video),
        )
    pipeline.save_pretrained(folder)
    return folder


def random_video(num_frames: int = 9, height: int = 32, width: int = 32, seed: int = 0) -> torch.Tensor:
    """(T, 3, H, W) uint8: a smooth pattern that moves."""
    generator = torch.Generator().manual_seed(seed)
    phase = torch.rand(3, generator=generator) * 6
    time, rows, columns = torch.meshgrid(
        torch.arange(num_frames) / 4, torch.arange(height) / 5, torch.arange(width) / 5, indexing="ij"
    )
    waves = [torch.sin(rows + time + start) * torch.cos(columns - time * start) for start in phase]
    return ((torch.stack(waves, 1) + 1) * 127.5).round().to(torch.uint8)


def _transformer(text_to_video: bool) -> Any:
    from diffusers import WanTransformer3DModel

    model = WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=18, in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS, text_dim=TEXT_WIDTH, freq_dim=32, ffn_dim=72, num_layers=2,
        rope_max_seq_len=64, image_dim=None if text_to_video else 8,
    )  # fmt: skip
    # The usual initialisation is so small that neither prompt nor time would show in the velocity.
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and "scale_shift_table" not in name:
            torch.nn.init.normal_(parameter, std=1.2 * parameter[0].numel() ** -0.5)
    return model


def tiny_vae() -> Any:
    """A Wan autoencoder with statistics."""
    from diffusers import AutoencoderKLWan

    model = AutoencoderKLWan(
        base_dim=4, z_dim=LATENT_CHANNELS, dim_mult=[1, 2, 2, 2], num_res_blocks=1, attn_scales=[],
        temperal_downsample=[False, True, True], latents_mean=list(LATENTS_MEAN), latents_std=list(LATENTS_STD),
    )  # fmt: skip
    for parameter in model.parameters():
        if parameter.ndim > 3:
            torch.nn.init.normal_(parameter, std=0.9 * parameter[0].numel() ** -0.5)
    return model


def tiny_text_encoder(vocab_size: int) -> Any:
    """A UMT5 encoder."""
    from transformers import UMT5Config, UMT5EncoderModel

    config = UMT5Config(
        vocab_size=vocab_size, d_model=TEXT_WIDTH, d_kv=8, d_ff=32, num_layers=2, num_heads=3, dropout_rate=0.0,
        pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
    )  # fmt: skip
    return UMT5EncoderModel(config).eval()


def tiny_tokenizer() -> Any:
    """Every byte is a token, a text ends with </s>: like T5's, without its vocabulary."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    words = [*names.values(), *sorted(pre_tokenizers.ByteLevel.alphabet())]
    inner = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=512, **names)
