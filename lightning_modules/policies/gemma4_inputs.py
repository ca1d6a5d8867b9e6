"""What a decoder of Gemma 4 is given with finished embeddings, so that it asks the device nothing."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def gemma4_inputs(decoder: Any, ids: Tensor, is_video: Tensor, embeds: Tensor) -> dict[str, Any]:
    """What a decoder of Gemma 4 is given besides embeddings and positions.

    Args:
        decoder: the language model.
        ids: (V, T) token ids, padded at the right, where nothing is seen.
        is_video: (V, T) bool, where features are; side by side they see each other within the window.
        embeds: (V, T, D) with the features.

    Returns:
        embeddings of a token's own for each layer, where the checkpoint has them, and a mask for each kind of layer.
    """
    from transformers.masking_utils import create_masks_for_generate
    from transformers.models.gemma4 import modeling_gemma4

    config = decoder.config
    # Without positions, in which several sequences would be searched for.
    options: dict[str, Any] = {
        "config": config,
        "inputs_embeds": embeds,
        "attention_mask": None,
        "past_key_values": None,
        "position_ids": None,
    }
    if config.use_bidirectional_attention == "vision":
        blocks = modeling_gemma4.get_block_sequence_ids_for_mask(is_video.long(), ids.device)
        masks = modeling_gemma4.create_masks_for_vision_model(**options, block_sequence_ids=blocks)
    else:
        masks = create_masks_for_generate(**options)
    if not config.hidden_size_per_layer_input:
        return {"attention_mask": masks}
    own = decoder.get_per_layer_inputs(ids.masked_fill(is_video, config.pad_token_id), None)
    return {"attention_mask": masks, "per_layer_inputs": own}
