"""Warning, before a run makes its first video, of prompts that are longer than the text encoder reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn

from lightning_modules.policies.video_flow import VideoFlow

#: Prompts listed in the message.
LISTED = 10


def cut_prompts(policy: VideoFlow, prompts: Iterable[tuple[str, str]]) -> tuple[list[str], int]:
    """A line for each prompt that the policy cuts, and how many prompts there are.

    Args:
        policy: counts the tokens; nothing is embedded.
        prompts: name and text of each.
    """
    named_prompts = list(prompts)
    lengths = policy.prompt_lengths([text for _, text in named_prompts])
    lines = [
        f"  {name}: {length} tokens"
        for (name, _), length in zip(named_prompts, lengths, strict=True)
        if length > policy.prompt_length
    ]
    return lines, len(named_prompts)


def warn_of_cut_prompts(
    trainer: Trainer,
    policy: VideoFlow,
    more: Iterable[tuple[str, str]] = (),
    known: Sequence[tuple[str, str]] | None = None,
) -> None:
    """Warn once, on rank 0, of the prompts of this run that are cut: ten by name, and their number.

    Args:
        trainer: its data module knows the prompts (`prompts`); without such a module there is nothing to say.
        policy: the model.
        more: prompts that do not come from the data, by what they are called.
        known: the prompts of the data, where they have been read.
    """
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    if not trainer.is_global_zero or not hasattr(data, "prompts"):
        return
    lines, count = cut_prompts(policy, [*more, *(data.prompts() if known is None else known)])
    if lines:
        hidden = [f"  and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
        title = (
            f"{len(lines)} of {count} prompts are longer than the {policy.prompt_length} tokens that the text encoder "
            "gets, and the rest of them is not seen. Shorten them, or raise policy.prompt_length if the model was "
            "trained with more:"
        )
        rank_zero_warn("\n".join([title, *lines[:LISTED], *hidden]))
