"""Attention by name: what of transformers' and diffusers' implementations can be used here."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

#: Transformers' implementations that need no mask for what a policy packs, or take it.
PLAIN = ("sdpa", "eager")


def check_attn_implementation(name: str, packed: bool) -> None:
    """Refuse an implementation of transformers' that is not there, before weights are read.

    Args:
        name: sdpa, eager, flash_attention_2 ..., the id of a hub kernel (`kernels-community/flash-attn3`), or what was
            registered in transformers' `AttentionInterface`.
        packed: whether answers are scored behind one prefix.

    Raises:
        ValueError: it cannot be used; says what can.
    """
    from transformers.modeling_flash_attention_utils import FLASH_ATTENTION_COMPATIBILITY_MATRIX
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    flash = {f"flash_attention_{version}": checks for version, checks in FLASH_ATTENTION_COMPATIBILITY_MATRIX.items()}
    # Where the package itself is not installed, transformers takes the kernel of the hub.
    usable = [own for own in flash if flash[own]["general_availability_check"]() or find_spec("kernels")]
    registered = [own for own in ALL_ATTENTION_FUNCTIONS.valid_keys() if not own.startswith(("paged", "vidpref_"))]
    usable = [*PLAIN, *usable, *(own for own in registered if own not in flash and own not in PLAIN)]
    if packed:
        # Without a mask of its own kind it is not causal.
        usable = [own for own in usable if own != "flex_attention"]
    if name in usable or ("/" in name and find_spec("kernels")):
        return
    why = "is not known"
    if name in flash:
        why = "needs its package, or `pip install kernels`"
    elif "/" in name:
        why = "is a kernel of the hub: `pip install kernels`"
    elif name == "flex_attention":
        why = "cannot take answers behind one prefix; policy.layout rows allows it"
    raise ValueError(f"policy.attn_implementation: {name!r} {why}; here are {', '.join(usable)}")


def set_attention_backend(model: Any, name: str) -> None:
    """Let a transformer of diffusers attend by one of diffusers' backends.

    Args:
        model: the transformer.
        name: native, _native_flash, flash, _flash_3_hub ...

    Raises:
        ValueError: there is no such backend, it cannot be used here, or the model does not take one; says what can.
    """
    from diffusers import attention_backend
    from diffusers.models.attention_dispatch import AttentionBackendName, _check_attention_backend_requirements

    usable = []
    for backend in AttentionBackendName:
        try:
            _check_attention_backend_requirements(backend)
            usable.append(backend.value)
        except (RuntimeError, ImportError, ValueError):
            continue
    try:
        # Within another's context, since it would become the backend of every model of this process.
        with attention_backend("native"):
            model.set_attention_backend(name)
    except (RuntimeError, ImportError, ValueError) as error:
        why = "is not known" if isinstance(error, ValueError) else f"cannot be used ({error})"
        raise ValueError(f"policy.attention: {name!r} {why}; here are {', '.join(sorted(usable))}") from error
    processors = [module.processor for module in model.modules() if hasattr(module, "processor")]
    if not any(getattr(processor, "_attention_backend", None) for processor in processors):
        raise ValueError(f"policy.attention: {type(model).__name__} attends in its own way; leave it out")
