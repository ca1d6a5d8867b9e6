"""HunyuanVideo-1.5, as diffusers has it, behind the `VideoFlow` protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from datamodules.dense.inputs import Prompt
from datamodules.dense.rows import PromptShapes
from lightning_modules.policies.diffusers_flow import TIME_SCALE, DiffusersVideoFlow
from lightning_modules.policies.flow_codec import CAUSAL_MARKS, CodecParts, scaled_latents
from lightning_modules.policies.flow_inputs import FlowInputs
from lightning_modules.policies.hunyuan_attention import JointAttention

#: Tokens of the second text encoder, which reads what a prompt puts in quotation marks.
GLYPH_TOKENS = 256


def _embed(pipe: Any, prompts: Sequence[str], length: int, device: torch.device) -> list[Prompt]:
    from diffusers import HunyuanVideo15Pipeline as Pipeline

    texts = list(prompts)
    streams = (
        *Pipeline._get_mllm_prompt_embeds(pipe.text_encoder, pipe.tokenizer, texts, device, length),
        *Pipeline._get_byt5_prompt_embeds(pipe.tokenizer_2, pipe.text_encoder_2, texts, device, GLYPH_TOKENS),
    )
    return [
        {"embeds": tokens[mask.bool()], "glyphs": glyphs[glyph_mask.bool()]}
        for tokens, mask, glyphs, glyph_mask in zip(*streams, strict=True)
    ]


def _in_its_type(module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Cast what a time embedder reads; before that the model computes with times as they are given."""
    return (arguments[0].to(module.linear_1.weight.dtype), *arguments[1:])


class HunyuanVideo15Policy(DiffusersVideoFlow):
    """A HunyuanVideo-1.5 text-to-video checkpoint that is trained, sampled from and exported, see `DiffusersVideoFlow`.

    A prompt has two streams: "embeds" of Qwen2.5-VL, and "glyphs", which ByT5 makes of what is in quotation marks.
    The pipeline has no loader for adapters: an export is read by ``pipe.transformer.load_lora_adapter(folder,
    prefix=None, use_safetensors=True, weight_name="pytorch_lora_weights.safetensors")``.

    Args:
        path: a pipeline's folder or hub id in the diffusers format.
        prompt_length: as the pipeline's default; see `DiffusersVideoFlow`.
        **options: see `DiffusersVideoFlow`.
    """

    transformer = "HunyuanVideo15Transformer3DModel"
    codec_parts = CodecParts(
        pipeline="HunyuanVideo15Pipeline",
        vae="AutoencoderKLHunyuanVideo15",
        text={
            "tokenizer": "AutoTokenizer",
            "tokenizer_2": "AutoTokenizer",
            "text_encoder": "Qwen2_5_VLTextModel",
            "text_encoder_2": "T5EncoderModel",
        },
        marks=CAUSAL_MARKS,
        statistics=scaled_latents,
        embed=_embed,
        whole_pipeline=False,
        template_tokens=5,  # <|im_end|>, line, <|im_start|>, assistant, line
    )
    block_lists = ("transformer_blocks",)
    first_weight = "x_embedder.proj.weight"

    def __init__(self, path: str, prompt_length: int = 1000, **options: Any) -> None:
        super().__init__(path, prompt_length=prompt_length, **options)

    def read_transformer_config(self, path: str, subfolder: str) -> dict[str, Any]:
        """The configuration of a transformer that makes videos from text.

        Raises:
            ValueError: there is none, it is another family's, a distilled one, or it makes videos from an image.
        """
        config = super().read_transformer_config(path, subfolder)
        kind = self.pipeline_index.get("_class_name")
        if kind != self.codec_parts.pipeline or config.get("use_meanflow"):
            raise ValueError(
                f"policy: {path!r} is a {kind}{' with a mean flow' if config.get('use_meanflow') else ''}; this policy "
                "takes HunyuanVideo-1.5's text-to-video checkpoints"
            )
        return config

    def prepare(self, network: Any) -> None:
        """Let times stay float32 beside 16-bit weights, where 731.2 would be 732, and attend without square masks."""
        for block in network.transformer_blocks:
            block.attn.set_processor(JointAttention())
        network.time_embed.timestep_embedder.register_forward_pre_hook(_in_its_type)

    @property
    def prompt_shapes(self) -> PromptShapes:
        """Stream -> (most tokens, D)."""
        widths = int(self.config["text_embed_dim"]), int(self.config["text_embed_2_dim"])
        return {"embeds": (self.prompt_length, widths[0]), "glyphs": (GLYPH_TOKENS, widths[1])}

    @property
    def dead_modules(self) -> tuple[str, ...]:
        """Of the last block nobody reads the text, and without an image its embedder has nothing to do."""
        last = f"transformer_blocks.{self.config['num_layers'] - 1}"
        return (f"{last}.attn.to_add_out", f"{last}.attn.add_q_proj", f"{last}.ff_context", "image_embedder")

    @property
    def linears(self) -> str:
        """Attention and feed-forward, of both streams but for the text's side of the last block."""
        text = r"attn\.(add_q_proj|to_add_out)|ff_context\.net\.(0\.proj|2)"
        both = r"attn\.(to_q|to_k|to_v|to_out\.0|add_k_proj|add_v_proj)|ff\.net\.(0\.proj|2)"
        return rf"transformer_blocks\.(\d+\.({both})|(?!{self.config['num_layers'] - 1}\.)\d+\.({text}))"

    def predict(self, inputs: FlowInputs) -> Tensor:
        """What HunyuanVideo-1.5 predicts is the velocity; the channels of an image and its mask are 0."""
        noisy, kind = inputs.noisy, inputs.dtype
        no_image = torch.zeros_like(noisy), torch.zeros_like(noisy[:, :1])
        velocity: Tensor = self.base(
            hidden_states=torch.cat([noisy, *no_image], dim=1).to(kind),
            timestep=inputs.t * TIME_SCALE,
            encoder_hidden_states=inputs.text["embeds"],
            encoder_attention_mask=inputs.masks["embeds"].to(kind),
            encoder_hidden_states_2=inputs.text["glyphs"],
            encoder_attention_mask_2=inputs.masks["glyphs"].to(kind),
            # All zeros say that there is none; the tokens are masked, so that one is as good as the pipeline's 729.
            image_embeds=noisy.new_zeros(len(noisy), 1, self.config["image_embed_dim"], dtype=kind),
            return_dict=False,
        )[0]
        return velocity
