"""Video-LLaVA, as transformers has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from datamodules.vista.samples import View
from lightning_modules.policies.adapters import LoraSettings
from lightning_modules.policies.frames import FrameFit
from lightning_modules.policies.prefixes import Layout, PackedViews, Prefix
from lightning_modules.policies.template_policy import TemplatePolicy
from lightning_modules.policies.video_llm import VideoLLM


class VideoLlavaPolicy(TemplatePolicy, VideoLLM):
    """A Video-LLaVA checkpoint that is scored, trained, asked and exported.

    With `lora` or `adapter` an adapter trains; without either the language model and its output head do (full
    fine-tuning). Vision tower and projector are frozen unless said otherwise; the image tower, which no video passes,
    always is. Building reads the configuration only, `load` the weights.

    Args:
        path: a checkpoint folder or hub id of the transformers format.
        lora: a new LoRA adapter; None = none.
        adapter: a PEFT folder to start from, or to evaluate. It trains on, and a frozen copy of it is the reference,
            so that what supervised fine-tuning taught stays in the reference.
        reference_adapter: keep a frozen adapter as the reference also where a new adapter trains; needed where the
            reference must follow the policy.
        train_tower: train the video tower as well, as far as its features are used.
        train_projector: train the projector from the tower to the language model as well.
        prompt_template: the prompt with ``{question}`` once and the video token once.
        num_frames: frames a video; encoding another number is an error.
        frame_fit: how frames meet the tower. processor = as the checkpoint's processor does, which for most Video-LLaVA
            checkpoints cuts the borders away; squash = both sides resized to the tower's, as the code of VistaDPO does;
            pad = borders of the mean colour make the frame square. Give a checkpoint what it was trained with.
        dtype: type of the checkpoint's weights in memory; adapters are float32 always.
        attn_implementation: sdpa, which runs causally over the shared prefix, or transformers' plain eager.
        activation_checkpointing: recompute the blocks' activations in backward instead of keeping them.
        layout: packed = a view's answers behind one prefix; rows = one row an answer. None = packed.

    Raises:
        ValueError: `path` holds no Video-LLaVA, or a setting contradicts another.
    """

    kinds = {"video_llava": "VideoLlavaForConditionalGeneration"}  # noqa: RUF012  # never written

    def __init__(
        self,
        path: str,
        lora: LoraSettings | None = None,
        adapter: str | None = None,
        reference_adapter: bool = False,
        train_tower: bool = False,
        train_projector: bool = False,
        prompt_template: str = "USER: <video>\n{question} ASSISTANT:",
        num_frames: int = 8,
        frame_fit: FrameFit = "processor",
        dtype: Literal["float32", "bfloat16"] = "float32",
        attn_implementation: Literal["sdpa", "eager"] = "sdpa",
        activation_checkpointing: bool = False,
        layout: Layout | None = None,
    ) -> None:
        # Before the others: the adapter's configuration asks which parts train.
        self.train_tower = train_tower
        self.train_projector = train_projector
        super().__init__(
            path,
            prompt_template,
            frame_fit,
            lora=lora,
            adapter=adapter,
            reference_adapter=reference_adapter,
            dtype=dtype,
            attn_implementation=attn_implementation,
            activation_checkpointing=activation_checkpointing,
            layout=layout,
        )
        self.num_frames = num_frames

    @property
    def video_token_id(self) -> int:
        """The placeholder of a feature."""
        return int(self.config.video_token_index)

    def vision_parts(self) -> dict[str, bool]:
        """Tower and projector, and whether they train."""
        return {"video_tower": self.train_tower, "multi_modal_projector": self.train_projector}

    def frozen_parts(self, model: Any) -> list[str]:
        """The towers see every video without a gradient, or train as a whole, as a projector that trains does."""
        return ["model.video_tower", "model.image_tower", *(["model.multi_modal_projector"] * self.train_projector)]

    def num_video_tokens(self) -> int:
        """Patches and the class token of every frame, which Video-LLaVA keeps for videos."""
        return self.num_frames * self._tokens_per_frame()

    def load(self, meta: bool = False) -> None:
        """As `AdaptedModel.load`; what is behind the selected features never trains."""
        if self.model is None:
            super().load(meta)
            freeze_unused_layers(self.base.model.video_tower, self.config.vision_feature_layer)

    def prefix(self, view: View, where: str, start: Sequence[int] = ()) -> Prefix:
        """As `TemplatePolicy.prefix`.

        Raises:
            ValueError: the view has another number of frames.
        """
        if len(view.frames) != self.num_frames:
            raise ValueError(
                f"{where}: {len(view.frames)} frames, the policy takes {self.num_frames}; let num_frames of data "
                "and policy agree"
            )
        return super().prefix(view, where, start)

    def see(self, prefixes: Sequence[Prefix]) -> tuple[Tensor, Tensor]:
        """(U, P, W) states of the distinct frames, or their pixels where the tower trains; (V, T) which is where."""
        pixels, places = self.pixels(prefixes)
        return pixels if self.train_tower else self._states(pixels), torch.tensor(places, device=self.device)

    def embed(self, packed: PackedViews, vision: tuple[Tensor, ...]) -> Tensor:
        """Token embeddings with projected frames in the video tokens' places.

        Finished embeddings are what every supported transformers takes; other ways to hand the video over are
        swallowed by some of them without a word.
        """
        frames, places = vision
        states = self._states(frames) if self.train_tower else frames
        # masked_scatter is silent about features that are left over.
        assert states.shape[1] == self._tokens_per_frame(), "the processor's crop_size is not the tower's image_size"
        projector = self.base.model.multi_modal_projector
        # A projector that trains beside adapters is float32 like them, whatever the model is.
        projected = projector(states.to(projector.linear_1.weight.dtype))
        return self.scattered(packed.ids, projected[packed.of_rows(places)].flatten(0, 2))

    def _states(self, pixels: Tensor) -> Tensor:
        """(U, 3, S, S) -> (U, P, W), the hidden states of the video tower that the checkpoint selects."""
        layers = self.config.vision_feature_layer
        states = self.base.model.video_tower(pixels, output_hidden_states=True, return_dict=True).hidden_states
        selected: Tensor = states[layers] if isinstance(layers, int) else torch.cat([states[i] for i in layers], dim=-1)
        return selected

    def _tokens_per_frame(self) -> int:
        vision = self.config.vision_config
        return int((vision.image_size // vision.patch_size) ** 2 + 1)


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
