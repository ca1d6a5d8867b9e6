"""What a configuration says of a run as a whole: its reference, its strategy, how many samples it will see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from callbacks.estimate.batches import Sizes
from callbacks.estimate.step import Reference
from callbacks.reference.model import ReferenceModel
from datamodules.stream.planned_data import PlannedData


@dataclass(frozen=True, slots=True)
class RunLength:
    """How much a run trains.

    Attributes:
        samples: that it will see, over all GPUs; None = not known without the data.
        global_batch: samples in an optimizer step.
        why: where the number is from, or what is missing for it.
    """

    samples: int | None
    global_batch: int
    why: str


def reference_of(callbacks: Sequence[Any]) -> Reference:
    """How a run's reference comes, by its callbacks; where scores are remembered, as in the epoch that makes them."""
    for callback in callbacks:
        if isinstance(callback, ReferenceModel):
            return "adapter" if callback.mode == "remember" else callback.mode
    return "none"


def length_of(trainer: Any, data: Any, ranks: int, samples: int | None) -> RunLength:
    """How many samples a run will see.

    Args:
        trainer: its section of the configuration.
        data: its data module.
        ranks: GPUs of the configuration, for which its accumulation is meant.
        samples: of an epoch, as asked for; None = those of the training index.
    """
    global_batch = data.batch_size * int(trainer["accumulate_grad_batches"]) * ranks
    steps, epochs = trainer["max_steps"], trainer["max_epochs"]
    if steps is not None and steps > 0:
        return RunLength(steps * global_batch, global_batch, f"{steps} steps of {global_batch}")
    count = samples if samples is not None else _indexed(data)
    epochs = 1000 if epochs is None else epochs  # Lightning's default
    if count is None:
        return RunLength(None, global_batch, "give --samples: the training index is not there")
    if epochs < 0:
        return RunLength(None, global_batch, "the run has no end: give --trainer.max_steps or --trainer.max_epochs")
    return RunLength(epochs * count, global_batch, f"{epochs} epochs of {count}")


def has_index(data: Any) -> bool:
    """Whether the training index files are there."""
    paths = data.paths.get("train") if isinstance(data, PlannedData) else None
    files = paths if isinstance(paths, list) else [paths] if paths else []
    return bool(files) and all(Path(file).is_file() for file in files)


def _indexed(data: Any) -> int | None:
    return len(data.index("train")) if has_index(data) else None


def indexed_sizes(data: Any, sizes: Sizes) -> Sizes:
    """The largest sizes of the samples of the training index, where it is there; else as they were.

    Args:
        data: the data module.
        sizes: for what no index says.
    """
    if not has_index(data):
        return sizes
    facts = [entry.facts for entry in data.index("train").entries]
    shapes = [tuple(fact["latent_shape"]) for fact in facts if fact.get("latent_shape")]
    if shapes:
        # Together, as a batch of videos of several shapes would be padded to.
        return replace(sizes, latents=tuple(max(values) for values in zip(*shapes, strict=True)))
    pictures = [(fact["height"], fact["width"]) for fact in facts if fact.get("height") and fact.get("width")]
    if pictures:
        height, width = max(pictures, key=lambda picture: picture[0] * picture[1])
        return replace(sizes, height=height, width=width)
    return sizes
