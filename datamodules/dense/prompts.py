"""Prompts for `predict`: what videos a model is asked for, and how often each."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from datamodules.prompt_file import read_prompts
from datamodules.stream.hand_out import HandOut, HandOutMode
from datamodules.stream.planned_data import require_least
from datamodules.stream.predict_data import batches_of
from datamodules.stream.predict_outputs import VideoRequest


@dataclass(slots=True)
class PromptBatch:
    """Videos to make.

    Attributes:
        keys: the B requests' names, which depend on prompt and index alone.
        prompts: their texts.
        index: for each, which of the prompt's videos it is, from 0; another index is other noise.
        mask: (B,) bool; False marks padding.
    """

    keys: list[str]
    prompts: list[str]
    index: list[int]
    mask: Tensor


class Prompts(LightningDataModule):
    """Every prompt of a text file `num_samples` times, each request once over all ranks; a `SkippableData`.

    Args:
        file: UTF-8 text, one prompt a line; empty lines are left out.
        num_samples: videos for each prompt (VBench: 5).
        batch_size: requests per rank and batch.
        limit: only the first prompts, for a quick look; null = all.
        hand_out: by_need = each rank takes the next batch when it has made one; equal_shares = all make the same
            number, as always under every strategy but DDP and with `trainer.limit_predict_batches`.
    """

    def __init__(
        self,
        file: str,
        num_samples: int = 1,
        batch_size: int = 1,
        limit: int | None = None,
        hand_out: HandOutMode = "by_need",
    ) -> None:
        super().__init__()
        require_least(num_samples=(num_samples, 1), batch_size=(batch_size, 1))
        if limit is not None:
            require_least(limit=(limit, 1))
        self.file = Path(file)
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.limit = limit
        self.hand_out = hand_out
        #: What is asked for, in the file's order, after `setup`; a prompt's samples follow one another.
        self.requests: list[VideoRequest] = []
        self._skipped: frozenset[str] = frozenset()

    def setup(self, stage: str) -> None:
        """Read the file.

        Raises:
            ValueError: no such file, no prompt in it, or prompts that come twice (all of them).
        """
        self.requests = [
            VideoRequest(request_key(prompt, index), prompt, index)
            for prompt in read_prompts(self.file)[: self.limit]
            for index in range(self.num_samples)
        ]

    @property
    def keys(self) -> list[str]:
        """The keys of all requests in order, whatever is skipped."""
        return [request.key for request in self.requests]

    @property
    def fingerprint(self) -> str:
        """Of the prompts and indices."""
        content = [(request.prompt, request.index) for request in self.requests]
        return hashlib.sha256(repr(content).encode()).hexdigest()

    def skip(self, keys: Collection[str]) -> None:
        """Leave these requests out, and no others: called before the loader is made, alike on every rank.

        Args:
            keys: the requests' keys; unknown ones do nothing.
        """
        self._skipped = frozenset(keys)

    def prompts(self) -> list[tuple[str, str]]:
        """Name and text of every prompt of which a video is still to be made; the name is its beginning."""
        texts = dict.fromkeys(request.prompt for request in self.requests if request.key not in self._skipped)
        return [(repr(text if len(text) <= 60 else f"{text[:57]}..."), text) for text in texts]

    def predict_dataloader(self) -> Any:
        """This rank's batches; an empty list where nothing is left for any rank."""
        # A plan without a sample is an error, and here it means that the run is over.
        if self._skipped.issuperset(keys := self.keys):
            return []
        batches, hand_out = batches_of(keys, self._skipped, self.batch_size, self.trainer, self.hand_out)
        return PromptLoader(self.requests, batches, hand_out)


class PromptLoader:
    """A sized iterable over batches; not a DataLoader, whose batches Lightning would split over ranks again.

    Args:
        requests: all of them.
        batches: of (position, mask) pairs.
        hand_out: which of the batches this rank makes; None = all of them.
    """

    def __init__(
        self,
        requests: Sequence[VideoRequest],
        batches: Sequence[Sequence[tuple[int, bool]]],
        hand_out: HandOut | None = None,
    ) -> None:
        self.requests = requests
        self.batches = batches
        self.hand_out = hand_out

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[PromptBatch]:
        if self.hand_out is None:
            return map(self._batch, self.batches)
        return self.hand_out.counted(self._batch(self.batches[number]) for number in self.hand_out)

    def _batch(self, slots: Sequence[tuple[int, bool]]) -> PromptBatch:
        requests = [self.requests[position] for position, _ in slots]
        return PromptBatch(
            [request.key for request in requests],
            [request.prompt for request in requests],
            [request.index for request in requests],
            torch.tensor([mask for _, mask in slots]),
        )


def request_key(prompt: str, index: int) -> str:
    """The name of a request: readable, without a dot, and the same wherever in a file the prompt stands."""
    words = re.sub(r"[^A-Za-z0-9]+", "-", prompt)[:40].strip("-")
    # A prompt in another script leaves no words, and the hash names it.
    return "-".join(filter(None, (words, hashlib.sha256(prompt.encode()).hexdigest()[:12], str(index))))
