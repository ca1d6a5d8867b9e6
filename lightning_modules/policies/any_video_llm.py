"""Any other video-language model of transformers, row by row through its own forward."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_modules.policies import hub_model
from lightning_modules.policies.prefixes import PackedViews, Prefix
from lightning_modules.policies.processor_policy import ProcessorPolicy
from lightning_modules.policies.sharding import is_sharded, most_of_any_rank
from lightning_modules.policies.video_llm import VideoLLM

#: model_type -> the linears of its decoder's blocks, where the names of `LANGUAGE_LINEARS` are not all of them.
LINEARS: dict[str, str] = {
    "qwen3_5": r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj|in_proj_\w+|out_proj)",
    "smolvlm": r".*text_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)",
    "glm46v": r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_up_proj|down_proj)",
    "gemma4": r".*language_model\.layers.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)",
}


class AnyVideoLLM(ProcessorPolicy, VideoLLM):
    """A video-language model of transformers for which no policy is made: one row an answer, the tower still once.

    Tested are Qwen3.5, Gemma 4, GLM-4.6V and SmolVLM2. The features are handed to the model's own forward
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

    def build(self, meta: bool) -> Any:
        """See `AdaptedModel.build`."""
        options = (self.dtype, self.attn_implementation, meta, self.quantization)
        return hub_model.build_model(self.path, self.config, self._class(self.config).__name__, *options)

    def see(self, prefixes: Sequence[Prefix]) -> tuple[Any, ...]:
        """What the model's own `get_video_features` returns of every view, and the views' other inputs."""
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
        return [outputs[place] for place in firsts], [prefix.inputs for prefix in prefixes]

    def hidden(self, packed: PackedViews, vision: tuple[Any, ...], mask: Tensor) -> Tensor:
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
        inputs = {
            name: value.to(self.device, dtype if value.is_floating_point() else None)
            for name, value in prefix.inputs.items()
            if name in taken
        }
        return features(**inputs, return_dict=True)

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


def _same_pixels(first: Prefix, second: Prefix) -> bool:
    """Whether two views show the tower the same; times and texts are the language model's."""
    names = [name for name in first.inputs if name.startswith("pixel_")]
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
