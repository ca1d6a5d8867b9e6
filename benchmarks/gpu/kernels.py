"""Which attention kernel each part of a step takes: torch chooses by masks, sizes and types, and says nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.row import Outcome, Setting
from lightning_modules.policies.shared_attention import shared_prefix_attention

#: Names of aten's attention operations begin so; which one was called is the choice.
_ATTENTION = "aten::_scaled_dot_product_"
#: Kernels of a part in the result, those that take the longest.
_KERNELS = 4
#: These would compute every pair of positions in memory.
_PLAIN = ("_scaled_dot_product_attention_math",)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of the attention of both methods.

    Attributes:
        prefix: tokens of a view's video and prompt.
        answers: tokens of its answers.
        heads: of the language model.
        head: width of one of them.
        views: of a sample, which are a batch.
        frames: distinct frames of a sample, which the tower sees.
        frame: tokens of a frame.
        tokens: of a video to generate.
        text: tokens of its prompt.
        flow_heads: of the video transformer.
    """

    prefix: int = 2116
    answers: int = 192
    heads: int = 32
    head: int = 128
    views: int = 6
    frames: int = 26
    frame: int = 257
    tokens: int = 21 * 30 * 52
    text: int = 512
    flow_heads: int = 12


SMALL = Sizes(prefix=20, answers=6, heads=2, head=16, views=2, frames=2, frame=5, tokens=24, text=6, flow_heads=2)


def measure(setting: Setting) -> Outcome:
    """Profile forward and backward of each part."""
    parts = attentions(SMALL if setting.dry_run else Sizes(), setting.device)
    values: dict[str, dict[str, list[str]]] = {}
    for name, attend in parts.items():
        _backward(attend)  # a first call chooses, and loads what it needs
        values[name] = profiled(attend, setting.device)
    plain = [name for name, value in values.items() if any(operation in _PLAIN for operation in value["operations"])]
    summary = "; ".join(f"{name}: {', '.join(map(shortened, value['operations']))}" for name, value in values.items())
    # On a CPU small ones are computed so.
    fault = f"computed in full: {', '.join(plain)}" if plain and not setting.dry_run else ""
    return Outcome(summary, values, fault)


def attentions(sizes: Sizes, device: str) -> Mapping[str, Callable[[], Tensor]]:
    """The attention of each part of a step, in bfloat16 and with gradients; of a packed view, by its halves."""
    options: dict[str, Any] = {"device": device, "dtype": torch.bfloat16, "requires_grad": True}

    def tensors(rows: int, heads: int, length: int, keys: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        query = torch.randn(rows, heads, length, sizes.head, **options)
        key, value = torch.randn(2, rows, heads, keys or length, sizes.head, **options).unbind()
        return query, key, value

    # As transformers hands over a layer.
    layer: Any = SimpleNamespace(is_causal=True, training=True, num_key_value_groups=1)
    length = sizes.prefix + sizes.answers
    query, key, value = tensors(sizes.views, sizes.heads, length)
    # What matters is that rows of answers see the prefix and not each other.
    mask = torch.ones(sizes.views, 1, sizes.answers, length, dtype=torch.bool, device=device).tril(sizes.prefix)
    mask[..., sizes.answers // 2 :, sizes.prefix : sizes.prefix + sizes.answers // 2] = False
    tail = query[:, :, sizes.prefix :]
    tower, flow = tensors(sizes.frames, 16, sizes.frame), tensors(2, sizes.flow_heads, sizes.tokens)
    cross = tensors(2, sizes.flow_heads, sizes.tokens, sizes.text)
    return {
        "prefix, causal": lambda: shared_prefix_attention(layer, query, key, value, None)[0],
        "answers, under the mask": lambda: shared_prefix_attention(layer, tail, key, value, mask)[0],
        "packed view": lambda: shared_prefix_attention(layer, query, key, value, mask)[0],
        "tower": lambda: F.scaled_dot_product_attention(*tower),
        "video transformer": lambda: F.scaled_dot_product_attention(*flow),
        "video to text": lambda: F.scaled_dot_product_attention(*cross),
    }


def profiled(attend: Callable[[], Tensor], device: str) -> dict[str, list[str]]:
    """The chosen operations of forward and backward, and the kernels that took the longest.

    Args:
        attend: computes an attention.
        device: "cuda" or "cpu", which has no kernels of its own.
    """
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device == "cuda" else [])]
    with profile(activities=activities) as profiler:
        _backward(attend)
        if device == "cuda":
            torch.cuda.synchronize()
    events = profiler.key_averages()
    names = {event.key.removeprefix("aten::") for event in events if event.key.startswith(_ATTENTION)}
    on_device = [event for event in events if str(event.device_type).endswith("CUDA")]
    on_device.sort(key=lambda event: -event.self_device_time_total)
    return {"operations": sorted(names), "kernels": [event.key for event in on_device[:_KERNELS]]}


def shortened(operation: str) -> str:
    """`_scaled_dot_product_flash_attention_backward` -> `flash backward`."""
    return operation.removeprefix("_scaled_dot_product_").replace("_attention", "").replace("_", " ")


def _backward(attend: Callable[[], Tensor]) -> None:
    attend().sum().backward()  # type: ignore[no-untyped-call]
