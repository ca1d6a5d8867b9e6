"""An estimate as text: memory by GPU, operations by phase, and what cards make of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from callbacks.estimate.cards import GIB, Card
from callbacks.estimate.run import RunLength
from callbacks.estimate.step import WAITING, StepCost

#: The order in which phases happen.
PHASES = ("tower", "reference", "forward", "recomputation", "backward")
#: What the estimate does not know of.
LEFT_OUT = (
    "left out: rounding and fragmentation of the allocator, the CUDA context, buffers of NCCL and workspaces of cuBLAS "
    "and attention kernels (--reserve is for them), gradient clipping, callbacks and validation, loading and saving, "
    "waiting for data and for other GPUs. Operations are those of matrix products, convolutions and attention; causal "
    "attention counts in full. CPU kernels stand in for those of CUDA: where autocast or attention choose otherwise "
    "there, temporaries differ."
)


@dataclass(frozen=True, slots=True)
class Placement:
    """A step on a number of GPUs.

    Attributes:
        gpus: how many.
        strategy: "one device", "DDP" or "FSDP2".
        cost: of one of them.
    """

    gpus: int
    strategy: str
    cost: StepCost


@dataclass(slots=True)
class Estimate:
    """Everything that is printed.

    Attributes:
        title: method, policy and checkpoint.
        notes: what was assumed, one line each.
        placements: the GPUs.
        length: of the run.
        limits: card -> what fits on one, in words.
    """

    title: str
    notes: list[str]
    placements: list[Placement]
    length: RunLength
    limits: dict[str, list[str]] = field(default_factory=dict)


def text(estimate: Estimate, cards: Iterable[Card], reserve: float) -> str:
    """The estimate for the terminal.

    Args:
        estimate: what came out.
        cards: to compare it with.
        reserve: GiB of a card for what the estimate leaves out.
    """
    first = estimate.placements[0].cost
    blocks = [
        [estimate.title, *(f"- {note}" for note in estimate.notes)],
        ["GiB of each GPU, by what they are for at the peak:", *_memory(estimate.placements)],
        [f"TFLOP of a sample (a micro-batch has {first.samples}):", *_operations(first)],
        *([*_card(estimate, card, reserve)] for card in cards),
        [LEFT_OUT],
    ]
    return "\n\n".join("\n".join(block) for block in blocks)


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Rows of cells as lines; the first columns to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _memory(placements: Sequence[Placement]) -> list[str]:
    names = ["GPUs", "frozen", "trained", "gradients", "optimizer", "batch", "activations", "peak"]
    rows = [names]
    for placement in placements:
        cost, parts = placement.cost, placement.cost.peak.parts
        gradients = parts["gradients"] + parts[WAITING]
        sizes = [cost.weights, cost.trained, gradients, cost.optimizer, cost.batch, cost.own, cost.peak.total]
        rows.append([f"{placement.gpus} {placement.strategy}", *(f"{size / GIB:.2f}" for size in sizes)])
    peak = placements[0].cost.peak
    return [*aligned(rows), f"The peak is in the {peak.phase}: {peak.place}."]


def _operations(cost: StepCost) -> list[str]:
    kinds = sorted({(work.dtype, work.kind) for work in cost.flops}, key=lambda kind: (kind[1], kind[0]))
    rows = [["", *(f"{kind} {dtype}" for dtype, kind in kinds), "together"]]
    phases = [phase for phase in PHASES if any(work.phase == phase for work in cost.flops)]
    for phase in [*phases, "step"]:
        values = [
            sum(
                count
                for work, count in cost.flops.items()
                if (work.dtype, work.kind) == kind and phase in (work.phase, "step")
            )
            for kind in kinds
        ]
        cells = [f"{value / cost.samples / 1e12:.4g}" for value in (*values, sum(values))]
        rows.append([phase, *cells])
    return aligned(rows)


def _card(estimate: Estimate, card: Card, reserve: float) -> list[str]:
    lines = [
        f"{card.name}: {card.memory:g} GiB, {card.bfloat16:g} TFLOP/s in 16 bits and {card.float32:g} in float32, of "
        f"which {card.utilisation:.0%} is assumed"
    ]
    rows = []
    for placement in estimate.placements:
        needed = placement.cost.peak.total / GIB + reserve
        fits = "fits" if needed <= card.memory else "does not fit"
        verdict = f"{fits}: {needed:.1f} of {card.memory:g} GiB with {reserve:g} in reserve"
        rows.append([f"{placement.gpus} {placement.strategy}", verdict, hours(estimate, placement, card)])
    return [*lines, *aligned(rows, left=2), *estimate.limits.get(card.name, [])]


def hours(estimate: Estimate, placement: Placement, card: Card) -> str:
    """How long the run takes, or a thousand samples of it where its length is not known."""
    cost = placement.cost
    alone = card.hours({work: count / cost.samples for work, count in cost.flops.items()})
    if estimate.length.samples is None:
        return f"{readable(1000 * alone / placement.gpus)} h for 1,000 samples"
    return f"{readable(estimate.length.samples * alone / placement.gpus)} h"


def readable(value: float) -> str:
    """A number with three digits, or all of those before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
