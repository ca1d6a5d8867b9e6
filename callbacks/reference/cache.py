"""The reference's scores, computed once by `predict` and read by every training run that shows the same views.

`cache_writer` writes what is read here.

A cache is a set of side shards (schema ``vidpref/side``), one member ``key.reference.safetensors`` a sample:
``log_probs`` (A,) float32, ``num_tokens`` (A,) int64 and, when the token term asks, ``hidden`` (N, D) with
``hidden_answer`` (N,); the A answers are named in the member's metadata and in the index, as ``original/chosen``. Log-
probabilities are in the index too, so that a run holds them in memory and reads shards for hidden states only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
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
from datamodules.vista.batches import VistaBatch
from datamodules.vista.frame_samplers import VIEW_FRAME_SETTINGS
from datamodules.vista.samples import AnswerScores, Needs
from lightning_modules.policies.transfer import sent

#: The member's suffix, and the schema of the side shards.
SUFFIX = "reference.safetensors"
SCHEMA = "vidpref/side"
#: What the fingerprint of views has only where it is not the default, see `VistaPairs.views_fingerprint`.
OPTIONAL_VIEW_FACTS = ("processor", "pooled_tokens", *VIEW_FRAME_SETTINGS)


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


class StoredScores(ABC):
    """Scores of a reference that were kept, sample by sample."""

    #: Where they are, and what to do where one is missing; for messages.
    path: str
    remedy: str

    @abstractmethod
    def answers_of(self, key: str) -> Mapping[str, tuple[float, int]]:
        """A sample's "view/answer" -> log-probability and number of tokens; nothing where the sample is not there."""

    @abstractmethod
    def tensors_of(self, key: str) -> dict[str, Tensor]:
        """The sample's tensors, as in its member; its answers are numbered as `answers_of` has them."""

    @abstractmethod
    def blank(self) -> Tensor:
        """(0, D) in the type of the hidden states."""

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
            sent(torch.tensor([log_prob for log_prob, _ in stored], dtype=torch.float32), device),
            sent(torch.tensor([tokens for _, tokens in stored], dtype=torch.int64), device),
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
        answers = self.answers_of(key)
        if name not in answers:
            raise ValueError(f"{self.path} has no score of {name} of sample {key!r}; {self.remedy}")
        log_prob, tokens = answers[name]
        return log_prob, tokens

    def _hidden(self, batch: VistaBatch, hidden_answer: Tensor) -> Tensor:
        """(N, D) hidden states in the order of `hidden_answer`."""
        stored, rows = dict(self._stored(batch)), hidden_answer.cpu()
        blank = self.blank()
        hidden = blank.new_zeros(len(rows), blank.shape[1])
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
                    f"hidden states, the policy has {len(places)} tokens: another tokenizer made them; {self.remedy}"
                )
            hidden[places] = states
        return sent(hidden, hidden_answer.device)

    def _stored(self, batch: VistaBatch) -> Iterator[tuple[int, Tensor]]:
        """(row of the batch's scores, (n, D) hidden states) of every answer that has stored ones."""
        rows = {(sample, name): row for row, (sample, name) in enumerate(answer_names(batch))}
        for sample, key in enumerate(batch.keys):
            if not batch.real[sample]:
                continue
            tensors = self.tensors_of(key)
            for place, name in enumerate(self.answers_of(key)):
                if (sample, name) in rows:
                    yield rows[sample, name], tensors["hidden"][tensors["hidden_answer"] == place]


class ReferenceCache(StoredScores):
    """Reads a cache: log-probabilities from memory, hidden states from the shards when they are asked for.

    Args:
        path: the index, ``.../NAME.index.json``.
        reader: fetches bytes; None = one with default retries.
    """

    remedy = "make it again with `vidpref predict`"

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
        # Also what the run's views do not have, as frames chosen in another way than by default.
        stored = {name: made_from.get(name) for name in views} | {
            name: made_from[name] for name in OPTIONAL_VIEW_FACTS if name in made_from
        }
        faults = [f"it holds scores of other views: {line}" for line in differences(stored, plain(views))]
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

    def answers_of(self, key: str) -> Mapping[str, tuple[float, int]]:
        """From the index in memory."""
        position = self.index.positions.get(key)
        answers: Mapping[str, Any] = {} if position is None else self.index.entries[position].facts["answers"]
        return answers

    def tensors_of(self, key: str) -> dict[str, Tensor]:
        """From the shards."""
        return unpacked(self._samples.read(self.index.positions[key], [SUFFIX])[SUFFIX])

    def blank(self) -> Tensor:
        """(0, D) in the type of the hidden states, which is that of the first sample."""
        return self._first_hidden[:0]

    @cached_property
    def _first_hidden(self) -> Tensor:
        return self.tensors_of(self.index.entries[0].key)["hidden"]


def packed(batch: VistaBatch, sample: int, scores: AnswerScores) -> tuple[bytes, dict[str, Any]]:
    """A sample's member, and its facts for the index."""
    from safetensors.torch import save

    rows = {name: row for row, (position, name) in enumerate(answer_names(batch)) if position == sample}
    index = torch.tensor(list(rows.values()), device=scores.log_probs.device)
    log_probs, num_tokens = scores.log_probs[index].float().cpu(), scores.num_tokens[index].cpu()
    tensors = {"log_probs": log_probs, "num_tokens": num_tokens}
    if scores.hidden is not None and scores.hidden_answer is not None:
        kept = torch.isin(scores.hidden_answer, index)
        # Row of the batch's scores -> place among this sample's answers.
        places = torch.full((len(scores.log_probs),), -1, device=index.device)
        places[index] = torch.arange(len(index), device=index.device)
        tensors["hidden"] = scores.hidden[kept].cpu().contiguous()
        tensors["hidden_answer"] = places[scores.hidden_answer[kept]].cpu()
    facts = {"answers": {name: [float(log_probs[i]), int(num_tokens[i])] for i, name in enumerate(rows)}}
    return save(tensors, metadata={"answers": ",".join(rows)}), facts


def unpacked(content: bytes) -> dict[str, Tensor]:
    """The tensors of a member."""
    from safetensors.torch import load

    tensors: dict[str, Tensor] = load(content)
    return tensors
