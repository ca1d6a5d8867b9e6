"""The check that everything that trains is reached by the loss, made once at a run's first optimizer step."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

#: Names listed in the message.
LISTED = 10


def require_gradients(trainable: Mapping[str, nn.Parameter]) -> None:
    """Refuse tensors that the first backward pass did not reach: they stay as they are, and are exported as trained.

    A gradient of zeros is one: LoRA's first factor has it at the start.

    Args:
        trainable: what trains, by name, after a backward pass.

    Raises:
        ValueError: names the tensors without a gradient, ten at most, with their count.
    """
    unreached = [name for name, parameter in trainable.items() if parameter.grad is None]
    if unreached:
        more = f" and {len(unreached) - LISTED} more" if len(unreached) > LISTED else ""
        raise ValueError(
            f"{len(unreached)} of {len(trainable)} tensors that train got no gradient in the first optimizer step: "
            f"{', '.join(unreached[:LISTED])}{more}. The loss does not depend on them, so they would be exported "
            "untrained and stop a run on several GPUs; train only what every batch passes (lora.targets, train_tower)"
        )
