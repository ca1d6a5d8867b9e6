"""Any other video-language model of transformers, row by row."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_modules.policies import hub_model
from lightning_modules.policies.attention import PLAIN
from lightning_modules.policies.gemma4_inputs import gemma4_inputs
from lightning_modules.policies.grid_inputs import grid_inputs
from lightning_modules.policies.prefixes import PackedViews, Prefix
from lightning_modules.policies.processor_policy import ProcessorPolicy
from lightning_modules.policies.sharding import is_sharded, most_of_any_rank
from lightning_modules.policies.transfer import sent
from lightning_modules.policies.video_llm import VideoLLM

#: model_type -> the linears of its decoder's blocks, where the names of `LANGUAGE_LINEARS` are not all of them.
LINEARS: dict[str, str] = {
    "qwen3_5": r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj|in_proj_\w+|out_proj)",
    "smolvlm": r".*text_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)",
    "glm46v": r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_up_proj|down_proj)",
    "gemma4": r".*language_model\.layers.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)",
}
#: model_type -> the configuration's name of the token in whose places features go, of the families whose decoder is
#: given finished embeddings. In its own forward each counts placeholders, and most count positions, on the device.
PLACEHOLDERS: dict[str, str] = {
    "qwen3_5": "video_token_id",
    "gemma4": "video_token_id",
    "glm46v": "image_token_id",  # a video is shown as so many pictures
    "glm4v": "image_token_id",
    "smolvlm": "image_token_id",
    "video_llama_3": "video_token_id",
}


class AnyVideoLLM(ProcessorPolicy, VideoLLM):
    """A video-language model of transformers for which no policy is made: one row an answer, the tower still once.

    Tested are Qwen3.5, Gemma 4, GLM-4.6V, SmolVLM2 and VideoLLaMA3, whose decoders are given finished embeddings and
    positions, as `PLACEHOLDERS` says. The features of any other are handed to the model's own forward
    (`mm_encoder_outputs`), which counts positions and lets vision tokens see each other as it always does. Arguments
    as `ProcessorPolicy`; an adapter goes to all linears of the decoder, or to those in `LINEARS`.
    """

    uses_times = True
    packs = False
    unpoolable = (
        "the model's own forward puts its tokens in their places; lower policy.max_pixels, or show fewer frames"
    )

    def read_config(self) -> Any:
        """The configuration, of a class that takes the tower's outputs.

        Raises:
            ValueError: there is none; another policy takes it; it is no such model.
        """
        config = hub_model.read_configuration(self.path)
        kind = config.model_type
        if kind in hub_model.POLICIES:
            raise ValueError(
                f"policy: {self.path!r} holds a {kind} model, for which {hub_model.POLICIES[kind]} is made; use that"
            )
        if "mm_encoder_outputs" not in inspect.signature(self._class(config).forward).parameters:
            raise ValueError(f"policy: {self.path!r} holds a {kind} model, to which no encoded video can be handed")
        return config

    @property
    def linears(self) -> str:  # type: ignore[override]
        """The linears that get an adapter by default."""
        return LINEARS.get(self.config.model_type, "all-linear")

    @property
    def video_token_id(self) -> int:
        """The placeholder of a feature."""
        name = PLACEHOLDERS.get(self.config.model_type)
        return super().video_token_id if name is None else int(getattr(self.config, name))

    @property
    def unmasked_rows(self) -> bool:
        """See `AdaptedModel.unmasked_rows`; a model's own forward counts positions by the mask."""
        return self._is_finished and super().unmasked_rows

    def build(self, meta: bool) -> Any:
        """See `AdaptedModel.build`."""
        options = (self.dtype, self.attn_implementation, meta, self.quantization)
        model = hub_model.build_model(self.path, self.config, self._class(self.config).__name__, *options)
        if self.config.model_type in ("glm46v", "glm4v"):
            model.model.visual.embeddings.register_forward_pre_hook(_sent_sizes)
        return model

    def positions(self, ids: Sequence[int], inputs: dict[str, Tensor]) -> Tensor | None:
        """(3, L) where a token has time, row and column, counted on the CPU by the model's own rule."""
        count = getattr(self.base.model, "get_rope_index", None)
        if count is None or not self._is_finished:
            return None
        taken = inspect.signature(count).parameters
        described = {name: value for name, value in inputs.items() if name in taken}
        positions: Tensor = count(torch.tensor([list(ids)]), **described)[0]
        return positions[:, 0]

    def see(self, prefixes: Sequence[Prefix]) -> tuple[Any, ...]:
        """(n, D) features of every view; for a model's own forward the tower's outputs, and the views' other inputs."""
        firsts = [
            next(i for i in range(place + 1) if _same_pixels(prefixes[i], prefix))
            for place, prefix in enumerate(prefixes)
        ]
        distinct = sorted(set(firsts))
        # Sharded weights are gathered by all ranks together, so that every rank calls the tower as often.
        spare = most_of_any_rank(len(distinct), self.device) - len(distinct) if is_sharded(self) else 0
        outputs = {place: self._seen(prefixes[place]) for place in distinct}
        for _ in range(spare):
            self._seen(prefixes[0])
        if not self._is_finished:
            return [outputs[place] for place in firsts], [prefix.inputs for prefix in prefixes]
        features = torch.cat([_features(outputs[place], prefixes[place]) for place in firsts])
        assert len(features) == sum(prefix.ids.count(self.video_token_id) for prefix in prefixes)
        return (features,)

    def hidden(self, packed: PackedViews, vision: tuple[Any, ...], mask: Tensor) -> Tensor:
        """As `TransformersVideoLLM.hidden`, or the model's own forward; see `PLACEHOLDERS`."""
        if not self._is_finished:
            return self._own_hidden(packed, vision, mask)
        if self.config.model_type != "gemma4":
            return super().hidden(packed, vision, mask)
        embeds, is_video = self.embed(packed, vision), packed.ids == self.video_token_id
        hidden: Tensor = self.decoder(
            inputs_embeds=embeds,
            position_ids=packed.positions,
            use_cache=False,
            **gemma4_inputs(self.decoder, packed.ids, is_video, embeds),
        ).last_hidden_state
        return hidden

    @property
    def _is_finished(self) -> bool:
        """Whether the decoder is given finished embeddings."""
        kind = self.config.model_type
        # Other attentions take no mask of a window in which blocks of vision tokens see each other.
        return kind in PLACEHOLDERS and (kind != "gemma4" or self.attn_implementation in PLAIN)

    def _own_hidden(self, packed: PackedViews, vision: tuple[Any, ...], mask: Tensor) -> Tensor:
        """The model's own forward over rows, with the tower's outputs in the place of pixels."""
        outputs, inputs = vision
        forward = inspect.signature(self.base.model.forward).parameters
        length, rows = packed.ids.shape[1], [inputs[view] for view in packed.views]
        names = [name for name in rows[0] if name in forward and not name.startswith("pixel_")]
        more = {}
        for name in names:
            values = [row[name] for row in rows]
            if name == "mm_token_type_ids":  # an answer's tokens are text, as padding is
                values = [torch.nn.functional.pad(value, (0, length - value.shape[1])) for value in values]
            more[name] = torch.cat(values).to(self.device)
        # Some families show a video as so many pictures.
        modality = "video" if "pixel_values_videos" in rows[0] else "image"
        seen = {modality: _joined([outputs[view] for view in packed.views])}
        hidden: Tensor = self.base.model(
            input_ids=packed.ids, attention_mask=mask, mm_encoder_outputs=seen, use_cache=False, **more
        ).last_hidden_state
        return hidden

    def _seen(self, prefix: Prefix) -> Any:
        """The tower's output for one view."""
        model = self.base.model
        features: Callable[..., Any] = (
            model.get_video_features if "pixel_values_videos" in prefix.inputs else model.get_image_features
        )
        # Of the processor's outputs some are for the tower, others for the language model, under the model's names.
        taken = inspect.signature(features).parameters
        dtype = next(parameter.dtype for name, parameter in model.named_parameters() if "language" not in name)
        inputs = {name: value for name, value in prefix.inputs.items() if name in taken}
        described: dict[str, Any] = {}
        if self._is_finished and "video_grid_thw" in inputs:
            tower = getattr(model, "visual", None) or model.vision_model
            merge_sizes = inputs.get("video_merge_sizes")
            described = grid_inputs(tower, inputs["video_grid_thw"], self.device, merge_sizes)
        for name, value in inputs.items():
            # Grids stay on the CPU where the tower is given what it would work out of them.
            if name.startswith("pixel_") or not described:
                inputs[name] = sent(value.to(dtype) if value.is_floating_point() else value, self.device)
        return features(**inputs, **described, return_dict=True)

    @staticmethod
    def _class(config: Any) -> Any:
        from transformers import AutoModelForImageTextToText

        try:
            return AutoModelForImageTextToText._model_mapping[type(config)]
        except KeyError as error:
            raise ValueError(
                f"policy: the checkpoint holds a {config.model_type} model, which transformers does not list among "
                "those that see; give a video-language model"
            ) from error


def _features(output: Any, prefix: Prefix) -> Tensor:
    """(n, D) features of a view as they enter its placeholders, from what the tower made of its pixels."""
    pooled = output.pooler_output
    features = torch.cat(tuple(pooled)) if isinstance(pooled, tuple | list) else pooled
    kept = prefix.inputs.get("video_compression_mask")  # VideoLLaMA3 shows what changes between frames
    return features if kept is None else features[sent(kept.nonzero().squeeze(1), features.device)]


def _sent_sizes(embeddings: Any, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Lengths and grids of GLM's videos, which stay on the CPU for the blocks, on the device of the patches."""
    patches, *sizes = arguments
    return patches, *(sent(size, patches.device) for size in sizes)


def _same_pixels(first: Prefix, second: Prefix) -> bool:
    """Whether two views show the tower the same; times and texts are the language model's."""
    names = [name for name in first.inputs if name.startswith("pixel_")]
    if any(first.inputs[name].shape != second.inputs[name].shape for name in names):
        return False
    one, other = first.view, second.view
    if one.places is not None and other.places is not None:  # of shared frames no value is read
        return one.pool is other.pool and one.places == other.places
    return all(torch.equal(first.inputs[name], second.inputs[name]) for name in names)


def _joined(outputs: Sequence[Any]) -> Any:
    """The outputs of several calls as of one: features in order, in the container that the model uses."""
    joined = copy.copy(outputs[0])
    pooled = [output.pooler_output for output in outputs]
    if isinstance(pooled[0], tuple | list):
        joined.pooler_output = tuple(part for parts in pooled for part in parts)
    else:
        joined.pooler_output = torch.cat(pooled)
    layers = getattr(outputs[0], "deepstack_features", None)
    if layers is not None:
        joined.deepstack_features = [
            [part for output in outputs for part in output.deepstack_features[layer]] for layer in range(len(layers))
        ]
    return joined
