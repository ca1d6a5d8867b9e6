"""Which layout of answers is exact for a model, by the model's own layer types."""

from __future__ import annotations

from typing import Any

from lightning_modules.policies.prefixes import Layout

#: Layers that mix tokens by attention alone, and by nothing but the mask that they are given.
PACKABLE = "full_attention"
#: Layers whose tokens know all that is before them and nothing behind, without a mask.
CAUSAL = frozenset({PACKABLE, "linear_attention"})


def packing_faults(config: Any) -> list[str]:
    """Why answers behind one prefix would not be scored as each alone; [] = they are.

    Args:
        config: the checkpoint's configuration, with a language model's part.
    """
    text = config.get_text_config()
    kinds = list(getattr(text, "layer_types", None) or [])
    others = sorted({kind for kind in kinds if kind != PACKABLE})
    faults = []
    if others:
        # A state that is handed on from token to token, or a window, obeys no 4-D mask.
        faults.append(f"{sum(kind != PACKABLE for kind in kinds)} of its {len(kinds)} layers are {', '.join(others)}")
    elif not kinds and _has_window(text):
        faults.append(f"its layers attend within a window of {text.sliding_window} tokens")
    if _looks_ahead(text):
        faults.append("the vision tokens of a block see each other")
    return faults


def is_causal(config: Any) -> bool:
    """Whether rows that are padded at the right need no mask: no token sees what is behind it, and each all before.

    Args:
        config: the checkpoint's configuration, with a language model's part.
    """
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None) or []
    return CAUSAL.issuperset(kinds) and (bool(kinds) or not _has_window(text)) and not _looks_ahead(text)


def chosen_layout(path: str, config: Any, layout: Layout | None, packs: bool) -> Layout:
    """The layout to score a checkpoint's answers in.

    Args:
        path: of the checkpoint, for the error.
        config: its configuration.
        layout: as it was asked for; None = packed where that is exact.
        packs: whether the family's policy can pack at all.

    Raises:
        ValueError: packed was asked for where answers would leak into each other.
    """
    faults = packing_faults(config)
    if layout == "packed" and (faults or not packs):
        why = "; ".join(faults) or f"this policy scores a {config.model_type} model row by row"
        raise ValueError(
            f"policy.layout is packed, which is not exact for {path!r}: {why}, so that answers behind one prefix would "
            "see each other; leave layout out, or set it to rows"
        )
    return layout or ("packed" if packs and not faults else "rows")


def _has_window(text: Any) -> bool:
    return bool(getattr(text, "sliding_window", None) and getattr(text, "use_sliding_window", True))


def _looks_ahead(text: Any) -> bool:
    return getattr(text, "use_bidirectional_attention", None) not in (None, False)
