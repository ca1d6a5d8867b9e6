"""Flags that one rank raises and all act on, sent beside the training's own communication."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Trainer


class RankFlags:
    """Yes-or-no questions that all ranks answer alike: yes, where one of them says so.

    The answers travel as a few bytes between CPUs, in a group of their own: no accelerator has to finish its work for
    them, as it does for a broadcast of the training's group. All ranks make it, and ask, at the same moments.

    Args:
        trainer: with its processes connected; `setup` is the earliest hook.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._group: Any = None
        if trainer.world_size > 1:
            # As long as the training's own group waits: a rank may be late by a validation of its own.
            more = {"timeout": wait} if (wait := getattr(trainer.strategy, "_timeout", None)) is not None else {}
            self._group = dist.new_group(backend="gloo", **more)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank."""
        if self._group is None:
            return flag
        agreed = torch.tensor([flag], dtype=torch.uint8)
        dist.all_reduce(agreed, op=dist.ReduceOp.MAX, group=self._group)
        return bool(agreed)
