"""A preference method on a two-matrix policy: everything that callbacks touch, in milliseconds."""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer
from peft import LoraConfig
from torch import Tensor, nn

from datamodules.vista.batches import VistaBatch
from datamodules.vista.samples import AnswerScores, Box, View
from lightning_modules.losses.log_probs import answer_kl, answer_log_probs
from lightning_modules.policies.adapters import add_adapters, reference_mode
from lightning_modules.vista_dpo import VistaDPO, VistaWeights
from tests.support.quiet_trainer import quiet_trainer

WIDTH, VOCABULARY = 8, 16
ANSWERS = {"chosen": "red left", "rejected": "blue", "irrelevant": "a cat"}


@dataclass
class Encoded:
    inputs: Tensor
    targets: Tensor
    answer: Tensor
    num_answers: int
    hidden_answer: Tensor | None
    kept: Tensor


class TinyPolicy(nn.Module):
    """Fills `VideoLLM`; an answer's tokens are its letters, all scored from the prompt and the frames' mean."""

    entry_points = ("encode", "kl", "logits")
    frame_fit = "squash"

    def __init__(
        self, lora: bool = True, train_head: bool = False, start: float = 0.0, with_reference: bool = False
    ) -> None:
        super().__init__()
        self.lora, self.train_head, self.start, self.with_reference = lora, train_head, start, with_reference
        self.model: Any = None
        self.encodings = self.passes = 0

    @property
    def net(self) -> nn.ModuleDict:
        return self.model.get_base_model() if self.lora else self.model

    def load(self) -> None:
        """Weights from a fixed seed; a `start` other than 0 stands for an adapter that was trained before."""
        if self.model is not None:
            return
        with torch.random.fork_rng():
            torch.manual_seed(0)
            parts = {
                "embed": nn.Embedding(VOCABULARY, WIDTH),
                "body": nn.Linear(WIDTH, WIDTH),
                "head": nn.Linear(WIDTH, VOCABULARY, bias=False),
            }
            self.model = nn.ModuleDict(parts)
            if self.lora:
                config = LoraConfig(r=2, lora_alpha=8, target_modules=["body"])
                self.model = add_adapters(self.model, config, self.with_reference)
        self.net["embed"].requires_grad_(False)  # `encode` makes its inputs without a gradient
        self.net["head"].requires_grad_(self.train_head or not self.lora)
        for name, parameter in self.named_parameters():
            if "lora_B" in name:
                nn.init.constant_(parameter, self.start)

    def visible(self, height: int, width: int) -> Box:
        return Box(0.0, 0.0, float(width), float(height))

    def encode(self, views: list[View], keep_hidden: Any = ()) -> Encoded:
        self.encodings += 1
        rows = [(view, name, text) for view in views for name, text in view.answers.items()]
        inputs, targets, answers, kept = [], [], [], []
        for row, (view, name, text) in enumerate(rows):
            seen = view.frames.float().mean() / 255 + len(view.prompt) / 100
            tokens = [0, *(ord(letter) % VOCABULARY for letter in text)]
            for before, after in pairwise(tokens):
                inputs.append(self.net["embed"].weight[before].detach() + seen)
                targets.append(after)
                answers.append(row)
                kept.append((view.name, name) in keep_hidden)
        answer_N, kept_N = torch.tensor(answers), torch.tensor(kept)
        hidden_answer = answer_N[kept_N] if keep_hidden else None
        return Encoded(torch.stack(inputs), torch.tensor(targets), answer_N, len(rows), hidden_answer, kept_N)

    def forward(self, encoded: Encoded) -> AnswerScores:
        self.passes += 1
        hidden = torch.tanh(self.net["body"](encoded.inputs))
        log_probs = answer_log_probs(hidden, self.logits, encoded.targets, encoded.answer, encoded.num_answers)
        tokens = torch.bincount(encoded.answer, minlength=encoded.num_answers)
        kept = hidden[encoded.kept] if encoded.hidden_answer is not None else None
        return AnswerScores(log_probs, tokens, kept, encoded.hidden_answer)

    score = forward

    def kl(self, reference: AnswerScores, policy: AnswerScores, reference_head: Any = None) -> Tensor:
        head = reference_head or self.logits
        count = len(policy.log_probs)
        return answer_kl(reference.hidden, policy.hidden, head, self.logits, policy.hidden_answer, count)

    def logits(self, hidden: Tensor) -> Tensor:
        return self.net["head"](hidden)

    def reference_mode(self) -> Any:
        return reference_mode(self)


def sample_views(sample: int, kinds: tuple[str, ...] = ("original", "video_negative")) -> list[View]:
    views = []
    for number, kind in enumerate(kinds):
        frames = torch.full((2, 3, 4, 4), (40 * sample + 20 * number) % 256, dtype=torch.uint8)
        answers = ANSWERS if kind == "original" else {"chosen": ANSWERS["chosen"]}
        views.append(View(sample, kind, frames, f"what is it {sample}?", dict(answers)))
    return views


def make_batch(samples: range | list[int], masked: tuple[int, ...] = (), total: int | None = None) -> VistaBatch:
    views = []
    for place, sample in enumerate(samples):
        for view in sample_views(sample):
            view.sample = place
            views.append(view)
    mask = torch.tensor([place not in masked for place in range(len(samples))])
    count = float(total or int(mask.sum()))
    denominators = dict.fromkeys(("response", "video", "clip", "object", "token"), count)
    return VistaBatch([f"s{sample}" for sample in samples], views, mask, denominators)


@dataclass
class Batches:
    batches: list[Any] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Any:
        return iter(copy.deepcopy(self.batches))


class FakePairs(LightningDataModule):
    """Batches with what `VistaPairs` says of itself; `index_keys` are those of the index; None = of the batches."""

    fingerprint = "train"

    def __init__(
        self, train: list[VistaBatch], val: list[VistaBatch] | None = None, seed: int = 0, ranks: int = 1
    ) -> None:
        super().__init__()
        self.ranks, self.on_bad_sample = ranks, "raise"
        self.bad_samples: dict[str, str] = {}
        self.index_keys: list[str] | None = None
        self.skipped: frozenset[str] = frozenset()
        self.train, self.val, self.seed, self.resample_each_epoch = train, val, seed, False
        self.paths = {"train": "train", "val": "val" if val else None, "predict": "train"}

    def index(self, split: str) -> Any:
        batches = self.val if split == "val" else self.train
        there = [key for batch in batches for key, real in zip(batch.keys, batch.mask, strict=True) if real]
        keys = there if self.index_keys is None else self.index_keys
        positions = {key: number for number, key in enumerate(keys)}
        return SimpleNamespace(positions=positions, fingerprint="val" if split == "val" else "train")

    @property
    def keys(self) -> list[str]:
        return list(self.index("predict").positions)

    def skip(self, keys: Collection[str]) -> None:
        self.skipped = frozenset(keys)

    def views_fingerprint(self, split: str = "train") -> dict[str, Any]:
        return {"fingerprint": self.index(split).fingerprint, "seed": self.seed}

    def train_dataloader(self) -> Any:
        return Batches(self.train)

    def val_dataloader(self) -> Any:
        return Batches(self.val) if self.val else []

    def predict_dataloader(self) -> Any:
        """Unequal shares: one batch more on the first rank, which the others fill with padding."""
        batches = copy.deepcopy(self.train)
        for batch in batches:
            batch.mask &= torch.tensor([key not in self.skipped for key in batch.keys])
        batches = [batch for batch in batches if batch.mask.any()]
        share = batches[self.trainer.global_rank :: self.ranks]
        padding = [make_batch([0], masked=(0,), total=1)] * (len(batches[:: self.ranks]) - len(share))
        return Batches(share + padding)


def make_module(lr: float = 0.05, weights: VistaWeights | None = None, **policy: Any) -> VistaDPO:
    chosen, optimizer = weights or VistaWeights(clip=0, object=0), partial(torch.optim.SGD, lr=lr)
    return VistaDPO(TinyPolicy(**policy), optimizer, weights=chosen, schedule="constant", warmup=0.0)


def make_trainer(callbacks: list[Any], steps: int = 4, **settings: Any) -> Trainer:
    settings = {"devices": 1, "log_every_n_steps": 1, **settings}
    return quiet_trainer(max_steps=steps, callbacks=callbacks, num_sanity_val_steps=0, **settings)
