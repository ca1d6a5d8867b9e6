"""Pixel budgets: by which of its settings a video processor bounds the pixels, and so the tokens, of what is shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isqrt
from typing import Any

#: The tokens a frame that Gemma 4 can be shown with; its processor refuses others.
GEMMA_TOKENS = (70, 140, 280, 560, 1120)


@dataclass(frozen=True, slots=True)
class PixelBudget:
    """A processor's bounds with their values, whatever the library's defaults become.

    Attributes:
        facts: `min_pixels`, `max_pixels` and `cap_pixels_per_frame`, as far as the processor has them.
        options: the same for the processor's call, by its own names.
    """

    facts: dict[str, int | bool] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


def pixel_budget(
    processor: Any, min_pixels: int | None = None, max_pixels: int | None = None, cap: bool | None = None
) -> PixelBudget:
    """The budget of a video processor.

    Args:
        processor: a transformers video processor.
        min_pixels: the least pixels; None = the checkpoint's.
        max_pixels: the most; None = the checkpoint's.
        cap: bound the pixels of a frame by its video's length too; None = the checkpoint's, or no such bound.

    Raises:
        ValueError: the processor has no such bound, or the least is above the most.
    """
    size = {name: value for name, value in dict(processor.size or {}).items() if value is not None}
    if size.keys() == {"shortest_edge", "longest_edge"}:
        # Called edges, but they are areas: the processor compares them with height times width.
        least = size["shortest_edge"] if min_pixels is None else min_pixels
        most = size["longest_edge"] if max_pixels is None else max_pixels
        facts = {"min_pixels": int(least), "max_pixels": int(most)}
        options: dict[str, Any] = {"size": {"shortest_edge": int(least), "longest_edge": int(most)}}
    elif hasattr(processor, "max_soft_tokens"):
        facts, options = _gemma_budget(processor, max_pixels)
    elif size.keys() == {"longest_edge"} and not hasattr(processor, "patch_size"):
        # Of SmolVLM: a length, to which a frame is brought before it becomes the tower's square of fixed size.
        edge = size["longest_edge"] if max_pixels is None else isqrt(max(max_pixels, 0))
        facts, options = {"max_pixels": edge**2}, {"size": {"longest_edge": edge}}
    else:
        facts, options = {}, {}
    if hasattr(processor, "cap_pixels_per_frame"):
        # Unset, the library warns and may decide otherwise in its next version.
        options["cap_pixels_per_frame"] = bool(processor.cap_pixels_per_frame if cap is None else cap)
        facts["cap_pixels_per_frame"] = options["cap_pixels_per_frame"]
    for name, value in (("min_pixels", min_pixels), ("max_pixels", max_pixels), ("cap_pixels_per_frame", cap)):
        if value is not None and name not in facts:
            known = f"it has {' and '.join(facts)}" if facts else "it shows every frame at one size"
            raise ValueError(f"policy.{name} is {value}: {type(processor).__name__} has no such bound, {known}")
    if not 0 < facts.get("min_pixels", 1) <= facts.get("max_pixels", 1):
        raise ValueError(
            f"policy: min_pixels is {facts.get('min_pixels')} and max_pixels {facts['max_pixels']}; give 0 < min <= max"
        )
    return PixelBudget(facts, options)


def _gemma_budget(processor: Any, max_pixels: int | None) -> tuple[dict[str, int | bool], dict[str, Any]]:
    """Gemma 4 counts tokens a frame, of which only some numbers are allowed: the largest within the pixels."""
    area = (processor.patch_size * processor.pooling_kernel_size) ** 2
    allowed = [count for count in GEMMA_TOKENS if max_pixels is None or count * area <= max_pixels]
    if not allowed:
        raise ValueError(
            f"policy.max_pixels is {max_pixels}; {type(processor).__name__} shows a frame with {GEMMA_TOKENS[0]} "
            f"tokens of {area} pixels or more: give {GEMMA_TOKENS[0] * area} at least"
        )
    tokens = processor.max_soft_tokens if max_pixels is None else allowed[-1]
    return {"max_pixels": tokens * area}, {"max_soft_tokens": tokens}
