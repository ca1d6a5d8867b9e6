"""The reference's scores, computed once by `predict` and read by every training run that shows the same views.

`reference_cache_writer` writes what is read here.

A cache is a set of side shards (schema ``vidpref/side``), one member ``key.reference.safetensors`` a sample:
``log_probs`` (A,) float32, ``num_tokens`` (A,) int64 and, when the token term asks, ``hidden`` (N, D) with
``hidden_answer`` (N,); the A answers are named in the member's metadata and in the index, as ``original/chosen``. Log-
probabilities are in the index too, so that a run holds them in memory and reads shards for hidden states only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from callbacks.reference.former_cache import in_current_words
from datamodules.shards.byte_reader import ByteReader
from datamodules.shards.checks import load_index
from datamodules.shards.sample_reader import SampleReader
from datamodules.stream.predict_outputs import differences, plain
from datamodules.vista.samples import AnswerScores, Needs, VistaBatch

#: The member's suffix, and the schema of the side shards.
SUFFIX = "reference.safetensors"
SCHEMA = "vidpref/side"


def answer_names(batch: VistaBatch) -> list[tuple[int, str]]:
    """(sample position, "view/answer") of every row of the batch's scores."""
    return [(view.sample, f"{view.name}/{answer}") for view in batch.views for answer in view.answers]


def names_of(needs: Needs) -> list[str]:
    """The "view/answer" names that a method asks for."""
    return sorted(f"{view}/{answer}" for view, answers in needs.items() for answer in answers)


def refuse_resampling(data: Any) -> None:
    """Raise a ValueError when a sample's views differ from epoch to epoch."""
    if data.resample_each_epoch:
        raise ValueError(
            "reference scores cannot be cached while data.resample_each_epoch draws new negatives in every epoch: set "
            "it to false, or use ReferenceModel with mode adapter or copy"
        )


class ReferenceCache:
    """Reads a cache: log-probabilities from memory, hidden states from the shards when they are asked for.

    Args:
        path: the index, ``.../NAME.index.json``.
        reader: fetches bytes; None = one with default retries.
    """

    def __init__(self, path: str, reader: ByteReader | None = None) -> None:
        self.path = path
        self.index = in_current_words(load_index(path, SCHEMA, reader))
        self._samples = SampleReader(self.index, reader or ByteReader())

    @property
    def fingerprint(self) -> str:
        """Of the shards whose samples were scored."""
        return str(self.index.made_from["fingerprint"])

    def check(
        self, views: Mapping[str, Any], answers: Sequence[str], hidden: Sequence[str], keys: Collection[str], skip: bool
    ) -> None:
        """Refuse a cache that a run cannot use, before its first step.

        Args:
            views: the fingerprint of the views that the run shows, see `VistaPairs.views_fingerprint`.
            answers: the "view/answer" names that the run scores.
            hidden: those whose hidden states the run needs.
            keys: the run's samples.
            skip: the run skips bad samples, so it needs no scores of those that were skipped when the cache was made.

        Raises:
            ValueError: says everything that does not fit.
        """
        made_from = self.index.made_from
        faults = [
            f"it holds scores of other views: {line}"
            for line in differences({name: made_from.get(name) for name in views}, plain(views))
        ]
        for kind, needed in (("answers", answers), ("hidden", hidden)):
            if lacking := sorted(set(needed) - set(made_from.get(kind, ()))):
                faults.append(f"it has no {'scores' if kind == 'answers' else 'hidden states'} of {', '.join(lacking)}")
        skipped = made_from.get("skipped", ()) if skip else ()
        if missing := sorted(set(keys) - set(self.index.positions) - set(skipped)):
            faults.append(f"it lacks {len(missing)} of {len(keys)} samples, the first is {missing[0]!r}")
        if faults:
            raise ValueError(
                f"{self.path} cannot serve this run, make it again with `vidpref predict`: {'; '.join(faults)}"
            )

    def scores(self, batch: VistaBatch, hidden_answer: Tensor | None = None) -> AnswerScores:
        """The reference's scores of a batch, on the batch's device; masked samples get zeros.

        Args:
            batch: the batch; only its keys, views and mask are read.
            hidden_answer: (N,) the answer of each hidden state to read, in the policy's order; None = none.

        Raises:
            ValueError: a sample or an answer that the cache lacks, or another number of tokens than the policy has.
        """
        device, names = batch.mask.device, answer_names(batch)
        stored = [self._answer(batch, sample, name) for sample, name in names]
        scores = AnswerScores(
            torch.tensor([log_prob for log_prob, _ in stored], dtype=torch.float32, device=device),
            torch.tensor([tokens for _, tokens in stored], dtype=torch.int64, device=device),
        )
        if hidden_answer is not None:
            scores.hidden, scores.hidden_answer = self._hidden(batch, hidden_answer), hidden_answer
        return scores

    def _answer(self, batch: VistaBatch, sample: int, name: str) -> tuple[float, int]:
        """Log-probability and number of tokens of one answer, from the index in memory."""
        # A masked slot may be of a sample that was skipped when the cache was made.
        if not batch.real[sample]:
            return 0.0, 0
        key = batch.keys[sample]
        position = self.index.positions.get(key)
        answers: Mapping[str, Any] = {} if position is None else self.index.entries[position].facts["answers"]
        if name not in answers:
            raise ValueError(
                f"{self.path} has no score of {name} of sample {key!r}; make it again with `vidpref predict`"
            )
        log_prob, tokens = answers[name]
        return log_prob, tokens

    def _hidden(self, batch: VistaBatch, hidden_answer: Tensor) -> Tensor:
        """(N, D) hidden states in the order of `hidden_answer`."""
        stored, rows = dict(self._stored(batch)), hidden_answer.cpu()
        hidden = self._blank.new_zeros(len(rows), self._blank.shape[1])
        for row in sorted(set(rows.tolist())):
            # The policy's positions of one answer need not be in one run; the cache has them in the answer's order.
            places = (rows == row).nonzero()[:, 0]
            sample, name = answer_names(batch)[row]
            if not batch.real[sample]:
                continue
            states = stored.get(row)
            if states is None or len(states) != len(places):
                raise ValueError(
                    f"{self.path}: {name} of sample {batch.keys[sample]!r} has {0 if states is None else len(states)} "
                    f"hidden states, the policy has {len(places)} tokens; make it again with this policy's tokenizer"
                )
            hidden[places] = states
        return hidden.to(hidden_answer.device)

    @cached_property
    def _blank(self) -> Tensor:
        """(0, D) in the type of the hidden states."""
        return self._tensors(0)["hidden"][:0]

    def _tensors(self, position: int) -> dict[str, Tensor]:
        from safetensors.torch import load

        tensors: dict[str, Tensor] = load(self._samples.read(position, [SUFFIX])[SUFFIX])
        return tensors

    def _stored(self, batch: VistaBatch) -> Iterator[tuple[int, Tensor]]:
        """(row of the batch's scores, (n, D) hidden states) of every answer that has stored ones."""
        rows = {(sample, name): row for row, (sample, name) in enumerate(answer_names(batch))}
        for sample, key in enumerate(batch.keys):
            if not batch.real[sample]:
                continue
            position = self.index.positions[key]
            tensors = self._tensors(position)
            for place, name in enumerate(self.index.entries[position].facts["answers"]):
                if (sample, name) in rows:
                    yield rows[sample, name], tensors["hidden"][tensors["hidden_answer"] == place]
