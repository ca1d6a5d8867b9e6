"""The toy world's Wan: a pipeline folder of diffusers' and transformers' real classes, small enough to train on a CPU.

`python -m datamodules.toy_world.wan_checkpoint untrained FOLDER` writes it with random weights;
`python -m datamodules.toy_world.wan_checkpoint join PIPELINE TRANSFORMER FOLDER` puts a trained transformer into a
pipeline and stores everything in half precision.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.toy_world.motion_world import ADVERBS, MOTION_COLORS
from datamodules.toy_world.render import SHAPES

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan, WanPipeline, WanTransformer3DModel
    from transformers import T5Tokenizer, UMT5EncoderModel

LATENT_CHANNELS = 16
TEXT_WIDTH = 64
#: Tokens of a prompt after padding; a toy prompt has seven. Give it as `prompt_length`, or as the pipeline's
#: `max_sequence_length`: padding takes part in attention, so the model knows no other length.
PROMPT_LENGTH = 16
#: Letters are tokens too, so that words from elsewhere are not all unknown.
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def build_tokenizer() -> T5Tokenizer:
    """T5's tokeniser with the toy world's words as single tokens; other words fall into letters."""
    from transformers import T5Tokenizer

    words = ["a", "moves", *MOTION_COLORS, *SHAPES, "horizontally", "the", "vertically", "and", *ADVERBS.values()]
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    letters = [(letter, -10.0) for letter in ("\u2581", *LETTERS)]
    vocabulary = [*special, *((f"\u2581{word}", -1.0) for word in words), *letters]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=PROMPT_LENGTH)


def build_text_encoder(vocabulary: int) -> UMT5EncoderModel:
    """A UMT5 encoder, never trained: random weights tell words apart, and the transformer learns to read them."""
    from transformers import UMT5Config, UMT5EncoderModel

    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=vocabulary, d_model=TEXT_WIDTH, d_kv=16, d_ff=128, num_layers=2, num_heads=4, dropout_rate=0.0
        )
    )


def build_vae() -> AutoencoderKLWan:
    """An autoencoder of Wan's ratios, 4 in time and 8 in space: as Wan 2.2 it takes patches of 2 x 2 pixels."""
    import torch
    from diffusers import AutoencoderKLWan

    vae = AutoencoderKLWan(
        base_dim=16,
        z_dim=LATENT_CHANNELS,
        dim_mult=[1, 2, 3],
        num_res_blocks=1,
        temperal_downsample=[True, True],
        latents_mean=[0.0] * LATENT_CHANNELS,
        latents_std=[1.0] * LATENT_CHANNELS,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_temporal=4,
        scale_factor_spatial=8,
    )
    with torch.no_grad():
        # The posterior begins narrow: under noise of spread 1 the decoder would long learn nothing but the background.
        vae.quant_conv.bias[LATENT_CHANNELS:] = -6.0
        # In time it begins as one for pictures, as Wan's own did: earlier frames have no say, of four frames the last
        # one is stored, and shown four times.
        for name, weight in vae.named_parameters():
            if "time_conv" in name:
                weight.zero_()
            if name.endswith("time_conv.weight"):
                for half in weight.split(weight.shape[1]):
                    half[:, :, -1, 0, 0] = torch.eye(weight.shape[1])
            elif weight.shape[2:] == (3, 3, 3):
                weight[:, :, :-1] = 0.0
    return vae


def build_transformer() -> WanTransformer3DModel:
    """Wan's transformer with six narrow blocks; a video of 33 frames of 32 x 32 pixels is 36 tokens."""
    from diffusers import WanTransformer3DModel

    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=5,
        attention_head_dim=32,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        text_dim=TEXT_WIDTH,
        freq_dim=64,
        ffn_dim=480,
        num_layers=6,
        cross_attn_norm=True,
        rope_max_seq_len=64,
    )


def write_untrained(folder: Path, seed: int = 0) -> None:
    """Save the pipeline with random weights, for `WanPipeline.from_pretrained` and to be trained.

    Args:
        folder: is made if need be.
        seed: of the weights; the global random state is left as it was.
    """
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline

    tokenizer = build_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = WanPipeline(
            tokenizer=tokenizer,
            text_encoder=build_text_encoder(len(tokenizer)),
            vae=build_vae(),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
            transformer=build_transformer(),
        )
    pipeline.save_pretrained(folder)


def load_pipeline(folder: Path, **parts: Any) -> WanPipeline:
    """A pipeline folder in single precision, with parts of it replaced."""
    import torch
    from diffusers import WanPipeline

    pipeline: WanPipeline = WanPipeline.from_pretrained(folder, trust_remote_code=False, dtype=torch.float32, **parts)
    return pipeline


def write_joined(pipeline: Path, transformer: Path, target: Path) -> None:
    """Save a pipeline with a trained transformer, all weights in half precision.

    Args:
        pipeline: the folder whose other parts are taken.
        transformer: the transformer's folder, as fitting exported it.
        target: is made if need be; files of the same names are replaced.
    """
    import torch
    from diffusers import WanTransformer3DModel

    trained = WanTransformer3DModel.from_pretrained(transformer, trust_remote_code=False, dtype=torch.float32)
    load_pipeline(pipeline, transformer=trained).to(dtype=torch.float16).save_pretrained(target)


def main(arguments: list[str]) -> None:
    """The two commands of this module's docstring."""
    match arguments:
        case ["untrained", folder]:
            write_untrained(Path(folder))
        case ["join", pipeline, transformer, folder]:
            write_joined(Path(pipeline), Path(transformer), Path(folder))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
