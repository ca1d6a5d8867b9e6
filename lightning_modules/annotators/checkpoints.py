"""Annotators that are a checkpoint of transformers: loading, checks, frames in portions, texts that are too long."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_modules.annotators.base import Annotator
from lightning_modules.policies.remote_code import load_failure

DType = Literal["float32", "bfloat16", "float16"]


class CheckpointAnnotator(Annotator):
    """Base of the annotators that look through a checkpoint; its weights load when they are first needed.

    Args:
        path: a checkpoint folder or hub id.
        dtype: type of the weights in memory.
        frames_at_once: frames to the model at once.
    """

    #: Name of the transformers class that reads the checkpoint.
    auto_class: str
    #: The model types that are accepted.
    types: tuple[str, ...]
    #: For messages: what it is to do, the setting of `GroundingAnnotator` that it is, and what it reads.
    task: str
    setting: str
    reads: str

    def __init__(self, path: str, dtype: DType, frames_at_once: int) -> None:
        if frames_at_once < 1:
            raise ValueError(f"{self.setting}.frames_at_once is {frames_at_once}; give at least 1")
        self.path = path
        self.dtype = dtype
        self.frames_at_once = frames_at_once
        self._kind = ""
        self._loaded: tuple[Any, Any] | None = None
        self._cut: set[str] = set()

    @property
    def name(self) -> str:
        """The checkpoint's name."""
        return Path(self.path).name if Path(self.path).is_dir() else self.path

    def settings(self) -> dict[str, Any]:
        """How it is asked."""
        return {"dtype": self.dtype}

    @property
    def kind(self) -> str:
        """The model type that the checkpoint's configuration names; no weights are read for it.

        Raises:
            ValueError: there is no such checkpoint, or it is of another type.
        """
        if not self._kind:
            self.check()
        return self._kind

    def check(self) -> None:
        """Refuse a checkpoint that is none, or of another type.

        Raises:
            ValueError: says what it is.
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
        self._kind = kind

    def load(self, device: torch.device) -> None:
        """Read the weights.

        Raises:
            ValueError: the checkpoint cannot be loaded, or is of another type.
        """
        if self._loaded is not None:
            return
        import transformers

        assert self.kind, "another type is refused before weights are read"
        try:
            processor = transformers.AutoProcessor.from_pretrained(self.path, trust_remote_code=False)
            model = getattr(transformers, self.auto_class).from_pretrained(
                self.path, trust_remote_code=False, dtype=getattr(torch, self.dtype)
            )
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.path} cannot {self.task}: {load_failure(error)}") from error
        self._loaded = model.to(device).eval().requires_grad_(False), processor

    def loaded(self) -> tuple[Any, Any]:
        """Model and processor; on the CPU where nobody has asked for another device."""
        self.load(torch.device("cpu"))
        assert self._loaded is not None
        return self._loaded

    def portions(self, frames: Tensor) -> Iterator[list[Tensor]]:
        """Frames (T, 3, H, W) as lists of at most `frames_at_once` pictures (3, H, W) on the CPU, for the processor."""
        for start in range(0, len(frames), self.frames_at_once):
            yield list(frames[start : start + self.frames_at_once].cpu())

    def summary(self) -> str:
        """How many texts were longer than the model reads."""
        if not self._cut:
            return ""
        return (
            f"{self.name} read the beginnings of {len(self._cut)} {self.reads}, which are longer than its text tower "
            "takes"
        )
