"""What is assumed of GPUs: published rates and memory, and the share of the rate that a training reaches."""

from __future__ import annotations

from dataclasses import dataclass

from callbacks.estimate.tracker import Work

GIB = 2.0**30


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU.

    Attributes:
        name: as it is called.
        memory: GiB that its driver reports.
        bfloat16: TFLOP/s of dense 16-bit matrix products with float32 sums, as published.
        float32: TFLOP/s of float32 without TF32, which is torch's default for matrix products.
        utilisation: the assumed share of these rates.
    """

    name: str
    memory: float
    bfloat16: float
    float32: float
    utilisation: float = 0.4

    def hours(self, flops: dict[Work, float]) -> float:
        """Hours for so many operations on one card."""
        wide = sum(count for work, count in flops.items() if work.dtype in ("float32", "float64"))
        narrow = sum(flops.values()) - wide
        return (narrow / self.bfloat16 + wide / self.float32) / (self.utilisation * 1e12) / 3600


#: Dense rates: the vendors' tables often give those with structured sparsity, which are twice as high.
CARDS = {
    card.name: card
    for card in (
        Card("H100", 79.6, 989.0, 67.0),
        Card("H200", 140.4, 989.0, 67.0),
        Card("A100", 80.0, 312.0, 19.5),
        Card("4090", 24.0, 165.0, 82.6),
    )
}
