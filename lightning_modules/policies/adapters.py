"""LoRA adapters through peft: building and loading them, and switching a policy to its reference.

The trained adapter is called "default". A policy that was started from a trained adapter, or whose reference is to
follow it, has a second one, "reference": a frozen copy. The switch below sets two private attributes of peft's layers,
because peft's own switches (`disable_adapter`, `set_adapter`) also turn `requires_grad` off and on again, on parameters
which under FSDP2 are not always the ones that they turned off: weights of the root group would stop training for good.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lightning_modules.policies.lora_targets import AdapterRoom, lora_targets

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel

DEFAULT, REFERENCE = "default", "reference"

#: The linears of a language model's blocks; plain names would match those of the vision towers too.
LANGUAGE_LINEARS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


@dataclass
class LoraSettings:
    """A new LoRA adapter. Its dropout is 0: policy and reference must be the same function at the start.

    Attributes:
        r: rank.
        alpha: scale; the update is alpha / r times B A.
        targets: where it goes, in PEFT's forms: a regular expression that a module's whole name must match, a name or
            a list of names (whole, or their last parts, as q_proj), or `all-linear`: every linear layer of the language
            decoder or the transformer but the output head. What is in a part that adapters cannot train, as a frozen
            vision tower, gets none. None = the linears of the family's blocks.
        some_blocks: blocks without an adapter are intended; otherwise one that the targets miss is an error.
    """

    r: int = 16
    alpha: float = 32
    targets: list[str] | str | None = None
    some_blocks: bool = False


def adapter_config(
    lora: LoraSettings | None, folder: str | None, modules_to_save: list[str], targets: str = LANGUAGE_LINEARS
) -> LoraConfig | None:
    """The peft configuration of a new adapter, or of the one in a folder; None without either.

    Args:
        lora: a new adapter; beside a folder it must say what the folder says.
        folder: a PEFT folder or hub id.
        modules_to_save: modules of which the adapter holds a trained copy. A folder's own list goes before.
        targets: the family's linears, for settings that name none.

    Raises:
        ValueError: there is no LoRA adapter in the folder, or it contradicts `lora` or `modules_to_save`.
    """
    from peft import LoraConfig, PeftConfig

    if folder is None:
        return None if lora is None else new_config(lora, targets, modules_to_save)
    try:
        config = PeftConfig.from_pretrained(folder, trust_remote_code=False)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"adapter: no PEFT adapter at {folder!r} ({error}); give a folder with adapter_config.json"
        ) from error
    if not isinstance(config, LoraConfig):
        raise ValueError(f"adapter: {folder!r} holds a {config.peft_type} adapter; only LoRA is supported")
    return existing_config(config, lora, folder, modules_to_save)


def new_config(lora: LoraSettings, targets: str, modules_to_save: Sequence[str] = ()) -> LoraConfig:
    """The peft configuration of a new adapter.

    Args:
        lora: its settings.
        targets: the family's linears, for settings that name none.
        modules_to_save: modules of which the adapter holds a trained copy.
    """
    from peft import LoraConfig

    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=0.0,
        target_modules=targets if lora.targets is None else lora.targets,
        modules_to_save=list(modules_to_save) or None,
    )


def existing_config(
    config: LoraConfig, lora: LoraSettings | None, folder: str, modules_to_save: Sequence[str] = ()
) -> LoraConfig:
    """The configuration that was read from a folder, ready to train on.

    Raises:
        ValueError: it contradicts `lora` or `modules_to_save`.
    """
    if lora is not None and (lora.r, lora.alpha) != (config.r, config.lora_alpha):
        raise ValueError(
            f"adapter: {folder!r} has r = {config.r} and alpha = {config.lora_alpha}, `lora` says {lora.r} and "
            f"{lora.alpha}; an existing adapter keeps its own: leave `lora` out, or make it agree"
        )
    absent = [name for name in modules_to_save if name not in (config.modules_to_save or ())]
    if absent:
        raise ValueError(
            f"adapter: {folder!r} holds no trained {', '.join(absent)}, so it cannot be trained on; freeze it"
        )
    # Whatever it was trained with: policy and reference are one function at the start. And peft saves an adapter as a
    # finished one, which it would freeze when it reads it.
    config.lora_dropout = 0.0
    config.inference_mode = False
    # peft holds names as a set, whose order is another in every process, and so would be the exported file's.
    if isinstance(config.target_modules, set):
        config.target_modules = sorted(config.target_modules)
    return config


def add_adapters(
    model: nn.Module,
    config: LoraConfig,
    with_reference: bool,
    room: AdapterRoom | None = None,
    lora: LoraSettings | None = None,
) -> PeftModel:
    """Put the trained adapter into a model, and a frozen one beside it if asked for; works on the meta device.

    Adapters are float32 whatever the model is: a learning rate of 1e-5 is lost in bfloat16.

    Args:
        model: the model, without adapters.
        config: the adapter's configuration.
        with_reference: add the frozen one.
        room: where adapters train; what an existing adapter has elsewhere stays as it is. None = everywhere.
        lora: the settings of a new adapter, whose targets are checked and kept to that part; None = it exists.

    Raises:
        ValueError: as `lora_targets`.
    """
    from peft import get_peft_model

    # peft fills configurations in while it works with them, and the caller may build a second model from this one.
    config = copy.deepcopy(config)
    if lora is not None and room is not None:
        chosen = config.target_modules or []
        targets = chosen if isinstance(chosen, str) else sorted(chosen)
        config.target_modules = lora_targets(model, targets, room, lora.some_blocks)
    with warnings.catch_warnings():
        # peft asks a recent transformers by an old name whether it recomputes activations.
        warnings.simplefilter("ignore", FutureWarning)
        adapted = get_peft_model(model, config)
    if with_reference:
        adapted.add_adapter(REFERENCE, config)
    for name, parameter in adapted.named_parameters():
        if _adapter_of(name) is not None:
            parameter.data = parameter.data.float()
            # LoRA that was trained elsewhere may reach a tower; without a gradient there, DDP would wait for one.
            fixed = room is not None and ".lora_" in name and room.is_closed(name.removeprefix("base_model.model."))
            parameter.requires_grad_(_adapter_of(name) == DEFAULT and not fixed)
    if with_reference:
        snapshot_reference(adapted)
    return adapted


def load_adapter(adapted: PeftModel, folder: str) -> None:
    """Read a PEFT folder's weights into the trained adapter and, where there is one, into the reference.

    Raises:
        ValueError: the weights are of another model.
    """
    from peft.utils import load_peft_weights

    load_weights(adapted, load_peft_weights(folder, device="cpu"), folder)


def load_weights(adapted: PeftModel, weights: Mapping[str, torch.Tensor], folder: str) -> None:
    """Put weights, named as in a PEFT folder, into the trained adapter and the reference, if there is one.

    Raises:
        ValueError: the weights are of another model.
    """
    from peft import set_peft_model_state_dict

    for name in adapted.peft_config:
        try:
            report = set_peft_model_state_dict(adapted, dict(weights), adapter_name=name)
        except RuntimeError as error:
            raise ValueError(f"adapter: {folder!r} does not fit this checkpoint: {error}") from error
        # The base model's tensors are reported as missing, too: no adapter's file holds them.
        lost = [key for key in report.missing_keys if _adapter_of(key) == name] + list(report.unexpected_keys)
        if lost:
            raise ValueError(
                f"adapter: {folder!r} does not fit this checkpoint: {len(lost)} tensors have no counterpart, the first "
                f"is {lost[0]}; give the checkpoint that the adapter was trained on"
            )


def trains_whole(module: nn.Module) -> bool:
    """Whether all of the adapter trains, so that what trains is all that its folder holds."""
    return all(weight.requires_grad for name, weight in module.named_parameters() if _adapter_of(name) == DEFAULT)


def has_adapter(module: nn.Module, name: str = DEFAULT) -> bool:
    """Whether any layer has an adapter of this name."""
    return any(_adapter_of(parameter) == name for parameter, _ in module.named_parameters())


@contextmanager
def reference_mode(module: nn.Module) -> Iterator[None]:
    """Compute as the reference: with the adapter "reference" where there is one, else with adapters off.

    `requires_grad` is never touched, and the state before comes back also after an exception. A module without
    adapters is left as it is.
    """
    layers = _switches(module)
    before = [(layer._disable_adapters, layer._active_adapter) for layer in layers]
    # By the layers, which know their adapters: every step enters this, and parameters are many to look through.
    kept = any(REFERENCE in layer._get_available_adapters() for layer in layers)
    try:
        for layer in layers:
            if kept:
                layer._active_adapter = [REFERENCE]
            else:
                layer._disable_adapters = True
        yield
    finally:
        for layer, (disabled, active) in zip(layers, before, strict=True):
            layer._disable_adapters, layer._active_adapter = disabled, active


def reference_parameters(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Name and parameter of everything in the frozen reference adapter."""
    return ((name, weight) for name, weight in module.named_parameters() if _adapter_of(name) == REFERENCE)


def snapshot_reference(module: nn.Module, decay: float = 0.0) -> None:
    """Make the reference adapter the trained one as it is now, keeping the share `decay` of itself.

    The average is of the weights: of LoRA's two factors each by itself, which is not the average of their products.

    Raises:
        ValueError: there is no reference adapter.
    """
    parameters = dict(module.named_parameters())
    kept = dict(reference_parameters(module))
    if not kept:
        raise ValueError(
            "this policy has no reference adapter that could follow it: its reference is the model without adapter; "
            "set `reference_adapter: true` in the policy"
        )
    with torch.no_grad():
        for name, reference in kept.items():
            trained = parameters[_renamed(name, REFERENCE, DEFAULT)].detach()
            reference.copy_(trained if decay == 0 else reference * decay + trained * (1 - decay))


def save_adapter(adapted: PeftModel, folder: Path, state_dict: dict[str, torch.Tensor] | None) -> None:
    """Write the trained adapter as a PEFT folder.

    Args:
        adapted: the model.
        folder: where to; made if need be.
        state_dict: names as in `adapted.state_dict()`; None = the model's own weights.
    """
    # Embeddings are the checkpoint's: without the flag peft would look the base model up to find out.
    more: dict[str, Any] = {} if state_dict is None else {"state_dict": state_dict}
    adapted.save_pretrained(str(folder), selected_adapters=[DEFAULT], save_embedding_layers=False, **more)


def _switches(module: nn.Module) -> list[Any]:
    """The layers of peft that read `_disable_adapters` and `_active_adapter` in their forward."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    return [layer for layer in module.modules() if isinstance(layer, BaseTunerLayer | AuxiliaryTrainingWrapper)]


def _adapter_of(name: str) -> str | None:
    """The adapter to which a parameter belongs, by its name: the part behind lora_A, lora_B, modules_to_save ..."""
    parts = name.split(".")
    for before, part in pairwise(parts):
        if part in (DEFAULT, REFERENCE) and (before.startswith("lora_") or before == "modules_to_save"):
            return part
    return None


def _renamed(name: str, old: str, new: str) -> str:
    return ".".join(new if part == old else part for part in name.split("."))
