"""Wan 2.1 and 2.2, as diffusers has them, behind the `VideoFlow` protocol."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from datamodules.dense.inputs import Condition, Prompt
from lightning_modules.policies.diffusers_flow import TIME_SCALE, DiffusersVideoFlow
from lightning_modules.policies.flow_codec import CodecParts
from lightning_modules.policies.given_image import ImageUse, given_frames, token_times
from lightning_modules.policies.original_names import OriginalNames

#: Frames of a latent frame, of which an image-to-video checkpoint has a mask each.
WAN_TEMPORAL_RATIO = 4
_ATTENTION = {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "o"}


def _statistics(path: str, config: Mapping[str, Any]) -> tuple[Sequence[float], Sequence[float], int, int]:
    from diffusers import AutoencoderKLWan

    # Early checkpoints leave out what was the default then and is now.
    defaults = inspect.signature(AutoencoderKLWan.__init__).parameters
    names = ("latents_mean", "latents_std", "scale_factor_temporal", "scale_factor_spatial")
    mean, std, time, side = (config.get(name, defaults[name].default) for name in names)
    return mean, std, time, side


def _embed(pipe: Any, prompts: Sequence[str], length: int, device: torch.device) -> list[Prompt]:
    padded, _ = pipe.encode_prompt(
        list(prompts), do_classifier_free_guidance=False, max_sequence_length=length, device=device
    )
    # The pipeline sets padding to 0, which no word's embedding is.
    lengths = padded.ne(0).any(-1).sum(-1).tolist()
    return [{"embeds": tokens[:count]} for tokens, count in zip(padded, lengths, strict=True)]


def _clean(prompt: str) -> str:
    from diffusers.pipelines.wan.pipeline_wan import prompt_clean

    return str(prompt_clean(prompt))


#: A block's linears in diffusers -> their names in Wan's own code.
_ORIGINAL = {
    **{f"attn1.{ours}": f"self_attn.{own}" for ours, own in _ATTENTION.items()},
    **{f"attn2.{ours}": f"cross_attn.{own}" for ours, own in _ATTENTION.items()},
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
}


def _original(name: str) -> str | None:
    match = re.fullmatch(r"(blocks\.\d+)\.(.+)", name)
    return f"{match[1]}.{_ORIGINAL[match[2]]}" if match and match[2] in _ORIGINAL else None


WAN_PARTS = CodecParts(
    pipeline="WanPipeline",
    vae="AutoencoderKLWan",
    text={"tokenizer": "AutoTokenizer", "text_encoder": "UMT5EncoderModel"},
    marks=("encoder.conv_in.weight", "quant_conv.weight"),
    statistics=_statistics,
    embed=_embed,
    clean=_clean,
)


class WanPolicy(DiffusersVideoFlow):
    """A Wan checkpoint that is trained, sampled from and exported, see `DiffusersVideoFlow`.

    Text to video: Wan2.1, Wan2.2-A14B and Wan2.2-TI2V-5B. Image to video, from the first frame of the pair's own video:
    Wan2.2-I2V-A14B, and Wan2.2-TI2V-5B with `image_to_video`. Wan2.1's image-to-video checkpoints also want the states
    of a CLIP tower and are refused.

    Wan2.2-A14B has two transformers: "transformer" for noise levels from its boundary (0.875, image to video 0.9) up,
    "transformer_2" below it. Guided pairs start at eta <= 0.8 and so use only the low-noise expert: "transformer_2" is
    enough to make pairs and to train on them, with times below the boundary (`times`; a policy that is asked to denoise
    outside is an error). Its adapter goes into the pipeline by ``load_lora_weights(folder,
    load_into_transformer_2=True)``. "both" holds the two and takes each by its times, so that one run trains both and
    vanilla pairs and videos can be made from pure noise; exports have the second one's adapter in their folder
    "transformer_2". Wan2.1 and Wan2.2-5B have one transformer.

    Args:
        path: a pipeline's folder or hub id in the diffusers format.
        transformer: which of the pipeline's transformers; see above.
        image_to_video: give a Wan2.2-TI2V-5B the first frame; other checkpoints say by themselves whether they take it.
        **options: see `DiffusersVideoFlow`.

    Raises:
        ValueError: also if `image_to_video` is set for a checkpoint that is not Wan2.2-TI2V-5B, or "both" for one with
            a single transformer.
    """

    transformer = "WanTransformer3DModel"
    codec_parts = WAN_PARTS
    linears = r"blocks\.\d+\.(attn[12]\.(to_q|to_k|to_v|to_out\.0)|ffn\.net\.(0\.proj|2))"
    first_weight = "patch_embedding.weight"
    original = OriginalNames(_original, alpha=True)

    def __init__(
        self,
        path: str,
        transformer: Literal["transformer", "transformer_2", "both"] = "transformer",
        image_to_video: bool = False,
        **options: Any,
    ) -> None:
        self.expert = transformer  # the base's constructor asks for it
        super().__init__(path, **options)
        # Not used, it is in no record of a run, so that runs which earlier releases began go on.
        if image_to_video:
            self.image_to_video = True
        if image_to_video and not self.pipeline_index.get("expand_timesteps"):
            raise ValueError(
                f"policy: image_to_video is for Wan2.2-TI2V-5B, whose tokens have times of their own, and {path!r} is "
                "another checkpoint; leave it out"
            )
        if transformer == "both" and self._boundary is None:
            raise ValueError(f"policy: {path!r} has one transformer, so there are no experts to train: leave both out")

    @property
    def _boundary(self) -> float | None:
        return self.pipeline_index.get("boundary_ratio")

    @property
    def networks(self) -> tuple[str, ...]:
        """The one that was chosen, or both."""
        return ("transformer", "transformer_2") if self.expert == "both" else (self.expert,)

    @property
    def times(self) -> tuple[float, float]:
        """Lowest and highest t for which the transformer is made."""
        if self._boundary is None or self.expert == "both":
            return (0.0, 1.0)
        return (0.0, self._boundary) if self.expert == "transformer_2" else (self._boundary, 1.0)

    @property
    def image_use(self) -> ImageUse:
        """By the checkpoint: channels beside the noisy ones, or the first frame where that is asked for."""
        if self.config["in_channels"] != self.config["out_channels"]:
            return "channels"
        return "given" if getattr(self, "image_to_video", False) else "none"

    def read_transformer_config(self, path: str, subfolder: str) -> dict[str, Any]:
        """The configuration of a transformer.

        Raises:
            ValueError: there is none, it is another family's, or it also wants the states of an image tower.
        """
        config = super().read_transformer_config(path, subfolder)
        channels = (config["in_channels"], config["out_channels"])
        # The image's latents, and one mask for each frame of a latent.
        with_image = 2 * channels[1] + WAN_TEMPORAL_RATIO
        if config.get("image_dim") is not None or channels[0] not in (channels[1], with_image):
            raise ValueError(
                f"policy: {path!r} makes videos from an image (image_dim {config.get('image_dim')}, channels "
                f"{channels[0]} in and {channels[1]} out) by its tower's states, which this policy does not encode; it "
                "takes Wan text-to-video checkpoints, Wan2.2-I2V-A14B and Wan2.2-TI2V-5B"
            )
        return config

    def load(self, meta: bool = False) -> None:
        """Bring in the transformer, or both, and their adapters; idempotent.

        Raises:
            ValueError: both are to be sharded.
        """
        if meta and self.expert == "both":
            raise ValueError(
                "policy.transformer: both is for one device and for DDP; under FSDP ranks would gather the weights of "
                "different experts at one time and wait for ever: train transformer and transformer_2 in two runs"
            )
        super().load(meta)

    def predict(
        self,
        noisy: Tensor,
        t: Tensor,
        text: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        conditions: Sequence[Condition],
    ) -> Tensor:
        """What Wan predicts is the velocity; it attends to padding as it does to words."""
        embeds = text["embeds"]
        given = given_frames(self.image_use, noisy.shape[2], conditions, noisy.device)
        patches = [size // patch for size, patch in zip(noisy.shape[2:], self.patch, strict=True)]
        times = token_times(t, given, patches) * TIME_SCALE
        if self.image_use == "channels":
            noisy = torch.cat([noisy, *_image_channels(noisy, conditions)], dim=1)
        boundary = self._boundary
        if self.expert != "both" or boundary is None:
            return _forward(self.base, noisy.to(embeds.dtype), times, embeds)
        velocity = noisy.new_zeros(len(noisy), self.config["out_channels"], *noisy.shape[2:])
        high = t >= boundary
        for name, rows in zip(self.networks, (high, ~high), strict=True):
            if rows.any():
                velocity[rows] = _forward(
                    self.network(name), noisy[rows].to(embeds.dtype), times[rows], embeds[rows]
                ).float()
            elif torch.is_grad_enabled():
                # DDP waits for a gradient of every weight on every rank, and 0 is one.
                trained = [weight for weight in self.network(name).parameters() if weight.requires_grad]
                velocity = velocity + sum((weight.sum() for weight in trained), torch.zeros(())) * 0.0
        return velocity


def _forward(network: Any, noisy: Tensor, times: Tensor, embeds: Tensor) -> Tensor:
    velocity: Tensor = network(hidden_states=noisy, timestep=times, encoder_hidden_states=embeds, return_dict=False)[0]
    return velocity


def _image_channels(noisy: Tensor, conditions: Sequence[Condition]) -> tuple[Tensor, Tensor]:
    """The mask of the given frame, (B, 4, F, H, W), and the image's latents, (B, C, F, H, W)."""
    images = [condition.image for condition in conditions]
    if not images or any(image is None or image.shape != noisy.shape[1:] for image in images):
        raise ValueError(
            "this policy makes videos from an image, and the batch has none, or one of another size; make the samples "
            "again with this policy"
        )
    mask = noisy.new_zeros(len(noisy), WAN_TEMPORAL_RATIO, *noisy.shape[2:])
    mask[:, :, 0] = 1.0
    return mask, torch.stack([image.to(noisy) for image in images if image is not None])
