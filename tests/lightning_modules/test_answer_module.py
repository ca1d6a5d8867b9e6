from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from datamodules.vista.batches import VistaBatch
from datamodules.vista.samples import View
from lightning_modules.supervised import Supervised


class Refusing(nn.Module):
    """Refuses a view as a policy does: by its place in the batch."""

    entry_points = ()

    def encode(self, views: Sequence[View], keep_hidden: Any = ()) -> Any:
        raise ValueError(f"sample {views[-1].sample} of the batch: 4200 tokens")


def test_a_sample_that_the_policy_cannot_take_is_named_by_its_key() -> None:
    module = Supervised(Refusing(), partial(torch.optim.SGD, lr=0.1))  # type: ignore[arg-type]
    views = [View(place, "original", torch.zeros(1, 3, 2, 2), "q", {"chosen": "a"}) for place in range(2)]
    batch = VistaBatch(["mine-000003", "mine-000009"], views, torch.ones(2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"^sample 1 of the batch: 4200 .*sample 1 is 'mine-000009'"):
        module.scores(batch)
