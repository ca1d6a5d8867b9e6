"""The transformers of a video diffusion checkpoint with their adapters: loading, reference, exports."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lightning_modules.policies import adapters
from lightning_modules.policies.adapter_compute import AdapterCompute, check_adapter_compute, compute_adapters_in
from lightning_modules.policies.attention import set_attention_backend
from lightning_modules.policies.compiled_blocks import Compile, compile_blocks
from lightning_modules.policies.flow_adapters import FlowLora, read_adapter, write_adapter
from lightning_modules.policies.flow_codec import CodecParts, Precision
from lightning_modules.policies.flow_model import build_transformer, read_config, save_transformer
from lightning_modules.policies.lora_targets import AdapterRoom
from lightning_modules.policies.original_names import OriginalNames, require_names
from lightning_modules.policies.sharding import full_state_dict, is_sharded

#: Classes of transformers in diffusers -> the policy that takes them, for error messages.
POLICIES = {
    "WanTransformer3DModel": "WanPolicy",
    "LTXVideoTransformer3DModel": "LTXPolicy",
    "HunyuanVideo15Transformer3DModel": "HunyuanVideo15Policy",
    "CogVideoXTransformer3DModel": "CogVideoXPolicy",
    "MochiTransformer3DModel": "MochiPolicy",
}


class FlowNetworks(nn.Module):
    """The transformers of a checkpoint, one in most families, each with its adapters.

    With `lora` or `adapter` an adapter trains; without either the whole transformer does (full fine-tuning, which the
    paper found unstable). Building reads configurations only.

    Args:
        path: a pipeline's folder or hub id in the diffusers format.
        lora: a new LoRA adapter; None = none.
        adapter: a folder that `pipe.load_lora_weights` reads, to start from or to sample with. It trains on, and a
            frozen copy of it is the reference, so that what supervised fine-tuning taught stays in the reference.
        reference_adapter: keep a frozen adapter as the reference also where a new adapter trains; needed where the
            reference is to follow the policy.
        dtype: type of transformer and text encoders in memory; adapters are float32 always, and so is what the family
            keeps in float32.
        weights: a folder that full fine-tuning exported, whose transformer takes the place of the pipeline's.
        activation_checkpointing: recompute the blocks' activations in backward instead of keeping them.
        original_names: also export an adapter under the names that the family's authors use, in the folder
            "original_names" of the export, for ComfyUI and others (Wan and LTX-Video).
        adapter_compute: bfloat16 = adapters are multiplied in bfloat16, which takes less memory and time; their
            weights, gradients and optimizer states stay float32.
        attention: a backend of diffusers: native (PyTorch's own choice), _native_flash, flash, _flash_3_hub ...; None
            = diffusers' own choice. Some, as sage, compute no gradient.
        compile: blocks = `torch.compile` makes the kernels of each transformer block, at the first steps.

    Raises:
        ValueError: `path` holds no pipeline of the family, or a setting contradicts another.
    """

    #: The family's class of transformer, and what is around it.
    transformer: ClassVar[str]
    codec_parts: ClassVar[CodecParts]
    #: The lists of transformer blocks, each block a sharding unit.
    block_lists: ClassVar[tuple[str, ...]] = ("blocks",)
    #: The original names of its modules; None = diffusers reads none.
    original: ClassVar[OriginalNames | None] = None
    # As they are where a policy is not given them.
    adapter_compute: AdapterCompute = "float32"
    attention: str | None = None
    compiled: Compile | None = None

    def __init__(
        self,
        path: str,
        lora: FlowLora | None = None,
        adapter: str | None = None,
        reference_adapter: bool = False,
        dtype: Precision = "float32",
        weights: str | None = None,
        activation_checkpointing: bool = False,
        original_names: bool = False,
        adapter_compute: AdapterCompute = "float32",
        attention: str | None = None,
        compile: Compile | None = None,  # as the field names it
    ) -> None:
        super().__init__()
        self.path = path
        self.lora = lora
        self.adapter = adapter
        self.reference_adapter = reference_adapter
        self.dtype = dtype
        self.weights = weights
        self.activation_checkpointing = activation_checkpointing
        self._original_names = original_names
        check_adapter_compute(adapter_compute, lora is not None or adapter is not None)
        # Settings that are not used are in no record of a run, so that runs which earlier releases began go on.
        if adapter_compute != "float32":
            self.adapter_compute = adapter_compute
        if attention is not None:
            self.attention = attention
        if compile is not None:
            self.compiled = compile
        if original_names and self.original is None:
            raise ValueError(
                "policy.original_names: diffusers converts no original names of this family, so that nothing could "
                "read them; leave it out, the export is what the family's own loader reads"
            )
        if original_names and lora is None and adapter is None:
            raise ValueError("policy.original_names is for adapters; give policy.lora, or leave it out")
        self.pipeline_index = read_config(path)
        configs = [self.read_transformer_config(*self._source(name)) for name in self.networks]
        self.config = configs[0]
        self._adapter_configs = {name: self._adapter_config(name) for name in self.networks}
        self.model: Any = None
        # Says where the policy is before it is loaded, or where it never is, as when videos are only encoded.
        self.register_buffer("_place", torch.zeros(1), persistent=False)

    # What a family may say

    @property
    @abstractmethod
    def linears(self) -> str:
        """The linears that get an adapter: a regular expression that a module's whole name must match."""

    @property
    def dead_modules(self) -> tuple[str, ...]:
        """Modules whose weights get no gradient, so that no adapter can train there."""
        return ()

    def prepare(self, network: Any) -> None:
        """Change what a transformer of the family needs changed, before it gets adapters; most need nothing."""

    @property
    def networks(self) -> tuple[str, ...]:
        """The transformers of the pipeline that are loaded, by name."""
        return ("transformer",)

    def read_transformer_config(self, path: str, subfolder: str) -> dict[str, Any]:
        """The configuration of a transformer.

        Raises:
            ValueError: there is none, or it is another family's.
        """
        config = read_config(path, subfolder)
        kind = config.get("_class_name")
        if kind != self.transformer:
            other = f"; take {POLICIES[kind]}" if kind in POLICIES else ""
            raise ValueError(f"policy: {path!r} holds a {kind}, this policy takes a {self.transformer}{other}")
        return config

    # Weights

    def load(self, meta: bool = False) -> None:
        """Bring in the transformer and its adapters; idempotent.

        Args:
            meta: build on the meta device and read no weights: `sharding.load_sharded` does that later.

        Raises:
            ValueError: the adapter does not fit the checkpoint.
        """
        if self.model is not None:
            return
        models = {name: self._load_network(name, meta) for name in self.networks}
        # A single transformer is the model itself: checkpoints name its weights so.
        model = nn.ModuleDict(models) if len(models) > 1 else models[self.networks[0]]
        self.model = model if meta else model.to(self.device)
        compile_blocks(self)
        self.train()

    def _load_network(self, name: str, meta: bool) -> Any:
        config = self._adapter_configs[name]
        model: Any = build_transformer(
            *self._source(name), self.config, self.dtype, self.activation_checkpointing, meta
        )
        self.prepare(model)
        if self.attention is not None:
            set_attention_backend(model, self.attention)
        model.requires_grad_(config is None)
        if config is None:
            return model
        second = self.reference_adapter or self.adapter is not None
        new = self.lora if self.adapter is None else None
        room = AdapterRoom.of(model, model, self._blocks_of(model), model.proj_out, self.dead_modules)
        with torch.device("meta" if meta else "cpu"):
            model = adapters.add_adapters(model, config, second, room, new)
        compute_adapters_in(model, self.adapter_compute)
        if self._original_names and self.original is not None:
            require_names(model, self.original)
        if self.adapter is not None and not meta:
            folder = self._adapter_folder(self.adapter, name)
            adapters.load_weights(model, read_adapter(folder, self.codec_parts.pipeline)[1], folder)
        return model

    def _source(self, name: str) -> tuple[str, str]:
        """Path and subfolder of a transformer's weights."""
        if self.weights is None:
            return self.path, name
        return self.weights, name if len(self.networks) > 1 else ""

    def _adapter_folder(self, folder: str, name: str) -> str:
        """The folder of one transformer's adapter: of several, each but the first has a folder below."""
        return folder if name == self.networks[0] else f"{folder.rstrip('/')}/{name}"

    def _adapter_config(self, name: str) -> Any:
        if self.adapter is not None:
            folder = self._adapter_folder(self.adapter, name)
            return adapters.existing_config(read_adapter(folder, self.codec_parts.pipeline)[0], self.lora, folder)
        return None if self.lora is None else adapters.new_config(self.lora, self.linears)

    def network(self, name: str) -> Any:
        """A transformer as diffusers has it, in which adapters are in place."""
        assert self.model is not None, "load() comes first"
        model = self.model[name] if len(self.networks) > 1 else self.model
        return model if self._adapter_configs[name] is None else model.get_base_model()

    @property
    def base(self) -> Any:
        """The transformer, the first of several, as diffusers has it."""
        return self.network(self.networks[0])

    @property
    def device(self) -> torch.device:
        """Where the module is, loaded or not."""
        return self.get_buffer("_place").device

    def blocks(self) -> Iterator[nn.Module]:
        """The transformer blocks, each a sharding unit."""
        for name in self.networks:
            yield from self._blocks_of(self.network(name))

    def _blocks_of(self, network: Any) -> list[nn.Module]:
        return [block for name in self.block_lists for block in getattr(network, name)]

    def reference_mode(self) -> AbstractContextManager[None]:
        """While it is entered, compute as the reference; without adapters, which switch nothing, as the model is."""
        return adapters.reference_mode(self.model)

    # Exports

    def export(self, folder: Path, state_dict: Mapping[str, Tensor] | None = None) -> None:
        """Write what was trained: an adapter that the family's pipeline loads, or a transformer for `from_pretrained`.

        Of several transformers, each but the first has a folder below, by its name. Under sharding every rank calls
        it, since weights are gathered; rank 0 writes.

        Args:
            folder: where to; made if need be.
            state_dict: full tensors of all that the export holds, named as in `self.state_dict()`; None = the weights
                as they are now.
        """
        adapted = self._adapter_configs[self.networks[0]] is not None
        if state_dict is None and is_sharded(self):
            state_dict = full_state_dict(self, trained_only=adapted)
        if torch.distributed.is_initialized() and torch.distributed.get_rank() != 0:
            return
        for name in self.networks:
            several = len(self.networks) > 1
            prefix = f"model.{name}." if several else "model."
            own = None if state_dict is None else {
                key.removeprefix(prefix): tensor for key, tensor in state_dict.items() if key.startswith(prefix)
            }  # fmt: skip
            model = self.model[name] if several else self.model
            if adapted:
                place = Path(self._adapter_folder(str(folder), name))
                original = self.original if self._original_names else None
                write_adapter(model, place, own, self.codec_parts.pipeline, original)
            else:
                save_transformer(model, folder / name if several else folder, own)
