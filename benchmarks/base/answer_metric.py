"""Metric over answers by key: exact under padding, repeated questions and any number of processes."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class AnswerMetric(Metric):
    """Metric that collects answers by key and scores all of them at once, with a benchmark's pure function.

    An answer counts once however often it is given, on whichever rank; so padding and uneven ranks change no score, as
    they would an average of averages. In a `MetricCollection` set `compute_groups=False`: groups are formed by
    equal states, and all of these metrics have the same kind of state.
    """

    full_state_update = False
    is_differentiable = False
    packed: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("packed", default=[], dist_reduce_fx="cat")

    def update(self, items: Mapping[str, Mapping[str, Any]]) -> None:
        """Add answers; every rank must call it at least once, even with none.

        Args:
            items: question's key -> its answer and what scoring needs, in plain JSON types. "at", a number, orders the
                items of all ranks; without it the keys do.
        """
        lines = "".join(f"{json.dumps([key, item])}\n" for key, item in items.items()).encode()
        # As bytes, because a state must be a tensor. Also without items: ranks that gather states of different types
        # would wait for each other for ever.
        self.packed.append(torch.frombuffer(bytearray(lines), dtype=torch.uint8).to(self.device) if lines
                           else torch.zeros(0, dtype=torch.uint8, device=self.device))  # fmt: skip

    def compute(self) -> dict[str, Any]:
        """The benchmark's scores, from the answers of all ranks."""
        return self.score_items(self._items())

    def gathered(self) -> dict[str, dict[str, Any]]:
        """The items of all ranks by key, in order; every rank has to call it."""
        with self.sync_context():
            return self._items()

    def _items(self) -> dict[str, dict[str, Any]]:
        content = bytes(dim_zero_cat(self.packed).cpu().numpy()) if len(self.packed) else b""
        items = dict(json.loads(line) for line in content.splitlines())
        return dict(sorted(items.items(), key=lambda key_and_item: (key_and_item[1].get("at", 0), key_and_item[0])))

    @abstractmethod
    def score_items(self, items: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The published results from all items by key, in order."""
