"""What a policy needs of a transformer of diffusers: its configuration, building and saving it, and padded prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules.dense.inputs import Prompt
from datamodules.shards.index import digest


def read_config(path: str, subfolder: str | None = None) -> dict[str, Any]:
    """The configuration of one part of a pipeline, or, without a subfolder, of the pipeline itself.

    Args:
        path: a pipeline's folder or hub id.
        subfolder: "transformer", "vae", "scheduler" ...; "" = a part's own folder.

    Raises:
        ValueError: there is none.
    """
    from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler, WanTransformer3DModel

    # Which class reads only decides the file's name.
    reader: Any = WanTransformer3DModel
    file = "/".join(filter(None, (subfolder, "config.json")))
    if subfolder is None:
        reader, file = DiffusionPipeline, "model_index.json"
    elif subfolder == "scheduler":
        reader, file = FlowMatchEulerDiscreteScheduler, "scheduler/scheduler_config.json"
    try:
        config: dict[str, Any] = reader.load_config(path, **({} if subfolder is None else {"subfolder": subfolder}))
    except OSError as error:
        why = str(error).splitlines()[0]  # the hub client's advice fills more lines
        raise ValueError(
            f"policy: no {file} at {path!r} ({why}); give a folder or hub id in the diffusers format"
        ) from error
    return config


def autoencoder_tensors(path: str, names: Sequence[str]) -> dict[str, Tensor]:
    """Some tensors of a pipeline's autoencoder, read without the others; empty = they cannot be read.

    Args:
        path: a pipeline's folder or hub id, of which the autoencoder's file is fetched.
        names: of the tensors.
    """
    from huggingface_hub import hf_hub_download
    from safetensors import SafetensorError, safe_open

    name = "vae/diffusion_pytorch_model.safetensors"
    try:
        file = Path(path, name) if Path(path).is_dir() else hf_hub_download(path, name)
        with safe_open(file, "pt") as weights:
            return {tensor: weights.get_tensor(tensor) for tensor in names}
    except (OSError, ValueError, SafetensorError):
        return {}


def weights_mark(path: str, names: Sequence[str]) -> str:
    """A mark of the weights of a pipeline's autoencoder, which differs between two of one shape; "" = not known.

    From the first and the last convolution of the encoder, which make the latents, in bfloat16: the same weights in
    files of another type have the same mark, and no other weight is read.

    Args:
        path: a pipeline's folder or hub id.
        names: of the two tensors.
    """
    tensors = autoencoder_tensors(path, names)
    if not tensors:
        return ""
    return digest(b"".join(tensor.bfloat16().view(torch.int16).numpy().tobytes() for tensor in tensors.values()))[:16]


def build_transformer(
    path: str, subfolder: str, config: Mapping[str, Any], dtype: str, activation_checkpointing: bool, meta: bool
) -> Any:
    """The transformer with its weights, or on the meta device without them.

    The modules that a family keeps in float32 (Wan: time embedding, norms, scale and shift) stay so in either case:
    cast to bfloat16 they would change the output by a third.
    """
    import diffusers

    kind: Any = getattr(diffusers, config["_class_name"])
    precision = getattr(torch, dtype)
    if meta:
        with torch.device("meta"):
            model: Any = kind.from_config(config)
        kept = set(model._keep_in_fp32_modules or ())
        for name, parameter in model.named_parameters():
            if kept.isdisjoint(name.split(".")):
                parameter.data = parameter.data.to(precision)
    else:
        place = {"subfolder": subfolder} if subfolder else {}
        model = kind.from_pretrained(
            path, trust_remote_code=False, torch_dtype=precision, use_safetensors=True, **place
        )
    if activation_checkpointing:
        model.enable_gradient_checkpointing()
    return model


def padded_stream(prompts: Sequence[Prompt], name: str, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """One stream of several prompts as one tensor, padded with zeros at the end.

    Args:
        prompts: B prompts.
        name: of the stream.
        shape: (most tokens, D), to which is padded; or (D,) of a pooled stream.

    Returns:
        (B, most tokens, D) with the mask (B, most tokens), False at padding; or (B, D) with a mask (B,) of True.

    Raises:
        ValueError: a prompt has no such stream, more tokens, or is of another text encoder.
    """
    for number, prompt in enumerate(prompts):
        if name not in prompt:
            raise ValueError(
                f"prompt {number} has the streams {', '.join(prompt) or 'none'}, this model takes {name}; encode "
                "prompts with the policy's own text encoder"
            )
        stream = prompt[name]
        if stream.ndim != len(shape) or stream.shape[-1] != shape[-1] or stream.shape[0] > shape[0]:
            raise ValueError(
                f"prompt embedding {number} is {tuple(stream.shape)}, this model takes at most {tuple(shape)}; encode "
                "prompts with the policy's own text encoder, or raise prompt_length"
            )
    streams = [prompt[name] for prompt in prompts]
    if len(shape) == 1:
        return torch.stack(streams), torch.ones(len(streams), dtype=torch.bool, device=streams[0].device)
    tokens = streams[0].new_zeros(len(streams), *shape)
    mask = torch.zeros(len(streams), shape[0], dtype=torch.bool, device=tokens.device)
    for row, stream in enumerate(streams):
        tokens[row, : len(stream)] = stream
        mask[row, : len(stream)] = True
    return tokens, mask


def save_transformer(model: Any, folder: Path, state_dict: Mapping[str, Tensor] | None) -> None:
    """Write a folder for the transformer's `from_pretrained`.

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
