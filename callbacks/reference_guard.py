"""Notices when the reference moves: it should not, and a loss that compares with a moving one looks healthy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from datamodules.samples import AnswerScores, View, VistaBatch

#: Longest side of the frames that the guard keeps; it watches weights, so what the frames show matters little.
_SIDE = 64

Score = Callable[[VistaBatch], AnswerScores]


class Guard:
    """Keeps one view of one sample, its frames thinned out, and what the reference said of the view's answers."""

    def __init__(self) -> None:
        self._view: VistaBatch | None = None
        self._said: AnswerScores | None = None

    @property
    def watching(self) -> bool:
        """Whether it has a view."""
        return self._view is not None

    def watch(self, batch: VistaBatch, score: Score) -> None:
        """Keep a view of this batch. Every rank finds one in its batch, so all ranks run the same forwards."""
        view = first_view(batch)
        step = math.ceil(max(view.views[0].frames.shape[-2:]) / _SIDE)
        view.views[0].frames = view.views[0].frames[..., ::step, ::step].clone()
        self._view = moved(view, torch.device("cpu"))
        self.remember(score)

    def remember(self, score: Score) -> None:
        """Take what the reference says now for right; before `watch` there is nothing to ask."""
        if self._view is not None:
            self._said = _on_cpu(score(self._view))

    def look(self, score: Score, tolerance: float) -> None:
        """Ask the reference again; before `watch` there is nothing to ask.

        Args:
            score: scores a batch with the reference.
            tolerance: nats per token by which a log-probability may differ.

        Raises:
            ValueError: one differs by more; names the sample, the answer and the difference.
        """
        if self._view is not None and self._said is not None:
            found = difference(self._view, self._said, _on_cpu(score(self._view)), tolerance)
            if found:
                raise ValueError(
                    f"the reference moved, though it was not refreshed: {found}. Something trains that the reference "
                    "shares with the policy, or the run was resumed with other starting weights"
                )

    def state(self) -> dict[str, Any]:
        """What is kept, as plain types and tensors; empty before `watch`."""
        if self._view is None or self._said is None:
            return {}
        view = self._view.views[0]
        return {
            "key": self._view.keys[0],
            "view": view.name,
            "frames": view.frames,
            "prompt": view.prompt,
            "answers": dict(view.answers),
            "log_probs": self._said.log_probs,
            "num_tokens": self._said.num_tokens,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave."""
        if state:
            view = View(0, state["view"], state["frames"], state["prompt"], dict(state["answers"]))
            self._view = VistaBatch([state["key"]], [view], torch.ones(1, dtype=torch.bool))
            self._said = AnswerScores(state["log_probs"], state["num_tokens"])


def first_view(batch: VistaBatch) -> VistaBatch:
    """A batch of the first real sample's first view, or of the very first one when every sample is masked."""
    view = next((one for one in batch.views if bool(batch.mask[one.sample])), batch.views[0])
    alone = View(0, view.name, view.frames, view.prompt, dict(view.answers))
    return VistaBatch([batch.keys[view.sample]], [alone], batch.mask[view.sample : view.sample + 1])


def moved(batch: VistaBatch, device: torch.device) -> VistaBatch:
    """A fresh batch of the same views on a device."""
    views = [View(one.sample, one.name, one.frames.to(device), one.prompt, dict(one.answers)) for one in batch.views]
    return VistaBatch(list(batch.keys), views, batch.mask.to(device))


def difference(view: VistaBatch, before: AnswerScores, now: AnswerScores, tolerance: float) -> str | None:
    """What to say of the answer that differs most, if it does by more than `tolerance` nats per token."""
    per_token = (now.log_probs.cpu() - before.log_probs.cpu()).abs() / before.num_tokens.cpu().clamp_min(1)
    row = int(per_token.nan_to_num(nan=math.inf).argmax())
    same_tokens = torch.equal(before.num_tokens.cpu(), now.num_tokens.cpu())
    if same_tokens and float(per_token[row]) <= tolerance:
        return None
    old, new = float(before.log_probs[row]), float(now.log_probs[row])
    return (
        f"the {list(view.views[0].answers)[row]} answer of sample {view.keys[0]!r} had {old:.6g} nats over "
        f"{int(before.num_tokens[row])} tokens and has {new:.6g} over {int(now.num_tokens[row])} "
        f"(difference {new - old:.3g}, allowed are {tolerance:g} per token)"
    )


def _on_cpu(scores: AnswerScores) -> AnswerScores:
    return AnswerScores(scores.log_probs.detach().float().cpu(), scores.num_tokens.cpu())
