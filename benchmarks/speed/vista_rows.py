"""VistaDPO's loss in four ways: two baselines over whole sequences, and ours with a live and a cached reference."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from benchmarks.speed.measure import Loss
from benchmarks.speed.options import VistaOptions
from benchmarks.speed.vista_case import Scored, VistaCase, build_case, combined, reference_scores
from datamodules.vista.samples import AnswerName, ViewName

RELEASED, SEPARATE, LIVE, CACHED = "A released schedule", "B separate sequences", "ours, live", "ours, cached"
WITH_TOWER = " + tower"

#: The pairs of the released schedule, chosen answer first; the second member is computed also where nothing uses it.
PAIRS: tuple[tuple[ViewName, AnswerName], ...] = (
    ("original", "rejected"),
    ("original", "irrelevant"),
    ("video_negative", "rejected"),
    ("clip", "rejected"),
    ("clip_negative", "rejected"),
    ("object", "rejected"),
    ("object_negative", "rejected"),
)


def vista_rows(options: VistaOptions, folder: Path) -> dict[str, Loss]:
    """The rows by name, in the order in which a round times them.

    Args:
        options: sizes, and whether every row also comes with the vision tower in the loop.
        folder: the checkpoint, see `models.save_video_llava`.
    """
    case = build_case(options, folder)
    rows: dict[str, Loss] = {}
    for tower in (False, True) if options.tower else (False,):
        rows |= {
            name + WITH_TOWER * tower: loss
            for name, loss in (
                (RELEASED, ReleasedSchedule(case, tower)),
                (SEPARATE, SeparateSequences(case, tower)),
                (LIVE, Ours(case, tower, cached=False)),
                (CACHED, Ours(case, tower, cached=True)),
            )
        }
    return rows


class _VistaLoss:
    """Base class of the rows.

    Args:
        case: the sample.
        tower: whether the vision tower runs in the step.
    """

    def __init__(self, case: VistaCase, tower: bool) -> None:
        self.case = case
        self.tower = tower

    def clear(self) -> None:
        """Drop the gradients."""
        self.case.policy.zero_grad()


class ReleasedSchedule(_VistaLoss):
    """Row A: the passes of the authors' published trainer, 7 of the policy and 9 of the reference.

    Each pass is transformers' own forward over a pair of whole sequences with logits at every position, and a float32
    log-softmax over all of them. The policy's seven keep their graph. The reference repeats the seven, and the token
    term asks it twice more for the first pair. Unlike in the published code, gradients flow through every term, as
    the method says, and the token term shares the log-softmax of the first pass instead of making its own.
    """

    def __init__(self, case: VistaCase, tower: bool) -> None:
        super().__init__(case, tower)
        sequence = case.sequences[PAIRS[0]]
        # (T - 1,) which positions predict the answer; all sequences are of one length.
        self.mask = torch.arange(len(sequence.ids) - 1) >= len(sequence.ids) - 1 - len(sequence.targets)

    def __call__(self) -> Tensor:
        """The loss."""
        with torch.no_grad(), self.case.policy.reference_mode():
            token_pass = self._pass(PAIRS[0])
        policy: dict[Scored, Tensor] = {}
        kl: list[Tensor] = []
        for pair in PAIRS:
            log_probs = self._pass(pair)
            if pair == PAIRS[0]:
                kl = self._kl(token_pass, log_probs)
            policy |= self._sums(pair, log_probs)
            del log_probs
        del token_pass
        reference: dict[Scored, Tensor] = {}
        with torch.no_grad(), self.case.policy.reference_mode():
            for pair in PAIRS:
                reference |= self._sums(pair, self._pass(pair))
            self._pass(PAIRS[0])  # the published trainer's second pass for the token term, unused
        return combined(self.case.module, policy, reference, kl)

    def _pass(self, pair: Scored) -> Tensor:
        """(2, T, V) log-probabilities of the chosen answer's sequence and of the pair's other one."""
        return self.case.logits([(pair[0], "chosen"), pair], self.tower).float().log_softmax(-1)

    def _sums(self, pair: Scored, log_probs: Tensor) -> dict[Scored, Tensor]:
        """The log-probability (1,) of each answer of a pair."""
        names: list[Scored] = [(pair[0], "chosen"), pair]
        ids = torch.stack([self.case.sequences[scored].ids for scored in names])[:, 1:, None]
        values = (log_probs[:, :-1].gather(2, ids).squeeze(2) * self.mask).sum(1)
        return dict(zip(names, torch.split(values, 1), strict=True))

    def _kl(self, reference: Tensor, policy: Tensor) -> list[Tensor]:
        """The sequential KL as the published code computes it: at every position, masked afterwards."""
        values = (reference.exp() * (reference - policy)).sum(-1)[:, :-1] * self.mask
        return list(torch.split(values.sum(1), 1))


class SeparateSequences(_VistaLoss):
    """Row B: each of the eight answers as a whole sequence, of policy and of reference, with logits at its answer only.

    It is transformers' own forward with `logits_to_keep`. Nothing is computed that the loss does not need, and nothing
    is shared.
    """

    def __call__(self) -> Tensor:
        """The loss."""
        with torch.no_grad(), self.case.policy.reference_mode():
            reference, reference_tokens = self._pass()
        policy, policy_tokens = self._pass()
        kl = [
            (reference_tokens[scored].exp() * (reference_tokens[scored] - policy_tokens[scored])).sum((1, 2))
            for scored in self.case.module.kept_hidden()
        ]
        return combined(self.case.module, policy, reference, kl)

    def _pass(self) -> tuple[dict[Scored, Tensor], dict[Scored, Tensor]]:
        """Each answer's log-probability (1,), and for the token term's two the whole (1, N, V)."""
        sums, whole = {}, {}
        for scored in self.case.scored():
            targets = self.case.sequences[scored].targets
            logits = self.case.logits([scored], self.tower, keep=len(targets) + 1)[:, :-1]
            log_probs = logits.float().log_softmax(-1)
            sums[scored] = log_probs.gather(2, targets[None, :, None]).sum((1, 2))
            if scored in self.case.module.kept_hidden():
                whole[scored] = log_probs
        return sums, whole


class Ours(_VistaLoss):
    """Row of the step as training runs it: shared prefixes, the reference by adapters off, or its scores from a cache.

    Without the tower its features are encoded beforehand; with it they are encoded in the step, once.
    """

    def __init__(self, case: VistaCase, tower: bool, cached: bool) -> None:
        super().__init__(case, tower)
        self.cache = reference_scores(case) if cached else None

    def __call__(self) -> Tensor:
        """The loss."""
        module, batch = self.case.module, self.case.batch
        if self.tower:
            batch.encoded = None  # the step encodes them
        batch.reference = self.cache or reference_scores(self.case)
        means = module.weighted(module.terms(batch), batch)
        return torch.stack([module.weights[name] * mean for name, mean in means.items()]).sum()
