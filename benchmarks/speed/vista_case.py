"""One sample as every row sees it: six views, eight answers, one policy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.speed.models import train_a_little, words
from benchmarks.speed.options import VistaOptions
from datamodules.vista.batches import VistaBatch
from datamodules.vista.compared import CONTRASTS
from datamodules.vista.samples import VIEW_NAMES, AnswerName, AnswerScores, View, ViewName
from lightning_modules.losses.dpo import dpo_loss
from lightning_modules.losses.vista import response_loss, token_loss
from lightning_modules.policies.adapters import LoraSettings
from lightning_modules.policies.frames import frame_pixels
from lightning_modules.policies.prefixes import PREFIX
from lightning_modules.policies.video_llava import VideoLlavaPolicy
from lightning_modules.vista_dpo import VistaDPO

#: An answer under a view.
Scored = tuple[ViewName, AnswerName]

#: Tokens of the prompt besides video and question: beginning of sequence, "USER:" and "ASSISTANT:".
TEMPLATE_TOKENS = 3


@dataclass
class Sequence:
    """One view's prompt and one answer as a whole sequence, as transformers' own forward takes it.

    Attributes:
        ids: (T,) int64, the video's token once for each of its features.
        embeds: (T, D) the embeddings with the projected video in place, for rows without the tower.
        pixels: (F, 3, S, S) the video, for rows with the tower.
        targets: (N,) int64, the answer: the last N of `ids`.
    """

    ids: Tensor
    embeds: Tensor
    pixels: Tensor
    targets: Tensor


@dataclass
class VistaCase:
    """The method, the batch, and every view with every answer as a whole sequence."""

    module: VistaDPO
    batch: VistaBatch
    sequences: dict[Scored, Sequence]

    @property
    def policy(self) -> VideoLlavaPolicy:
        """The policy with its concrete type."""
        policy = self.module.policy
        assert isinstance(policy, VideoLlavaPolicy)
        return policy

    def scored(self) -> list[Scored]:
        """The eight answers under their views that the loss asks for."""
        return [(view, answer) for view, answers in self.module.needs().items() for answer in answers]

    def logits(self, scored: list[Scored], tower: bool, keep: int = 0) -> Tensor:
        """(n, T, V) logits of whole sequences by transformers' own forward, at the last `keep` positions (0: all)."""
        sequences = [self.sequences[name] for name in scored]
        if tower:
            video = torch.stack([sequence.pixels for sequence in sequences])
            inputs = {"input_ids": torch.stack([sequence.ids for sequence in sequences]), "pixel_values_videos": video}
        else:
            inputs = {"inputs_embeds": torch.stack([sequence.embeds for sequence in sequences])}
        logits: Tensor = self.policy.base(**inputs, use_cache=False, logits_to_keep=keep).logits
        return logits


def build_case(options: VistaOptions, folder: Path) -> VistaCase:
    """The sample on the checkpoint in `folder`; the same for the same options, in any process.

    Raises:
        ValueError: the video alone is longer than the prefix.
    """
    from transformers.utils.logging import disable_progress_bar

    # Every row's own process loads the checkpoint again, and its bar would run through the table.
    disable_progress_bar()
    policy = VideoLlavaPolicy(
        str(folder),
        lora=LoraSettings(options.rank),
        num_frames=options.frames,
        activation_checkpointing=options.checkpointing,
    )
    policy.load()
    train_a_little(policy, options.seed)
    module = VistaDPO(policy)
    views = _views(options, module)
    batch = VistaBatch(["speed"], views, torch.ones(1, dtype=torch.bool), dict.fromkeys(module.active(), 1.0))
    batch.encoded = policy.encode(views, module.kept_hidden())
    return VistaCase(module, batch, _sequences(policy, batch))


def combined(
    module: VistaDPO, policy: dict[Scored, Tensor], reference: dict[Scored, Tensor], kl: list[Tensor]
) -> Tensor:
    """The whole loss from finished log-probabilities, for the rows that do not run `VistaDPO.terms`.

    Args:
        module: its weights and constants.
        policy: each answer's log-probability, (1,).
        reference: likewise, of the reference.
        kl: the sequential KL of the chosen and of the rejected answer under the original view, (1,) each.
    """
    rewards = {scored: policy[scored] - reference[scored] for scored in policy}
    chosen, rejected, irrelevant = (rewards["original", name] for name in ("chosen", "rejected", "irrelevant"))
    beta, weights = module.beta, module.weights
    total = weights["response"] * response_loss(
        chosen, rejected, irrelevant, beta, module.rejected_weight, module.irrelevant_weight
    )
    for name, (positive, negative) in CONTRASTS.items():
        total = total + weights[name] * dpo_loss(rewards[positive, "chosen"], rewards[negative, "chosen"], beta)
    total = total + weights["token"] * token_loss(chosen, rejected, kl[0], kl[1], beta, module.alpha)
    return total.sum()


def reference_scores(case: VistaCase) -> AnswerScores:
    """The reference's scores, by adapters off."""
    with torch.no_grad(), case.policy.reference_mode():
        return case.module.scores(case.batch)


def question_length(options: VistaOptions) -> int:
    """The tokens of a question that fills the prefix.

    Raises:
        ValueError: the video alone is longer than the prefix.
    """
    length = options.prefix - options.video_tokens - TEMPLATE_TOKENS
    if length < 1:
        raise ValueError(
            f"prefix is {options.prefix}, the video alone has {options.video_tokens} tokens; give a longer prefix, "
            "fewer frames or a smaller image_size"
        )
    return length


def _views(options: VistaOptions, module: VistaDPO) -> list[View]:
    """The views that the default negatives make: a reversed video, another segment, one frame repeated."""
    generator = torch.Generator().manual_seed(options.seed)
    question = words(question_length(options), options, generator)
    texts: dict[AnswerName, str] = {
        name: words(options.answer - 1, options, generator) for name in module.needs()["original"]
    }
    shape = (options.frames, 3, options.image_size, options.image_size)
    video, clip, other = (torch.randint(256, shape, dtype=torch.uint8, generator=generator) for _ in range(3))
    moved = video[:1].flip(-1)
    frames: dict[ViewName, Tensor] = {
        "original": video,
        "video_negative": video.flip(0),
        "clip": clip,
        "clip_negative": other,
        "object": video[:1].repeat(options.frames, 1, 1, 1),
        "object_negative": moved.repeat(options.frames, 1, 1, 1),
    }
    return [
        View(0, name, frames[name], question, {answer: texts[answer] for answer in module.needs()[name]})
        for name in VIEW_NAMES
    ]


@torch.no_grad()
def _sequences(policy: VideoLlavaPolicy, batch: VistaBatch) -> dict[Scored, Sequence]:
    """Every answer behind every view: the released schedule also runs those that no term uses."""
    packed, sequences = batch.encoded.packed, {}
    texts = {name: packed.targets[packed.answers == row] for row, name in enumerate(batch.views[0].answers)}
    for row, view in enumerate(batch.views):
        prefix = packed.ids[row][packed.segments[row] == PREFIX]
        pixels = frame_pixels(policy.processor.video_processor, list(view.frames))
        features = policy.base.model.get_video_features(pixels[None], return_dict=True).pooler_output.flatten(0, 1)
        for name, targets in texts.items():
            ids = torch.cat([prefix, targets])
            # As transformers' own forward does it: the projected features take the places of the video's tokens.
            video = (ids == policy.config.video_token_index)[:, None]
            embeds = policy.base.get_input_embeddings()(ids).masked_scatter(video, features)
            sequences[view.name, name] = Sequence(ids, embeds, pixels, targets)
    return sequences
