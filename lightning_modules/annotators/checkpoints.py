"""Loading of the checkpoints that annotators look through, and frames in portions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_modules.policies.remote_code import load_failure

DType = Literal["float32", "bfloat16", "float16"]


class Checkpoint:
    """Model and processor of a checkpoint folder or hub id, loaded when they are first needed.

    Args:
        path: the folder or hub id.
        dtype: type of the weights in memory.
        auto_class: name of the transformers class that reads it.
        types: the model types that are accepted.
        task: what it is to do, for messages.
    """

    def __init__(self, path: str, dtype: DType, auto_class: str, types: tuple[str, ...], task: str) -> None:
        self.path = path
        self.dtype = dtype
        self.auto_class = auto_class
        self.types = types
        self.task = task
        self._loaded: tuple[Any, Any] | None = None

    @property
    def name(self) -> str:
        """The checkpoint's name."""
        return Path(self.path).name if Path(self.path).is_dir() else self.path

    def model_type(self) -> str:
        """The type that its configuration names; no weights are read.

        Raises:
            ValueError: there is no such checkpoint, or it is of another type.
        """
        from transformers import AutoConfig

        try:
            kind = str(AutoConfig.from_pretrained(self.path, trust_remote_code=False).model_type)
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.path} cannot {self.task}: {load_failure(error)}") from error
        if kind not in self.types:
            raise ValueError(
                f"{self.path} cannot {self.task}: it is of the type {kind!r}; give a checkpoint of the type "
                f"{' or '.join(self.types)}"
            )
        return kind

    def load(self, device: torch.device) -> tuple[Any, Any]:
        """Model and processor; read once.

        Raises:
            ValueError: the checkpoint cannot be loaded.
        """
        if self._loaded is None:
            import transformers

            try:
                processor = transformers.AutoProcessor.from_pretrained(self.path, trust_remote_code=False)
                model = getattr(transformers, self.auto_class).from_pretrained(
                    self.path, trust_remote_code=False, dtype=getattr(torch, self.dtype)
                )
            except (OSError, ValueError) as error:
                raise ValueError(f"{self.path} cannot {self.task}: {load_failure(error)}") from error
            self._loaded = model.to(device).eval().requires_grad_(False), processor
        return self._loaded


def portions(frames: Tensor, size: int) -> Iterator[list[Tensor]]:
    """Frames (T, 3, H, W) as lists of at most `size` pictures (3, H, W), as processors take them."""
    for start in range(0, len(frames), size):
        yield list(frames[start : start + size])
