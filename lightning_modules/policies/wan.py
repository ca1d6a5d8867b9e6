"""Wan 2.1 and 2.2, as diffusers has them, behind the `VideoFlow` protocol."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lightning_modules.policies.diffusers_flow import TIME_SCALE
from lightning_modules.policies.flow_inputs import FlowInputs
from lightning_modules.policies.given_image import ImageUse, image_channels, image_states
from lightning_modules.policies.two_experts import TwoExperts
from lightning_modules.policies.wan_image import (
    TOKENS_BESIDE_IMAGE,
    WAN_TEMPORAL_RATIO,
    wan_config_fault,
    wan_image_use,
)
from lightning_modules.policies.wan_parts import WAN_NAMES, WAN_PARTS


class WanPolicy(TwoExperts):
    """A Wan checkpoint that is trained, sampled from and exported, see `DiffusersVideoFlow`.

    Text to video: Wan2.1, Wan2.2-A14B and Wan2.2-TI2V-5B. Image to video, from the first frame of the pair's own video:
    Wan2.1-I2V, which also attends to the image's states in a CLIP tower, Wan2.2-I2V-A14B, and Wan2.2-TI2V-5B with
    `image_to_video`.

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
    first_weight = "patch_embedding.weight"
    original = WAN_NAMES

    def __init__(self, path: str, image_to_video: bool = False, prompt_length: int = 512, **options: Any) -> None:
        super().__init__(path, prompt_length=prompt_length, **options)
        if self.attends_to_image and prompt_length != TOKENS_BESIDE_IMAGE:
            raise ValueError(
                f"policy: prompt_length is {prompt_length}, and {path!r} attends to an image's states beside exactly "
                f"{TOKENS_BESIDE_IMAGE} tokens of text; leave it out"
            )
        # Not used, it is in no record of a run, so that runs which earlier releases began go on.
        if image_to_video:
            self.image_to_video = True
        if image_to_video and not self.pipeline_index.get("expand_timesteps"):
            raise ValueError(
                f"policy: image_to_video is for Wan2.2-TI2V-5B, whose tokens have times of their own, and {path!r} is "
                "another checkpoint; leave it out"
            )

    @property
    def linears(self) -> str:
        """Attention and feed-forward; of an image's states, too, where the model attends to them."""
        image = "|add_k_proj|add_v_proj" if self.config.get("image_dim") else ""
        return rf"blocks\.\d+\.(attn[12]\.(to_q|to_k|to_v|to_out\.0{image})|ffn\.net\.(0\.proj|2))"

    @property
    def attends_to_image(self) -> bool:
        """Wan2.1's image-to-video checkpoints do."""
        return bool(self.config.get("image_dim"))

    @property
    def image_use(self) -> ImageUse:
        """By the checkpoint: channels beside the noisy ones, or the first frame where that is asked for."""
        return wan_image_use(self.config, getattr(self, "image_to_video", False))

    def read_transformer_config(self, path: str, subfolder: str) -> dict[str, Any]:
        """The configuration of a transformer.

        Raises:
            ValueError: there is none, it is another family's, or it takes what this policy does not give it.
        """
        config = super().read_transformer_config(path, subfolder)
        if why := wan_config_fault(config):
            raise ValueError(f"policy: {path!r} {why}")
        return config

    def predict_by(self, name: str, inputs: FlowInputs) -> Tensor:
        """What Wan predicts is the velocity; it attends to padding as it does to words."""
        noisy, states = inputs.noisy, None
        if self.image_use == "channels":
            noisy = image_channels(noisy, inputs.conditions, WAN_TEMPORAL_RATIO)
        if self._codec.tower is not None:
            states = image_states(inputs.conditions, self._codec.tower.shape).to(noisy.device, inputs.dtype)
        velocity: Tensor = self.network(name)(
            hidden_states=noisy.to(inputs.dtype),
            # One time for each token where a frame is given, whose own is 0.
            timestep=inputs.token_times * TIME_SCALE,
            encoder_hidden_states=inputs.text["embeds"],
            encoder_hidden_states_image=states,
            return_dict=False,
        )[0]
        return velocity
