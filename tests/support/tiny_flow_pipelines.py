"""Pipelines of every video diffusion family with random weights, of the real classes, and very small."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tests.support.tiny_wan import TEXT_WIDTH, tiny_text_encoder, tiny_tokenizer, tiny_vae


def loud(model: Any) -> Any:
    """Weights under which prompt, time and neighbours show in the output."""
    for name, parameter in model.named_parameters():
        nn.init.normal_(parameter, std=0.5 / max(1, parameter.shape[-1]) ** 0.5 if parameter.ndim > 1 else 0.1)
        if "norm" in name and name.endswith("weight") and parameter.ndim == 1:
            parameter.data.add_(1)
    return model.eval()


def _t5(width: int) -> Any:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(vocab_size=300, d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2, dropout_rate=0.0,
                 pad_token_id=0, eos_token_id=1, decoder_start_token_id=0)
    ).eval()  # fmt: skip


def _wan_transformer(channels: int = 4, **config: Any) -> Any:
    from diffusers import WanTransformer3DModel

    return loud(
        WanTransformer3DModel(
            patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=18, in_channels=channels, out_channels=4,
            text_dim=TEXT_WIDTH, freq_dim=32, ffn_dim=72, num_layers=2, rope_max_seq_len=64, **config,
        )
    )  # fmt: skip


def _image_tower() -> dict[str, Any]:
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

    config = CLIPVisionConfig(
        hidden_size=12, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=8, patch_size=4
    )
    processor = CLIPImageProcessor(size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8})
    return {"image_encoder": loud(CLIPVisionModel(config)), "image_processor": processor}


def _wan(image: bool, experts: bool, tower: bool = False, **config: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, WanImageToVideoPipeline, WanPipeline

    tokenizer = tiny_tokenizer()
    channels = 12 if image and not config.get("expand_timesteps") else 4
    states = {"image_dim": 12, "added_kv_proj_dim": 36} if tower else {}
    parts: dict[str, Any] = {
        "tokenizer": tokenizer,
        "text_encoder": tiny_text_encoder(len(tokenizer)),
        "vae": tiny_vae(),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0),
        "transformer": _wan_transformer(channels, **states),
    }
    if experts:
        parts |= {"transformer_2": _wan_transformer(channels), "boundary_ratio": 0.9 if image else 0.875}
    if tower:
        parts |= _image_tower()
    return (WanImageToVideoPipeline if image else WanPipeline)(**parts, **config)


def wan() -> Any:
    """Wan2.1 text to video."""
    return _wan(image=False, experts=False)


def wan_image_21() -> Any:
    """Wan2.1 image to video: image on channels, and its states in a CLIP tower."""
    return _wan(image=True, experts=False, tower=True)


def wan_experts() -> Any:
    """Wan2.2-A14B: two experts."""
    return _wan(image=False, experts=True)


def wan_ti2v() -> Any:
    """Wan2.2-TI2V-5B, from text."""
    return _wan(image=False, experts=False, expand_timesteps=True)


def wan_image_ti2v() -> Any:
    """The same checkpoint in the pipeline that takes an image."""
    return _wan(image=True, experts=False, expand_timesteps=True)


def wan_image() -> Any:
    """Wan2.2-I2V-A14B: image on channels, two experts."""
    return _wan(image=True, experts=True)


def ltx(image: bool = False) -> Any:
    """LTX-Video: packed latents, 8 frames and 8 pixels a latent."""
    from diffusers import (
        AutoencoderKLLTXVideo,
        FlowMatchEulerDiscreteScheduler,
        LTXImageToVideoPipeline,
        LTXPipeline,
        LTXVideoTransformer3DModel,
    )

    scaling = (True, True, True, False)
    vae = AutoencoderKLLTXVideo(
        latent_channels=8, block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1,) * 5, decoder_layers_per_block=(1,) * 5, spatio_temporal_scaling=scaling,
        decoder_spatio_temporal_scaling=scaling, patch_size=1, patch_size_t=1,
    )  # fmt: skip
    vae.latents_mean.copy_(torch.linspace(-0.5, 0.5, 8))
    vae.latents_std.copy_(torch.linspace(0.5, 1.5, 8))
    return (LTXImageToVideoPipeline if image else LTXPipeline)(
        tokenizer=tiny_tokenizer(),
        text_encoder=_t5(12),
        vae=vae.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_image_seq_len=1024, max_image_seq_len=4096, base_shift=0.95,
            max_shift=2.05, shift_terminal=0.1,
        ),
        transformer=loud(
            LTXVideoTransformer3DModel(in_channels=8, out_channels=8, num_attention_heads=2, attention_head_dim=8,
                                       cross_attention_dim=16, num_layers=2, caption_channels=12)
        ),
    )  # fmt: skip


def ltx_image() -> Any:
    """LTX-Video from an image."""
    return ltx(image=True)


def hunyuan_video15() -> Any:
    """HunyuanVideo-1.5: two text streams, 16 pixels a latent."""
    from diffusers import (
        AutoencoderKLHunyuanVideo15,
        ClassifierFreeGuidance,
        FlowMatchEulerDiscreteScheduler,
        HunyuanVideo15Pipeline,
        HunyuanVideo15Transformer3DModel,
    )
    from transformers import Qwen2_5_VLTextConfig, Qwen2_5_VLTextModel

    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    # The real template has 108 tokens before the prompt, which the pipeline cuts off.
    tokenizer.chat_template = (
        "{{ '<|im_start|>' * 108 }}{{ messages[1]['content'] }}<|im_end|>\n<|im_start|>assistant\n"
    )
    text = Qwen2_5_VLTextModel(
        Qwen2_5_VLTextConfig(
            vocab_size=len(tokenizer), hidden_size=12, intermediate_size=16, num_hidden_layers=3, num_attention_heads=2,
            num_key_value_heads=1, rope_scaling={"type": "mrope", "mrope_section": [1, 1, 1]},
        )
    )  # fmt: skip
    return HunyuanVideo15Pipeline(
        tokenizer=tokenizer,
        text_encoder=text.eval(),
        tokenizer_2=tiny_tokenizer(),
        text_encoder_2=_t5(8),
        vae=AutoencoderKLHunyuanVideo15(
            latent_channels=4, block_out_channels=(8, 8, 16, 16, 16), layers_per_block=1
        ).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
        guider=ClassifierFreeGuidance(guidance_scale=3.0),
        transformer=loud(
            HunyuanVideo15Transformer3DModel(
                in_channels=9, out_channels=4, num_attention_heads=2, attention_head_dim=10, num_layers=2,
                num_refiner_layers=1, text_embed_dim=12, text_embed_2_dim=8, image_embed_dim=5, rope_axes_dim=(2, 4, 4),
                target_size=32, task_type="t2v",
            )
        ),
    )  # fmt: skip


def cogvideox(rotary: bool = False, patch: int | None = None, shift: float = 3.0) -> Any:
    """CogVideoX-2b: sine positions, snr shift 3."""
    from diffusers import (
        AutoencoderKLCogVideoX,
        CogVideoXDDIMScheduler,
        CogVideoXPipeline,
        CogVideoXTransformer3DModel,
    )

    return CogVideoXPipeline(
        tokenizer=tiny_tokenizer(),
        text_encoder=_t5(12),
        vae=AutoencoderKLCogVideoX(
            block_out_channels=(8, 8, 8, 8), latent_channels=4, layers_per_block=1, norm_num_groups=2
        ).eval(),
        scheduler=CogVideoXDDIMScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type="v_prediction",
            rescale_betas_zero_snr=True, snr_shift_scale=shift, set_alpha_to_one=True, timestep_spacing="trailing",
            clip_sample=False,
        ),
        transformer=loud(
            CogVideoXTransformer3DModel(
                num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, time_embed_dim=8,
                text_embed_dim=12, num_layers=2, sample_width=4, sample_height=4, sample_frames=9, patch_size=2,
                patch_size_t=patch, max_text_seq_length=16, use_rotary_positional_embeddings=rotary,
            )
        ),
    )  # fmt: skip


def cogvideox_rotary() -> Any:
    """CogVideoX-5b: rotary positions, snr shift 1."""
    return cogvideox(rotary=True, shift=1.0)


def cogvideox15() -> Any:
    """CogVideoX-1.5: also two frames a token."""
    return cogvideox(rotary=True, patch=2, shift=1.0)


def mochi() -> Any:
    """Mochi: 6 frames a latent frame, time from noise to video."""
    from diffusers import (
        AutoencoderKLMochi,
        FlowMatchEulerDiscreteScheduler,
        MochiPipeline,
        MochiTransformer3DModel,
    )

    return MochiPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
        vae=AutoencoderKLMochi(
            latent_channels=4, out_channels=3, encoder_block_out_channels=(32, 32, 32, 32),
            decoder_block_out_channels=(32, 32, 32, 32), layers_per_block=(1, 1, 1, 1, 1),
            latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[0.9, 1.1, 0.8, 1.2], scaling_factor=0.9,
        ).eval(),
        text_encoder=_t5(16),
        tokenizer=tiny_tokenizer(),
        transformer=loud(
            MochiTransformer3DModel(
                num_attention_heads=2, attention_head_dim=16, num_layers=2, pooled_projection_dim=16, in_channels=4,
                text_embed_dim=16, time_embed_dim=8, max_sequence_length=24,
            )
        ),
        force_zeros_for_empty_prompt=True,
    )  # fmt: skip
