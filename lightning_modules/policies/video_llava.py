"""Video-LLaVA, as transformers has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from datamodules.vista.samples import View
from lightning_modules.policies.clip_tower import freeze_unused_layers, tower_states
from lightning_modules.policies.frames import FrameFit
from lightning_modules.policies.prefixes import PackedViews, Prefix
from lightning_modules.policies.template_policy import TemplatePolicy
from lightning_modules.policies.token_pooling import check_sides, pooled_tokens
from lightning_modules.policies.transfer import sent
from lightning_modules.policies.video_llm import VideoLLM


class VideoLlavaPolicy(TemplatePolicy, VideoLLM):
    """A Video-LLaVA checkpoint that is scored, trained, asked and exported.

    The arguments that are not named here are every policy's. The image tower, which no video passes, is always frozen.

    Args:
        path: a checkpoint folder or hub id of the transformers format.
        train_tower: train the video tower as well, as far as its features are used.
        train_projector: train the projector from the tower to the language model as well.
        prompt_template: the prompt with ``{question}`` once and the video token once.
        num_frames: frames a video; encoding another number is an error. None = as many as a view has, as where the
            views of data differ in them.
        frame_fit: how frames meet the tower. processor = as the checkpoint's processor does, which for most Video-LLaVA
            checkpoints cuts the borders away; squash = both sides resized to the tower's, as the code of VistaDPO does;
            pad = borders of the mean colour make the frame square. Give a checkpoint what it was trained with.
        options: of every policy of transformers.

    Raises:
        ValueError: `path` holds no Video-LLaVA, or a setting contradicts another.
    """

    kinds = {"video_llava": "VideoLlavaForConditionalGeneration"}  # noqa: RUF012  # never written

    def __init__(
        self,
        path: str,
        train_tower: bool = False,
        train_projector: bool = False,
        prompt_template: str = "USER: <video>\n{question} ASSISTANT:",
        num_frames: int | None = 8,
        frame_fit: FrameFit = "processor",
        **options: Any,
    ) -> None:
        # Before the others: the adapter's configuration asks which parts train.
        self.train_tower = train_tower
        self.train_projector = train_projector
        super().__init__(path, prompt_template, frame_fit, **options)
        self.num_frames = num_frames
        check_sides([self._patches_a_row] * 2, self.token_pooling, "the tower")

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

    def num_video_tokens(self, view: View | None = None) -> int:
        """Patches, or their averages, and the class token of every frame, which Video-LLaVA keeps for videos."""
        if view is None:
            side = 1 if self.token_pooling is None else self.token_pooling.video
            return (self.num_frames or 0) * self._tokens_per_frame(side)
        return view.num_frames * self._tokens_per_frame(self.pooling_of(view))

    def video_length(self, shape: tuple[int, int, int]) -> int:
        """The tokens of a video, where `prompt_length` has not counted them."""
        side = 1 if self.token_pooling is None else self.token_pooling.video
        return 0 if self.num_frames is not None else shape[0] * self._tokens_per_frame(side)

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
        if self.num_frames is not None and view.num_frames != self.num_frames:
            raise ValueError(
                f"{where}: {view.num_frames} frames, the policy takes {self.num_frames}; let num_frames of data "
                "and policy agree, or set policy.num_frames to null"
            )
        return super().prefix(view, where, start)

    def see(self, prefixes: Sequence[Prefix]) -> tuple[Any, ...]:
        """(U, P, W) states of the distinct frames, or their pixels where the tower trains; (V, T) which is where.

        Where views differ in their numbers of frames, or are pooled, the second is flat and a list of each view's
        number and pooling is the third.
        """
        pixels, places = self.pixels(prefixes)
        frames = pixels if self.train_tower else self._states(pixels)
        shapes = [(len(row), prefix.pooling) for row, prefix in zip(places, prefixes, strict=True)]
        if len({count for count, _ in shapes}) <= 1 and all(side == 1 for _, side in shapes):
            return frames, sent(torch.tensor(places), self.device)
        return frames, sent(torch.tensor([place for row in places for place in row]), self.device), shapes

    def embed(self, packed: PackedViews, vision: tuple[Any, ...]) -> Tensor:
        """Token embeddings with projected frames in the video tokens' places.

        Finished embeddings are what every supported transformers takes; other ways to hand the video over are
        swallowed by some of them without a word.
        """
        frames, places, *shapes = vision
        states = self._states(frames) if self.train_tower else frames
        assert states.shape[1] == self._tokens_per_frame(), "the processor's crop_size is not the tower's image_size"
        projector = self.base.model.multi_modal_projector
        # A projector that trains beside adapters is float32 like them, whatever the model is.
        projected = projector(states.to(projector.linear_1.weight.dtype))
        if not shapes:
            return self.scattered(packed, projected[packed.of_rows(places)].flatten(0, 2))
        videos = places.split([count for count, _ in shapes[0]])
        side = self._patches_a_row
        features = [
            pooled_tokens(projected[videos[view]], side, side, shapes[0][view][1], first=1).flatten(0, 1)
            for view in packed.views
        ]
        return self.scattered(packed, torch.cat(features))

    def _states(self, pixels: Tensor) -> Tensor:
        return tower_states(self.base.model.video_tower, pixels, self.config.vision_feature_layer)

    @property
    def _patches_a_row(self) -> int:
        """Patches in a row of a frame."""
        vision = self.config.vision_config
        return int(vision.image_size // vision.patch_size)

    def _tokens_per_frame(self, pooling: int = 1) -> int:
        return (self._patches_a_row // pooling) ** 2 + 1
