"""What every video-language family of transformers shares, behind the `VideoLLM` protocol.

A family says which classes it takes (`kinds`), how a view becomes a prefix (`prefix`, `answer_ids`), what its frozen
tower makes of the prefixes' pixels (`see`) and, where finished embeddings alone do not do, how tokens go through the
model (`hidden`). Everything else is here.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from datamodules.vista.samples import AnswerName, AnswerScores, Box, View, ViewName
from lightning_modules.losses.log_probs import answer_kl, answer_log_probs
from lightning_modules.policies.adapted_model import AdaptedModel
from lightning_modules.policies.frames import FrameFit, processor_region
from lightning_modules.policies.generation import Asking, greedy_answers
from lightning_modules.policies.prefixes import (
    PADDING,
    Encoded,
    Layout,
    PackedViews,
    Prefix,
    pack_views,
    shared_prefix_mask,
)
from lightning_modules.policies.shared_attention import first_masked
from lightning_modules.policies.transfer import sent
from lightning_modules.policies.video_llm import VideoLLM, asked_views


class TransformersVideoLLM(AdaptedModel, VideoLLM):
    """Video-language model of transformers; a family is a subclass. Arguments as `AdaptedModel`."""

    entry_points = ("encode", "score", "kl", "logits", "generate")
    frame_fit: FrameFit = "processor"
    uses_times = False
    #: Prompts are asked one by one unless a family's answers in a batch are shown to be the same.
    asking: ClassVar[Asking] = "one by one"

    # What a family says

    @abstractmethod
    def prefix(self, view: View, where: str, start: Sequence[int] = ()) -> Prefix:
        """A view's tokens before its answers, with what the tower is shown.

        Args:
            view: the view; its answers do not matter.
            where: what to call it in an error.
            start: ids with which every answer begins.

        Raises:
            ValueError: the view cannot be shown to this family.
        """

    @abstractmethod
    def answer_ids(self, answer: str, where: str) -> list[int]:
        """The ids of an answer behind the prompt, and the end of the turn.

        Raises:
            ValueError: the answer is empty, or holds a placeholder of the video.
        """

    @abstractmethod
    def prompt_length(self, prompt: str, where: str, turns: Sequence[tuple[str, str]] = ()) -> int:
        """The tokens of a prefix as far as they do not depend on the video.

        Args:
            prompt: the question.
            where: what to call it in an error.
            turns: earlier questions and answers of the conversation.

        Raises:
            ValueError: the prompt cannot be used.
        """

    def video_length(self, shape: tuple[int, int, int]) -> int:
        """The tokens that a video of (frames, height, width) adds to `prompt_length`."""
        return 0

    @abstractmethod
    def see(self, prefixes: Sequence[Prefix]) -> tuple[Any, ...]:
        """The frozen tower's flat features, (n, D) each, view by view; distinct frames, or pairs of them, once."""

    def hidden(self, packed: PackedViews, vision: tuple[Any, ...], mask: Tensor) -> Tensor:
        """(V, T, D) last hidden states: finished embeddings through the model, where a family needs no more.

        Args:
            packed: the tokens.
            vision: what `see` returned.
            mask: (V, 1, R, T); (V, T) of rows whose padding needs one.
        """
        hidden: Tensor = self.base.model(
            inputs_embeds=self.embed(packed, vision),
            attention_mask=mask,
            position_ids=packed.positions,
            use_cache=False,
        ).last_hidden_state
        return hidden

    def embed(self, packed: PackedViews, vision: tuple[Any, ...]) -> Tensor:
        """(V, T, D) token embeddings with the features in the placeholders."""
        return self.scattered(packed, self.of_rows(packed, vision[0]))

    @property
    def video_token_id(self) -> int:
        """The placeholder of a feature."""
        index = getattr(self.config, "video_token_id", None)
        return int(self.config.image_token_id if index is None else index)

    def visible(self, height: int, width: int) -> Box:
        """The part of a source frame that the tower sees; `load` need not have been called.

        Raises:
            ValueError: it does not follow from the processor's settings.
        """
        return processor_region(self.processor.video_processor, height, width)

    # Scoring

    @torch.no_grad()
    def encode(self, views: Sequence[View], keep_hidden: Collection[tuple[ViewName, AnswerName]] = ()) -> Encoded:
        """Tokenise, and run the tower once over what is distinct, without a gradient.

        Args:
            views: the batch's views.
            keep_hidden: (view, answer) pairs whose hidden states `score` returns.

        Raises:
            ValueError: a view that the family cannot be shown, an answer that tokenises to nothing, or a sequence
                longer than the checkpoint has positions.
        """
        assert self.model is not None, "load() comes first"
        prefixes, answers = [], []
        for view in views:
            where = f"sample {view.sample} of the batch, view {view.name}{' of the reference' * view.for_reference}"
            prefix = self.prefix(view, where)
            ids = [self.answer_ids(text, f"{where}, answer {name}") for name, text in view.answers.items()]
            self.check_length(len(prefix.ids) + max(map(len, ids), default=0), where)
            prefixes.append(prefix)
            answers.append(ids)
        packed = self.pack(prefixes, answers)
        # Hidden states are large: only those of the answers that the token term compares are kept.
        names = [(view.name, name) for view in views for name in view.answers]
        chosen = torch.tensor([name in keep_hidden for name in names], dtype=torch.bool)
        kept = chosen[packed.answers].nonzero().squeeze(1)
        hidden_answer = sent(packed.answers[kept], self.device) if keep_hidden else None
        return Encoded(packed.sent(self.device), self.see(prefixes), sent(kept, self.device), hidden_answer)

    def pack(
        self, prefixes: Sequence[Prefix], answers: Sequence[Sequence[Sequence[int]]], layout: Layout | None = None
    ) -> PackedViews:
        """Prefixes and answers in the policy's layout, or in another; on the CPU, where all sizes are known."""
        ids, positions = [prefix.ids for prefix in prefixes], [prefix.positions for prefix in prefixes]
        padding: int = self.processor.tokenizer.eos_token_id
        packed = pack_views(ids, answers, padding, positions, layout or self._layout)
        here = packed.ids == self.video_token_id
        packed.features, packed.places = here.sum(1).tolist(), here.flatten().nonzero().squeeze(1)
        return packed

    def score(self, encoded: Encoded) -> AnswerScores:
        """Log-probability of every answer given its view, from one forward."""
        packed = encoded.packed
        mask = self._mask(packed)
        # The output head sees answer positions only; logits of a whole sequence would be the largest tensor of a step.
        hidden = self.hidden(packed, encoded.vision, mask)[packed.rows, packed.columns]
        count = len(packed.num_tokens)
        log_probs = answer_log_probs(hidden, self._head, packed.targets, packed.answers, count)
        kept = None if encoded.hidden_answer is None else hidden[encoded.kept]
        return AnswerScores(log_probs, packed.num_tokens, kept, encoded.hidden_answer)

    forward = score

    def kl(
        self, reference: AnswerScores, policy: AnswerScores, reference_head: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """(A,) sum over tokens of KL(reference || policy) for the answers whose hidden states were kept, else 0.

        Args:
            reference: scores with hidden states, of the same `encoded` as `policy`.
            policy: scores with hidden states and a gradient.
            reference_head: the reference's output head; None = the policy's own, as it is in reference mode.

        Raises:
            ValueError: hidden states are missing, or the head trains without an adapter and none was given.
        """
        if reference.hidden is None or policy.hidden is None or policy.hidden_answer is None:
            raise ValueError("kl needs hidden states of reference and policy: name the answers in encode's keep_hidden")
        if reference_head is None and self._adapter_config is None and self.trains_head:
            raise ValueError("the output head trains: give kl the head of the frozen copy that made the reference")
        head = reference_head or (self._reference_head if self.trains_head else self._head)
        count = len(policy.log_probs)
        return answer_kl(reference.hidden, policy.hidden, head, self._head, policy.hidden_answer, count)

    def logits(self, hidden: Tensor) -> Tensor:
        """(N, D) hidden states -> (N, V) logits of the output head."""
        return self._head(hidden)

    def text_faults(
        self,
        prompt: str,
        answers: Mapping[str, str],
        shape: tuple[int, int, int] | None = None,
        turns: Sequence[tuple[str, str]] = (),
    ) -> list[str]:
        """Why a prompt cannot be scored with one of its answers: tokens, or more of them than there are positions.

        Every answer is tried by itself, so that one fault does not hide another's. Needs no weights.
        """
        faults: list[str] = []
        for name, text in answers.items():
            try:
                length = self.prompt_length(prompt, "its texts", turns)
                length += 0 if shape is None else self.video_length(shape)
                self.check_length(length + len(self.answer_ids(text, f"its texts, answer {name}")), "its texts")
            except ValueError as error:
                faults.append(str(error))
        return list(dict.fromkeys(faults))

    # Asking

    def generate(
        self,
        prompts: Sequence[str],
        frames: Sequence[Tensor],
        max_new_tokens: int,
        answer_start: str = "",
        times: Sequence[Tensor] | None = None,
    ) -> list[str]:
        """Greedy answers, in one batch or one by one as the family's `asking` says.

        Args:
            prompts: without a video token or chat template.
            frames: one (T, 3, H, W) uint8 video a prompt.
            max_new_tokens: the longest answer.
            answer_start: what every answer begins with, behind the template; it is not part of what comes back.
            times: of each video's frames, seconds; see `View`.

        Raises:
            ValueError: as `encode`.
        """
        return greedy_answers(self, asked_views(prompts, frames, times), max_new_tokens, answer_start)

    def start_ids(self, answer_start: str, where: str) -> list[int]:
        """The ids with which an answer begins that is begun for it."""
        # Without the end of the turn, which closes every answer.
        return self.answer_ids(answer_start, f"{where}, start of the answer")[:-1] if answer_start else []

    def greedy(self, max_new_tokens: int) -> dict[str, Any]:
        """Settings of `generate`; the checkpoint's own decide what else there is, as what ends an answer."""
        stop, end = self.base.generation_config.eos_token_id, self.processor.tokenizer.eos_token_id
        sampling = dict.fromkeys(("temperature", "top_p", "top_k"))  # which greedy generation would warn of
        ends = {"eos_token_id": end if stop is None else stop, "pad_token_id": end}
        return {"max_new_tokens": max_new_tokens, "do_sample": False, **ends, **sampling}

    def check_processor(self) -> None:
        """Tokenise a prompt without its video."""
        self.prompt_length("?", "the prompt")

    # Parts

    def pooling_of(self, view: View) -> int:
        """Side of the squares of tokens that are averaged in a view."""
        return 1 if self.token_pooling is None else self.token_pooling.of(view)

    def of_rows(self, packed: PackedViews, features: Tensor) -> Tensor:
        """Flat features of views -> flat features of the layout's rows, a view's as often as it has rows."""
        # Packed, a view is one row, and there is nothing to repeat.
        if packed.views == list(range(packed.ids.shape[0])):
            return features
        of_view = dict(zip(packed.views, packed.features, strict=True))
        parts = dict(zip(of_view, torch.split(features, list(of_view.values())), strict=True))
        return torch.cat([parts[view] for view in packed.views])

    def scattered(self, packed: PackedViews, features: Tensor) -> Tensor:
        """(V, T, D) embeddings of the tokens with the flat features (n, D) in the placeholders."""
        return placed(self.base.get_input_embeddings()(packed.ids), packed, features)

    def _mask(self, packed: PackedViews) -> Tensor:
        rows = self._layout == "rows"
        if rows and not self.unmasked_rows:
            return (packed.segments != PADDING).long()
        # No query of a row needs one. Without any transformers would search the positions for several sequences.
        shared = packed.ids.shape[1] if rows else packed.shared
        additive = self.base.get_input_embeddings().weight.dtype if self.attn_implementation == "eager" else None
        return shared_prefix_mask(packed.segments, first_masked(self.decoder, shared), additive)

    def check_length(self, length: int, where: str) -> None:
        """Raise a ValueError when a sequence is longer than the checkpoint has positions for."""
        limit = getattr(self.config.get_text_config(), "max_position_embeddings", None)
        if limit is not None and length > limit:
            raise ValueError(
                f"{where}: {length} tokens, the checkpoint has {limit} positions; use fewer frames or shorter texts"
            )


def placed(tokens: Tensor, packed: PackedViews, features: Tensor) -> Tensor:
    """(V, T, D) values of tokens with flat features (n, D) in the placeholders.

    By places that are known beforehand: backward of a mask would count on the device what it has to give back.
    """
    assert packed.places is not None, "pack() looks for them"
    return tokens.flatten(0, 1).index_copy(0, packed.places, features.to(tokens.dtype)).view_as(tokens)
