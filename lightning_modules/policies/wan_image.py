"""What Wan's checkpoints make of an image, by their configurations alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_modules.policies.given_image import ImageUse

#: Frames of a latent frame, of which an image-to-video checkpoint has a mask each.
WAN_TEMPORAL_RATIO = 4
#: Tokens of a prompt beside the states of an image: diffusers' attention counts those from the end.
TOKENS_BESIDE_IMAGE = 512


def wan_image_use(config: Mapping[str, Any], first_frame: bool) -> ImageUse:
    """What a transformer makes of the latents of an image.

    Args:
        config: the transformer's.
        first_frame: Wan2.2-TI2V-5B is to start from the first frame.
    """
    if config["in_channels"] != config["out_channels"]:
        return "channels"
    return "given" if first_frame else "none"


def wan_config_fault(config: Mapping[str, Any]) -> str | None:
    """Why a transformer of Wan's class is none that the policy takes; None = it is one."""
    inside, outside = config["in_channels"], config["out_channels"]
    # The image's latents, and one mask for each frame of a latent.
    with_image = 2 * outside + WAN_TEMPORAL_RATIO
    if inside not in (outside, with_image):
        return (
            f"has {inside} channels in and {outside} out; this policy takes {outside} (text to video) or {with_image} "
            "(image to video) in, not checkpoints of control, inpainting or cameras"
        )
    if config.get("image_dim") is not None and inside == outside:
        return f"attends to an image's states (image_dim {config['image_dim']}), but has no channels for the image"
    if config.get("pos_embed_seq_len"):
        return "makes videos between a first and a last frame; this policy takes those that start from a first one"
    return None
