"""A model of transformers with its adapters: read, built, switched to its reference, exported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lightning_modules.policies import adapters, hub_model
from lightning_modules.policies.adapter_compute import AdapterCompute, check_adapter_compute, compute_adapters_in
from lightning_modules.policies.adapters import LoraSettings
from lightning_modules.policies.attention import check_attn_implementation
from lightning_modules.policies.compiled_blocks import Compile, compile_blocks
from lightning_modules.policies.layouts import chosen_layout, is_causal
from lightning_modules.policies.lora_targets import AdapterRoom
from lightning_modules.policies.prefixes import Layout
from lightning_modules.policies.quantization import Quantization, check_quantization
from lightning_modules.policies.remote_code import load_failure
from lightning_modules.policies.sharding import full_state_dict, is_sharded
from lightning_modules.policies.shared_attention import use_shared_prefix_attention
from lightning_modules.policies.token_pooling import TokenPooling


class AdaptedModel(nn.Module):
    """Checkpoint of transformers whose language model is trained, by an adapter or as a whole.

    With `lora` or `adapter` an adapter trains; without either the language model and its output head do (full
    fine-tuning). Vision tower and projector are frozen. Building reads configuration and processor only, `load` the
    weights.

    Args:
        path: a checkpoint folder or hub id of the transformers format.
        lora: a new LoRA adapter; None = none.
        adapter: a PEFT folder to start from, or to evaluate. It trains on, and a frozen copy of it is the reference,
            so that what supervised fine-tuning taught stays in the reference.
        reference_adapter: keep a frozen adapter as the reference also where a new adapter trains; needed where the
            reference must follow the policy.
        dtype: type of the checkpoint's weights in memory; adapters are float32 always.
        attn_implementation: any that transformers takes: sdpa, eager, flash_attention_2, flash_attention_3 or a kernel
            of the hub. Behind a shared prefix all but eager run causally as far as the prefix goes, and as sdpa under a
            mask behind it.
        activation_checkpointing: recompute the blocks' activations in backward instead of keeping them.
        layout: packed = a view's answers behind one prefix; rows = one row an answer, for models that mix tokens by
            more than attention. None = packed where the model's layer types allow it; packed elsewhere is an error.
        quantization: nf4 = the decoder's linears in four bits, below an adapter; wants bitsandbytes, and no sharding.
        adapter_compute: bfloat16 = adapters are multiplied in bfloat16, which takes less memory and time; their
            weights, gradients and optimizer states stay float32.
        compile: blocks = `torch.compile` makes the kernels of each transformer block, at the first steps.
        token_pooling: average squares of a frame's patch tokens behind the projector, by the level of the view; None =
            every token. Families whose positions or times belong to the tokens as they are refuse it.

    Raises:
        ValueError: `path` holds no checkpoint of the family, or a setting contradicts another.
    """

    #: model_type -> the name of transformers' class; None = every type.
    kinds: ClassVar[Mapping[str, str] | None] = None
    #: The linears that get an adapter by default.
    linears: ClassVar[str] = adapters.LANGUAGE_LINEARS
    #: Why tokens cannot be averaged; None = they can.
    unpoolable: ClassVar[str | None] = "its family says nothing of how a frame's tokens lie"
    #: Whether the family's `hidden` takes packed views.
    packs: ClassVar[bool] = True
    # As they are where a policy is not given them.
    adapter_compute: AdapterCompute = "float32"
    compiled: Compile | None = None

    def __init__(
        self,
        path: str,
        lora: LoraSettings | None = None,
        adapter: str | None = None,
        reference_adapter: bool = False,
        dtype: Literal["float32", "bfloat16"] = "float32",
        attn_implementation: str = "sdpa",
        activation_checkpointing: bool = False,
        layout: Layout | None = None,
        quantization: Quantization | None = None,
        adapter_compute: AdapterCompute = "float32",
        compile: Compile | None = None,  # as the field names it
        token_pooling: TokenPooling | None = None,
    ) -> None:
        super().__init__()
        if token_pooling is not None and self.unpoolable is not None:
            raise ValueError(f"policy.token_pooling is not for {type(self).__name__}: {self.unpoolable}")
        self.path = path
        self.lora = lora
        self.adapter = adapter
        self.reference_adapter = reference_adapter
        self.dtype = dtype
        self.attn_implementation = attn_implementation
        self.activation_checkpointing = activation_checkpointing
        self.layout = layout
        self.quantization = quantization
        self.token_pooling = token_pooling
        #: The same as a plain text, as which cached scores are compared by it, and a card names it.
        self.pooled_tokens = None if token_pooling in (None, TokenPooling()) else str(token_pooling)
        adapted = lora is not None or adapter is not None
        check_quantization(quantization, adapted)
        check_adapter_compute(adapter_compute, adapted)
        # Settings that are not used are in no record of a run, so that runs which earlier releases began go on.
        if adapter_compute != "float32":
            self.adapter_compute = adapter_compute
        if compile is not None:
            self.compiled = compile
        self.config = self.read_config()
        self._layout = chosen_layout(path, self.config, layout, self.packs)
        # Parts that train as a whole beside an adapter are kept in its folder as copies.
        copies = [name for name, trains in self.vision_parts().items() if trains]
        self._adapter_config = adapters.adapter_config(lora, adapter, copies, self.linears)
        self.model: Any = None
        self._processor: Any = None

    # What a family says

    def read_config(self) -> Any:
        """The checkpoint's configuration.

        Raises:
            ValueError: there is none, or it is another family's.
        """
        return hub_model.read_configuration(self.path, self.kinds)

    def build(self, meta: bool) -> Any:
        """The model with its weights, or on the meta device without them."""
        assert self.kinds is not None
        class_name = self.kinds[self.config.model_type]
        options = (self.dtype, self.attn_implementation, meta, self.quantization)
        return hub_model.build_model(self.path, self.config, class_name, *options)

    def vision_parts(self) -> dict[str, bool]:
        """Modules of the model beside its decoder that may train as a whole, and whether they do."""
        return {}

    def frozen_parts(self, model: Any) -> list[str]:
        """Modules through which no gradient passes, so that no adapter can train inside: all but the decoder."""
        decoder = model.get_decoder()
        return [f"model.{name}" for name, module in model.model.named_children() if module is not decoder]

    @property
    def unmasked_rows(self) -> bool:
        """Whether a row of one answer goes through the decoder causally, without a mask of its padding."""
        return is_causal(self.config) and self.attn_implementation != "flex_attention"

    def check_processor(self) -> None:
        """Refuse a tokenizer or processor that does not fit, before weights are read.

        Raises:
            ValueError: says what does not fit.
        """

    # Weights

    @property
    def processor(self) -> Any:
        """The checkpoint's processor, which needs no weights; read once."""
        if self._processor is None:
            self._processor = self.read_processor()
        return self._processor

    def read_processor(self) -> Any:
        """The checkpoint's processor.

        Raises:
            ValueError: there is none, or it needs code of its own.
        """
        from transformers import AutoProcessor

        try:
            return AutoProcessor.from_pretrained(self.path, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"policy: {self.path!r} has no processor that can be read ({load_failure(error)}); copy the files of "
                "processor and tokenizer from the published checkpoint"
            ) from error

    def load(self, meta: bool = False) -> None:
        """Bring in weights and adapters; idempotent.

        Args:
            meta: build everything on the meta device and read no weights: `sharding.load_sharded` does that later.

        Raises:
            ValueError: the adapter or the tokenizer does not fit the checkpoint.
        """
        if self.model is not None:
            return
        check_attn_implementation(self.attn_implementation, self._layout == "packed")
        self.check_processor()
        model = self.build(meta)
        # Some classes name their dropout in no configuration.
        hub_model.switch_dropout_off(model)
        if self.attn_implementation != "eager" and (self._layout == "packed" or self.unmasked_rows):
            use_shared_prefix_attention(model.get_decoder())
        if self.activation_checkpointing:
            hub_model.recompute_activations(model)
        # All off first: what trains is switched on below, or by peft in the adapters that it adds.
        model.requires_grad_(False)
        if self._adapter_config is None:
            model.get_decoder().requires_grad_(True)
            model.get_output_embeddings().requires_grad_(True)
            for name, trains in self.vision_parts().items():
                getattr(model.model, name).requires_grad_(trains)
        else:
            second = self.reference_adapter or self.adapter is not None
            new = self.lora if self.adapter is None else None
            decoder = model.get_decoder()
            room = AdapterRoom.of(
                model, decoder, decoder.layers, model.get_output_embeddings(), self.frozen_parts(model)
            )
            with torch.device("meta" if meta else "cpu"):
                model = adapters.add_adapters(model, self._adapter_config, second, room, new)
            compute_adapters_in(model, self.adapter_compute)
            if self.adapter is not None and not meta:
                adapters.load_adapter(model, self.adapter)
        self.model = model
        compile_blocks(self)
        # from_pretrained returns eval mode, in which activation checkpointing is off without a word.
        self.train()

    @property
    def base(self) -> Any:
        """The model as transformers has it, in which adapters sit in place."""
        assert self.model is not None, "load() comes first"
        return self.model if self._adapter_config is None else self.model.get_base_model()

    @property
    def decoder(self) -> Any:
        """The language model, without its output head."""
        return self.base.get_decoder()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def trains_head(self) -> bool:
        """Whether the output head, or an adapter in it, trains: logits then do not follow from hidden states alone."""
        return any(weight.requires_grad for weight in self.base.get_output_embeddings().parameters())

    def blocks(self) -> Iterator[nn.Module]:
        """The transformer blocks of language model and towers, each a sharding unit."""
        from transformers.modeling_layers import GradientCheckpointingLayer

        return (module for module in self.model.modules() if isinstance(module, GradientCheckpointingLayer))

    def reference_mode(self) -> AbstractContextManager[None]:
        """While it is entered, compute as the reference; without adapters, which switch nothing, as the model is."""
        return adapters.reference_mode(self.model)

    def export(self, folder: Path, state_dict: Mapping[str, Tensor] | None = None) -> None:
        """Write what was trained: a PEFT folder, or a model folder with processor that `from_pretrained` reads.

        Under sharding every rank calls it, since weights are gathered; rank 0 writes.

        Args:
            folder: where to; made if need be.
            state_dict: full tensors of all that the export holds, named as in `self.state_dict()`; None = the weights
                as they are now.
        """
        adapted = self._adapter_config is not None
        if state_dict is None and is_sharded(self):
            # An adapter may also hold what is frozen, as the unused layers of a tower that trains.
            state_dict = full_state_dict(self, trained_only=adapted and adapters.trains_whole(self.model))
        if torch.distributed.is_initialized() and torch.distributed.get_rank() != 0:
            return
        own = (
            None if state_dict is None else {name.removeprefix("model."): tensor for name, tensor in state_dict.items()}
        )
        if adapted:
            adapters.save_adapter(self.model, folder, own)
            return
        self.save_model(folder, own)

    def save_model(self, folder: Path, state_dict: dict[str, Tensor] | None) -> None:
        """Write the whole model; `state_dict` as in `export`, by the model's own names."""
        self.model.save_pretrained(folder, state_dict=state_dict)
        self.processor.save_pretrained(folder)

    def _head(self, hidden: Tensor) -> Tensor:
        head = self.base.get_output_embeddings()
        logits: Tensor = head(hidden.to(head.weight.dtype))
        # Some decoders (Gemma's) squash their logits behind the head, in their own forward alone.
        cap = getattr(self.config.get_text_config(), "final_logit_softcapping", None)
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def _reference_head(self, hidden: Tensor) -> Tensor:
        with self.reference_mode():
            return self._head(hidden)
