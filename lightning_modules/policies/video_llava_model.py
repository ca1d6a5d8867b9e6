"""What the policy needs of transformers' Video-LLaVA: building it, and its way from frames to embeddings."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_modules.policies.prefixes import PackedViews
from lightning_modules.policies.remote_code import load_failure
from lightning_modules.policies.shared_attention import use_shared_prefix_attention


@dataclass(slots=True)
class EncodedVideos:
    """What policy and reference share of a batch of V views with A answers of N tokens.

    Attributes:
        packed: the token ids, one row a view.
        frames: (U, P, W) the tower's selected hidden states of the distinct frames, P of them a frame, before the
            projector; or, where the tower trains, their pixels (U, 3, S, S).
        places: (V, T) int64, which distinct frame is where.
        kept: (K,) int64, the tokens (of N) whose hidden states are kept.
        hidden_answer: (K,) int64, their answers; None when no hidden state is kept.
    """

    packed: PackedViews
    frames: Tensor
    places: Tensor
    kept: Tensor
    hidden_answer: Tensor | None


def read_configuration(path: str) -> Any:
    """The configuration of a checkpoint folder or hub id.

    Raises:
        ValueError: there is none, or it is another family's.
    """
    from transformers import AutoConfig, VideoLlavaConfig

    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"policy: no checkpoint at {path!r} ({load_failure(error)}); give a folder or hub id with a config.json"
        ) from error
    if not isinstance(config, VideoLlavaConfig):
        raise ValueError(f"policy: {path!r} holds a {config.model_type} model, this policy takes video_llava ones")
    return config


def build_model(
    path: str, config: Any, dtype: str, attn_implementation: str, activation_checkpointing: bool, meta: bool
) -> Any:
    """The checkpoint's model with dropout off: with its weights, or on the meta device without them."""
    from transformers import VideoLlavaForConditionalGeneration

    config = copy.deepcopy(config)
    for part in (config, config.text_config, config.vision_config):
        for name in [name for name, value in vars(part).items() if "dropout" in name and isinstance(value, float)]:
            setattr(part, name, 0.0)
    kind: dict[str, Any] = {"dtype": getattr(torch, dtype), "attn_implementation": attn_implementation}
    if meta:
        with torch.device("meta"):
            model: Any = VideoLlavaForConditionalGeneration._from_config(config, **kind)
    else:
        model = VideoLlavaForConditionalGeneration.from_pretrained(path, trust_remote_code=False, config=config, **kind)
    if attn_implementation == "sdpa":
        use_shared_prefix_attention(model.model.language_model)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    if activation_checkpointing:
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    return model


def freeze_unused_layers(tower: Any, selected: int | list[int]) -> None:
    """Freeze what lies behind the selected features: it never gets a gradient, which DDP refuses.

    Args:
        tower: the CLIP vision model.
        selected: the configuration's `vision_feature_layer`.
    """
    tower = getattr(tower, "vision_model", tower)
    count = len(tower.encoder.layers)
    # hidden_states[0] is the embedding, hidden_states[i] what layer i - 1 returns.
    layers = [selected] if isinstance(selected, int) else selected
    used = max(layer if layer >= 0 else count + 1 + layer for layer in layers)
    tower.encoder.layers[used:].requires_grad_(False)
    tower.post_layernorm.requires_grad_(False)


def tokens_per_frame(config: Any) -> int:
    """P, the tower's features of one frame: patches and the class token, which Video-LLaVA keeps for videos."""
    vision = config.vision_config
    return int((vision.image_size // vision.patch_size) ** 2 + 1)


def tower_states(base: Any, pixels: Tensor) -> Tensor:
    """(U, 3, S, S) -> (U, P, W), the hidden states of the video tower that the checkpoint selects."""
    layers = base.config.vision_feature_layer
    states = base.model.video_tower(pixels, output_hidden_states=True, return_dict=True).hidden_states
    selected: Tensor = states[layers] if isinstance(layers, int) else torch.cat([states[i] for i in layers], dim=-1)
    return selected


def embed_views(base: Any, ids: Tensor, states: Tensor, places: Tensor) -> Tensor:
    """Token embeddings with projected frames in the video tokens' places.

    Finished embeddings are what every supported transformers takes; other ways to hand the video over are swallowed
    by some of them without a word.

    Args:
        base: the model.
        ids: (V, L) int64, P video tokens for each of a view's T frames.
        states: (U, P, W) of the distinct frames.
        places: (V, T) int64, which of them is where.

    Returns:
        (V, L, D).
    """
    # masked_scatter is silent about features that are left over.
    assert states.shape[1] == tokens_per_frame(base.config), "the processor's crop_size is not the tower's image_size"
    projector = base.model.multi_modal_projector
    # A projector that trains beside adapters is float32 like them, whatever the model is.
    features = projector(states.to(projector.linear_1.weight.dtype))[places].flatten(0, 2)
    embeds: Tensor = base.get_input_embeddings()(ids)
    here = ids == base.config.video_token_index
    return embeds.masked_scatter(here[..., None], features.to(embeds.dtype))


def greedy_ids(
    base: Any, embeds: Tensor, mask: Tensor, max_new_tokens: int, eos_token_id: int, synchronised: bool
) -> Tensor:
    """The most probable token each time, from left-padded embeddings.

    Args:
        base: the model, in eval mode.
        embeds: (V, L, D).
        mask: (V, L) bool, False at padding.
        max_new_tokens: tokens at most.
        eos_token_id: what ends an answer where the checkpoint's generation settings name nothing, and fills its row.
        synchronised: go on until every rank has finished, as sharded weights are gathered by all together.

    Returns:
        (V, at most max_new_tokens) int64.
    """
    stop = base.generation_config.eos_token_id
    ids: Tensor = base.generate(
        inputs_embeds=embeds,
        attention_mask=mask.long(),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=eos_token_id if stop is None else stop,
        pad_token_id=eos_token_id,
        synced_gpus=synchronised,
    )
    return ids
