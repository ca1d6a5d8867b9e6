"""How float32 matrices are multiplied on a GPU, where most of a model is in 16 bits and its adapters are not."""

from __future__ import annotations

from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

Precision = Literal["highest", "high", "medium"]


class MatmulPrecision(Callback):
    """Matmul precision callback: sets torch's `float32_matmul_precision` for the run on a GPU.

    Adapters compute in float32 on a base in bfloat16, to whose outputs theirs are added: the sum drops the digits that
    ``highest`` keeps, at the rate of a GPU's plain float32. The command line adds this callback by itself; on a CPU it
    changes nothing.

    Args:
        precision: ``highest`` = all of float32, ``high`` = TF32 (10 bits of mantissa, as float32 in range), ``medium``
            = bfloat16. None = ``high`` where the policy's weights are in 16 bits or the trainer's precision is mixed,
            else ``highest``.
    """

    def __init__(self, precision: Precision | None = None) -> None:
        self.precision = precision
        self._before: str | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Set it, before anything is computed."""
        if trainer.strategy.root_device.type == "cuda":
            self._before = self._before or torch.get_float32_matmul_precision()
            torch.set_float32_matmul_precision(self.precision or _fitting(trainer, pl_module))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave torch as it was."""
        if self._before is not None:
            torch.set_float32_matmul_precision(self._before)
            self._before = None


def _fitting(trainer: Trainer, module: Any) -> Precision:
    dtype = getattr(getattr(module, "policy", None), "dtype", None)
    return "high" if dtype in ("bfloat16", "float16") or "mixed" in str(trainer.precision) else "highest"
