"""What the policy needs of diffusers' Wan transformer: its configuration, building it, and padded prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from datamodules.shards.index import digest


def read_config(path: str, subfolder: str | None = None) -> dict[str, Any]:
    """The configuration of one part of a pipeline, or, without a subfolder, of the pipeline itself.

    Args:
        path: a pipeline's folder or hub id.
        subfolder: "transformer", "vae" ...; "" = a part's own folder.

    Raises:
        ValueError: there is none.
    """
    from diffusers import WanPipeline, WanTransformer3DModel

    reader: Any = WanPipeline if subfolder is None else WanTransformer3DModel
    try:
        config: dict[str, Any] = reader.load_config(path, **({} if subfolder is None else {"subfolder": subfolder}))
    except OSError as error:
        file = "model_index.json" if subfolder is None else "/".join(filter(None, (subfolder, "config.json")))
        raise ValueError(
            f"policy: no {file} at {path!r} ({error}); give a folder or hub id in the diffusers format"
        ) from error
    return config


def weights_mark(path: str) -> str:
    """A mark of the weights of a pipeline's autoencoder, by which two of one shape are told apart; "" = not known.

    From the first and the last convolution of the encoder, which make the latents, in bfloat16: the same weights in
    files of another type have the same mark, and no other weight is read.

    Args:
        path: a pipeline's folder or hub id, of which the autoencoder's file is fetched.
    """
    from huggingface_hub import hf_hub_download
    from safetensors import SafetensorError, safe_open

    name = "vae/diffusion_pytorch_model.safetensors"
    try:
        file = Path(path, name) if Path(path).is_dir() else hf_hub_download(path, name)
        with safe_open(file, "pt") as weights:
            found = [weights.get_tensor(one) for one in ("encoder.conv_in.weight", "quant_conv.weight")]
    except (OSError, ValueError, SafetensorError):
        return ""
    return digest(b"".join(one.bfloat16().view(torch.int16).numpy().tobytes() for one in found))[:16]


def read_transformer_config(path: str, subfolder: str) -> dict[str, Any]:
    """The configuration of a transformer that makes videos from text.

    Args:
        path: a pipeline's folder or hub id, or a folder of a transformer alone.
        subfolder: the transformer's place in the pipeline; "" = the folder itself.

    Raises:
        ValueError: there is none, it is another family's, or it also wants an image.
    """
    config = read_config(path, subfolder)
    kind = config.get("_class_name")
    if kind != "WanTransformer3DModel":
        raise ValueError(f"policy: {path!r} holds a {kind}, this policy takes a WanTransformer3DModel")
    channels = (config["in_channels"], config["out_channels"])
    if config.get("image_dim") is not None or channels[0] != channels[1]:
        raise ValueError(
            f"policy: {path!r} makes videos from an image (image_dim {config.get('image_dim')}, channels {channels[0]} "
            f"in and {channels[1]} out); this policy takes text-to-video checkpoints"
        )
    return config


def build_transformer(
    path: str, subfolder: str, config: Mapping[str, Any], dtype: str, activation_checkpointing: bool, meta: bool
) -> Any:
    """The transformer with its weights, or on the meta device without them.

    The modules that Wan keeps in float32 (time embedding, norms, scale and shift) stay so in either case: cast to
    bfloat16 they would change the output by a third.
    """
    from diffusers import WanTransformer3DModel

    kind = getattr(torch, dtype)
    if meta:
        with torch.device("meta"):
            model: Any = WanTransformer3DModel.from_config(config)
        kept = set(model._keep_in_fp32_modules)
        for name, parameter in model.named_parameters():
            if kept.isdisjoint(name.split(".")):
                parameter.data = parameter.data.to(kind)
    else:
        place = {"subfolder": subfolder} if subfolder else {}
        model = WanTransformer3DModel.from_pretrained(
            path, trust_remote_code=False, torch_dtype=kind, use_safetensors=True, **place
        )
    if activation_checkpointing:
        model.enable_gradient_checkpointing()
    return model


def padded_prompts(prompts: Sequence[Tensor], length: int, width: int) -> Tensor:
    """Embeddings padded with zeros, to which Wan attends as it does to words.

    Args:
        prompts: B tensors (n_i, D).
        length: tokens to pad to.
        width: the transformer's text width.

    Returns:
        (B, length, D).

    Raises:
        ValueError: an embedding is longer, or of another text encoder.
    """
    for number, prompt in enumerate(prompts):
        if prompt.ndim != 2 or len(prompt) > length or prompt.shape[1] != width:
            raise ValueError(
                f"prompt embedding {number} is {tuple(prompt.shape)}, this model takes at most ({length}, {width}); "
                "encode prompts with the policy's own text encoder, or raise prompt_length"
            )
    padded = pad_sequence(list(prompts), batch_first=True)
    return torch.nn.functional.pad(padded, (0, 0, 0, length - padded.shape[1]))


def save_transformer(model: Any, folder: Path, state_dict: Mapping[str, Tensor] | None) -> None:
    """Write a folder for `WanTransformer3DModel.from_pretrained`.

    Args:
        model: the transformer.
        folder: where to.
        state_dict: full tensors named as the model's, where those of the model are shards; None = the model's own.
    """
    if state_dict is not None:
        # save_pretrained takes no state: the same architecture without memory of its own carries it.
        with torch.device("meta"):
            carrier = type(model).from_config(model.config)
        carrier.load_state_dict(state_dict, assign=True)
        model = carrier
    model.save_pretrained(folder)
