"""Small batches that are scored with the reference again and again: one sample of each family, kept on the CPU."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Generic, Self, TypeVar

import torch
from torch import Tensor

from datamodules.dense.batches import FlowErrors, PairBatch
from datamodules.dense.inputs import Condition, Prompt, as_prompt
from datamodules.vista.batches import VistaBatch
from datamodules.vista.samples import AnswerScores, View

BatchT = TypeVar("BatchT", VistaBatch, PairBatch)
#: The reference's scores of a probe, by name, on the CPU.
ProbeScores = Mapping[str, Tensor]


class Probe(ABC, Generic[BatchT]):
    """A batch of one sample, whose scores by the reference can be compared.

    Args:
        kept: the batch.
    """

    def __init__(self, kept: BatchT) -> None:
        self.kept: BatchT = kept

    @classmethod
    @abstractmethod
    def of(cls, batch: BatchT) -> Self:
        """The first real sample's, or the very first one's when every sample is masked."""

    @property
    def key(self) -> str:
        """The sample's key."""
        return self.kept.keys[0]

    @property
    def real(self) -> bool:
        """Whether the sample is no padding."""
        return bool(self.kept.mask[0])

    @abstractmethod
    def thinned(self) -> Self:
        """The same on the CPU, made small: weights are watched, so what a video shows matters little."""

    @abstractmethod
    def on(self, device: torch.device) -> BatchT:
        """A fresh batch on a device."""

    @abstractmethod
    def recorded(self, scores: Any) -> ProbeScores:
        """The scores of the batch in the form in which they are kept."""

    @abstractmethod
    def difference(self, before: ProbeScores, now: ProbeScores, tolerance: float) -> str | None:
        """A description of the score that differs most, if it differs by more than the tolerance."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """The batch as plain types and tensors."""

    @classmethod
    @abstractmethod
    def load(cls, state: Mapping[str, Any]) -> Self:
        """The probe that `state` describes."""


class AnswerProbe(Probe[VistaBatch]):
    """One view of one sample; answers may differ by `tolerance` nats per token."""

    #: Longest side of the thinned frames.
    SIDE = 64

    @classmethod
    def of(cls, batch: VistaBatch) -> Self:
        """The first real sample's first view, as the reference is shown it."""
        views = batch.for_reference().views
        view = next((view for view in views if batch.real[view.sample]), views[0])
        # Of its own frames, so that the pool of all views need not be kept.
        single = replace(view.with_frames(view.frames), sample=0, answers=dict(view.answers))
        return cls(VistaBatch([batch.keys[view.sample]], [single], batch.mask[view.sample : view.sample + 1]))

    def thinned(self) -> Self:
        """Every few pixels of each frame."""
        (view,) = self.kept.views
        step = math.ceil(max(view.frames.shape[-2:]) / self.SIDE)
        small = view.with_frames(view.frames[..., ::step, ::step].clone().cpu())
        return type(self)(VistaBatch(list(self.kept.keys), [small], self.kept.mask.cpu()))

    def on(self, device: torch.device) -> VistaBatch:
        """A fresh batch: its views are not encoded."""
        (view,) = self.kept.views
        moved = replace(view.with_frames(view.frames.to(device)), answers=dict(view.answers))
        return VistaBatch(list(self.kept.keys), [moved], self.kept.mask.to(device))

    def recorded(self, scores: AnswerScores) -> ProbeScores:
        """Log-probabilities and numbers of tokens."""
        return {"log_probs": scores.log_probs.detach().float().cpu(), "num_tokens": scores.num_tokens.cpu()}

    def difference(self, before: ProbeScores, now: ProbeScores, tolerance: float) -> str | None:
        """A description of the answer that differs most, if it does by more than `tolerance` nats per token."""
        # Per token, as rounding errors add up over an answer; NaN, a broken score, counts as the largest difference.
        per_token = (now["log_probs"] - before["log_probs"]).abs() / before["num_tokens"].clamp_min(1)
        row = int(per_token.nan_to_num(nan=math.inf).argmax())
        if torch.equal(before["num_tokens"], now["num_tokens"]) and float(per_token[row]) <= tolerance:
            return None
        old, new = float(before["log_probs"][row]), float(now["log_probs"][row])
        return (
            f"the {list(self.kept.views[0].answers)[row]} answer of sample {self.key!r} had {old:.6g} nats over "
            f"{int(before['num_tokens'][row])} tokens and has {new:.6g} over {int(now['num_tokens'][row])} "
            f"(difference {new - old:.3g}, allowed are {tolerance:g} per token)"
        )

    def state(self) -> dict[str, Any]:
        """The view's fields."""
        (view,) = self.kept.views
        state = {"view": view.name, "frames": view.frames, "prompt": view.prompt, "answers": dict(view.answers)}
        own = {"for_reference": True} if view.for_reference else {}
        return {**state, "times": view.times, "turns": view.turns, **own}

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> Self:
        """The probe of a real sample."""
        answers, turns = dict(state["answers"]), tuple(state.get("turns", ()))
        view = View(0, state["view"], state["frames"], state["prompt"], answers, state.get("times"), turns)
        view.for_reference = bool(state.get("for_reference", False))
        return cls(VistaBatch([state["key"]], [view], torch.ones(1, dtype=torch.bool)))


class PairProbe(Probe[PairBatch]):
    """One pair, with its noise and its time; an error may differ by the share `tolerance` of itself."""

    #: Frames, rows and columns of the thinned latents: every family's patches divide them.
    SIZE = (4, 16, 16)
    _LATENTS = ("first", "second", "noise")
    _TENSORS = (*_LATENTS, "t", "labels", "segments", "preference", "mask")

    @classmethod
    def of(cls, batch: PairBatch) -> Self:
        """The first real pair."""
        index = int(batch.mask.int().argmax())  # 0 where all are masked
        tensors: dict[str, Any] = {name: getattr(batch, name)[index : index + 1] for name in cls._TENSORS}
        conditions = batch.conditions[index : index + 1]
        return cls(PairBatch([batch.keys[index]], prompts=[batch.prompts[index]], conditions=conditions, **tensors))

    def thinned(self) -> Self:
        """A corner of the first few latent frames."""
        frames, height, width = self.SIZE
        # Clones: slices would keep the whole batch in memory.
        small: dict[str, Any] = {
            name: getattr(self.kept, name)[:, :, :frames, :height, :width].clone() for name in self._LATENTS
        }
        small |= {name: getattr(self.kept, name)[:, :frames].clone() for name in ("labels", "segments")}
        small["conditions"] = [condition.corner(frames, height, width) for condition in self.kept.conditions]
        return type(self)(type(self)(replace(self.kept, **small)).on(torch.device("cpu")))

    def on(self, device: torch.device) -> PairBatch:
        """A fresh batch."""
        moved: dict[str, Any] = {name: getattr(self.kept, name).to(device) for name in self._TENSORS}
        prompts: list[Prompt] = [
            {name: stream.to(device) for name, stream in prompt.items()} for prompt in self.kept.prompts
        ]
        conditions = [condition.to(device) for condition in self.kept.conditions]
        return replace(self.kept, prompts=prompts, conditions=conditions, **moved)

    def recorded(self, scores: FlowErrors) -> ProbeScores:
        """The errors of each latent frame of both videos."""
        both = {"first": scores.first, "second": scores.second}
        return {name: errors.detach().float().cpu() for name, errors in both.items()}

    def difference(self, before: ProbeScores, now: ProbeScores, tolerance: float) -> str | None:
        """A description of the latent frame whose error differs most, if it does by more than its share `tolerance`."""
        # A share, as errors span decades between noise levels; 1e-6 keeps an error of 0 from being divided by.
        shares = {
            (video, frame): abs(float(now[video][0, frame]) - old) / max(old, 1e-6)
            for video in before
            for frame, old in enumerate(before[video][0].tolist())
        }
        video, frame = max(shares, key=lambda place: math.inf if math.isnan(shares[place]) else shares[place])
        if shares[video, frame] <= tolerance:
            return None
        old, new = float(before[video][0, frame]), float(now[video][0, frame])
        return (
            f"latent frame {frame} of the {video} video of pair {self.key!r} had an error of {old:.6g} and has "
            f"{new:.6g} (difference {new - old:.3g}, allowed is {tolerance:g} of the error)"
        )

    def state(self) -> dict[str, Any]:
        """The pair's tensors."""
        tensors = {name: getattr(self.kept, name) for name in (*self._TENSORS, "prompts")}
        return {**tensors, "conditions": [condition.state() for condition in self.kept.conditions]}

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> Self:
        """The probe of the same pair."""
        tensors = {name: state[name] for name in cls._TENSORS}
        # Version 0.1.0 knew no conditions, and prompts of one stream.
        prompts = [as_prompt(prompt) for prompt in state["prompts"]]
        conditions = [Condition(**fields) for fields in state.get("conditions", ())]
        return cls(PairBatch([state["key"]], prompts=prompts, conditions=conditions, **tensors))


#: The class of a batch -> that of its probe: the families that have a reference.
PROBES: dict[type, type[Probe[Any]]] = {VistaBatch: AnswerProbe, PairBatch: PairProbe}

#: Scores a probe with the reference.
Score = Callable[[Probe[Any]], ProbeScores]


def probe_of(batch: Any) -> Probe[Any]:
    """The probe of a batch, of its family's kind."""
    return PROBES[type(batch)].of(batch)
